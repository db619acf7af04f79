"""The simulated printer's API: Prodigi v4 as its reference describes it, and `/_sim` to turn knobs and to count.

Spelling of outcomes and stages follows the `casing` knob, since the vendor's pages and samples differ.
"""

import asyncio
import random
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from devstack.prodigi import knobs as knob
from devstack.prodigi import orders, products
from devstack.prodigi.book import Book
from devstack.prodigi.knobs import Knobs
from devstack.prodigi.orders import Order, Phase
from devstack.prodigi.work import Workshop

AFTER: Final = frozenset({"error_after", "timeout_after", "hang_after"})
_STAGES: Final = frozenset({"InProgress", "Complete", "Cancelled", "AwaitingPayment", "NotStarted", "Processing"})


class Call(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; raises `Answer` 400."""
        try:
            return msgspec.json.decode(self.body or b"{}")
        except msgspec.DecodeError as error:
            raise Answer(400, failure("ValidationFailed", 400)) from error


class Answer(Exception):
    """What is sent back; raised to end early."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def failure(outcome: str, status: int, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """An error body."""
    return {"statusText": outcome, "statusCode": status, "data": data or {}, "traceParent": trace()}


def trace() -> str:
    """A W3C traceparent."""
    return f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"


Handler = Callable[["ProdigiApp", Call, str], Awaitable[Answer]]


class ProdigiApp:
    """The ASGI application. `auto` lets the clock run and orders move by themselves."""

    def __init__(self, path: Path, key: str, knobs: Knobs | None = None, *, auto: bool = True) -> None:
        self.book = Book(path, knobs or Knobs(), auto=auto)
        self.shop = Workshop(self.book)
        self._key = key

    async def stop(self) -> None:
        """End work and close the book."""
        await self.shop.stop()
        self.book.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.shop.start()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        call = Call(scope["method"], scope["path"], parse_qs(scope["query_string"].decode()), headers, body)
        try:
            answer = await self._answer(call)
        except Answer as early:
            answer = early
        content = msgspec.json.encode(answer.body)
        sent = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        sent += [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, call: Call) -> Answer:
        if call.path == "/healthz":
            return Answer(200, {"status": "ok"})
        if call.path.startswith("/_sim/"):
            return await control(self, call)
        if self.book.knobs.latency_ms:
            await asyncio.sleep(self.book.knobs.latency_ms / 1000)
        if self.book.knobs.outage:
            raise Answer(503, failure("InternalServerError", 503))
        if call.headers.get("x-api-key") != self._key:
            raise Answer(401, failure("NotAuthenticated", 401))
        operation, handler, argument = _route(call)
        if call.method == "POST" and not call.headers.get("content-type", "").startswith("application/json"):
            raise Answer(415, failure("InvalidContentType", 415))
        return self._spelled(call, await self._with_faults(operation, handler, call, argument))

    async def _with_faults(self, operation: str, handler: Handler, call: Call, argument: str) -> Answer:
        self.book.count(f"calls_{operation}")
        fault = knob.take(self.book.knobs, operation)
        if fault is not None:
            self.book.save_knobs()
        if fault is not None and fault.kind == "rate_limit":
            raise Answer(429, failure("TooManyRequests", 429), {"retry-after": str(fault.retry_after_s)})
        if fault is not None and fault.kind == "error_before":
            raise Answer(500, failure("InternalServerError", 500))
        answer = await handler(self, call, argument)
        if fault is not None and fault.kind in AFTER:
            if fault.kind == "hang_after":
                await asyncio.sleep(fault.hang_ms / 1000)
            raise Answer(500, failure("InternalServerError" if fault.kind == "error_after" else "TimedOut", 500))
        return answer

    def _spelled(self, call: Call, answer: Answer) -> Answer:
        casing = self.book.knobs.casing
        if casing == "mixed":
            calls = sum(n for name, n in self.book.counts().items() if name.startswith("calls_"))
            casing = random.Random(f"{self.book.knobs.seed}:{calls}").choice(["pascal", "camel", "lower"])
        return Answer(answer.status, _spell(answer.body, casing), answer.headers)

    def visible(self, name: str) -> Order:
        """An order as the API lets it be seen; raises `Answer` 404 in its pause window or just after its creation."""
        order = self.book.by_id(name)
        hidden = order is not None and self.book.now() < order.created + order.knobs.hidden_s * 1000
        if order is None or hidden or order.phase is Phase.PAUSED:
            raise Answer(404, failure("EntityNotFound", 404))
        return order


def _spell(value: Any, casing: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _spell(inner, casing, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_spell(inner, casing, key) for inner in value]
    if isinstance(value, str) and (key == "outcome" or (key in ("stage", "status") and value in _STAGES)):
        first = value[:1].upper() if casing == "pascal" else value[:1].lower()
        return value.lower() if casing == "lower" else first + value[1:]
    return value


async def create(app: ProdigiApp, call: Call, _: str) -> Answer:
    """POST /v4.0/orders"""
    body = call.json()
    if faults := _faults(body):
        raise Answer(400, failure("ValidationFailed", 400, faults))
    key = body.get("idempotencyKey")
    known = app.book.by_key(key) if key else None
    if known is not None:
        app.book.count("already_exists")
        return _created(known, "alreadyExists")
    order = orders.create(app.book.next_number(), body, app.book.knobs, app.book.now())
    app.book.save(order)
    if app.book.knobs.callbacks == "early":
        app.shop.call_back(order, [f"{orders.STAGE_CHANGED}#InProgress"])
        await asyncio.sleep(0.05)
    return _created(order, "createdWithIssues" if order.issues else "created")


def _created(order: Order, outcome: str) -> Answer:
    """In the pause window only the id comes back."""
    if order.phase is Phase.PAUSED:
        outcome = "onHold" if outcome == "created" else outcome
        return Answer(200, {"outcome": outcome, "order": {"id": order.id}, "traceParent": trace()})
    return Answer(200, {"outcome": outcome, "order": orders.shown(order), "traceParent": trace()})


def _faults(body: Any) -> dict[str, list[dict[str, Any]]]:
    """What the vendor refuses about a new order, by path."""
    found: dict[str, list[dict[str, Any]]] = {}

    def need(is_good: object, path: str, code: str = "Required") -> None:
        if not is_good:
            found[path] = [{"code": code, "providedValue": None}]

    if not isinstance(body, dict):
        return {"order": [{"code": "Required", "providedValue": None}]}
    need(body.get("shippingMethod") in products.METHODS, "shippingMethod", "OutOfRange")
    recipient = body.get("recipient") or {}
    address = recipient.get("address") or {}
    need(recipient.get("name"), "recipient.name")
    for field in ("line1", "postalOrZipCode", "townOrCity"):
        need(address.get(field), f"recipient.address.{field}")
    need(re.fullmatch("[A-Z]{2}", address.get("countryCode") or ""), "recipient.address.countryCode", "InvalidCode")
    need(body.get("items"), "items")
    for index, item in enumerate(body.get("items") or []):
        need(products.size_um(str(item.get("sku"))), f"items[{index}].sku", "SkuNotFound")
        need(isinstance(item.get("copies"), int) and item["copies"] > 0, f"items[{index}].copies", "OutOfRange")
        need(item.get("assets") and all(a.get("url") for a in item["assets"]), f"items[{index}].assets")
    need(len(msgspec.json.encode(body.get("metadata") or {})) <= 2000, "metadata", "TooLong")
    return found


async def get(app: ProdigiApp, call: Call, name: str) -> Answer:
    """GET /v4.0/orders/{id}"""
    return Answer(200, {"outcome": "Ok", "order": orders.shown(app.visible(name)), "traceParent": trace()})


async def list_(app: ProdigiApp, call: Call, _: str) -> Answer:
    """GET /v4.0/orders"""
    asked = {name.lower(): [v for value in values for v in value.split(",")] for name, values in call.query.items()}
    top, skip = int(asked.get("top", ["10"])[0]), int(asked.get("skip", ["0"])[0])
    if not 1 <= top <= 100:
        raise Answer(400, failure("ValidationFailed", 400, {"top": [{"code": "OutOfRange"}]}))
    wanted = [order for order in app.book.all() if order.phase is not Phase.PAUSED and _matches(order, asked)]
    wanted = [o for o in wanted if app.book.now() >= o.created + o.knobs.hidden_s * 1000]
    page, more = wanted[skip : skip + top], len(wanted) > skip + top
    next_url = f"http://api.prodigi.com/v4.0/orders?top={top}&skip={skip + top}" if more else None
    told = [orders.shown(order) for order in page]
    return Answer(200, {"outcome": "Ok", "orders": told, "hasMore": more, "nextUrl": next_url, "traceParent": trace()})


def _matches(order: Order, asked: dict[str, list[str]]) -> bool:
    references, names, stages = asked.get("merchantreferences"), asked.get("orderids"), asked.get("status")
    return (
        (references is None or order.body.get("merchantReference") in references)
        and (names is None or order.id in names)
        and (stages is None or order.stage.lower() in [s.lower() for s in stages])
        and orders.written(order.created) >= asked.get("createdfrom", [""])[0]
        and orders.written(order.created) <= asked.get("createdto", ["~"])[0]
    )


async def actions(app: ProdigiApp, call: Call, name: str) -> Answer:
    """GET /v4.0/orders/{id}/actions"""
    order = app.visible(name)
    can = {"isAvailable": "Yes" if orders.cancellable(order) else "No"}
    every = ("cancel", "changeRecipientDetails", "changeShippingMethod", "changeMetaData")
    return Answer(200, {"outcome": "Ok", **dict.fromkeys(every, can), "traceParent": trace()})


async def cancel(app: ProdigiApp, call: Call, name: str) -> Answer:
    """POST /v4.0/orders/{id}/actions/cancel"""
    order = app.visible(name)
    outcome = orders.cancel(order, app.book.now())
    app.book.save(order)
    if outcome == "cancelled":
        app.book.count("cancelled")
        app.shop.call_back(order, [f"{orders.STAGE_CHANGED}#Cancelled"])
    return Answer(200, {"outcome": outcome, "order": orders.shown(order), "traceParent": trace()})


async def update(app: ProdigiApp, call: Call, argument: str) -> Answer:
    """POST /v4.0/orders/{id}/actions/update…: shipping method, recipient (every field) or metadata."""
    name, _, what = argument.partition("/")
    order, body = app.visible(name), call.json()
    if not orders.cancellable(order):
        return Answer(200, {"outcome": "actionNotAvailable", "order": orders.shown(order), "traceParent": trace()})
    fields = {"updateshippingmethod": "shippingMethod", "updaterecipient": "recipient", "updatemetadata": "metadata"}
    field = fields[what.lower()]
    value = body if field == "recipient" else body.get(field)
    if faults := _faults({**order.body, field: value}):
        raise Answer(400, failure("ValidationFailed", 400, faults))
    order.body[field], order.updated = value, app.book.now()
    app.book.save(order)
    return Answer(200, {"outcome": "updated", "order": orders.shown(order), "traceParent": trace()})


async def quote(app: ProdigiApp, call: Call, _: str) -> Answer:
    """POST /v4.0/quotes"""
    body = call.json()
    made = products.quotes(body)
    if made is None:
        raise Answer(400, failure("ValidationFailed", 400, {"items": [{"code": "SkuNotFound"}]}))
    tax = "destinationCountryCode.UsSalesTaxWarning"
    issues = [{"errorCode": tax, "description": "Sales tax"}] if body.get("destinationCountryCode") == "US" else []
    outcome = "CreatedWithIssues" if issues else "Created"
    return Answer(200, {"outcome": outcome, "issues": issues, "quotes": made, "traceParent": trace()})


async def product(app: ProdigiApp, call: Call, sku: str) -> Answer:
    """GET /v4.0/products/{sku}"""
    found = products.product(sku)
    if found is None:
        raise Answer(404, failure("EntityNotFound", 404))
    return Answer(200, {"outcome": "Ok", "product": found, "traceParent": trace()})


ROUTES: Final[tuple[tuple[str, str, str, Handler], ...]] = (
    ("POST", r"/orders", "create", create),
    ("GET", r"/orders", "list", list_),
    ("GET", r"/orders/([^/]+)", "get", get),
    ("GET", r"/orders/([^/]+)/actions", "actions", actions),
    ("POST", r"/orders/([^/]+)/actions/cancel", "cancel", cancel),
    ("POST", r"/orders/([^/]+/update(?:ShippingMethod|Recipient|Metadata))", "update", update),
    ("POST", r"/quotes", "quote", quote),
    ("GET", r"/products/([^/]+)", "product", product),
)


def _route(call: Call) -> tuple[str, Handler, str]:
    path = call.path.rstrip("/").replace("/actions/update", "/update")
    prefix, _, rest = path.lower().partition("/v4.0")
    met = False
    for method, pattern, operation, handler in ROUTES:
        found = re.fullmatch("/v4\\.0" + pattern, path, re.IGNORECASE)
        if found and method == call.method:
            return operation, handler, found[1] if found.groups() else ""
        met = met or found is not None
    if prefix or not rest or not met:
        raise Answer(404, failure("EndpointDoesNotExist", 404))
    raise Answer(405, failure("MethodNotAllowed", 405))


async def control(app: ProdigiApp, call: Call) -> Answer:
    """`/_sim`: knobs (merged), clock, counts, orders with what was fetched, a patch on what an order tells,
    an order to forget."""
    what = call.path.removeprefix("/_sim/")
    if call.method == "GET":
        return _told(app, what)
    body = call.json()
    if what == "knobs":
        merged = {**msgspec.to_builtins(app.book.knobs), **body}
        try:
            app.book.knobs = msgspec.convert(merged, Knobs, strict=True)
        except msgspec.ValidationError as error:
            raise Answer(400, {"error": str(error)}) from error
        app.book.save_knobs()
    elif what == "clock":
        app.book.advance(int(body["advance_s"] * 1000))
        await app.shop.work()
    elif what == "forget":
        app.book.forget(body["order"])
    elif what.startswith("orders/"):
        order = app.book.by_id(what.removeprefix("orders/"))
        if order is None:
            raise Answer(404, {})
        order.patch = body
        app.book.save(order)
    else:
        raise Answer(404, {})
    return Answer(200, _told(app, "knobs").body)


def _told(app: ProdigiApp, what: str) -> Answer:
    if what == "counts":
        return Answer(200, app.book.counts())
    if what == "knobs":
        return Answer(200, {**msgspec.to_builtins(app.book.knobs), "now": orders.written(app.book.now())})
    if what == "orders":
        return Answer(200, [msgspec.to_builtins(order) for order in app.book.all()])
    return Answer(404, {})

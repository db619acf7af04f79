"""The simulator over HTTP: Stripe's API under /v1, and what turns its knobs under /_sim."""

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import msgspec

from base import telemetry
from devstack.stripe import forms, shapes
from devstack.stripe import knobs as settings
from devstack.stripe.book import Book, Object
from devstack.stripe.delivery import Deliveries
from devstack.stripe.errors import ApiError, invalid
from devstack.stripe.intents import Ask
from devstack.stripe.knobs import Fault, What
from devstack.stripe.simulator import PUBLISHABLE, Simulator

log = telemetry.logger(__name__)

KEY_LIFETIME_S: Final = 86_400
LOST_S: Final = 60
_ERRORS: Final = {
    What.ERROR_BEFORE: (503, "api_error", "The service is temporarily unavailable."),
    What.OUTAGE: (503, "api_error", "The service is temporarily unavailable."),
    What.ERROR_STORED: (500, "api_error", "An unknown error occurred."),
    What.ERROR_AFTER: (500, "api_error", "An unknown error occurred."),
}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the secret API key, `publishable` the apps' one; webhooks go to `endpoint`, signed with `secrets`."""

    key: str
    publishable: str
    secrets: tuple[str, ...]
    endpoint: str | None
    path: Path | None
    seed: int = 1


class Answer(msgspec.Struct, kw_only=True):
    """What is sent back."""

    status: int
    body: bytes
    headers: dict[str, str]


class Request(msgspec.Struct, kw_only=True):
    """One call of the API."""

    id: str
    method: str
    path: str
    params: dict[str, Any]
    key: str | None
    token: str
    base: str


class StripeApp:
    """An ASGI application. `start` begins deliveries and timers, `stop` ends them and closes the book."""

    def __init__(self, config: Config) -> None:
        self.config = config
        book = Book(config.path, config.seed)
        self.simulator = Simulator(book, Deliveries(book, config.endpoint, list(config.secrets)))
        self._book = book
        self._running: set[str] = set()
        self._moved = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        body = await _body(receive)
        path: str = scope["path"]
        if path.startswith("/v1/"):
            answer = await self._api(scope, body)
        else:
            answer = await self._control(scope["method"], path, body)
        if answer is None:
            await _until_gone(receive)
            answer = _json(500, {})
        await _send(send, answer)

    async def stop(self) -> None:
        """End deliveries and timers; close the book."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.simulator.deliveries.close()
        self._book.close()

    async def _keep(self) -> None:
        """Do what time brings: timers, and deliveries unless they are by hand."""
        while True:
            self._moved.clear()
            try:
                self._turn()
                if self.simulator.knobs.webhooks.automatic:
                    await self.simulator.deliveries.send(self.simulator.deliveries.due(), self.simulator.knobs)
            except Exception:
                log.exception("simulator_failed")
            due = self.simulator.next_due()
            wait = None if due is None else max(0.01, due - self._book.now())
            try:
                await asyncio.wait_for(self._moved.wait(), wait)
            except TimeoutError:
                continue

    def _turn(self) -> list[str]:
        """Let time pass, plan what is to be delivered, and write the book; the names of new deliveries."""
        self.simulator.pass_time()
        planned = self.simulator.deliveries.plan(self.simulator.knobs)
        settings.save(self._book, self.simulator.knobs)
        self._book.commit()
        return planned

    async def _api(self, scope: Any, body: bytes) -> Answer | None:
        """One call of Stripe's API; None when its answer is lost."""
        request_id = self._book.new_id("req", 14)
        line = f"{scope['method']} {scope['path']}"
        met = settings.meet(self.simulator.knobs, line, self._book.random)
        try:
            request = _read(scope, body, request_id)
            answer = await self._answer(request, {fault.what: fault for fault in met})
        except ApiError as error:
            answer = _json(error.status, error.body, {"request-id": request_id, **error.headers})
        fresh = self._turn()
        if self.simulator.knobs.webhooks.before_response:
            await self.simulator.deliveries.send(fresh, self.simulator.knobs)
        self._moved.set()
        if any(fault.what in (What.LOST, What.NEVER_DONE) for fault in met):
            return None
        return answer

    async def _answer(self, request: Request, met: dict[What, Fault]) -> Answer:
        call, name = self.simulator.route(request.method, request.path)
        is_public = self._authenticate(request, call, name)
        self._count(call)
        for what in (What.OUTAGE, What.ERROR_BEFORE, What.NEVER_DONE):
            if what in met:
                raise ApiError(*_ERRORS.get(what, _ERRORS[What.OUTAGE]))
        if What.RATE_LIMIT in met:
            limited = ApiError(429, "invalid_request_error", "Too many requests.", code="rate_limit")
            limited.headers = {"retry-after": str(met[What.RATE_LIMIT].value or 1)}
            raise limited
        self.simulator.check(call, request.params)
        if request.method != "POST" or request.key is None:
            await _wait(met)
            return self._run(request, call, name, is_public, met)
        return await self._once(request, call, name, is_public, met)

    def _count(self, call: str) -> None:
        counted = self._book.meta.setdefault("requests", {})
        counted[call] = counted.get(call, 0) + 1

    def _authenticate(self, request: Request, call: str, name: str) -> bool:
        """Whether the caller is an app with a client secret; 401 for nobody."""
        if request.token == self.config.key:
            return False
        if request.token == self.config.publishable and call in PUBLISHABLE:
            intent = self.simulator.intents.get(name)
            if request.params.pop("client_secret", None) == intent["client_secret"]:
                request.params.pop("key", None)
                return True
        raise ApiError(401, "invalid_request_error", "Invalid API Key provided")

    async def _once(self, request: Request, call: str, name: str, is_public: bool, met: dict[What, Fault]) -> Answer:
        """v1 idempotency: the first run's answer again for a day, 500s too; refused for other parameters."""
        assert request.key is not None
        keys, now = self._book.kinds["key"], self._book.now()
        for old in [key for key, kept in keys.items() if kept["at"] + KEY_LIFETIME_S <= now]:
            self._book.drop("key", old)
        print_ = _fingerprint(request)
        if request.key in self._running:
            busy = ApiError(409, "idempotency_error", IN_USE, code="idempotency_key_in_use")
            busy.headers = {"stripe-should-retry": "true"}
            raise busy
        kept = keys.get(request.key)
        if kept is not None:
            return self._replay(request, kept, print_)
        self._running.add(request.key)
        try:
            await _wait(met)
            answer = self._run(request, call, name, is_public, met)
        finally:
            self._running.discard(request.key)
        if answer.headers.pop("x-stored", "1") == "1":
            self._book.put(
                "key",
                request.key,
                {
                    "print": print_,
                    "at": now,
                    "status": answer.status,
                    "body": answer.body.decode(),
                    "request": request.id,
                },
            )
        return answer

    def _replay(self, request: Request, kept: Object, print_: str) -> Answer:
        if kept["print"] != print_:
            raise ApiError(400, "idempotency_error", OTHER)
        counted = self._book.meta.setdefault("requests", {})
        counted["replayed"] = counted.get("replayed", 0) + 1
        headers = {"request-id": request.id, "original-request": kept["request"], "idempotent-replayed": "true"}
        return _sent(kept["status"], kept["body"].encode(), {**headers, "idempotency-key": request.key or ""})

    def _run(self, request: Request, call: str, name: str, is_public: bool, met: dict[What, Fault]) -> Answer:
        ask = Ask(request.id, request.key, request.base)
        headers = {"request-id": request.id, "stripe-version": shapes.API_VERSION}
        if request.key is not None:
            headers["idempotency-key"] = request.key
        if What.ERROR_STORED in met:
            return _error(ApiError(*_ERRORS[What.ERROR_STORED], stored=True), headers)
        try:
            answer = self.simulator.run(call, name, request.params, ask)
        except ApiError as error:
            return _error(error, headers)
        if What.ERROR_AFTER in met:
            return _error(ApiError(*_ERRORS[What.ERROR_AFTER], stored=True), headers)
        return _json(200, self.simulator.public(answer) if is_public else answer, headers)

    async def _control(self, method: str, path: str, body: bytes) -> Answer:
        """Health, and the knobs."""
        if path == "/healthz":
            return _json(200, {"ok": True})
        try:
            given = json.loads(body) if body else {}
            done = await self._turned(method, path, given)
        except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            return _json(400, {"error": str(error)})
        except ApiError as error:
            return _json(error.status, error.body)
        self._turn()
        self._moved.set()
        return _json(404, {"error": f"{method} {path}"}) if done is None else _json(200, done)

    async def _turned(self, method: str, path: str, given: dict[str, Any]) -> Object | None:
        simulator = self.simulator
        match (method, path.removeprefix("/_sim/").split("/")):
            case ("GET", [what]):
                return {"counts": simulator.counts(), "knobs": _plain(simulator.knobs)}.get(what)
            case ("POST", ["knobs"]):
                simulator.turn(settings.changed(simulator.knobs, given))
                return _plain(simulator.knobs)
            case ("POST", ["clock"]):
                return self._set_clock(given)
            case ("POST", ["webhooks", what]):
                return await self._on_webhooks(what, given)
            case ("POST", ["disputes"]):
                return shapes.wire(simulator.disputes.turn(given))
            case ("POST", ["events"]):
                return self._tell(given)
            case ("POST", ["bank", name]):
                intent, passed = simulator.intents.get(name), bool(given.get("passed", True))
                return shapes.wire(simulator.intents.authenticate(intent, passed=passed, ask=Ask()))
        return None

    async def _on_webhooks(self, what: str, given: dict[str, Any]) -> Object | None:
        if what == "flush":
            return await self._flush()
        if what == "roll":
            self.simulator.deliveries.roll(given["secret"], int(given.get("overlap_s", 0)))
            return {"secrets": len(self._book.kinds["secret"])}
        return None

    def _set_clock(self, given: dict[str, Any]) -> Object:
        if "frozen" in given:
            at = given["frozen"]
            self._book.freeze(self._book.now() if at is True else None if at is False else int(at))
        self._book.advance(int(given.get("advance_s", 0)))
        return {"now": self._book.now()}

    async def _flush(self) -> Object:
        """Send what is due, once; what is answered with an error is due again later."""
        self._turn()
        sent = await self.simulator.deliveries.send(self.simulator.deliveries.due(), self.simulator.knobs)
        return {"sent": sent}

    def _tell(self, given: dict[str, Any]) -> Object:
        """An event of any type about any object."""
        made = shapes.event(self._book.new_id("evt"), given["type"], given["object"], self._book.now(), (None, None))
        return self._book.put("event", made["id"], {**made, "pending_webhooks": 1})


IN_USE: Final = "There is currently another in-progress request using this Idempotent Key."
OTHER: Final = "Keys for idempotent requests can only be used with the same parameters they were first used with."


def _plain(knobs: settings.Knobs) -> Object:
    plain: Object = msgspec.to_builtins(knobs)
    return plain


async def _wait(met: dict[What, Fault]) -> None:
    if What.LATENCY in met:
        await asyncio.sleep(met[What.LATENCY].value / 1000)


def _read(scope: Any, body: bytes, request_id: str) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    wanted = headers.get("stripe-version", shapes.API_VERSION)
    if wanted != shapes.API_VERSION:
        raise invalid(f"Invalid Stripe API version: {wanted}")
    try:
        params = forms.decode(body if scope["method"] == "POST" else scope["query_string"])
    except forms.FormBroken as error:
        raise invalid(str(error)) from error
    key = headers.get("idempotency-key")
    if key is not None and len(key) > 255:
        raise invalid("Idempotency keys can be up to 255 characters", code="idempotency_key_too_long")
    return Request(
        id=request_id,
        method=scope["method"],
        path=scope["path"],
        params=params,
        key=key,
        token=_token(headers.get("authorization", ""), params),
        base=f"http://{headers.get('host', 'localhost')}",
    )


def _token(authorization: str, params: dict[str, Any]) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        return base64.b64decode(value + "==").decode("latin-1").partition(":")[0]
    return str(params.get("key", ""))


def _fingerprint(request: Request) -> str:
    told = json.dumps([request.path, request.params], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _error(error: ApiError, headers: dict[str, str]) -> Answer:
    return _json(error.status, error.body, {**headers, "x-stored": "1" if error.stored else "0"})


def _json(status: int, body: Object, headers: dict[str, str] | None = None) -> Answer:
    return _sent(status, json.dumps(body, indent=2).encode(), headers or {})


def _sent(status: int, body: bytes, headers: dict[str, str]) -> Answer:
    return Answer(status=status, body=body, headers={"content-type": "application/json", **headers})


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _until_gone(receive: Any) -> None:
    """The answer is lost: wait until the caller has given up."""
    try:
        async with asyncio.timeout(LOST_S):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


async def _send(send: Any, answer: Answer) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items() if name != "x-stored"]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

"""Prodigi's print API v4 behind the vendor port (https://www.prodigi.com/print-api/docs/reference/).

Its pages and samples differ in the case of outcomes and stages, in the shape of callbacks and in the prefix of issue
codes, so words are compared without case and codes by their ending. Its idempotency keys are remembered for ever, and
dedupe is not by merchantReference. It tells nobody of production: that is seen by reading only.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from app.fulfilment import reading
from app.fulfilment.errors import VendorBusy, VendorRefused, VendorUnavailable
from app.fulfilment.vendor import (
    Cancelled,
    CancelOutcome,
    Created,
    Hint,
    Observation,
    ParcelState,
    Read,
    SeenCharge,
    SeenItem,
    SeenParcel,
    Stage,
    Tracking,
    VendorItem,
    VendorOrder,
)
from base.money import Money
from base.recipients import Recipient
from base.settings import Secret

NAME: Final = "prodigi"
METHODS: Final = {"budget": "Budget", "standard": "Standard", "express": "Express", "overnight": "Overnight"}
CREATED: Final = frozenset({"created", "onhold", "createdwithissues", "alreadyexists"})
STAGES: Final = {
    "draft": Stage.OPEN,
    "awaitingpayment": Stage.OPEN,
    "inprogress": Stage.OPEN,
    "complete": Stage.COMPLETE,
    "cancelled": Stage.CANCELLED,
}
PARCELS: Final = {
    "processing": ParcelState.PROCESSING,
    "shipped": ParcelState.SHIPPED,
    "cancelled": ParcelState.CANCELLED,
}
HOLDS: Final = {
    "itemunavailable": "item-unavailable",
    "requirespaymentauthorisation": "payment-authorisation",
    "failedtodownloaded": "file-refused",
}
PASSING: Final = frozenset({"notdownloaded"})  # tried again by the vendor itself
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "order": frozenset(
        {"id", "created", "lastUpdated", "callbackUrl", "merchantReference", "shippingMethod", "idempotencyKey"}
        | {"status", "charges", "shipments", "recipient", "items", "packingSlip", "metadata", "branding"}
    ),
    "status": frozenset({"stage", "issues", "details"}),
    "details": frozenset(
        {"downloadAssets", "printReadyAssetsPrepared", "allocateProductionLocation", "inProduction", "shipping"}
    ),
    "shipment": frozenset({"id", "status", "carrier", "tracking", "dispatchDate", "items", "fulfillmentLocation"}),
}
PAGE: Final = 100


class Prodigi:
    """The adapter. `callback` is where the vendor sends hints, None for nowhere; `hold_s` the account's pause window,
    `timeout_s` bounds every call."""

    name = NAME

    def __init__(self, url: str, key: Secret[str], *, callback: str | None, hold_s: int, timeout_s: int) -> None:
        self.hold_s, self._callback = hold_s, callback
        self._url, self._key, self._timeout_s = url, key, timeout_s
        self._client: httpx.AsyncClient | None = None

    @property
    def _http(self) -> httpx.AsyncClient:
        """Opened at the first call: most processes never ask the vendor."""
        if self._client is None:
            headers = {"X-API-Key": self._key.reveal()}
            self._client = httpx.AsyncClient(
                base_url=self._url, headers=headers, timeout=self._timeout_s, trust_env=False
            )
        return self._client

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.aclose()

    async def create(self, order: VendorOrder) -> Created:
        """Order; raises `VendorRefused`, `VendorUnavailable` (it may exist), `VendorBusy`."""
        method = METHODS.get(order.shipping_option)
        if method is None:
            raise VendorRefused(f"no shipping method for {order.shipping_option}")
        body = {
            "merchantReference": order.reference,
            "shippingMethod": method,
            "idempotencyKey": order.key,
            "callbackUrl": self._callback,
            "recipient": _recipient(order.recipient),
            "items": [_item(item) for item in order.items],
        }
        answer = await self._ask("POST", "/v4.0/orders", body)
        if answer is None:
            raise VendorUnavailable("the vendor's address for orders is not there")
        outcome, told = reading.word(answer.get("outcome")), reading.mapping(answer.get("order"))
        name = reading.text(told.get("id"))
        if outcome not in CREATED or name is None:
            raise VendorUnavailable(f"an answer that is not known: {reading.code(outcome)}")
        read = _read(told) if "status" in told else None
        return Created(vendor_order_id=name, existed=outcome == "alreadyexists", read=read)

    async def cost(self, order: VendorOrder) -> Money | None:
        """Goods and shipping as the vendor quotes them for this order."""
        body = {
            "shippingMethod": METHODS.get(order.shipping_option),
            "destinationCountryCode": order.recipient.country,
            "items": [
                {"sku": x.sku, "copies": x.copies, "attributes": x.attributes, "assets": [{"printArea": "default"}]}
                for x in order.items
            ],
        }
        answer = await self._ask("POST", "/v4.0/quotes", body)
        quotes = [] if answer is None else reading.mappings(answer.get("quotes"))
        summary = reading.mapping(quotes[0].get("costSummary")) if len(quotes) == 1 else {}
        goods, shipping = reading.money(summary.get("items")), reading.money(summary.get("shipping"))
        if goods is None or shipping is None or goods.currency != shipping.currency:
            return None
        return goods + shipping

    async def orders(self, since: datetime) -> list[Read]:
        """All pages; the newest come first, so an order made meanwhile repeats one and hides none."""
        query, found = f"top={PAGE}&createdFrom={quote(since.isoformat())}", list[Read]()
        while True:
            answer = await self._ask("GET", f"/v4.0/orders?{query}&skip={len(found)}")
            page = [] if answer is None else reading.mappings(answer.get("orders"))
            found += [_read(order) for order in page if order.get("id")]
            if answer is None or not page or not answer.get("hasMore"):
                return found

    async def find(self, reference: str) -> list[Read]:
        """Every order under a reference."""
        answer = await self._ask("GET", f"/v4.0/orders?top=100&merchantReferences={quote(reference)}")
        orders = [] if answer is None else reading.mappings(answer.get("orders"))
        found = [_read(order) for order in orders if order.get("id")]
        return [read for read in found if read.seen.reference == reference]

    async def read(self, vendor_order_id: str) -> Read | None:
        """An order, or None while it is paused or not to be seen yet."""
        answer = await self._ask("GET", f"/v4.0/orders/{quote(vendor_order_id)}")
        told = {} if answer is None else reading.mapping(answer.get("order"))
        return _read(told) if told.get("id") else None

    async def cancel(self, vendor_order_id: str) -> Cancelled | None:
        """Ask to cancel; a partial cancellation is a refusal whose order shows cancelled parcels."""
        answer = await self._ask("POST", f"/v4.0/orders/{quote(vendor_order_id)}/actions/cancel", {})
        if answer is None:
            return None
        outcome, told = reading.word(answer.get("outcome")), reading.mapping(answer.get("order"))
        read = _read(told) if told.get("id") else None
        done = CancelOutcome.CANCELLED if outcome == "cancelled" else CancelOutcome.REFUSED
        return Cancelled(outcome=done, code=reading.code(outcome), read=read)

    def hint(self, body: bytes) -> Hint | None:
        """The order and the event of a callback; both shapes are read, and nothing else of it is believed."""
        try:
            event = reading.mapping(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        data = reading.mapping(event.get("data"))
        told = reading.mapping(data.get("order")) or data
        name = reading.text(told.get("id")) or reading.text(event.get("subject"))
        dedupe = reading.text(event.get("id"))
        return None if name is None or dedupe is None else Hint(vendor_order_id=name, dedupe=dedupe)

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        """The answer of a 2xx; None for 404."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            answer = await self._http.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise VendorUnavailable(f"the vendor does not answer: {type(error).__name__}") from error
        if answer.status_code == 429:
            busy = VendorBusy()
            wait = answer.headers.get("retry-after", "")
            busy.retry_after_s = int(wait) if wait.isdecimal() and len(wait) < 6 else None
            raise busy
        if answer.status_code == 404:
            return None
        if answer.status_code >= 500 or answer.status_code in (401, 403, 408):
            raise VendorUnavailable(f"the vendor answers {answer.status_code}")
        if not answer.is_success:
            raise VendorRefused(f"the vendor answers {answer.status_code} {_refusal(answer.content)}")
        return reading.document(answer.content)


def _refusal(content: bytes) -> str:
    """Names of what is wrong, never values: the vendor repeats what it was given."""
    try:
        told = reading.mapping(msgspec.json.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    names = ", ".join(sorted(str(name)[:64] for name in reading.mapping(told.get("data"))))
    return f"{reading.code(reading.word(told.get('statusText')))} ({names})"


def _recipient(recipient: Recipient) -> dict[str, Any]:
    return {
        "name": recipient.name,
        "email": recipient.email,
        "phoneNumber": recipient.phone,
        "address": {
            "line1": recipient.line1,
            "line2": recipient.line2,
            "postalOrZipCode": recipient.postcode,
            "countryCode": recipient.country,
            "townOrCity": recipient.town,
            "stateOrCounty": recipient.region,
        },
    }


def _item(item: VendorItem) -> dict[str, Any]:
    return {
        "merchantReference": item.line,
        "sku": item.sku,
        "copies": item.copies,
        "sizing": "fillPrintArea",
        "attributes": item.attributes,
        "assets": [{"printArea": "default", "url": item.url, "md5Hash": item.md5}],
    }


def _read(told: dict[str, Any]) -> Read:
    unknown = reading.Unknown()
    status = reading.mapping(told.get("status"))
    details = reading.mapping(status.get("details"))
    unknown.fields("order", told, FIELDS["order"])
    unknown.fields("status", status, FIELDS["status"])
    unknown.fields("details", details, FIELDS["details"])
    seen = Observation(
        vendor_order_id=str(told["id"]),
        reference=reading.text(told.get("merchantReference")),
        updated_at=reading.moment(told.get("lastUpdated")) or datetime.fromtimestamp(0, UTC),
        stage=unknown.known("stage", status.get("stage"), STAGES, Stage.UNKNOWN),
        fetched=reading.word(details.get("downloadAssets")) == "complete",
        in_production=reading.word(details.get("inProduction")) in ("inprogress", "complete"),
        holds=_holds(status, unknown),
        items=tuple(_seen_item(item) for item in reading.mappings(told.get("items")) if item.get("id")),
        parcels=tuple(_parcel(p, unknown) for p in reading.mappings(told.get("shipments")) if p.get("id")),
        charges=tuple(c for c in map(_charge, reading.mappings(told.get("charges"))) if c is not None),
        unknown=unknown.names,
    )
    return Read(seen=seen, raw=msgspec.json.encode(told))


def _holds(status: dict[str, Any], unknown: reading.Unknown) -> tuple[str, ...]:
    found = []
    for issue in reading.mappings(status.get("issues")):
        ending = reading.word(issue.get("errorCode")).rsplit(".", 1)[-1]
        if ending in HOLDS:
            found.append(HOLDS[ending])
        elif ending not in PASSING:
            unknown.add(f"issue.{ending}")
            found.append("unknown-issue")
    if reading.word(status.get("stage")) in ("draft", "awaitingpayment"):
        found.append("awaiting-payment")
    return tuple(sorted(set(found)))


def _seen_item(item: dict[str, Any]) -> SeenItem:
    assets = reading.mappings(item.get("assets"))
    states = {reading.word(asset.get("status")) for asset in assets}
    copies = item.get("copies")
    return SeenItem(
        id=str(item["id"]),
        line=reading.text(item.get("merchantReference")),
        copies=copies if isinstance(copies, int) else 0,
        refused=reading.word(item.get("status")) == "invalid" or "error" in states,
        md5s=tuple(text for text in (reading.text(asset.get("md5Hash")) for asset in assets) if text),
    )


def _parcel(parcel: dict[str, Any], unknown: reading.Unknown) -> SeenParcel:
    unknown.fields("shipment", parcel, FIELDS["shipment"])
    carrier, tracking = reading.mapping(parcel.get("carrier")), reading.mapping(parcel.get("tracking"))
    number = reading.text(tracking.get("number"))
    return SeenParcel(
        id=str(parcel["id"]),
        state=unknown.known("shipment.status", parcel.get("status"), PARCELS, ParcelState.UNKNOWN),
        items=tuple(str(i["itemId"]) for i in reading.mappings(parcel.get("items")) if i.get("itemId")),
        carrier=reading.text(carrier.get("name")),
        service=reading.text(carrier.get("service")),
        tracking=None if number is None else Tracking(number, reading.text(tracking.get("url")) or ""),
        dispatched_at=reading.moment(parcel.get("dispatchDate")),
    )


def _charge(charge: dict[str, Any]) -> SeenCharge | None:
    amount = reading.money(charge.get("totalCost"))
    return None if amount is None or not charge.get("id") else SeenCharge(id=str(charge["id"]), amount=amount)

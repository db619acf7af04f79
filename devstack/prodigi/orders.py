"""Orders at the simulated printer: what it keeps of one and how it moves on by the virtual clock. No I/O here.

Times are milliseconds of the virtual clock since the epoch.
"""

import random
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from devstack.prodigi import products
from devstack.prodigi.knobs import Knobs

TRIES: Final = 10
NOT_DOWNLOADED: Final = "items.assets.NotDownloaded"
FAILED_DOWNLOAD: Final = "items.assets.FailedToDownloaded"  # sic
UNAVAILABLE: Final = "order.items.ItemUnavailable"
AUTHORISATION: Final = "RequiresPaymentAuthorisation"
STAGE_CHANGED: Final = "com.prodigi.order.status.stage.changed"
SHIPMENT: Final = "com.prodigi.order.shipments.shipment"


class Phase(StrEnum):
    """Where the printer's own work is; the order's stage is what it tells of it."""

    PAUSED = "paused"
    DOWNLOADING = "downloading"
    PREPARING = "preparing"
    ALLOCATING = "allocating"
    QUEUED = "queued"
    SHIPPING = "shipping"
    RESHIPPING = "reshipping"
    LATE = "late"
    OVER = "over"


class Asset(msgspec.Struct, kw_only=True):
    """A file of an item: as ordered, and as it arrived."""

    id: str
    area: str
    url: str
    md5: str | None
    status: str = "InProgress"
    tries: int = 0
    found_md5: str | None = None
    width: int | None = None
    height: int | None = None


class Item(msgspec.Struct, kw_only=True):
    """One product of an order."""

    id: str
    reference: str | None
    sku: str
    copies: int
    sizing: str
    attributes: dict[str, Any]
    assets: list[Asset]
    status: str = "NotYetDownloaded"


class Shipment(msgspec.Struct, kw_only=True):
    """One parcel."""

    id: str
    items: list[str]
    status: str = "Processing"
    tracking: str | None = None
    dispatched: int | None = None


class Order(msgspec.Struct, kw_only=True):
    """An order and the knobs it was created under."""

    number: int
    created: int
    updated: int
    body: dict[str, Any]
    knobs: Knobs
    phase: Phase
    due: int
    items: list[Item]
    stage: str = "InProgress"
    details: dict[str, str]
    issues: list[dict[str, Any]] = []
    shipments: list[Shipment] = []
    charges: list[dict[str, Any]] = []
    patch: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """As the vendor names it."""
        return f"ord_{self.number}"


def create(number: int, body: dict[str, Any], knobs: Knobs, now: int) -> Order:
    """A new order; the body has been checked."""
    own = msgspec.structs.replace(knobs, faults=[])
    paused = knobs.pause_s > 0
    order = Order(
        number=number,
        created=now,
        updated=now,
        body=body,
        knobs=own,
        phase=Phase.PAUSED if paused else Phase.DOWNLOADING,
        due=now + 1000 * (knobs.pause_s if paused else knobs.download_s),
        items=[_item(number, index, item) for index, item in enumerate(body["items"], 1)],
        details=dict.fromkeys(
            ("downloadAssets", "printReadyAssetsPrepared", "allocateProductionLocation", "inProduction", "shipping"),
            "NotStarted",
        ),
    )
    order.details["downloadAssets"] = "InProgress"
    order.charges = [_charge(order)]
    if knobs.created_with_issues:
        _issue(order, order.items[0].assets[0].id, f"order.{NOT_DOWNLOADED}", "The file was not there at the first try")
    return order


def _item(number: int, index: int, item: dict[str, Any]) -> Item:
    assets = [
        Asset(id=f"ast_{number}{index:02d}{n}", area=a.get("printArea", "default"), url=a["url"], md5=a.get("md5Hash"))
        for n, a in enumerate(item["assets"], 1)
    ]
    return Item(
        id=f"ori_{number}{index:02d}",
        reference=item.get("merchantReference"),
        sku=item["sku"],
        copies=int(item["copies"]),
        sizing=item.get("sizing", "fillPrintArea"),
        attributes=item.get("attributes") or {},
        assets=assets,
    )


def _charge(order: Order) -> dict[str, Any]:
    goods = sum(products.unit_cost(item.sku) * item.copies for item in order.items)
    goods = goods * order.knobs.charge_percent // 100
    shipping = products.METHODS[order.body["shippingMethod"]]
    parts = [
        {"id": f"chi_{order.number}1", "chargeType": "Item", "cost": products.amount(goods, "GBP")},
        {"id": f"chi_{order.number}2", "chargeType": "Shipping", "cost": products.amount(shipping, "GBP")},
    ]
    total = products.amount(goods + shipping, "GBP")
    return {"id": f"chg_{order.number}", "prodigiInvoiceNumber": None, "totalCost": total, "items": parts}


def _issue(order: Order, about: str, code: str, description: str) -> None:
    order.issues = [i for i in order.issues if (i["objectId"], i["errorCode"]) != (about, code)]
    order.issues.append({"objectId": about, "errorCode": code, "description": description})


def arrived(order: Order, asset: Asset, md5: str, size: tuple[int, int] | None, now: int) -> None:
    """A file was fetched; `size` is None for something that is no picture."""
    asset.found_md5, asset.tries = md5, asset.tries + 1
    wanted = (asset.md5 or md5).lower()
    unnoticed = order.knobs.fetched == "corrupt_unnoticed"
    if size is None or (md5 != wanted and not unnoticed):
        asset.status = "Error"
        _issue(order, asset.id, f"order.{FAILED_DOWNLOAD}", "The file is not what was announced")
        _item_of(order, asset).status = "Invalid"
    else:
        asset.status, (asset.width, asset.height) = "Complete", size
        order.issues = [i for i in order.issues if i["objectId"] != asset.id]
    order.updated = now


def missed(order: Order, asset: Asset, now: int) -> None:
    """A try to fetch a file failed; after ten the vendor gives up."""
    asset.tries += 1
    if asset.tries >= TRIES:
        asset.status = "Error"
        order.issues = [i for i in order.issues if i["objectId"] != asset.id]
        _issue(order, asset.id, f"order.{FAILED_DOWNLOAD}", "The file could not be fetched")
        _item_of(order, asset).status = "Invalid"
    else:
        _issue(order, asset.id, f"order.{NOT_DOWNLOADED}", f"Try {asset.tries} of {TRIES} to fetch the file failed")
    order.updated = now


def _item_of(order: Order, asset: Asset) -> Item:
    return next(item for item in order.items if asset in item.assets)


def waiting(order: Order) -> list[Asset]:
    """Files that are still to be fetched."""
    return [a for item in order.items for a in item.assets if a.status == "InProgress"]


def fetched(order: Order, now: int) -> list[str]:
    """After a round of fetching: go on, stop for good, or try again later. The callbacks it causes."""
    if waiting(order):
        order.due = now + order.knobs.retry_s * 1000
        return []
    if any(a.status == "Error" for item in order.items for a in item.assets):
        order.details["downloadAssets"], order.phase = "Error", Phase.OVER
        return [f"{STAGE_CHANGED}#{order.stage}"]
    for item in order.items:
        item.status = "Ok"
    order.details |= {"downloadAssets": "Complete", "printReadyAssetsPrepared": "InProgress"}
    order.phase, order.due = Phase.PREPARING, now + order.knobs.prepare_s * 1000
    return [f"{STAGE_CHANGED}#{order.stage}"]


def move(order: Order, now: int) -> list[str]:
    """The one step that is due; the callbacks it causes. Fetching is the caller's."""
    order.updated = now
    return _STEPS[order.phase](order, now)


def _unpause(order: Order, now: int) -> list[str]:
    order.phase, order.due = Phase.DOWNLOADING, now + order.knobs.download_s * 1000
    return [f"{STAGE_CHANGED}#{order.stage}"]


def _prepare(order: Order, now: int) -> list[str]:
    order.details |= {"printReadyAssetsPrepared": "Complete", "allocateProductionLocation": "InProgress"}
    order.phase, order.due = Phase.ALLOCATING, now + order.knobs.allocate_s * 1000
    return []


def _allocate(order: Order, now: int) -> list[str]:
    if order.knobs.item_unavailable or order.knobs.needs_authorisation:
        order.phase = Phase.OVER
        if order.knobs.item_unavailable:
            _issue(order, order.items[0].id, UNAVAILABLE, "The item is out of stock")
            return []
        order.stage = "AwaitingPayment"
        _issue(order, order.id, AUTHORISATION, "The card has to be confirmed")
        return [f"{STAGE_CHANGED}#{order.stage}"]
    order.details["allocateProductionLocation"] = "Complete"
    order.phase, order.due = Phase.QUEUED, now + order.knobs.produce_s * 1000
    return []


def _produce(order: Order, now: int) -> list[str]:
    """Production begins, and nobody is told: the vendor has no callback for it."""
    order.details |= {"inProduction": "InProgress"}
    ids = [item.id for item in order.items]
    parcels = [ids[:1], ids[1:]] if order.knobs.split and len(ids) > 1 else [ids]
    order.shipments = [Shipment(id=f"shp_{order.number}{n}", items=parcel) for n, parcel in enumerate(parcels, 1)]
    order.phase, order.due = Phase.SHIPPING, now + order.knobs.ship_s * 1000
    return []


def _ship(order: Order, now: int) -> list[str]:
    left = [s for s in order.shipments if s.status == "Processing"]
    if left:
        _dispatch(order, left[0], now)
        order.details["shipping"] = "InProgress"
    if len(left) > 1:
        order.due = now + order.knobs.ship_s * 1000
        return [f"{SHIPMENT}#Complete"]
    order.details |= {"inProduction": "Complete", "shipping": "Complete"}
    order.stage = "Complete"
    order.phase = Phase.RESHIPPING if order.knobs.reshipment else Phase.OVER
    order.due = now + order.knobs.ship_s * 1000
    return [f"{SHIPMENT}#Complete", f"{STAGE_CHANGED}#Complete"]


def _reship(order: Order, now: int) -> list[str]:
    again = Shipment(id=f"shp_{order.number}9", items=[order.items[0].id])
    order.shipments.append(again)
    _dispatch(order, again, now)
    order.phase = Phase.OVER
    return [f"{SHIPMENT}#Complete"]


def _late(order: Order, now: int) -> list[str]:
    for shipment in order.shipments:
        _dispatch(order, shipment, now)
    order.phase = Phase.OVER
    return [f"{SHIPMENT}#Complete"]


def _dispatch(order: Order, shipment: Shipment, now: int) -> None:
    number = random.Random(f"{order.knobs.seed}:{shipment.id}").randrange(10**9, 10**10)
    shipment.status, shipment.dispatched, shipment.tracking = "Shipped", now, f"SIM{number}GB"


_STEPS: Final = {
    Phase.PAUSED: _unpause,
    Phase.PREPARING: _prepare,
    Phase.ALLOCATING: _allocate,
    Phase.QUEUED: _produce,
    Phase.SHIPPING: _ship,
    Phase.RESHIPPING: _reship,
    Phase.LATE: _late,
}


def cancellable(order: Order) -> bool:
    """Whether the vendor's `actions` say Yes."""
    return order.stage in ("InProgress", "AwaitingPayment") and order.details["inProduction"] == "NotStarted"


def cancel(order: Order, now: int) -> str:
    """Ask to cancel; the outcome."""
    how = order.knobs.on_cancel
    if how == "partial" and order.phase is Phase.SHIPPING and order.shipments[0].status == "Processing":
        order.shipments[0].status, order.updated = "Cancelled", now
        return "failedToCancel"
    if not cancellable(order):
        return "actionNotAvailable"
    if how == "fail":
        return "failedToCancel"
    if how == "race":
        _produce(order, now)
        return "failedToCancel"
    order.stage, order.phase, order.updated = "Cancelled", Phase.OVER, now
    order.charges.append(_credit(order))
    if how == "late_shipped":
        _produce(order, now)
        order.phase = Phase.LATE
    return "cancelled"


def _credit(order: Order) -> dict[str, Any]:
    total = order.charges[0]["totalCost"]
    back = {"amount": f"-{total['amount']}", "currency": total["currency"]}
    item = {"id": f"chi_{order.number}9", "chargeType": "Refund", "cost": back}
    return {"id": f"chg_{order.number}9", "prodigiInvoiceNumber": None, "totalCost": back, "items": [item]}


def shown(order: Order, phone: str = "phoneNumber") -> dict[str, Any]:
    """The order as the API tells it; callbacks name the phone number differently."""
    body = order.body
    recipient = dict(body["recipient"])
    recipient[phone] = recipient.pop("phoneNumber", None)
    told: dict[str, Any] = {
        "id": order.id,
        "created": written(order.created),
        "lastUpdated": written(order.updated),
        "callbackUrl": body.get("callbackUrl"),
        "merchantReference": body.get("merchantReference"),
        "shippingMethod": body["shippingMethod"],
        "idempotencyKey": body.get("idempotencyKey"),
        "status": {"stage": order.stage, "issues": order.issues, "details": dict(order.details)},
        "charges": order.charges,
        "shipments": [_shown_shipment(order, shipment) for shipment in order.shipments],
        "recipient": recipient,
        "items": [_shown_item(item) for item in order.items],
        "packingSlip": body.get("packingSlip"),
        "metadata": body.get("metadata"),
    }
    merged: dict[str, Any] = _merge(told, order.patch)
    return merged


def _shown_item(item: Item) -> dict[str, Any]:
    assets = [
        {"id": a.id, "printArea": a.area, "md5Hash": a.found_md5 or a.md5, "url": a.url, "status": a.status}
        for a in item.assets
    ]
    return {
        "id": item.id,
        "status": item.status,
        "merchantReference": item.reference,
        "sku": item.sku,
        "copies": item.copies,
        "sizing": item.sizing,
        "attributes": item.attributes,
        "assets": assets,
    }


def _shown_shipment(order: Order, shipment: Shipment) -> dict[str, Any]:
    number = shipment.tracking
    return {
        "id": shipment.id,
        "status": shipment.status,
        "carrier": {"name": "royalmail", "service": order.body["shippingMethod"]},
        "tracking": None if number is None else {"number": number, "url": f"https://track.example/{number}"},
        "dispatchDate": None if shipment.dispatched is None else written(shipment.dispatched),
        "items": [{"itemId": item} for item in shipment.items],
        "fulfillmentLocation": {"countryCode": "GB", "labCode": "prodigi_gb"},
    }


def written(moment: int) -> str:
    """RFC 3339."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _merge(base: Any, patch: Any) -> Any:
    """RFC 7396; a list of the same length is merged element by element."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: _merge(base.get(key), value) for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list) and len(base) == len(patch):
        return [_merge(old, new) for old, new in zip(base, patch, strict=True)]
    return patch

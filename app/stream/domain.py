"""What apps see of the events: a literal projection, never the raw row; and the cursor that continues it.

A new event type stands in `PUBLIC` or in `PRIVATE`; a test compares with the registered types and their fields. Within
a version fields are only added.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel.events import START, Cursor, Recorded
from app.stream.errors import CursorMalformed, EventsGone
from base import ids

KEPT: Final = timedelta(days=30)


class Public(msgspec.Struct, frozen=True):
    """One public event: its name, its version, what it means, and its fields.

    A field is (public name, name in the event's data, kind of id or "" for a plain value).
    """

    name: str
    version: int
    meaning: str
    fields: tuple[tuple[str, str, str], ...]


_ASSET: Final = ("assetId", "asset_id", "asset")
_UPLOAD: Final = ("uploadId", "upload_id", "upload")
_REASON: Final = ("reason", "reason", "")
_BYTES: Final = ("bytes", "bytes", "")
_WIDTH: Final = ("width", "width", "")
_HEIGHT: Final = ("height", "height", "")
_UNTIL: Final = ("until", "until", "")
_FIRST: Final = ("firstId", "first_id", "asset")
_DEVICE: Final = ("deviceId", "device_id", "device")
_ORDER: Final = ("orderId", "order_id", "order")
_DRAFT: Final = ("draftId", "draft_id", "draft")
_QUOTE: Final = ("quoteId", "quote_id", "quote")
_TOTAL: Final = ("total", "total", "")
_PAID: Final = ("paid", "paid", "")
_PAYMENT: Final = ("paymentId", "payment_id", "payment")
_REFUND: Final = ("refundId", "refund_id", "refund")
_AMOUNT: Final = ("amount", "amount", "")
_VERSION: Final = ("version", "draft_version", "")
_ITEMS: Final = ("items", "items", "")
_LINES: Final = ("lines", "lines", "order_line")
_QUANTITIES: Final = ("quantities", "quantities", "")
_SHIPMENT: Final = ("shipmentId", "shipment_id", "shipment")
_SHARE: Final = ("shareId", "share_id", "share")
_PHOTOS: Final = ("photos", "photos", "")
_CANCELLABLE: Final = ("cancellableUntil", "cancellable_until", "")

PUBLIC: Final[dict[str, Public]] = {
    "upload.opened": Public("upload.opened", 1, "An upload session is open.", (_UPLOAD, _ASSET, _BYTES)),
    "upload.verifying": Public("upload.verifying", 1, "All bytes are there; they are looked at.", (_UPLOAD, _ASSET)),
    "upload.completed": Public("upload.completed", 1, "The bytes are what was declared.", (_UPLOAD, _ASSET)),
    "upload.rejected": Public("upload.rejected", 1, "The bytes cannot be used.", (_UPLOAD, _ASSET, _REASON)),
    "upload.aborted": Public("upload.aborted", 1, "The session was given up by the app.", (_UPLOAD,)),
    "upload.expired": Public("upload.expired", 1, "The session ended unfinished; it can be revived.", (_UPLOAD,)),
    "upload.revived": Public("upload.revived", 1, "An expired session is open again.", (_UPLOAD,)),
    "asset.created": Public("asset.created", 1, "A photo is being worked on.", (_ASSET, _UPLOAD)),
    "asset.validated": Public("asset.validated", 1, "The file is a photo we can read.", (_ASSET, _WIDTH, _HEIGHT)),
    "asset.preview_ready": Public("asset.preview_ready", 1, "The first preview can be shown.", (_ASSET,)),
    "asset.ready": Public("asset.ready", 1, "Everything of the photo is ready.", (_ASSET,)),
    "asset.duplicate_found": Public("asset.duplicate_found", 1, "The photo was there already.", (_ASSET, _FIRST)),
    "asset.rejected": Public("asset.rejected", 1, "The photo cannot be used.", (_ASSET, _REASON)),
    "asset.analysed": Public("asset.analysed", 1, "The photo was looked at: readiness knows it now.", (_ASSET,)),
    "asset.trashed": Public("asset.trashed", 1, "The photo is in the trash until then.", (_ASSET, _UNTIL)),
    "asset.restored": Public("asset.restored", 1, "The photo is out of the trash.", (_ASSET,)),
    "asset.flagged": Public("asset.flagged", 1, "Nothing is made of the photo until it is cleared.", (_ASSET, _REASON)),
    "asset.cleared": Public("asset.cleared", 1, "Prints of the photo can be made again.", (_ASSET,)),
    "asset.erased": Public("asset.erased", 1, "The photo is gone.", (_ASSET,)),
    "share.created": Public("share.created", 1, "Photos are shared.", (_SHARE, _PHOTOS)),
    "share.revoked": Public("share.revoked", 1, "A share's addresses end.", (_SHARE,)),
    "session.revoked": Public("session.revoked", 1, "A device has to sign in again.", (_DEVICE, _REASON)),
    "payment.requires_payment_method": Public(
        "payment.requires_payment_method", 1, "The payment waits for a card.", (_ORDER, _PAYMENT)
    ),
    "payment.requires_action": Public("payment.requires_action", 1, "The bank asks the person.", (_ORDER, _PAYMENT)),
    "payment.processing": Public("payment.processing", 1, "The money is on its way.", (_ORDER, _PAYMENT)),
    "payment.secured": Public("payment.secured", 1, "The money has arrived.", (_ORDER, _PAYMENT, _AMOUNT)),
    "payment.cancelled": Public("payment.cancelled", 1, "Nothing will be paid.", (_ORDER, _PAYMENT, _REASON)),
    "payment.failed": Public("payment.failed", 1, "One try to pay was declined.", (_ORDER, _PAYMENT, _REASON)),
    "refund.requested": Public("refund.requested", 1, "Money is to go back.", (_ORDER, _REFUND, _AMOUNT, _REASON)),
    "refund.succeeded": Public("refund.succeeded", 1, "Money is on its way back.", (_ORDER, _REFUND, _AMOUNT)),
    "refund.failed": Public("refund.failed", 1, "Money did not go back.", (_ORDER, _REFUND, _AMOUNT, _REASON)),
    "draft.created": Public("draft.created", 1, "A draft was begun.", (_DRAFT, _ITEMS)),
    "draft.changed": Public("draft.changed", 1, "A draft has other items now.", (_DRAFT, _VERSION, _ITEMS)),
    "draft.ready_for_checkout": Public(
        "draft.ready_for_checkout", 1, "Nothing stands against ordering a draft.", (_DRAFT, _VERSION)
    ),
    "draft.reopened": Public("draft.reopened", 1, "Something stands against ordering it again.", (_DRAFT, _VERSION)),
    "draft.ordered": Public("draft.ordered", 1, "A draft is part of an order.", (_DRAFT, _VERSION)),
    "draft.released": Public("draft.released", 1, "Its order ended unpaid; it can be changed again.", (_DRAFT,)),
    "draft.abandoned": Public("draft.abandoned", 1, "A draft was given up.", (_DRAFT,)),
    "fulfilment.in_production": Public(
        "order.in_production", 1, "The order is being made.", (_ORDER, _LINES, _QUANTITIES)
    ),
    "fulfilment.shipped": Public("order.shipped", 1, "A parcel left.", (_ORDER, _SHIPMENT, _LINES, _QUANTITIES)),
    "fulfilment.lines_cancelled": Public(
        "order.lines_cancelled", 1, "These copies will not be made.", (_ORDER, _LINES, _QUANTITIES)
    ),
    "fulfilment.cancelling": Public("order.cancelling", 1, "The printer is asked to cancel.", (_ORDER, _REASON)),
    "fulfilment.cancelled": Public(
        "order.making_cancelled", 1, "Nothing of it will be made.", (_ORDER, _REASON, _LINES, _QUANTITIES)
    ),
    "fulfilment.cancel_refused": Public("order.cancel_refused", 1, "It is too late to cancel.", (_ORDER, _REASON)),
    "quote.priced": Public("quote.priced", 1, "A draft has a price for a while.", (_QUOTE, _DRAFT, _VERSION, _TOTAL)),
    "quote.accepted": Public("quote.accepted", 1, "An order was placed at a price.", (_QUOTE, _DRAFT)),
    "quote.expired": Public("quote.expired", 1, "A price holds no longer.", (_QUOTE,)),
    "order.placed": Public("order.placed", 1, "An order waits for its payment.", (_ORDER, _DRAFT, _QUOTE, _TOTAL)),
    "order.awaiting_payment": Public("order.awaiting_payment", 1, "The payment has begun.", (_ORDER,)),
    "order.paid": Public("order.paid", 1, "The order is paid.", (_ORDER, _PAID, _CANCELLABLE)),
    "order.cancelled": Public("order.cancelled", 1, "Nothing of the order will be made.", (_ORDER, _REASON)),
    "order.expired": Public("order.expired", 1, "The order was not paid in time.", (_ORDER,)),
    "order.closed": Public("order.closed", 1, "Everything about the order is done.", (_ORDER,)),
}

PRIVATE: Final[dict[str, str]] = {
    "payment.disputed": "the person asked their bank themselves; an operator answers it",
    "reconcile.drift_found": "a difference between our books and others', which is mended",
    "reconcile.repaired": "a difference between our books and others' was mended",
    "reconcile.case_opened": "an operator decides first what it means for the person",
    "reconcile.case_closed": "an operator decided what it meant",
    "device.registered": "the device knows; nobody else of the owner is there yet",
    "payment.opened": "the order's own event tells it",
    "payment.authorised": "money that is only held is not shown as paid",
    "payment.mismatch_found": "an operator decides what it means",
    "picture.published": "the shop's own pictures; nobody follows them",
    "picture.withdrawn": "the shop's own pictures; nobody follows them",
    "owner.erased": "there is nobody left to tell",
    "fulfilment.planned": "how it is made is ours; the order says that it is paid",
    "fulfilment.rendering": "how it is made is ours",
    "fulfilment.submitting": "how it is made is ours",
    "fulfilment.submitted": "how it is made is ours; production is what a person waits for",
    "fulfilment.closed": "parcels and cancellations are told one by one",
    "fulfilment.failed": "an operator decides first what it means for the person",
    "fulfilment.held": "an operator decides first what it means for the person",
    "fulfilment.released": "an operator decided what the hold meant",
    "fulfilment.contradicted": "a case for an operator",
    "fulfilment.charged": "what a printer charges us",
}
"""Event types apps do not see, with the reason."""


class Told(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A public event with the cursor that continues after it; one object for all streams that pass it on."""

    id: str
    type: str
    version: int
    occurred_at: datetime
    cursor: str
    data: dict[str, Any]


class Passed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An event that a reader has passed: its place, its time, and what apps see of it, if anything."""

    cursor: Cursor
    occurred_at: datetime
    told: Told | None


def pass_on(event: Recorded) -> Passed:
    """The projection of an event."""
    cursor, public = Cursor(event.tx_id, event.position), PUBLIC.get(event.type)
    if public is None:
        return Passed(cursor=cursor, occurred_at=event.occurred_at, told=None)
    stored = msgspec.json.decode(event.data)
    told = Told(
        id=ids.encode("event", event.id),
        type=public.name,
        version=public.version,
        occurred_at=event.occurred_at,
        cursor=spell(cursor, event.occurred_at),
        data={name: _shown(stored.get(field), kind) for name, field, kind in public.fields},
    )
    return Passed(cursor=cursor, occurred_at=event.occurred_at, told=told)


def _shown(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return [_shown(inner, kind) for inner in value]
    return value if not kind or value is None else ids.encode(kind, UUID(value))


SPELLING: Final = r"[0-9a-f]{1,15}\.[0-9a-f]{1,15}\.[0-9a-f]{1,8}"
_SPELLED: Final = re.compile(SPELLING)


def spell(cursor: Cursor, moment: datetime) -> str:
    """The cursor as apps carry it; the moment lets a later read say that too much time has gone."""
    return f"{cursor.tx_id:x}.{cursor.position:x}.{int(moment.timestamp()):x}"


def read_cursor(text: str, now: datetime) -> Cursor:
    """The cursor in `text`; raises `CursorMalformed` or, past the time that events are kept, `EventsGone`."""
    if not _SPELLED.fullmatch(text):
        raise CursorMalformed()
    tx_id, position, seconds = (int(part, 16) for part in text.split("."))
    if datetime.fromtimestamp(seconds, UTC) < now - KEPT:
        raise EventsGone()
    return Cursor(tx_id, position)


BEGINNING: Final = START

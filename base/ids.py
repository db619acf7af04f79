"""Identifiers: UUIDv7 inside (RFC 9562), TypeIDs on the wire (typeid.io, v0.3): a prefix names what an id is of."""

import re
from typing import Final, NewType
from uuid import UUID

import uuid_utils
from typeid.codecs import base32

from base.errors import DomainError, Kind

OwnerId = NewType("OwnerId", UUID)
DeviceId = NewType("DeviceId", UUID)
SessionId = NewType("SessionId", UUID)
UploadId = NewType("UploadId", UUID)
AssetId = NewType("AssetId", UUID)
JobId = NewType("JobId", UUID)
EventId = NewType("EventId", UUID)
AlertId = NewType("AlertId", UUID)
OrderId = NewType("OrderId", UUID)
OrderLineId = NewType("OrderLineId", UUID)
ProductId = NewType("ProductId", UUID)
DraftId = NewType("DraftId", UUID)
ItemId = NewType("ItemId", UUID)
QuoteId = NewType("QuoteId", UUID)
PaymentId = NewType("PaymentId", UUID)
RefundId = NewType("RefundId", UUID)
FulfilmentId = NewType("FulfilmentId", UUID)
ShipmentId = NewType("ShipmentId", UUID)
WebhookId = NewType("WebhookId", UUID)
CaseId = NewType("CaseId", UUID)
ShareId = NewType("ShareId", UUID)

PREFIXES: Final[dict[str, str]] = {
    "owner": "own",
    "device": "dev",
    "session": "ses",
    "upload": "upl",
    "asset": "ast",
    "share": "shr",
    "picture": "pic",
    "job": "job",
    "event": "evt",
    "alert": "alr",
    "order": "ord",
    "order_line": "oln",
    "product": "prd",
    "draft": "drf",
    "item": "itm",
    "quote": "quo",
    "payment": "pay",
    "refund": "rfd",
    "fulfilment": "ful",
    "shipment": "shp",
    "webhook": "whk",
    "case": "cas",
}


_SUFFIX: Final = re.compile("[0-7][0-9a-hjkmnp-tv-z]{25}")  # Crockford's alphabet, at most 128 bits


class MalformedId(DomainError):
    """An id is not a TypeID of the expected kind."""

    code, title, kind = "malformed-id", "The id is not well-formed", Kind.NOT_FOUND
    next_step = "Use the id exactly as an earlier answer gave it."


def new_id() -> UUID:
    """A new UUIDv7: unique, and sorted by the time of making (millisecond precision)."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def encode(kind: str, value: UUID) -> str:
    """The TypeID of `value`, e.g. `ast_01h455vb4pex5vsknk084sn02q`; `kind` is a key of `PREFIXES`."""
    return f"{PREFIXES[kind]}_{base32.encode(value.bytes)}"


def decode(kind: str, text: str) -> UUID:
    """The UUID in a TypeID; raises `MalformedId` for another prefix, a bad alphabet or an overflow."""
    prefix, _, suffix = text.rpartition("_")
    try:
        if prefix == PREFIXES[kind] and _SUFFIX.fullmatch(suffix):
            return UUID(bytes=base32.decode(suffix))
    except ValueError as error:
        raise MalformedId(f"this is not the id of the kind {kind!r}") from error
    raise MalformedId(f"this is not the id of the kind {kind!r}")

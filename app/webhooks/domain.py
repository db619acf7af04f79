"""Webhooks in: what was received, what became of it."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from app.kernel.db import Transaction
from base.ids import OrderId, OwnerId

STRIPE = "stripe"


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, verified where its source signs. `key_name` says which secret fitted; `told_at` is the source's."""

    source: str
    account: str
    dedupe_key: str
    type: str
    body: bytes
    key_name: str | None
    headers: dict[str, str]
    told_at: datetime | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, sealed and ready to be stored; `traceparent` is what it came under."""

    id: UUID
    received: Received
    kek_id: str
    wrapped: bytes
    sealed: bytes
    traceparent: str | None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as stored; `sealed` is under the owner's key once it is known whose it is, else under `wrapped`."""

    id: UUID
    source: str
    type: str
    owner_id: UUID | None
    kek_id: str | None
    wrapped: bytes | None
    sealed: bytes | None
    handled_at: datetime | None


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook was about. `outcome` is a code; `alert` a rule and a detail for an operator."""

    outcome: str
    owner_id: OwnerId | None = None
    order_id: OrderId | None = None
    alert: tuple[str, str] | None = None


class Listener(Protocol):
    """What a source's webhooks are told to; None when their subject is not there yet."""

    async def __call__(self, tx: Transaction, body: bytes) -> Heard | None:
        """Plan what the webhook hints at."""
        ...


class Hint(Protocol):
    """What a vendor's callback is about."""

    @property
    def vendor_order_id(self) -> str:
        """The vendor's name of its order."""
        ...

    @property
    def dedupe(self) -> str:
        """The callback's own key."""
        ...


class Vendors(Protocol):
    """The vendors whose callbacks we take: unsigned, so they are hints and carry no truth."""

    def accepts(self, vendor: str, token: str) -> bool:
        """Whether the address is one that we gave to the vendor."""
        ...

    def read_hint(self, vendor: str, body: bytes) -> Hint | None:
        """What a callback is about; None for one that cannot be read."""
        ...

    async def hint(self, tx: Transaction, vendor: str, vendor_order_id: str) -> bool:
        """Plan an early look; False for an order that is not known (yet)."""
        ...


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook for an operator."""

    id: UUID
    source: str
    type: str
    received_at: datetime
    handled_at: datetime | None
    outcome: str | None
    state: str
    attempt: int
    cause: str | None

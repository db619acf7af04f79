"""The port to a vendor: what an adapter must do, and the normal form of what vendors say.

An adapter speaks one vendor's wire format and holds no state of ours. A fact it does not understand is named in
`unknown` and changes nothing.
"""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from app.kernel.db import Readable
from base.money import Money
from base.recipients import Recipient


class Stage(StrEnum):
    """Where a vendor says the whole order is."""

    OPEN = "open"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class ParcelState(StrEnum):
    """Where a vendor says a parcel is."""

    PROCESSING = "processing"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Tracking(msgspec.Struct, frozen=True, order=True):
    """A carrier's number and where to follow it."""

    number: str
    url: str = ""


class SeenItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item as the vendor tells it; `line` is our reference, `md5s` what it says its files hash to."""

    id: str
    line: str | None
    copies: int
    refused: bool = False
    md5s: tuple[str, ...] = ()


class SeenParcel(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel as the vendor tells it; `items` are the vendor's item ids."""

    id: str
    state: ParcelState
    items: tuple[str, ...]
    carrier: str | None = None
    service: str | None = None
    tracking: Tracking | None = None
    dispatched_at: datetime | None = None


class SeenCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge, negative for a credit."""

    id: str
    amount: Money


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a vendor says of an order at one moment. `holds` are codes of what it waits for; `fetched` whether it
    has our files; `unknown` names values and fields (not their contents) that the adapter does not know."""

    vendor_order_id: str
    reference: str | None
    updated_at: datetime
    stage: Stage
    fetched: bool = False
    in_production: bool = False
    holds: tuple[str, ...] = ()
    items: tuple[SeenItem, ...] = ()
    parcels: tuple[SeenParcel, ...] = ()
    charges: tuple[SeenCharge, ...] = ()
    unknown: tuple[str, ...] = ()


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """An observation with the answer it was read from."""

    seen: Observation
    raw: bytes


class VendorItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line as it is ordered: `url` is where the vendor fetches the file whose MD5 (hex) is `md5`."""

    line: str
    sku: str
    attributes: dict[str, str]
    copies: int
    url: str
    md5: str


class VendorOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to be made. The same `key` never makes two; `reference` finds it again."""

    key: str
    reference: str
    shipping_option: str
    recipient: Recipient
    items: tuple[VendorItem, ...]


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor has the order; `read` is None where it only names it. `existed`: the key had made it before."""

    vendor_order_id: str
    existed: bool
    read: Read | None


class CancelOutcome(StrEnum):
    """A vendor's answer to a cancellation."""

    CANCELLED = "cancelled"
    REFUSED = "refused"


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, its code, and the order as it is now where the vendor tells."""

    outcome: CancelOutcome
    code: str
    read: Read | None


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """What an unsigned callback is good for: whose state to read, and what makes a second copy of it recognisable."""

    vendor_order_id: str
    dedupe: str


class Vendor(Protocol):
    """A vendor. Every method raises `VendorUnavailable` (the request may have been carried out) or `VendorBusy` (it
    was not); `hold_s` is how long the vendor may wait before it fetches files."""

    name: str
    hold_s: int

    async def create(self, order: VendorOrder) -> Created:
        """Order; raises `VendorRefused`. Asked again with the same key, the first order is named again."""
        ...

    async def cost(self, order: VendorOrder) -> Money | None:
        """What the vendor says it would charge for an order; None where it does not tell. Orders nothing."""
        ...

    async def orders(self, since: datetime) -> list[Read]:
        """Every order made from `since` on that the vendor shows, whoever made it."""
        ...

    async def find(self, reference: str) -> list[Read]:
        """Every order under a reference of ours that the vendor shows, whoever made it."""
        ...

    async def read(self, vendor_order_id: str) -> Read | None:
        """An order as it is, or None while the vendor does not show it."""
        ...

    async def cancel(self, vendor_order_id: str) -> Cancelled | None:
        """Ask to cancel; None while the vendor does not show the order."""
        ...

    def hint(self, body: bytes) -> Hint | None:
        """What a callback is about, or None for one that cannot be read."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class VendorSku(Protocol):
    """What the catalogue says a variant is called at a vendor, with its print area in pixels."""

    @property
    def sku(self) -> str: ...
    @property
    def attributes(self) -> dict[str, str]: ...
    @property
    def print_width_px(self) -> int: ...
    @property
    def print_height_px(self) -> int: ...


class VendorSkus(Protocol):
    """The catalogue's mapping to vendors."""

    async def vendor_sku(self, db: Readable, sku: str, vendor: str, *, paper: str | None = None) -> VendorSku:
        """Raises the catalogue's error for a variant that the vendor does not make."""
        ...

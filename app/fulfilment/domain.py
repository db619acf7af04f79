"""Fulfilments: an order's lines at a printer. Our own lifecycle here; what the printer says is facts (`facts.py`)."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final, Literal

import msgspec

from app.kernel.events import Code, OrderEvent, event
from app.kernel.states import Machine
from base.ids import AssetId, FulfilmentId, OrderId, OrderLineId, OwnerId, ShipmentId
from base.money import Money


class FulfilmentState(StrEnum):
    """Our side of a fulfilment."""

    PLANNED = "planned"
    RENDERING = "rendering"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    CLOSED = "closed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"


class _Told(OrderEvent, frozen=True, kw_only=True):
    fulfilment_id: FulfilmentId


@event
class FulfilmentPlanned(_Told, frozen=True, kw_only=True):
    """The lines of a paid order are to be made; they are not sent before `not_before`."""

    type: ClassVar[str] = "fulfilment.planned"
    not_before: datetime


@event
class FulfilmentRendering(_Told, frozen=True, kw_only=True):
    """The print files are being made."""

    type: ClassVar[str] = "fulfilment.rendering"


@event
class FulfilmentSubmitting(_Told, frozen=True, kw_only=True):
    """Every print file is there; the order goes to the printer when the time to cancel is over."""

    type: ClassVar[str] = "fulfilment.submitting"
    vendor: Code
    not_before: datetime


@event
class FulfilmentSubmitted(_Told, frozen=True, kw_only=True):
    """The printer has the order."""

    type: ClassVar[str] = "fulfilment.submitted"
    vendor: Code


@event
class FulfilmentInProduction(_Told, frozen=True, kw_only=True):
    """The printer makes it."""

    type: ClassVar[str] = "fulfilment.in_production"
    lines: tuple[OrderLineId, ...]
    quantities: tuple[int, ...]


@event
class FulfilmentShipped(_Told, frozen=True, kw_only=True):
    """A parcel left. Copies counted in an earlier parcel are not counted again."""

    type: ClassVar[str] = "fulfilment.shipped"
    shipment_id: ShipmentId
    lines: tuple[OrderLineId, ...]
    quantities: tuple[int, ...]


@event
class FulfilmentLinesCancelled(_Told, frozen=True, kw_only=True):
    """The printer will not make these copies; the others it does."""

    type: ClassVar[str] = "fulfilment.lines_cancelled"
    lines: tuple[OrderLineId, ...]
    quantities: tuple[int, ...]


@event
class FulfilmentClosed(_Told, frozen=True, kw_only=True):
    """Every copy is shipped or cancelled, and at least one is shipped."""

    type: ClassVar[str] = "fulfilment.closed"


@event
class FulfilmentCancelling(_Told, frozen=True, kw_only=True):
    """The printer is asked to cancel; its answer decides."""

    type: ClassVar[str] = "fulfilment.cancelling"
    reason: Code


@event
class FulfilmentCancelled(_Told, frozen=True, kw_only=True):
    """Nothing will be made. `at_vendor` says whether the printer had the order."""

    type: ClassVar[str] = "fulfilment.cancelled"
    reason: Code
    at_vendor: bool
    lines: tuple[OrderLineId, ...]
    quantities: tuple[int, ...]


@event
class FulfilmentCancelRefused(_Told, frozen=True, kw_only=True):
    """The printer goes on, at least with a part."""

    type: ClassVar[str] = "fulfilment.cancel_refused"
    reason: Code


@event
class FulfilmentFailed(_Told, frozen=True, kw_only=True):
    """It cannot be made here; a person decides."""

    type: ClassVar[str] = "fulfilment.failed"
    reason: Code


@event
class FulfilmentHeld(_Told, frozen=True, kw_only=True):
    """The printer waits for something."""

    type: ClassVar[str] = "fulfilment.held"
    reason: Code


@event
class FulfilmentReleased(_Told, frozen=True, kw_only=True):
    """The printer goes on."""

    type: ClassVar[str] = "fulfilment.released"


@event
class FulfilmentContradicted(_Told, frozen=True, kw_only=True):
    """Something cannot be: a case for a person, who finds an alert of the same rule."""

    type: ClassVar[str] = "fulfilment.contradicted"
    rule: Code


@event
class FulfilmentCharged(_Told, frozen=True, kw_only=True):
    """What the printer charges, or credits, in one of its charges."""

    type: ClassVar[str] = "fulfilment.charged"
    amount: Money


_S = FulfilmentState
MACHINE: Final[Machine[FulfilmentState]] = Machine(
    "fulfilment",
    "fulfilments",
    {_S.PLANNED: FulfilmentPlanned.type},
    {
        (_S.PLANNED, _S.RENDERING): FulfilmentRendering.type,
        (_S.RENDERING, _S.SUBMITTING): FulfilmentSubmitting.type,
        (_S.SUBMITTING, _S.SUBMITTED): FulfilmentSubmitted.type,
        (_S.PLANNED, _S.CANCELLED): FulfilmentCancelled.type,
        (_S.RENDERING, _S.CANCELLED): FulfilmentCancelled.type,
        (_S.SUBMITTING, _S.CANCELLED): FulfilmentCancelled.type,
        (_S.PLANNED, _S.FAILED): FulfilmentFailed.type,
        (_S.RENDERING, _S.FAILED): FulfilmentFailed.type,
        (_S.SUBMITTING, _S.FAILED): FulfilmentFailed.type,
        (_S.FAILED, _S.CANCELLED): FulfilmentCancelled.type,
        (_S.FAILED, _S.CANCELLING): FulfilmentCancelling.type,  # its sending had begun
        (_S.SUBMITTING, _S.CANCELLING): FulfilmentCancelling.type,
        (_S.SUBMITTED, _S.CANCELLING): FulfilmentCancelling.type,
        (_S.CANCELLING, _S.SUBMITTED): FulfilmentCancelRefused.type,
        (_S.CANCELLING, _S.CANCELLED): FulfilmentCancelled.type,
        (_S.CANCELLING, _S.CLOSED): FulfilmentClosed.type,
        (_S.SUBMITTED, _S.CANCELLED): FulfilmentCancelled.type,  # by the printer itself
        (_S.SUBMITTED, _S.CLOSED): FulfilmentClosed.type,
        (_S.CANCELLED, _S.CLOSED): FulfilmentClosed.type,  # it left all the same
    },
)

UNSENT: Final = frozenset({_S.PLANNED, _S.RENDERING, _S.SUBMITTING})
AT_VENDOR: Final = frozenset({_S.SUBMITTED, _S.CANCELLING, _S.CLOSED, _S.CANCELLED})


class FulfilmentItem(msgspec.Struct, frozen=True, kw_only=True):
    """One order line to be made: `print` is the frozen choice (crop, fit, border) as the order keeps it, in JSON.

    `attributes` are what the printer is told beside its SKU. `draft_digest` is the SHA-256 of the frozen draft.
    """

    line_id: OrderLineId
    asset_id: AssetId
    sku: str
    copies: int
    draft_digest: str
    paper: str | None = None
    print: bytes = b"{}"


class Master(msgspec.Struct, frozen=True, kw_only=True):
    """The locked print file of one line, by region (None: home), key and version; hashes in hex, lengths in bytes and
    pixels."""

    line_id: OrderLineId
    key: str
    version: str
    sha256: str
    md5: str
    bytes: int
    width: int
    height: int
    region: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a fulfilment; `master` is None until it is made."""

    id: OrderLineId
    number: int
    asset_id: AssetId
    sku: str
    copies: int
    draft_digest: str
    paper: str | None
    print: bytes
    master: Master | None


class Fulfilment(msgspec.Struct, frozen=True, kw_only=True):
    """A fulfilment. `attempt` counts vendor orders that we meant to make; `begun_at` is when the present one was begun
    to be sent, after which its outcome is unknown until `vendor_order_id` is. `quoted_cost` is what the vendor said,
    just before, that it would charge, in minor units; None where it did not say."""

    id: FulfilmentId
    order_id: OrderId
    owner_id: OwnerId
    state: FulfilmentState
    vendor: str
    shipping_option: str
    not_before: datetime
    attempt: int
    begun_at: datetime | None
    links_until: datetime | None
    vendor_order_id: str | None
    cancel_reason: str | None
    changed_at: datetime
    ended_at: datetime | None
    created_at: datetime
    quoted_cost: int | None
    quoted_currency: str | None


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel as known: tracking numbers only grow."""

    id: ShipmentId
    vendor_shipment_id: str
    state: Literal["processing", "shipped", "cancelled"]
    carrier: str | None
    service: str | None
    dispatched_at: datetime | None
    lines: tuple[OrderLineId, ...]
    trackings: tuple[str, ...]
    urls: tuple[str, ...]


def next_look(quiet_s: int, least_s: int, most_s: int) -> int:
    """Seconds until the vendor is asked again: a quarter of the time that nothing changed, within bounds."""
    return min(most_s, max(least_s, quiet_s // 4))

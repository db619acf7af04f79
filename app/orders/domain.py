"""Orders: one draft bought once, its lines by quantity, and the words apps show, folded from facts."""

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from app.kernel.events import Code, OrderEvent, event
from app.kernel.states import Machine
from base.ids import AssetId, DraftId, ItemId, OrderId, OrderLineId, OwnerId, QuoteId
from base.money import Money


class OrderState(StrEnum):
    """Our own lifecycle; what apps show is folded from this and from facts."""

    PLACED = "placed"
    AWAITING_PAYMENT = "awaiting_payment"
    PAID = "paid"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@event
class OrderPlaced(OrderEvent, frozen=True, kw_only=True):
    """A draft was bought at a quote's price; nothing is paid yet."""

    type: ClassVar[str] = "order.placed"
    draft_id: DraftId
    quote_id: QuoteId
    total: Money


@event
class OrderAwaitingPayment(OrderEvent, frozen=True, kw_only=True):
    """The person has begun to pay."""

    type: ClassVar[str] = "order.awaiting_payment"


@event
class OrderPaid(OrderEvent, frozen=True, kw_only=True):
    """The payment is captured; until `cancellable_until` the order can be cancelled without asking the printer."""

    type: ClassVar[str] = "order.paid"
    paid: Money
    cancellable_until: datetime


@event
class OrderCancelled(OrderEvent, frozen=True, kw_only=True):
    """Nothing of the order will be made."""

    type: ClassVar[str] = "order.cancelled"
    reason: Code


@event
class OrderExpired(OrderEvent, frozen=True, kw_only=True):
    """It was not paid in time, and the payment provider says that it cannot be paid any more."""

    type: ClassVar[str] = "order.expired"


@event
class OrderClosed(OrderEvent, frozen=True, kw_only=True):
    """Everything is done and the time for complaints is over."""

    type: ClassVar[str] = "order.closed"


_S = OrderState
MACHINE: Final[Machine[OrderState]] = Machine(
    "order",
    "orders",
    {_S.PLACED: OrderPlaced.type},
    {
        (_S.PLACED, _S.AWAITING_PAYMENT): OrderAwaitingPayment.type,
        (_S.PLACED, _S.PAID): OrderPaid.type,
        (_S.AWAITING_PAYMENT, _S.PAID): OrderPaid.type,
        (_S.PLACED, _S.CANCELLED): OrderCancelled.type,
        (_S.AWAITING_PAYMENT, _S.CANCELLED): OrderCancelled.type,
        (_S.PAID, _S.CANCELLED): OrderCancelled.type,
        (_S.PLACED, _S.EXPIRED): OrderExpired.type,
        (_S.AWAITING_PAYMENT, _S.EXPIRED): OrderExpired.type,
        (_S.PAID, _S.CLOSED): OrderClosed.type,
    },
)


class Quantities(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the copies of one line; facts only grow."""

    ordered: int
    in_production: int = 0
    shipped: int = 0
    delivered: int = 0
    cancelled: int = 0
    refunded: int = 0
    returned: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One photo as one product; amounts are in minor units of the order's currency, tax included."""

    id: OrderLineId
    number: int
    item_id: ItemId
    asset_id: AssetId
    sku: str
    print: bytes
    unit: int
    total: int
    tax: int
    quantities: Quantities


class PrintFile(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version of a line's print file."""

    key: str
    version: str
    region: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order; amounts are minor units of `currency`, tax included."""

    id: OrderId
    owner_id: OwnerId
    state: OrderState
    draft_id: DraftId
    draft_version: int
    draft_digest: str
    quote_id: QuoteId
    catalogue_version: str
    currency: str
    total: int
    shipping: int
    tax: int
    shipping_option: str
    country: str
    promised_by: date | None
    expires_at: datetime
    cancellable_until: datetime | None
    created_at: datetime

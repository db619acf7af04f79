"""What apps show of an order: a pure fold of its lifecycle, lines, fulfilments and holds, with what comes next."""

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Final

import msgspec

from app.orders.domain import Order, OrderState, Quantities


class Visible(StrEnum):
    """The words apps show."""

    PRICED = "priced"
    PAID = "paid"
    IN_PRODUCTION = "in_production"
    PARTIALLY_SHIPPED = "partially_shipped"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    ON_HOLD = "on_hold"


class Next(StrEnum):
    """What is expected to happen next; `NOTHING` for an order that is over."""

    PAYMENT = "payment"
    PRODUCTION = "production"
    SHIPMENT = "shipment"
    DELIVERY = "delivery"
    RESOLUTION = "resolution"
    NOTHING = "nothing"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The folded state. `by` is the moment or day that the next thing is due, where one is known; `change_until` is
    the last moment at which a cancellation needs nobody's consent."""

    state: Visible
    next: Next
    by: datetime | date | None
    change_until: datetime | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the fold reads: the order, its lines' quantities, the reasons it is held for."""

    order: Order
    lines: Sequence[Quantities]
    holds: frozenset[str] = frozenset()


PHOTO_FLAGGED: Final = "photo_flagged"
"""One of its photos waits for a person. What the printer makes already, this does not hold back."""
DISPUTED: Final = "payment_disputed"
"""A bank may take the money back, or has: nothing is sent to the printer meanwhile."""


def fold(facts: Facts, now: datetime) -> Shown:
    """The one visible state of an order; the same facts in any order of arrival give the same state."""
    order = facts.order
    has_left = any(line.shipped or line.delivered for line in facts.lines)
    if order.state in (OrderState.CANCELLED, OrderState.EXPIRED) and not has_left:
        return Shown(state=Visible.CANCELLED, next=Next.NOTHING, by=None, change_until=None)
    if order.state in (OrderState.PLACED, OrderState.AWAITING_PAYMENT):
        return Shown(state=Visible.PRICED, next=Next.PAYMENT, by=order.expires_at, change_until=order.expires_at)
    made = _made(facts.lines)
    holds = facts.holds if made is Visible.PAID else facts.holds - {PHOTO_FLAGGED, DISPUTED}
    if holds and made not in (Visible.SHIPPED, Visible.DELIVERED, Visible.CANCELLED):
        return Shown(state=Visible.ON_HOLD, next=Next.RESOLUTION, by=None, change_until=_open(order, now))
    return Shown(
        state=made,
        next=_NEXT[made],
        by=None if made in _OVER else order.promised_by,
        change_until=_open(order, now) if made is Visible.PAID else None,
    )


_OVER = (Visible.DELIVERED, Visible.CANCELLED)
_NEXT = {
    Visible.PAID: Next.PRODUCTION,
    Visible.IN_PRODUCTION: Next.SHIPMENT,
    Visible.PARTIALLY_SHIPPED: Next.SHIPMENT,
    Visible.SHIPPED: Next.DELIVERY,
    Visible.DELIVERED: Next.NOTHING,
    Visible.CANCELLED: Next.NOTHING,
}


def _made(lines: Sequence[Quantities]) -> Visible:
    """What became of the copies that are still wanted: shipped ones are, even when a cancellation was told too."""
    wanted = sum(max(line.ordered - line.cancelled, line.shipped, line.delivered) for line in lines)
    shipped = sum(max(line.shipped, line.delivered) for line in lines)
    delivered = sum(line.delivered for line in lines)
    if wanted == 0:
        return Visible.CANCELLED
    if delivered >= wanted:
        return Visible.DELIVERED
    if shipped >= wanted:
        return Visible.SHIPPED
    if shipped:
        return Visible.PARTIALLY_SHIPPED
    return Visible.IN_PRODUCTION if any(line.in_production for line in lines) else Visible.PAID


def _open(order: Order, now: datetime) -> datetime | None:
    until = order.cancellable_until
    return until if until is not None and until > now else None

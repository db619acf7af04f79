"""What goes back of an order's money: the price of each copy once, and the shipping once."""

from collections.abc import Mapping, Sequence

import msgspec

from app.orders.domain import Line, Order
from app.payments.domain import Given, RefundLine
from base.ids import OrderLineId


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go back, in minor units of the order's currency, tax included."""

    parts: tuple[RefundLine, ...]
    shipping: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(part.amount for part in self.parts) + self.shipping


def price_of(line: Line, given: int, copies: int) -> int:
    """What the next `copies` of a line cost after `given` went back, in minor units: all copies cost its total.

    Cumulative shares rounded down, so that no order of partial refunds gives back more or less than was paid.
    """
    ordered = line.quantities.ordered
    return line.total * (given + copies) // ordered - line.total * given // ordered


def owed(order: Order, lines: Sequence[Line], copies: Mapping[OrderLineId, int], given: Given) -> Owed:
    """The price of `copies` by line, none twice; with the last copy of an order the shipping too, if nothing was sent.

    `given` is what went back or is about to.
    """
    parts, is_last = [], True
    for line in lines:
        before, ordered = given.copies.get(line.id, 0), line.quantities.ordered
        wanted = min(copies.get(line.id, 0), ordered - before)
        is_unmade = line.quantities.cancelled == ordered or not line.quantities.shipped
        is_last = is_last and before + wanted == ordered and is_unmade
        if wanted > 0:
            parts.append(RefundLine(line_id=line.id, copies=wanted, amount=price_of(line, before, wanted)))
    return Owed(parts=tuple(parts), shipping=max(0, order.shipping - given.shipping) if is_last else 0)

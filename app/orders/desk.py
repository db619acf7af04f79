"""What an operator does with one order: give money back, or end it. Each is told beforehand what it would do."""

from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

import msgspec

from app.fulfilment.domain import UNSENT, FulfilmentState
from app.fulfilment.service import Fulfilments
from app.kernel.db import Readable, Transaction
from app.kernel.events import Code, Origin
from app.orders import store
from app.orders.checkout import OVER, UNPAID, Checkout
from app.orders.domain import Line, Order, OrderState
from app.orders.errors import CopiesStillMade, LineNotFound, OrderNotCancellable, OrderNotFound
from app.orders.owed import Owed, owed
from app.payments.domain import PaymentState, PaymentView, RefundState
from app.payments.errors import PaymentInDispute, PaymentNotCaptured, RefundTooLarge
from app.payments.service import Payments, disputed
from base.ids import RefundId
from base.money import Money

OPERATOR: Final = Origin(actor="operator")
_BY_HAND: Final = UUID("a3a3f1c4-62c1-5a0e-9b53-6f0f2f0b5d11")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of one line, by its number; without a line all that is left. `reference` tells two refunds apart that are
    alike in everything else, such as a ticket's number. `goodwill` gives back the price of copies that are made all the
    same."""

    reason: Code
    line: int | None = None
    copies: int = 0
    reference: str = ""
    goodwill: bool = False


class Promised(msgspec.Struct, frozen=True, kw_only=True):
    """A refund: what goes back, what is left to give back afterwards. `known` is the state of one that was asked for
    before."""

    refund_id: RefundId
    amount: Money
    left: Money
    back: Owed
    known: RefundState | None = None


class How(StrEnum):
    """Who decides whether an order ends."""

    OVER = "over"
    STRIPE = "stripe"
    AT_ONCE = "at_once"
    PRINTER = "printer"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What a cancellation leads to, and how much goes back at most."""

    how: How
    back: Money


class Desk:
    """The use cases. Their effects are events of the operator's; what leaves the house is a job, as always."""

    def __init__(self, checkout: Checkout, payments: Payments, fulfilments: Fulfilments) -> None:
        self._checkout, self._payments, self._fulfilments = checkout, payments, fulfilments

    async def refund(self, tx: Transaction, order_id: UUID, wanted: Wanted) -> Promised:
        """Give back what `promise` says; the same order, line, copies, reason and reference are one refund, until it
        fails. Raises what `promise` raises."""
        order, _ = await _order(tx, order_id)
        await store.lock(tx, order.id)
        promised = await self.promise(tx, order.id, wanted)
        if promised.known is None:
            parts, name = promised.back.parts, promised.refund_id
            await self._payments.refund(tx, order.id, name, promised.amount, parts, wanted.reason, OPERATOR)
        return promised

    async def promise(self, db: Readable, order_id: UUID, wanted: Wanted) -> Promised:
        """What would be given back.

        Raises `OrderNotFound`, `LineNotFound`, `PaymentNotCaptured`, `PaymentInDispute`, `CopiesStillMade`,
        `RefundTooLarge`.
        """
        order, lines = await _order(db, order_id)
        money = await self._payments.of_order(db, order.id)
        if money is None or money.state is not PaymentState.CAPTURED:
            raise PaymentNotCaptured()
        if order.id in (await disputed(db, [order.id])).open:
            raise PaymentInDispute()
        known = {one.id: one for one in await self._payments.refunds_of(db, money.payment_id)}
        tries = (_named(order, wanted, n) for n in range(len(known) + 1))
        refund_id = next(name for name in tries if name not in known or known[name].state is not RefundState.FAILED)
        if refund_id not in known:
            return _promised(refund_id, money, await self._back(db, order, lines, money, wanted))
        one = known[refund_id]
        back = Owed(parts=one.lines, shipping=one.amount.amount - sum(part.amount for part in one.lines))
        return Promised(refund_id=refund_id, amount=one.amount, left=money.left, back=back, known=one.state)

    async def _back(self, db: Readable, order: Order, lines: list[Line], money: PaymentView, wanted: Wanted) -> Owed:
        given = await self._payments.given(db, order.id)
        left = {line.id: line.quantities.ordered - given.copies.get(line.id, 0) for line in lines}
        chosen = [line for line in lines if wanted.line in (None, line.number)]
        if not chosen:
            raise LineNotFound(f"lines 1 to {len(lines)}")
        copies = {line.id: left[line.id] if wanted.line is None else wanted.copies for line in chosen}
        for line in chosen:
            if copies[line.id] > left[line.id]:
                raise RefundTooLarge(f"{left[line.id]} copies of line {line.number} are not refunded yet")
            free = line.quantities.shipped + line.quantities.cancelled - given.copies.get(line.id, 0)
            if copies[line.id] > free and not wanted.goodwill and order.state not in OVER:
                raise CopiesStillMade(f"line {line.number}: {max(0, free)} copies are shipped or cancelled")
        back = owed(order, lines, copies, given)
        if wanted.line is None:  # all that is left, whatever was given back by hand elsewhere
            return msgspec.structs.replace(back, shipping=money.left.amount - sum(x.amount for x in back.parts))
        return back

    async def end(self, tx: Transaction, order_id: UUID, reason: Code) -> Ending:
        """Ask for an order's end, as `ending` says; asked again, the same. Raises what `ending` raises."""
        ending = await self.ending(tx, order_id)
        order, _ = await _order(tx, order_id)
        await self._checkout.end(tx, order.id, reason, OPERATOR)
        return ending

    async def ending(self, db: Readable, order_id: UUID) -> Ending:
        """What a cancellation would lead to; raises `OrderNotFound`, `OrderNotCancellable`."""
        order, lines = await _order(db, order_id)
        nothing = Money(0, order.currency)
        if order.state in OVER:
            return Ending(how=How.OVER, back=nothing)
        money = await self._payments.of_order(db, order.id)
        if order.state in UNPAID:
            if money is not None and money.state is PaymentState.CAPTURED:
                raise OrderNotCancellable()
            return Ending(how=How.STRIPE, back=nothing)
        open_ = {x.id: x.quantities.ordered - max(x.quantities.shipped, x.quantities.cancelled) for x in lines}
        if order.state is OrderState.CLOSED or not any(copies > 0 for copies in open_.values()):
            raise OrderNotCancellable()
        back = owed(order, lines, open_, await self._payments.given(db, order.id)).total
        left = 0 if money is None else money.left.amount
        (*_, found) = [None, *await self._fulfilments.of_order(db, order.id)]
        is_here = found is not None and found.begun_at is None and found.state in (*UNSENT, FulfilmentState.FAILED)
        return Ending(how=How.AT_ONCE if is_here else How.PRINTER, back=Money(min(back, left), order.currency))


def _promised(refund_id: RefundId, money: PaymentView, back: Owed) -> Promised:
    amount = Money(back.total, money.left.currency)
    if not 0 < amount.amount <= money.left.amount:
        raise RefundTooLarge(f"{money.left.amount} {amount.currency} (minor units) are left, {amount.amount} wanted")
    return Promised(refund_id=refund_id, amount=amount, left=money.left - amount, back=back)


def _named(order: Order, wanted: Wanted, tries: int) -> RefundId:
    """The refund's name: the same for the same wish; another for each try that has failed."""
    what = "all" if wanted.line is None else f"{wanted.line}x{wanted.copies}"
    return RefundId(uuid5(_BY_HAND, f"{order.id} {what} {wanted.reason} {wanted.reference} {tries}"))


async def _order(db: Readable, order_id: UUID) -> tuple[Order, list[Line]]:
    order = await store.find(db, order_id)
    if order is None:
        raise OrderNotFound()
    return order, (await store.lines(db, [order.id]))[order.id]

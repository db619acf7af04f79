"""From a price to an order, from an order to its payment, from the payment to the printer, and back out of it."""

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid5

import msgspec

from app.drafts.domain import FrozenItem
from app.drafts.service import Drafts
from app.fulfilment import forgetting
from app.fulfilment.domain import FulfilmentItem
from app.fulfilment.domain import FulfilmentState as State
from app.fulfilment.service import Fulfilments
from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin, Recorded
from app.kernel.jobs import Plan
from app.kernel.persons import PersonKeys
from app.kernel.spine import Planner, Spine
from app.orders import store
from app.orders.addresses import doubts
from app.orders.domain import (
    Line,
    Order,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderExpired,
    OrderPaid,
    OrderPlaced,
    OrderState,
    Quantities,
)
from app.orders.errors import OrderNotCancellable, OrderNotFound, OrderNotPayable, RecipientDoubtful, RecipientElsewhere
from app.orders.mailing import Mailing
from app.orders.masters import Masters
from app.orders.owed import owed
from app.payments.domain import PaymentState, Started
from app.payments.errors import PaymentCaptured
from app.payments.service import Payments, disputed
from app.pricing.domain import AcceptedQuote, QuotedLine
from app.pricing.errors import QuoteUsed
from app.pricing.service import Quotes
from base import ids
from base.clock import Clock
from base.ids import ItemId, OrderId, OrderLineId, OwnerId, RefundId
from base.money import Money
from base.recipients import Recipient

PAYABLE_FOR: Final = timedelta(hours=24)
"""An unpaid order keeps its price and its draft for so long."""
NOT_MADE: Final = "not_made"
ERASED: Final = "person-erased"
OWNER: Final = Origin(actor="owner")
SYSTEM: Final = Origin(actor="system")
UNPAID: Final = (OrderState.PLACED, OrderState.AWAITING_PAYMENT)
OVER: Final = (OrderState.CANCELLED, OrderState.EXPIRED)
_REFUNDS: Final = UUID("0b0f0f0c-3c1f-5d0e-8f47-6a6a1df3a901")


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """What a person agrees to: a quote, who receives it, and which doubts about the address they put aside."""

    quote_id: UUID
    recipient: Recipient
    accepted_doubts: frozenset[str]


class OfOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A job's payload: which order, and the event that is answered."""

    order_id: UUID
    event_id: UUID


class Checkout:
    """The use cases that change orders. `window_s` is how long a paid order can be cancelled without asking anybody."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        mailing: Mailing,
        masters: Masters,
        drafts: Drafts,
        quotes: Quotes,
        payments: Payments,
        fulfilments: Fulfilments,
        persons: PersonKeys,
        clock: Clock,
        window_s: int,
    ) -> None:
        self._db, self._spine, self._mailing, self._clock = db, spine, mailing, clock
        self._persons = persons
        self._masters, self._drafts, self._quotes = masters, drafts, quotes
        self._payments, self._fulfilments = payments, fulfilments
        self._window = timedelta(seconds=window_s)

    async def place(self, tx: Transaction, owner_id: OwnerId, wanted: Placing) -> OrderId:
        """Buy a draft at a quote's price; the same quote again is the same order.

        Raises what accepting a quote and freezing a draft raise, `RecipientElsewhere`, `RecipientDoubtful`.
        """
        try:
            quote = await self._quotes.accept(tx, owner_id, wanted.quote_id)
        except QuoteUsed:  # perhaps by a twin of this call that was committed just now
            placed = await store.by_quote(tx, owner_id, wanted.quote_id)
            if placed is None:
                raise
            return placed.id
        _check(quote, wanted)
        frozen = await self._drafts.freeze(tx, owner_id, quote.draft_id, quote.draft_version)
        order = self._order(owner_id, quote, frozen.digest)
        items = {item.item_id: item for item in frozen.items}
        await store.insert(tx, order, [_line(n, q, items) for n, q in enumerate(quote.lines, 1)])
        await self._mailing.keep(tx, order, wanted.recipient, tuple(sorted(wanted.accepted_doubts)))
        told = OrderPlaced(order_id=order.id, draft_id=order.draft_id, quote_id=order.quote_id, total=quote.total)
        await self._spine.record(tx, told, aggregate_id=order.id, owner_id=owner_id, origin=OWNER)
        await self._payments.open(tx, order.id, owner_id, quote.total)
        return order.id

    def _order(self, owner_id: OwnerId, quote: AcceptedQuote, digest: str) -> Order:
        now = self._clock.now()
        return Order(
            id=OrderId(ids.new_id()),
            owner_id=owner_id,
            state=OrderState.PLACED,
            draft_id=quote.draft_id,
            draft_version=quote.draft_version,
            draft_digest=digest,
            quote_id=quote.quote_id,
            catalogue_version=quote.catalogue_version,
            currency=quote.currency,
            total=quote.total.amount,
            shipping=quote.shipping.amount,
            tax=quote.tax.amount,
            shipping_option=quote.shipping_option,
            country=quote.country,
            promised_by=quote.promised_by,
            expires_at=now + PAYABLE_FOR,
            cancellable_until=None,
            created_at=now,
        )

    async def pay(self, owner_id: OwnerId, order_id: UUID, *, begins: bool = True) -> Started:
        """Begin to pay, or only read how the payment stands: asked again, the same intent at Stripe.

        Raises `OrderNotFound`, `OrderNotPayable`, and what `Payments.start` raises.
        """
        async with self._db.reading() as db:
            order = await store.get(db, order_id, owner_id)
        if order is None:
            raise OrderNotFound()
        if order.state in OVER:
            raise OrderNotPayable()
        started = await self._payments.start(owner_id, order.id, makes=begins)
        if order.state is OrderState.PLACED and started.client_secret is not None:
            async with self._db.transaction() as tx:
                await self._begun(tx, order.id)
        return started

    async def _begun(self, tx: Transaction, order_id: UUID) -> None:
        order = await _locked(tx, order_id)
        if order.state is OrderState.PLACED:
            told = OrderAwaitingPayment(order_id=order.id)
            await store.transition(tx, self._spine, order, OrderState.AWAITING_PAYMENT, told, OWNER)

    async def settle(self, tx: Transaction, wanted: OfOrder) -> None:
        """The payment is secured: the order is paid and goes to be made; money for a dead order goes back, and so does
        that of a person who was erased meanwhile."""
        order = await _locked(tx, wanted.order_id)
        if order.state in OVER:
            await self._give_back(tx, order, wanted)
        if order.state not in UNPAID:
            return
        until = self._clock.now() + self._window
        await store.set_window(tx, order.id, until)
        told = OrderPaid(order_id=order.id, paid=Money(order.total, order.currency), cancellable_until=until)
        origin = Origin(actor="system", cause=wanted.event_id)
        await store.transition(tx, self._spine, order, OrderState.PAID, told, origin)
        lines = (await store.lines(tx, [order.id]))[order.id]
        items = tuple(_to_make(order, line) for line in lines)
        fulfilment_id = await self._fulfilments.plan(
            tx,
            order_id=order.id,
            owner_id=order.owner_id,
            items=items,
            shipping_option=order.shipping_option,
            not_before=until,
            origin=origin,
        )
        if await self._persons.is_erased(tx, order.owner_id):
            await self._stop(tx, order, ERASED, origin)
            return
        for plan in await self._masters.planned(tx, order, lines, fulfilment_id):
            await self._spine.plan(tx, plan, cause=wanted.event_id)
        await self._fulfilments.rendering(tx, fulfilment_id)

    async def render_again(self, tx: Transaction, order_id: UUID, cause: UUID) -> None:
        """Have the print files made that a paid order still misses; those that are on their way are not made twice."""
        order = await _locked(tx, order_id)
        lines = (await store.lines(tx, [order.id]))[order.id]
        for found in await self._fulfilments.of_order(tx, order.id):
            if order.state is not OrderState.PAID or found.state not in (State.PLANNED, State.RENDERING):
                continue
            made = {line.id for line in await self._fulfilments.lines(tx, found.id) if line.master is not None}
            missing = [line for line in lines if line.id not in made]
            for plan in await self._masters.planned(tx, order, missing, found.id):
                await self._spine.plan(tx, plan, cause=cause)

    async def _give_back(self, tx: Transaction, order: Order, wanted: OfOrder) -> None:
        money = await self._payments.of_order(tx, order.id)
        if money is None or money.state is not PaymentState.CAPTURED or not money.left.amount:
            return
        name = ids.encode("order", order.id)
        await alerts.alert(tx, "paid-after-the-end", Severity.ERROR, name, detail="the money goes back")
        await self._payments.refund(tx, order.id, _refund_id(wanted), money.left, (), "order_not_living")

    async def unpaid(self, tx: Transaction, wanted: OfOrder) -> None:
        """Stripe says that nothing can be paid any more: the order ends, its draft is free again."""
        order = await _locked(tx, wanted.order_id)
        money = await self._payments.of_order(tx, order.id)
        if order.state not in UNPAID or money is None or money.state is not PaymentState.CANCELLED:
            return
        origin = Origin(actor="system", cause=wanted.event_id)
        if order.expires_at <= self._clock.now():
            told: OrderExpired | OrderCancelled = OrderExpired(order_id=order.id)
            await store.transition(tx, self._spine, order, OrderState.EXPIRED, told, origin)
        else:
            told = OrderCancelled(order_id=order.id, reason="not_paid")
            await store.transition(tx, self._spine, order, OrderState.CANCELLED, told, origin)
        await self._drafts.release(tx, order.draft_id)

    async def expire_overdue(self, tx: Transaction, limit: int = 200) -> int:
        """Have the payments of overdue orders cancelled; an order ends only when Stripe has said so."""
        overdue = await store.overdue(tx, self._clock.now(), limit)
        for order in overdue:
            try:
                await self._payments.cancel(tx, order.id, "expired")
            except PaymentCaptured:
                continue  # the order will be settled by what is on its way
        return len(overdue)

    async def cancel(self, tx: Transaction, owner_id: OwnerId, order_id: UUID) -> None:
        """Ask for an order's end; asked again, the same. What can still be stopped decides Stripe, or the printer.

        Raises `OrderNotFound`, `OrderNotCancellable`.
        """
        if await store.get(tx, order_id, owner_id) is None:
            raise OrderNotFound()
        await self.end(tx, order_id, "requested", OWNER)

    async def end(self, tx: Transaction, order_id: UUID, reason: str, origin: Origin) -> None:
        """Ask for anybody's order's end; `reason` is a code. Raises `OrderNotFound`, `OrderNotCancellable`."""
        order = await _locked(tx, order_id)
        if order.state in OVER:
            return
        if order.state in UNPAID:
            try:
                await self._payments.cancel(tx, order.id, reason)
            except PaymentCaptured:
                raise OrderNotCancellable() from None
            return
        lines = [line.quantities for line in (await store.lines(tx, [order.id]))[order.id]]
        if order.state is OrderState.CLOSED or all(q.shipped + q.cancelled >= q.ordered for q in lines):
            raise OrderNotCancellable()
        await self._stop(tx, order, reason, origin)

    async def _stop(self, tx: Transaction, order: Order, reason: str, origin: Origin) -> None:
        """What is not at the printer is not made; what may be there, the printer is asked not to make."""
        if await self._fulfilments.cancel(tx, order.id, reason=reason, origin=origin) is State.CANCELLED:
            await self._masters.stop(tx, (await store.lines(tx, [order.id]))[order.id])

    async def erase_all(self, tx: Transaction, owner_id: OwnerId) -> None:
        """End what an erased person has bought, unless a printer makes it. Money goes back as after any other end."""
        for order_id in await store.living_of(tx, owner_id):
            if await self._fulfilments.is_at_vendor(tx, order_id):
                continue
            with contextlib.suppress(OrderNotCancellable):  # shipped; or paid just now: `settle` ends it
                await self.end(tx, order_id, ERASED, OWNER)
        await forgetting.erase_all(tx, owner_id)
        await store.forget_recipients(tx, owner_id)

    async def follow(self, tx: Transaction, wanted: OfOrder) -> None:
        """What a printer did, on the order's lines; copies that are not made are refunded.

        Counted anew from all events, so that any order of arrival and any repetition give the same.
        """
        order = await _locked(tx, wanted.order_id)
        before = {line.id: line for line in (await store.lines(tx, [order.id]))[order.id]}
        counts = await store.counted(tx, order.id)
        await store.save_counts(tx, counts)
        after = (await store.lines(tx, [order.id]))[order.id]
        lost = [(line, line.quantities.cancelled - before[line.id].quantities.cancelled) for line in after]
        if any(copies > 0 for _, copies in lost):
            await self._refund(tx, order, after, lost, wanted)
        is_dead = all(line.quantities.cancelled == line.quantities.ordered for line in after)
        if is_dead and order.state is OrderState.PAID:
            told = OrderCancelled(order_id=order.id, reason="not_made")
            origin = Origin(actor="system", cause=wanted.event_id)
            await store.transition(tx, self._spine, order, OrderState.CANCELLED, told, origin)

    async def _refund(
        self, tx: Transaction, order: Order, lines: list[Line], lost: list[tuple[Line, int]], wanted: OfOrder
    ) -> None:
        """The price of the copies that are not made, as far as it did not go back by an operator's word."""
        copies = {line.id: gone for line, gone in lost}
        back = owed(order, lines, copies, await self._payments.given(tx, order.id))
        money = await self._payments.of_order(tx, order.id)
        left = 0 if money is None else money.left.amount
        at_bank = 0 if money is None else money.lost.amount
        if back.total > left + at_bank:  # somebody gave money back at Stripe itself
            name, detail = ids.encode("order", order.id), f"{left} of {back.total} {order.currency} are left"
            await alerts.alert(tx, "refund-not-covered", Severity.ERROR, name, detail=detail)
        if amount := min(back.total, left):
            refund = Money(amount, order.currency)
            await self._payments.refund(tx, order.id, _refund_id(wanted), refund, back.parts, "not_made")

    async def disputed(self, tx: Transaction, wanted: OfOrder) -> None:
        """A bank's dispute has moved on: once it is won, what waited for that is sent; once it is lost, nothing more is
        made. The money that a bank took is not refunded beside it."""
        order = await _locked(tx, wanted.order_id)
        if order.state is not OrderState.PAID:
            return
        banks, now = await disputed(tx, [order.id]), self._clock.now()
        if order.id in banks.lost:
            origin = Origin(actor="system", cause=wanted.event_id)
            await self._stop(tx, order, "dispute-lost", origin)
        elif order.id not in banks.open:
            for found in await self._fulfilments.of_order(tx, order.id):
                await alerts.settle(tx, "sent-while-disputed", ids.encode("fulfilment", found.id))
                if found.state is State.SUBMITTING and found.not_before <= now:
                    await self._fulfilments.resume(tx, found.id)

    async def not_made(self, tx: Transaction, wanted: OfOrder) -> None:
        """A printer will not make it: the order is held, for the person to see and an operator to decide."""
        order = await _locked(tx, wanted.order_id)
        await store.hold(tx, order.id, NOT_MADE)

    async def refunded(self, tx: Transaction, wanted: OfOrder) -> None:
        """Refunds that succeeded, on the order's lines."""
        await store.save_refunded(tx, await self._payments.refunded_copies(tx, wanted.order_id))


def _check(quote: AcceptedQuote, wanted: Placing) -> None:
    there = wanted.recipient
    if there.country != quote.country or (quote.postcode and (there.postcode or "") != quote.postcode):
        raise RecipientElsewhere()
    open_doubts = [doubt for doubt in doubts(there) if doubt not in wanted.accepted_doubts]
    if open_doubts:
        raise RecipientDoubtful(open_doubts)


def _line(number: int, quoted: QuotedLine, items: Mapping[ItemId, FrozenItem]) -> Line:
    item = items[quoted.item_id]
    return Line(
        id=OrderLineId(ids.new_id()),
        number=number,
        item_id=quoted.item_id,
        asset_id=item.asset_id,
        sku=quoted.sku,
        print=msgspec.json.encode(item),
        unit=quoted.unit.amount,
        total=quoted.total.amount,
        tax=quoted.tax.amount,
        quantities=Quantities(ordered=quoted.copies),
    )


def _to_make(order: Order, line: Line) -> FulfilmentItem:
    item = msgspec.json.decode(line.print, type=FrozenItem)
    return FulfilmentItem(
        line_id=line.id,
        asset_id=line.asset_id,
        sku=line.sku,
        copies=line.quantities.ordered,
        draft_digest=order.draft_digest,
        paper=item.paper,
        print=line.print,
    )


def _refund_id(wanted: OfOrder) -> RefundId:
    """One refund an event: asked again, the same."""
    return RefundId(uuid5(_REFUNDS, str(wanted.event_id)))


async def _locked(tx: Transaction, order_id: UUID) -> Order:
    order = await store.lock(tx, order_id)
    if order is None:
        raise OrderNotFound()
    return order


def answering(kind: str) -> Planner:
    """A planner of a job about the event's order."""

    async def planned(tx: Transaction, happened: Recorded) -> Plan | None:
        if happened.order_id is None:
            return None
        return Plan(
            kind=kind,
            payload=OfOrder(order_id=happened.order_id, event_id=happened.id),
            owner_id=happened.owner_id,
            dedupe=f"{kind}:{happened.id}",
        )

    return planned

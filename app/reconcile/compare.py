"""The comparison: what three sides say of the same orders, as a pure function from their books to findings."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from app.fulfilment.domain import Fulfilment, FulfilmentState
from app.fulfilment.facts import Facts, reference, shipped_references
from app.fulfilment.vendor import ParcelState, Read, Stage
from app.orders.domain import OrderState
from app.orders.service import OrderView
from app.payments.domain import (
    OPEN,
    REFUND_STATE_OF,
    REFUNDS,
    Capture,
    Ledger,
    Payment,
    PaymentState,
    Refund,
    RefundFacts,
    RefundState,
)
from app.reconcile.domain import (
    AskRefund,
    Drift,
    Finding,
    FollowOrder,
    GiveBack,
    ReadPayment,
    RenderOrder,
    Repair,
    ResumeFulfilment,
    SettleOrder,
)
from base import ids
from base.ids import OrderId
from base.money import Money

UNPAID = (OrderState.PLACED, OrderState.AWAITING_PAYMENT)
OVER = (OrderState.CANCELLED, OrderState.EXPIRED)
_F = FulfilmentState


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is compared. What happened after `settled` may still be on its way and is not judged; what of
    ours is older than `complete` may be of before the others' lists. `missing` are names of vendor orders that the
    vendor does not show when asked for them; `tolerance` is per mille of a quoted cost."""

    settled: datetime
    complete: datetime
    tolerance: int
    captures: Sequence[Capture] = ()
    refunds: Sequence[RefundFacts] = ()
    vendor_orders: Sequence[Read] = ()
    missing: frozenset[str] = frozenset()
    ledger: Ledger
    orders: Sequence[OrderView] = ()
    fulfilments: Sequence[tuple[Fulfilment, Facts]] = ()


def compare(books: Books) -> list[Finding]:
    """Every difference, in the order of the seven kinds' checks."""
    found = Comparison(books)
    return [*found.captures(), *found.orders(), *found.vendor_orders(), *found.lost_orders(), *found.refunds()]


def decoded(kind: str, text: str | None) -> UUID | None:
    """The id in a reference of ours, or None for anything else."""
    try:
        return ids.decode(kind, text or "")
    except ids.MalformedId:
        return None


class Comparison:
    """The checks over one set of books."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._payment: dict[UUID | None, Payment] = {one.id: one for one in books.ledger.payments}
        self._by_intent = {one.intent_id: one for one in books.ledger.payments if one.intent_id is not None}
        self._living = {one.order_id: one for one in books.ledger.payments if one.state is not PaymentState.CANCELLED}
        self._order: dict[UUID | None, OrderView] = {view.order.id: view for view in books.orders}
        self._fulfilment: dict[UUID | None, tuple[Fulfilment, Facts]] = {
            f.id: (f, facts) for f, facts in books.fulfilments
        }
        self._at_vendor: dict[UUID | None, list[Read]] = defaultdict(list)
        for read in books.vendor_orders:
            self._at_vendor[decoded("fulfilment", read.seen.reference)].append(read)
        self._refunds: dict[UUID, list[Refund]] = defaultdict(list)
        for refund in books.ledger.refunds:
            self._refunds[refund.payment_id].append(refund)

    def captures(self) -> Iterator[Finding]:
        """Money that Stripe took, against our payments and orders."""
        charges = Counter(one.intent_id for one in self._books.captures if one.intent_id is not None)
        for intent, count in sorted(charges.items()):
            if count > 1:
                payment = self._by_intent.get(intent)
                order = None if payment is None else payment.order_id
                yield _case(Drift.CAPTURED_TWICE, "charge-doubled", intent, order, f"{count} charges")
        for capture in self._books.captures:
            if capture.created_at > self._books.settled:
                continue
            payment = self._by_intent.get(capture.intent_id or "")
            yield from self._stranger(capture) if payment is None else self._capture(capture, payment)

    def _stranger(self, capture: Capture) -> Iterator[Finding]:
        """Money of an intent that no payment of ours knows."""
        if capture.refunded >= capture.amount:
            return
        asked = self._payment.get(decoded("payment", capture.payment_ref))
        if asked is not None and asked.intent_id is None and asked.state in OPEN:
            yield _unheard(asked)
            return
        view = self._order.get(decoded("order", capture.order_ref))
        told = f"{capture.amount} {capture.currency}"
        if view is None:
            yield _case(Drift.CAPTURED_WITHOUT_ORDER, "no-order", capture.id, None, told)
            return
        order, paid = view.order, self._living.get(view.order.id)
        if paid is None or paid.state is not PaymentState.CAPTURED or paid.amount.currency != capture.currency:
            yield _case(Drift.CAPTURED_WITHOUT_ORDER, "intent-not-ours", capture.id, order.id, told)
        elif capture.intent_id is None:
            yield _case(Drift.CAPTURED_TWICE, "second-charge", capture.id, order.id, told)
        else:
            left = Money(capture.amount - capture.refunded, capture.currency)
            repair = GiveBack(order_id=order.id, intent_id=capture.intent_id, amount=left)
            yield _finding(Drift.CAPTURED_TWICE, "second-intent", capture.intent_id, order.id, repair, told)

    def _capture(self, capture: Capture, payment: Payment) -> Iterator[Finding]:
        """Money of a payment of ours."""
        view, name = self._order.get(payment.order_id), ids.encode("payment", payment.id)
        if capture.disputed and payment.id not in self._books.ledger.disputed:
            repair = ReadPayment(payment_id=payment.id)
            yield _finding(Drift.REFUND, "dispute-unheard", name, payment.order_id, repair)
        if Money(capture.amount, capture.currency) != payment.amount:
            told = f"captured {capture.amount} {capture.currency}, asked for {_told(payment.amount)}"
            yield _case(Drift.AMOUNT, "captured", name, payment.order_id, told)
        elif payment.state is not PaymentState.CAPTURED:
            yield _unheard(payment)
        elif view is not None:
            yield from self._paid(capture, payment, view)

    def _paid(self, capture: Capture, payment: Payment, view: OrderView) -> Iterator[Finding]:
        order, name = view.order, ids.encode("order", view.order.id)
        if (order.total, order.currency) != (payment.amount.amount, payment.amount.currency):
            told = f"ordered for {order.total} {order.currency}, paid {_told(payment.amount)}"
            yield _case(Drift.AMOUNT, "order-total", name, order.id, told)
        elif order.state in UNPAID:
            settle = SettleOrder(order_id=order.id)
            yield _finding(Drift.PAID_NOT_SUBMITTED, "not-settled", name, order.id, settle)
        elif (
            order.state in OVER
            and not (capture.refunded or self._refunds[payment.id])
            and payment.id not in self._books.ledger.disputed  # what a bank took back is not given back beside it
        ):
            settle = SettleOrder(order_id=order.id)
            yield _finding(Drift.CAPTURED_WITHOUT_ORDER, "order-over", name, order.id, settle)

    def orders(self) -> Iterator[Finding]:
        """Paid orders of ours, against Stripe and the printers. A held one waits for a person already."""
        by_order: dict[OrderId, list[Fulfilment]] = defaultdict(list)
        shipped: dict[OrderId, set[str]] = defaultdict(set)
        for found, facts in self._books.fulfilments:
            by_order[found.order_id].append(found)
            if found.changed_at <= self._books.settled:
                shipped[found.order_id] |= shipped_references(facts)
        captured = {one.intent_id for one in self._books.captures}
        for view in self._books.orders:
            order, until = view.order, view.order.cancellable_until
            if order.state is not OrderState.PAID or until is None or until > self._books.settled:
                continue
            payment = self._living.get(order.id)
            is_listed = payment is None or payment.intent_id in captured
            if not is_listed and self._books.complete < order.created_at:
                name = ids.encode("order", order.id)
                yield _case(Drift.AMOUNT, "not-captured", name, order.id, f"paid {order.total} {order.currency}")
            if not view.holds:
                yield from self._to_make(view, by_order[order.id])
            yield from _uncounted(view, shipped[order.id])

    def _to_make(self, view: OrderView, every: Sequence[Fulfilment]) -> Iterator[Finding]:
        order, name = view.order, ids.encode("order", view.order.id)
        living = [one for one in every if one.state not in (_F.CANCELLED, _F.FAILED)]
        drift = Drift.PAID_NOT_SUBMITTED
        if not living:
            yield from _unmakeable(name, order.id, every)
            return
        found = living[-1]
        if found.state in (_F.PLANNED, _F.RENDERING):
            yield _finding(drift, "not-rendered", name, order.id, RenderOrder(order_id=order.id))
        elif found.state is _F.SUBMITTING and found.id not in self._at_vendor:
            yield _finding(drift, "not-sent", name, order.id, ResumeFulfilment(fulfilment_id=found.id))

    def vendor_orders(self) -> Iterator[Finding]:
        """What printers have, against our fulfilments."""
        for name, reads in self._at_vendor.items():
            known = self._fulfilment.get(name)
            living = sorted(read.seen.vendor_order_id for read in reads if read.seen.stage is not Stage.CANCELLED)
            if known is None:
                for vendor_order in living:
                    yield _case(Drift.VENDOR_ORDER, "unknown-here", vendor_order, None, "")
            else:
                yield from self._of_vendor(*known, reads, living)

    def _of_vendor(
        self, found: Fulfilment, facts: Facts, reads: Sequence[Read], living: Sequence[str]
    ) -> Iterator[Finding]:
        """What a printer has under the reference of one fulfilment."""
        if len(living) > 1:
            yield _at(found, Drift.VENDOR_ORDER, "doubled", None, ", ".join(living))
        if found.vendor_order_id is None:
            yield from self._unheard_order(found, living)
        for read in reads:
            if read.seen.vendor_order_id == found.vendor_order_id:
                yield from self._told_by_vendor(found, facts, read)

    def _unheard_order(self, found: Fulfilment, living: Sequence[str]) -> Iterator[Finding]:
        """The printer has an order that we do not know to be there."""
        is_recent = found.begun_at is not None and found.begun_at > self._books.settled
        if not living or is_recent:
            return
        if found.state in (_F.SUBMITTING, _F.CANCELLING):
            yield _at(found, Drift.VENDOR_ORDER, "sent-unheard", ResumeFulfilment(fulfilment_id=found.id), living[0])
        else:
            yield _at(found, Drift.VENDOR_ORDER, "made-though-given-up", None, living[0])

    def _told_by_vendor(self, found: Fulfilment, facts: Facts, read: Read) -> Iterator[Finding]:
        seen, look = read.seen, ResumeFulfilment(fulfilment_id=found.id)
        known = {parcel.id for parcel in facts.parcels if parcel.shipped}
        shipped = sorted(p.id for p in seen.parcels if p.state is ParcelState.SHIPPED and p.id not in known)
        if seen.updated_at <= self._books.settled:
            for parcel in shipped:
                yield _at(found, Drift.SHIPPED_NOT_RECORDED, "parcel", look, parcel, by=parcel)
            if seen.stage is Stage.CANCELLED and not facts.cancelled:
                yield _at(found, Drift.SHIPPED_NOT_RECORDED, "cancellation", look, seen.vendor_order_id)
        charged = [charge.amount for charge in seen.charges if charge.amount.amount > 0]
        if found.quoted_cost is not None and charged and self._is_off(charged, found):
            told = f"charged {', '.join(map(_told, charged))}, quoted {found.quoted_cost} {found.quoted_currency}"
            yield _at(found, Drift.AMOUNT, "vendor-charge", None, told)

    def _is_off(self, charged: Sequence[Money], found: Fulfilment) -> bool:
        assert found.quoted_cost is not None
        if any(amount.currency != found.quoted_currency for amount in charged):
            return True
        difference = abs(sum(amount.amount for amount in charged) - found.quoted_cost)
        return difference * 1000 > found.quoted_cost * self._books.tolerance

    def lost_orders(self) -> Iterator[Finding]:
        """Orders that we sent and that the printer does not know."""
        for found, _ in self._books.fulfilments:
            if found.vendor_order_id in self._books.missing:
                yield _at(found, Drift.VENDOR_ORDER, "unknown-there", None, found.vendor_order_id or "")

    def refunds(self) -> Iterator[Finding]:
        """Money that goes back, on both sides."""
        mine = {one.stripe_id: one for one in self._books.ledger.refunds if one.stripe_id is not None}
        mine |= {ids.encode("refund", one.id): one for one in self._books.ledger.refunds}
        for there in self._books.refunds:
            if there.created_at <= self._books.settled:
                yield from self._refund(there, mine.get(there.id) or mine.get(there.refund_ref))
        listed = {there.id for there in self._books.refunds} | {there.refund_ref for there in self._books.refunds}
        for refund in self._books.ledger.refunds:
            is_listed = refund.stripe_id in listed or ids.encode("refund", refund.id) in listed
            if not is_listed and self._books.complete < refund.created_at <= self._books.settled:
                yield from _unmade(refund)

    def _refund(self, there: RefundFacts, mine: Refund | None) -> Iterator[Finding]:
        state = REFUND_STATE_OF.get(there.status)
        if mine is None:
            payment = self._by_intent.get(there.intent_id or "")
            if payment is not None and state is not RefundState.FAILED:
                repair, told = ReadPayment(payment_id=payment.id), f"{there.amount} {there.currency.upper()}"
                yield _finding(Drift.REFUND, "made-elsewhere", there.id, payment.order_id, repair, told)
        elif Money(there.amount, there.currency.upper()) != mine.amount:
            told = f"Stripe {there.amount} {there.currency.upper()}, ours {_told(mine.amount)}"
            yield _case(Drift.REFUND, "amount", there.id, mine.order_id, told)
        elif state is not None and (mine.state, state) in REFUNDS.moves:
            yield _finding(Drift.REFUND, f"{state}-unheard", there.id, mine.order_id, AskRefund(refund_id=mine.id))


def _uncounted(view: OrderView, shipped: set[str]) -> Iterator[Finding]:
    """Parcels that the fulfilment knows and the order's lines do not."""
    missing = [line for line in view.lines if reference(line.id) in shipped and line.quantities.shipped == 0]
    if missing:
        order_id, told = view.order.id, f"{len(missing)} lines"
        repair, name = FollowOrder(order_id=order_id), ids.encode("order", order_id)
        yield _finding(Drift.SHIPPED_NOT_RECORDED, "lines", name, order_id, repair, told)


def _unmakeable(name: str, order_id: OrderId, every: Sequence[Fulfilment]) -> Iterator[Finding]:
    """A paid order that nothing is made for: cancelled, and the order did not hear of it, or given up."""
    if every and every[-1].state is _F.CANCELLED:
        follow = FollowOrder(order_id=order_id)
        yield _finding(Drift.PAID_NOT_SUBMITTED, "cancellation-unheard", name, order_id, follow)
    else:
        yield _case(Drift.PAID_NOT_SUBMITTED, "failed" if every else "not-planned", name, order_id, "")


def _unmade(refund: Refund) -> Iterator[Finding]:
    name = ids.encode("refund", refund.id)
    if refund.state is RefundState.REQUESTED:
        yield _finding(Drift.REFUND, "not-made", name, refund.order_id, AskRefund(refund_id=refund.id))
    elif refund.state is RefundState.SUCCEEDED:
        yield _case(Drift.REFUND, "not-there", name, refund.order_id, _told(refund.amount))


def _unheard(payment: Payment) -> Finding:
    name, repair = ids.encode("payment", payment.id), ReadPayment(payment_id=payment.id)
    return _finding(Drift.PAID_NOT_SUBMITTED, "capture-unheard", name, payment.order_id, repair)


def _finding(
    drift: Drift, what: str, subject: str, order_id: OrderId | None, repair: Repair | None, detail: str = ""
) -> Finding:
    return Finding(drift=drift, what=what, subject=subject, order_id=order_id, repair=repair, detail=detail)


def _case(drift: Drift, what: str, subject: str, order_id: OrderId | None, detail: str) -> Finding:
    return _finding(drift, what, subject, order_id, None, detail)


def _at(found: Fulfilment, drift: Drift, what: str, repair: Repair | None, detail: str, by: str = "") -> Finding:
    name = ids.encode("fulfilment", found.id) + (f":{by}" if by else "")
    return _finding(drift, what, name, found.order_id, repair, detail)


def _told(amount: Money) -> str:
    return f"{amount.amount} {amount.currency}"

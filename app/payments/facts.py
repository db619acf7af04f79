"""Applying what Stripe said: monotone, in any order, and a payment counts only when everything in it is ours."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Transaction
from app.kernel.events import Event, Origin
from app.kernel.jobs import Plan
from app.kernel.spine import Spine
from app.payments import store
from app.payments.domain import (
    CANCELLABLE,
    DISPUTES_OVER,
    DISPUTES_WON,
    FINAL,
    MACHINE,
    OPEN,
    REFUND_STATE_OF,
    REFUNDS,
    STATE_OF,
    TOLD,
    DisputeFacts,
    IntentFacts,
    Payment,
    PaymentCancelled,
    PaymentDisputed,
    PaymentFailed,
    PaymentMismatchFound,
    PaymentSecured,
    PaymentState,
    Refund,
    RefundFacts,
    RefundFailed,
    RefundRequested,
    RefundState,
    RefundSucceeded,
    mismatch,
)
from base import ids
from base.clock import Clock
from base.ids import RefundId
from base.money import Money

STRIPE: Final = Origin(actor="stripe")
POLL_S: Final = (5, 10, 15, 30, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 120, 300, 600, 1_800)
MADE_AT_STRIPE: Final = "made_at_stripe"
_ADOPTED: Final = UUID("2f6f1a0a-6a53-5c55-9a0c-2a1d3b7a9f11")
REFUND_POLL_S: Final = (10, 60, 600, 3_600, 86_400, 7 * 86_400)


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Read a payment's intent at Stripe."""

    payment_id: UUID


class AskRefund(msgspec.Struct, frozen=True, kw_only=True):
    """Make a refund at Stripe, or read what became of it."""

    refund_id: UUID


def code(text: str | None) -> str:
    """A foreign word as a code of ours."""
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in (text or "").lower()).strip("-")
    return kept[:64] or "unknown"


class Facts:
    """What a reading of Stripe changes."""

    def __init__(self, spine: Spine, clock: Clock) -> None:
        self._spine, self._clock = spine, clock

    async def apply(self, tx: Transaction, facts: IntentFacts) -> Payment | None:
        """Keep the facts, move the payment to where Stripe says it is, plan the next look; None when it is not ours."""
        payment = await self._owner(tx, facts)
        if payment is None:
            await store.keep_facts(tx, None, facts, "no-payment")
            await alerts.alert(tx, "payment-without-order", Severity.CRITICAL, facts.id, detail=facts.status)
            return None
        known = await store.known(tx, facts.id)
        if known is not None and _is_older(facts, known):
            return payment
        found = mismatch(payment, ids.encode("order", payment.order_id), facts)
        await store.keep_facts(tx, payment.id, facts, found)
        if found is not None and (known is None or known.mismatch is None):
            await self._tell_mismatch(tx, payment, facts, found)
        if facts.failed_charge is not None:
            await self.add_failure(tx, payment, facts.failed_charge, facts.failure)
        moved = await self._move(tx, payment, facts, has_mismatch=found is not None)
        await self.look_again(tx, moved)
        return moved

    async def _owner(self, tx: Transaction, facts: IntentFacts) -> Payment | None:
        """The payment that has the intent; one that asked for it and did not hear the answer adopts it."""
        found = await store.by_intent(tx, facts.id)
        if found is not None:
            return await store.lock(tx, found)
        try:
            wanted = ids.decode("payment", facts.payment_ref)
        except ids.MalformedId:
            return None
        payment = await store.lock(tx, wanted)
        if payment is None or payment.intent_id not in (None, facts.id):  # a twin may have adopted it just now
            return None
        await store.note(tx, store.ADOPT, payment.id, facts.id)
        return msgspec.structs.replace(payment, intent_id=facts.id)

    async def add_failure(self, tx: Transaction, payment: Payment, charge: str, failure: str | None) -> None:
        """Tell of a declined try, once, whether a reading or a verified event brings it, and in whatever order."""
        if await store.add_failure(tx, payment.id, charge, code(failure)):
            told = PaymentFailed(payment_id=payment.id, order_id=payment.order_id, reason=code(failure))
            await store.record(tx, self._spine, payment, told, STRIPE)

    async def _tell_mismatch(self, tx: Transaction, payment: Payment, facts: IntentFacts, found: str) -> None:
        told = PaymentMismatchFound(payment_id=payment.id, order_id=payment.order_id, what=found)
        await store.record(tx, self._spine, payment, told, STRIPE)
        subject = ids.encode("order", payment.order_id)
        await alerts.alert(tx, "payment-mismatch", Severity.CRITICAL, subject, detail=f"{found} of {facts.id}")

    async def _move(self, tx: Transaction, payment: Payment, facts: IntentFacts, *, has_mismatch: bool) -> Payment:
        new = STATE_OF.get(facts.status)
        if new is None:
            await alerts.alert(tx, "payment-status-unknown", Severity.ERROR, code(facts.status), detail=facts.id)
            return payment
        if payment.state == new or (new is PaymentState.CAPTURED and has_mismatch):
            return payment
        if (payment.state, new) not in MACHINE.moves:
            subject = ids.encode("payment", payment.id)
            await alerts.alert(tx, "payment-contradicted", Severity.CRITICAL, subject, detail=f"{payment.state}-{new}")
            return payment
        common: dict[str, Any] = {"payment_id": payment.id, "order_id": payment.order_id}
        told: Event
        if new is PaymentState.CAPTURED:
            told = PaymentSecured(**common, amount=payment.amount)
        elif new is PaymentState.CANCELLED:
            told = PaymentCancelled(**common, reason=payment.cancel_reason or "cancelled-at-stripe")
        else:
            told = TOLD[new](**common)
        await store.transition(tx, self._spine, payment, new, told, STRIPE)
        return msgspec.structs.replace(payment, state=new)

    async def look_again(self, tx: Transaction, payment: Payment, *, now: bool = False) -> None:
        """Plan the next look at an open payment, later each time; what was planned before gives way."""
        if payment.state not in OPEN and not now:
            return
        if payment.cancel_reason is not None and payment.state in CANCELLABLE and not now:
            await self._plan(tx, "payment.cancel", Read(payment_id=payment.id), payment, 5, dedupe=True)
        wait = 0 if now else POLL_S[min(payment.polls, len(POLL_S) - 1)]
        await self._plan(tx, "payment.read", Read(payment_id=payment.id), payment, wait)

    async def _plan(
        self,
        tx: Transaction,
        kind: str,
        payload: msgspec.Struct,
        payment: Payment,
        wait_s: int,
        *,
        dedupe: bool = False,
    ) -> None:
        name = f"{kind}:{payment.id}"
        plan = Plan(
            kind=kind,
            payload=payload,
            owner_id=payment.owner_id,
            dedupe=name if dedupe else None,
            supersede=None if dedupe else name,
            not_before=self._clock.now() + timedelta(seconds=wait_s),
        )
        await self._spine.plan(tx, plan, cause=None)

    async def apply_disputes(self, tx: Transaction, payment: Payment, found: list[DisputeFacts]) -> None:
        """Keep what Stripe says of disputes; an operator hears of each step but a good end. What is over stays over."""
        for facts in found:
            before = await store.dispute_status(tx, facts.id)
            if before == facts.status or before in DISPUTES_OVER:
                continue
            await store.keep_dispute(tx, payment.id, facts)
            told = PaymentDisputed(
                payment_id=payment.id,
                order_id=payment.order_id,
                amount=Money(facts.amount, facts.currency.upper()),
                reason=code(facts.reason),
                status=code(facts.status),
            )
            await store.record(tx, self._spine, payment, told, STRIPE)
            subject = ids.encode("order", payment.order_id)
            if facts.status in DISPUTES_WON:
                await alerts.settle(tx, "payment-disputed", subject)
                continue
            due = "" if facts.due_by is None else f", evidence by {facts.due_by:%Y-%m-%d %H:%M}"
            await alerts.alert(tx, "payment-disputed", Severity.CRITICAL, subject, detail=f"{facts.status}{due}")

    async def apply_refunds(self, tx: Transaction, payment: Payment, found: list[RefundFacts]) -> None:
        """Move our refunds to where Stripe says they are; one that we did not ask for becomes ours."""
        every = await store.refunds_of(tx, payment.id)
        ours = {one.stripe_id: one for one in every} | {ids.encode("refund", one.id): one for one in every}
        for facts in found:
            refund = ours.get(facts.refund_ref) or ours.get(facts.id)
            if refund is None and facts.intent_id == payment.intent_id:
                refund = await self._adopt(tx, payment, facts)
            if refund is not None:
                await self._apply_refund(tx, refund, facts)

    async def _adopt(self, tx: Transaction, payment: Payment, facts: RefundFacts) -> Refund | None:
        """Money goes back that somebody asked for at Stripe itself: from now on a refund like others."""
        if facts.currency.upper() != payment.amount.currency:
            return None
        refund_id, amount = RefundId(uuid5(_ADOPTED, facts.id)), Money(facts.amount, payment.amount.currency)
        await store.insert_refund(tx, refund_id, payment, facts.amount, MADE_AT_STRIPE, ())
        await store.note(tx, store.REFUND_ASKED, refund_id, self._clock.now())
        told = RefundRequested(
            payment_id=payment.id, order_id=payment.order_id, refund_id=refund_id, amount=amount, reason=MADE_AT_STRIPE
        )
        await store.tell_refund(tx, self._spine, payment, refund_id, told, STRIPE)
        subject = ids.encode("order", payment.order_id)
        await alerts.alert(tx, "refund-without-request", Severity.ERROR, subject, detail=f"{facts.id}: {facts.amount}")
        return await store.refund(tx, refund_id)

    async def _apply_refund(self, tx: Transaction, refund: Refund, facts: RefundFacts) -> None:
        locked = await store.lock_refund(tx, refund.id)
        assert locked is not None
        if (facts.amount, facts.currency.upper()) != (refund.amount.amount, refund.amount.currency):
            await alerts.alert(tx, "refund-mismatch", Severity.CRITICAL, facts.id, detail=str(facts.amount))
        await store.note(tx, store.REFUND_KNOWN, refund.id, facts.id, facts.failure)
        new = REFUND_STATE_OF.get(facts.status)
        if new is not None and (locked.state, new) in REFUNDS.moves:  # a failed refund stays failed
            await self._move_refund(tx, locked, new, facts.failure)
            if new is RefundState.FAILED:  # nothing asks again by itself: the card may be gone
                name, why = ids.encode("refund", refund.id), code(facts.failure)
                await alerts.alert(tx, "refund-failed", Severity.ERROR, name, detail=why)
            locked = msgspec.structs.replace(locked, state=new)
        await self.look_at_refund_again(tx, locked)

    async def _move_refund(self, tx: Transaction, refund: Refund, new: RefundState, why: str | None) -> None:
        common: dict[str, Any] = {"payment_id": refund.payment_id, "order_id": refund.order_id}
        common |= {"refund_id": refund.id, "amount": refund.amount}
        is_good = new is RefundState.SUCCEEDED
        told: Event = RefundSucceeded(**common) if is_good else RefundFailed(**common, reason=code(why))
        await store.move_refund(tx, self._spine, refund, new, told, STRIPE)

    async def refuse_refund(self, tx: Transaction, refund_id: UUID, reason: str) -> None:
        """Stripe will not make it: it has failed, and an operator hears of it."""
        refund = await store.lock_refund(tx, refund_id)
        if refund is not None and refund.state is RefundState.REQUESTED:
            await self._move_refund(tx, refund, RefundState.FAILED, reason)
            await alerts.alert(tx, "refund-refused", Severity.ERROR, ids.encode("refund", refund_id), detail=reason)

    async def look_at_refund_again(self, tx: Transaction, refund: Refund) -> None:
        """Plan the next look at a refund that may still change: a bank may send it back for weeks."""
        if refund.polls >= len(REFUND_POLL_S) or refund.state is RefundState.FAILED:
            return
        await store.note(tx, store.REFUND_POLLED, refund.id)
        plan = Plan(
            kind="payment.refund",
            payload=AskRefund(refund_id=refund.id),
            owner_id=refund.owner_id,
            supersede=f"payment.refund:{refund.id}",
            not_before=self._clock.now() + timedelta(seconds=REFUND_POLL_S[refund.polls]),
        )
        await self._spine.plan(tx, plan, cause=None)


def _is_older(facts: IntentFacts, known: store.Known) -> bool:
    """A final word stands against any other; else the reading that was begun later."""
    if known.status in FINAL:
        return facts.status != known.status or (facts.refunded < known.refunded and facts.read_at < known.read_at)
    return facts.status not in FINAL and facts.read_at < known.read_at

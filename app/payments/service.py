"""Payments: opened with the order, made at Stripe outside any transaction, and believed only when read from Stripe."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.kernel.db import Database, Readable, Transaction
from app.kernel.events import Origin, Recorded
from app.kernel.jobs import Plan
from app.kernel.spine import Spine
from app.payments import store
from app.payments.domain import (
    DISPUTES_OVER,
    FINAL,
    LOST,
    OPEN,
    Disputed,
    Given,
    IntentFacts,
    Ledger,
    Payment,
    PaymentCancelled,
    PaymentOpened,
    PaymentState,
    PaymentView,
    Refund,
    RefundFacts,
    RefundLine,
    RefundRequested,
    RefundState,
    Started,
    cancel_key,
    given,
    outbound_key,
    refund_key,
)
from app.payments.errors import (
    PaymentCaptured,
    PaymentNotCaptured,
    PaymentNotFound,
    PaymentOver,
    ProviderRefused,
    ProviderSilent,
    RefundTooLarge,
)
from app.payments.facts import AskRefund, Facts, Read
from app.payments.gateway import Gateway
from base import ids
from base.clock import Clock
from base.ids import OrderId, OwnerId, PaymentId, RefundId
from base.money import Money

KEY_TRUSTED: Final = timedelta(hours=23)
"""Stripe forgets a key after a day: an older question is answered by reading, never by asking again."""
SETTLED: Final = timedelta(seconds=60)
"""After this long nothing that we asked for is still being done at Stripe."""
PAID_TWICE: Final = "paid_twice"
SYSTEM: Final = Origin(actor="system")


class Payments:
    """The use cases. What takes a transaction calls nobody; what calls Stripe opens its own, before and after."""

    def __init__(self, db: Database, spine: Spine, gateway: Gateway, clock: Clock) -> None:
        self._db, self._spine, self._gateway, self._clock = db, spine, gateway, clock
        self.facts = Facts(spine, clock)

    async def open(self, tx: Transaction, order_id: OrderId, owner_id: OwnerId, amount: Money) -> Payment:
        """The payment of an order: the one that lives, or a new one."""
        made = await store.insert(tx, PaymentId(ids.new_id()), order_id, owner_id, amount)
        if made is None:
            living = await store.lock_live(tx, order_id)
            assert living is not None, "what is in the way of a new one lives"
            return living
        told = PaymentOpened(payment_id=made.id, order_id=order_id, amount=amount, attempt=made.attempt)
        await store.record(tx, self._spine, made, told, Origin(actor="owner"))
        return made

    async def start(self, owner_id: OwnerId, order_id: OrderId, *, makes: bool = True) -> Started:
        """Read the order's intent at Stripe, within eight seconds, or make it; no secret when Stripe has not answered.

        Raises `PaymentNotFound`, `ProviderRefused`.
        """
        async with self._db.transaction(readonly=True) as tx:
            payment = await store.latest(tx, order_id)
        if payment is None or payment.owner_id != owner_id:
            raise PaymentNotFound()
        if payment.state not in OPEN or (payment.intent_id is None and not makes):
            return self._started(payment, None)
        try:
            facts, secret = await self._known(payment)
        except ProviderSilent:
            async with self._db.transaction() as tx:
                await self.facts.look_again(tx, payment)
            return self._started(payment, None)
        except PaymentOver:
            return self._started(msgspec.structs.replace(payment, state=PaymentState.CANCELLED), None)
        async with self._db.transaction() as tx:
            await store.note(tx, store.POLL_AFRESH, payment.id)
            moved = await self.facts.apply(tx, facts)
        return self._started(moved or payment, secret if facts.status not in FINAL else None)

    def _started(self, payment: Payment, secret: str | None) -> Started:
        return Started(
            payment_id=payment.id,
            state=payment.state,
            client_secret=secret,
            publishable_key=self._gateway.publishable_key,
        )

    async def _known(self, payment: Payment) -> tuple[IntentFacts, str]:
        """The intent, read; or made, or found, when we do not know it.

        Raises `ProviderSilent`, `ProviderRefused`, and `PaymentOver` for one that was cancelled before it was made.
        """
        if payment.intent_id is not None:
            return await self._gateway.retrieve(payment.intent_id)
        now = self._clock.now()
        if payment.asked_at is not None and (payment.spoiled_at is not None or now - payment.asked_at > KEY_TRUSTED):
            payment_ref = ids.encode("payment", payment.id)
            found = await self._gateway.find(payment_ref, payment.asked_at)
            if found is not None:
                return await self._gateway.retrieve(found)
            if payment.spoiled_at is not None and now - payment.spoiled_at < SETTLED:
                raise ProviderSilent("what became of the intent is not certain yet")
            payment = await self._with_next_key(payment)
        return await self._made(payment)

    async def _with_next_key(self, payment: Payment) -> Payment:
        """Reading has shown that nothing was made under the old key."""
        async with self._db.transaction() as tx:
            await store.note(tx, store.NEXT_KEY, payment.id, payment.key_number, self._clock.now())
            fresh = await store.get(tx, payment.id)
        assert fresh is not None
        return fresh

    async def _made(self, payment: Payment) -> tuple[IntentFacts, str]:
        """Ask under the derived key; that we ask is on record first. Raises `PaymentOver`."""
        async with self._db.transaction() as tx:
            if not await store.ask(tx, payment.id, self._clock.now()):
                raise PaymentOver()
        try:
            return await self._gateway.create(
                amount=payment.amount.amount,
                currency=payment.amount.currency,
                order_ref=ids.encode("order", payment.order_id),
                payment_ref=ids.encode("payment", payment.id),
                key=outbound_key(payment),
            )
        except ProviderSilent as error:
            if error.spoiled:
                async with self._db.transaction() as tx:
                    await store.note(tx, store.SPOILED, payment.id, self._clock.now())
            raise

    async def read(self, payment_id: UUID) -> bool:
        """Read a payment, its refunds and disputes at Stripe and apply what is said; False, and a later look, when
        Stripe was silent."""
        async with self._db.transaction() as tx:
            await store.note(tx, store.POLLED, payment_id)
            payment = await store.get(tx, payment_id)
        if payment is None or (payment.intent_id is None and payment.asked_at is None):
            return True
        refunds: list[RefundFacts] = []
        try:
            facts, _ = await self._known(payment)
            if facts.refunded or payment.state is PaymentState.CAPTURED:
                refunds = await self._gateway.refunds(facts.id)
            disputes = await self._gateway.disputes(facts.id) if facts.disputed else []
        except ProviderSilent:
            async with self._db.transaction() as tx:
                await self.facts.look_again(tx, payment)
            return False
        async with self._db.transaction() as tx:
            moved = await self.facts.apply(tx, facts)
            if moved is not None:
                await self.facts.apply_refunds(tx, moved, refunds)
                await self.facts.apply_disputes(tx, moved, disputes)
        return True

    async def hint(self, tx: Transaction, intent_id: str, payment_ref: str | None) -> Payment | None:
        """Somebody says that an intent has changed: plan a look. Its payment, or None when we do not know it (yet)."""
        found = await store.by_intent(tx, intent_id)
        if found is None and payment_ref is not None:
            try:
                found = ids.decode("payment", payment_ref)
            except ids.MalformedId:
                return None
        payment = None if found is None else await store.get(tx, found)
        if payment is None:
            return None
        await self.facts.look_again(tx, payment, now=True)
        return payment

    async def cancel(self, tx: Transaction, order_id: OrderId, reason: str) -> None:
        """Have the order's payment cancelled; `payment.cancelled` tells when Stripe says so, and a success wins.

        `reason` is a code. Raises `PaymentCaptured`.
        """
        payment = await store.lock_live(tx, order_id)
        if payment is None:
            return
        if payment.state is PaymentState.CAPTURED:
            raise PaymentCaptured()
        if payment.asked_at is None:
            told = PaymentCancelled(payment_id=payment.id, order_id=payment.order_id, reason=reason)
            await store.transition(tx, self._spine, payment, PaymentState.CANCELLED, told, SYSTEM)
            return
        await store.note(tx, store.WANT_CANCEL, payment.id, reason)
        plan = Plan(
            kind="payment.cancel",
            payload=Read(payment_id=payment.id),
            owner_id=payment.owner_id,
            dedupe=f"payment.cancel:{payment.id}",
        )
        await self._spine.plan(tx, plan, cause=None)

    async def ask_cancel(self, payment_id: UUID) -> None:
        """Ask Stripe to cancel an intent, and apply what it says; raises `ProviderSilent`."""
        async with self._db.transaction(readonly=True) as tx:
            payment = await store.get(tx, payment_id)
        if payment is None or payment.state not in OPEN or payment.cancel_reason is None:
            return
        facts, _ = await self._known(payment)
        if facts.status not in FINAL:
            try:
                facts = await self._gateway.cancel(facts.id, cancel_key(payment))
            except ProviderRefused:
                facts, _ = await self._gateway.retrieve(facts.id)
        async with self._db.transaction() as tx:
            await self.facts.apply(tx, facts)

    async def refund(
        self,
        tx: Transaction,
        order_id: OrderId,
        refund_id: RefundId,
        amount: Money,
        lines: tuple[RefundLine, ...],
        reason: str,
        origin: Origin = SYSTEM,
    ) -> None:
        """Give money back; the same refund asked for again is one refund. `reason` is a code.

        Raises `PaymentNotCaptured`, `RefundTooLarge`, `CurrencyMismatch`.
        """
        payment = await store.lock_live(tx, order_id)
        if payment is None or payment.state is not PaymentState.CAPTURED:
            raise PaymentNotCaptured()
        if await store.refund(tx, refund_id) is not None:
            return
        _, left = await self._left(tx, payment)
        if amount.amount < 1 or (left - amount).amount < 0:
            raise RefundTooLarge()
        await store.insert_refund(tx, refund_id, payment, amount.amount, reason, lines)
        await self._requested(tx, payment, refund_id, amount, reason, origin)

    async def give_back_stray(
        self, tx: Transaction, order_id: OrderId, refund_id: RefundId, intent_id: str, amount: Money
    ) -> None:
        """Give back what an intent took that is not the order's payment, though the order is paid; asked again, one
        refund. Raises `PaymentNotCaptured`, also when the intent is the payment's own."""
        payment = await store.lock_live(tx, order_id)
        if payment is None or payment.state is not PaymentState.CAPTURED or payment.intent_id == intent_id:
            raise PaymentNotCaptured()
        if await store.refund(tx, refund_id) is not None:
            return
        await store.insert_refund(tx, refund_id, payment, amount.amount, PAID_TWICE, (), stray_intent=intent_id)
        await self._requested(tx, payment, refund_id, amount, PAID_TWICE, SYSTEM)

    async def _requested(
        self, tx: Transaction, payment: Payment, refund_id: RefundId, amount: Money, reason: str, origin: Origin
    ) -> None:
        told = RefundRequested(
            payment_id=payment.id, order_id=payment.order_id, refund_id=refund_id, amount=amount, reason=reason
        )
        await store.tell_refund(tx, self._spine, payment, refund_id, told, origin)

    async def _left(self, tx: Readable, payment: Payment) -> tuple[Money, Money]:
        """(captured, still refundable): what Stripe says has gone back counts even when we did not ask for it, and what
        a bank took back is gone as well."""
        refunded, refunding = await store.sums(tx, payment.id)
        known = None if payment.intent_id is None else await store.known(tx, payment.intent_id)
        gone = max(refunded + refunding, 0 if known is None else known.refunded)
        gone += await store.lost_to_bank(tx, payment.id)
        captured = payment.amount.amount if payment.state is PaymentState.CAPTURED else 0
        currency = payment.amount.currency
        return Money(captured, currency), Money(max(0, captured - gone), currency)

    async def ask_refund(self, refund_id: UUID) -> None:
        """Make a refund at Stripe, or read what became of it; reads first. Raises `ProviderSilent`."""
        async with self._db.transaction(readonly=True) as tx:
            refund = await store.refund(tx, refund_id)
            payment = None if refund is None else await store.get(tx, refund.payment_id)
        if refund is None or payment is None or payment.intent_id is None:
            return
        intent_id = refund.stray_intent or payment.intent_id
        found = await self._gateway.refunds(intent_id) if refund.asked_at is not None else []
        is_made = refund.stripe_id is not None or ids.encode("refund", refund.id) in {one.refund_ref for one in found}
        if refund.state is RefundState.REQUESTED and not is_made:
            try:
                found = [*found, await self._made_refund(intent_id, await self._askable(refund))]
            except ProviderRefused as error:
                async with self._db.transaction() as tx:
                    await self.facts.refuse_refund(tx, refund.id, error.reason)
                return
        async with self._db.transaction() as tx:
            await self.facts.apply_refunds(tx, payment, found)

    async def _askable(self, refund: Refund) -> Refund:
        """The refund with a key that Stripe keeps no error under; reading has shown that nothing was made."""
        if refund.spoiled_at is not None:
            if self._clock.now() - refund.spoiled_at < SETTLED:
                raise ProviderSilent("what became of the refund is not certain yet")
            async with self._db.transaction() as tx:
                await store.note(tx, store.REFUND_NEXT_KEY, refund.id)
        async with self._db.transaction() as tx:
            await store.note(tx, store.REFUND_ASKED, refund.id, self._clock.now())
            fresh = await store.refund(tx, refund.id)
        assert fresh is not None
        return fresh

    async def _made_refund(self, intent_id: str, refund: Refund) -> RefundFacts:
        try:
            return await self._gateway.refund(
                intent_id=intent_id,
                amount=refund.amount.amount,
                refund_ref=ids.encode("refund", refund.id),
                key=refund_key(refund),
            )
        except ProviderSilent as error:
            if error.spoiled:
                async with self._db.transaction() as tx:
                    await store.note(tx, store.REFUND_SPOILED, refund.id, self._clock.now())
            raise

    async def ledger(
        self, db: Readable, since: datetime, intents: Sequence[str], payments: Sequence[UUID], orders: Sequence[UUID]
    ) -> Ledger:
        """Our side of what Stripe did: payments by intent, id or order, their refunds and all made since."""
        return await store.ledger(db, since, intents, payments, orders)

    async def refunded_copies(self, tx: Readable, order_id: UUID) -> dict[UUID, int]:
        """How many copies of each order line were given back, as far as refunds succeeded."""
        return await store.refunded_copies(tx, order_id)

    async def given(self, tx: Readable, order_id: UUID) -> Given:
        """What went back of an order by copies and shipping, or is about to."""
        return given(await store.given(tx, order_id))

    async def is_disputed(self, tx: Readable, order_id: UUID) -> bool:
        """Whether a bank may take an order's payment back, or has."""
        banks = await disputed(tx, [order_id])
        return bool(banks.open | banks.lost)

    async def refunds_of(self, tx: Readable, payment_id: UUID) -> list[Refund]:
        """Every refund of a payment, oldest first."""
        return await store.refunds_of(tx, payment_id)

    async def of_order(self, tx: Readable, order_id: OrderId) -> PaymentView | None:
        """The order's money."""
        payment = await store.latest(tx, order_id)
        if payment is None:
            return None
        refunded, refunding = await store.sums(tx, payment.id)
        captured, left = await self._left(tx, payment)
        return PaymentView(
            payment_id=payment.id,
            state=payment.state,
            amount=payment.amount,
            captured=captured,
            refunded=Money(refunded, payment.amount.currency),
            refunding=Money(refunding, payment.amount.currency),
            left=left,
            lost=Money(await store.lost_to_bank(tx, payment.id), payment.amount.currency),
            intent_id=payment.intent_id,
            cancelling=payment.cancel_reason is not None,
        )


async def disputed(db: Readable, orders: Sequence[UUID]) -> Disputed:
    """Which of the orders have a dispute that is not won."""
    every = await store.disputes_of(db, orders)
    return Disputed(
        open=frozenset(order for order, status in every if status not in DISPUTES_OVER),
        lost=frozenset(order for order, status in every if status == LOST),
    )


async def planned_refund(tx: Transaction, happened: Recorded) -> Plan | None:
    """The asking for a refund that was just requested."""
    return Plan(
        kind="payment.refund",
        payload=AskRefund(refund_id=happened.aggregate_id),
        owner_id=happened.owner_id,
        supersede=f"payment.refund:{happened.aggregate_id}",
    )

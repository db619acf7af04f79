"""Payments: paid only by Stripe's own word, made once whatever is lost, refunded never more than taken."""

import asyncio
import itertools
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kernel.alerts import open_alerts
from app.payments.domain import IntentFacts, PaymentState, RefundLine
from app.payments.errors import PaymentCaptured, PaymentNotCaptured, PaymentNotFound, RefundTooLarge
from base import ids
from base.ids import OwnerId, RefundId
from base.money import Money

CREATE = "POST /v1/payment_intents"
SECURED, MISMATCH = "payment.secured", "payment.mismatch_found"


def pounds(amount: int) -> Money:
    return Money(amount, "GBP")


async def lose(shop: Any, what: str, on: str = CREATE, times: int = 1) -> None:
    await shop.sim.turn(faults=[{"on": on, "what": what, "times": times}])


async def intents(shop: Any) -> dict[str, int]:
    found: dict[str, int] = (await shop.sim.counts())["payment_intents"]
    return found


async def cancel(shop: Any, order: Any) -> None:
    async with shop.services.db.transaction() as tx:
        await shop.payments.cancel(tx, order, "expired")


class TestPaying:
    async def test_one_card_one_capture(self, shop: Any) -> None:
        owner, order = await shop.order()
        first, again = await shop.payments.start(owner, order), await shop.payments.start(owner, order)
        assert first.client_secret == again.client_secret
        assert first.publishable_key == shop.sim.PUBLISHABLE
        await shop.sim.confirm(first.client_secret)
        await shop.work(rounds=2)
        assert await shop.told(order) == ["payment.opened", "payment.requires_payment_method", SECURED]
        view = await shop.view(order)
        assert (view.state, view.captured, view.refunded) == (PaymentState.CAPTURED, pounds(2500), pounds(0))
        counts = await shop.sim.counts()
        assert counts["by_order"][ids.encode("order", order)]["captures"] == 1
        assert counts["requests"]["POST payment_intents/*/confirm"] == 1  # the phone's: we never confirm
        assert (await shop.payments.start(owner, order)).client_secret is None

    async def test_a_declined_card_then_another_on_the_same_intent(self, shop: Any) -> None:
        owner, order = await shop.order()
        secret = (await shop.payments.start(owner, order)).client_secret
        await shop.sim.confirm(secret, "pm_card_chargeDeclinedInsufficientFunds")
        await shop.work(rounds=2)
        await shop.sim.confirm(secret)
        await shop.work()
        assert await shop.told(order, "payment.failed", SECURED) == ["payment.failed", SECURED]
        assert await intents(shop) == {"succeeded": 1}

    async def test_the_bank_asks(self, shop: Any) -> None:
        owner, order = await shop.order()
        secret = (await shop.payments.start(owner, order)).client_secret
        await shop.sim.confirm(secret, "pm_card_authenticationRequired")
        await shop.work()
        assert (await shop.view(order)).state is PaymentState.REQUIRES_ACTION
        await shop.sim.http.post(f"/_sim/bank/{secret.partition('_secret_')[0]}", json={})
        await shop.work()
        assert (await shop.view(order)).state is PaymentState.CAPTURED

    async def test_money_that_takes_days(self, shop: Any) -> None:
        owner, order = await shop.order()
        await shop.sim.turn(settle_s=3 * 86_400)
        await shop.sim.confirm((await shop.payments.start(owner, order)).client_secret, "pm_usBankAccount_success")
        await shop.work()
        assert (await shop.view(order)).state is PaymentState.PROCESSING
        await shop.later(3 * 86_400 + 1)
        await shop.work()
        assert await shop.told(order, "payment.processing", SECURED) == ["payment.processing", SECURED]

    async def test_somebody_elses_order_is_not_there(self, shop: Any) -> None:
        _, order = await shop.order()
        with pytest.raises(PaymentNotFound):
            await shop.payments.start(OwnerId(ids.new_id()), order)

    async def test_five_taps_make_one_intent(self, shop: Any) -> None:
        owner, order = await shop.order()
        await asyncio.gather(*(shop.payments.start(owner, order) for _ in range(5)))
        assert await intents(shop) == {"requires_payment_method": 1}

    async def test_reading_makes_nothing(self, shop: Any) -> None:
        owner, order = await shop.order()
        read = await shop.payments.start(owner, order, makes=False)
        assert (read.state, read.client_secret) == (PaymentState.CREATED, None)
        await lose(shop, "never_done")
        assert (await shop.payments.start(owner, order)).client_secret is None
        assert (await shop.payments.start(owner, order, makes=False)).client_secret is None
        assert await intents(shop) == {}
        await shop.work()  # the look that was planned when Stripe was silent
        assert (await shop.payments.start(owner, order, makes=False)).client_secret is not None


class TestDisputes:
    async def test_each_step_is_kept_once_and_told_until_it_is_won(self, shop: Any) -> None:
        _, order = await shop.paid()
        intent = (await shop.view(order)).intent_id
        for status, is_open in (("needs_response", True), ("under_review", True), ("won", False), ("lost", False)):
            await shop.sim.http.post("/_sim/disputes", json={"payment_intent": intent, "status": status})
            for _ in range(2):
                await shop.payments.read((await shop.view(order)).payment_id)
            async with shop.services.db.transaction() as tx:
                raised = await open_alerts(tx)
                kept = await tx.value("SELECT status FROM payment_disputes")
            assert [(one.rule, one.subject) for one in raised] == [
                ("payment-disputed", ids.encode("order", order))
            ] * is_open
            assert kept == ("won" if status == "lost" else status)  # what is over stays over
        assert await shop.told(order, "payment.disputed") == ["payment.disputed"] * 3


class TestUnknownOutcomes:
    @pytest.mark.parametrize("what", ["lost", "never_done", "error_before", "rate_limit"])
    async def test_a_silent_stripe_makes_one_intent(self, shop: Any, what: str) -> None:
        owner, order = await shop.order()
        await lose(shop, what)
        assert (await shop.payments.start(owner, order)).client_secret is None
        await shop.work()
        assert (await shop.payments.start(owner, order)).client_secret is not None
        assert await intents(shop) == {"requires_payment_method": 1}

    @pytest.mark.parametrize("what", ["error_after", "error_stored"])
    async def test_a_stored_500_is_read_not_repeated(self, shop: Any, what: str) -> None:
        owner, order = await shop.order()
        await lose(shop, what)
        assert (await shop.payments.start(owner, order)).client_secret is None
        await shop.later(61)
        assert (await shop.payments.start(owner, order)).client_secret is not None
        assert await intents(shop) == {"requires_payment_method": 1}

    async def test_two_readings_at_once_adopt_one_intent_and_nobody_is_alarmed(self, shop: Any) -> None:
        _, order = await shop.order()
        ref, own = ids.encode("payment", (await shop.view(order)).payment_id), ids.encode("order", order)
        told = facts(shop, "pi_1", "requires_payment_method", 0, ref, own)

        async def twin() -> None:
            async with shop.services.db.transaction() as tx:
                await shop.payments.facts.apply(tx, told)

        async with shop.services.db.transaction() as tx:
            await shop.payments.facts.apply(tx, told)
            second = asyncio.create_task(twin(), context=Context())
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"
            while not await tx.value(waits):
                await asyncio.sleep(0.01)
        await second
        assert await shop.alerts() == set()

    async def test_after_a_day_the_key_is_not_trusted(self, shop: Any) -> None:
        owner, order = await shop.order()
        await lose(shop, "lost")
        assert (await shop.payments.start(owner, order)).client_secret is None
        await shop.later(25 * 3600)
        assert (await shop.payments.start(owner, order)).client_secret is not None
        assert await intents(shop) == {"requires_payment_method": 1}


class TestMismatch:
    async def test_another_amount_is_never_paid(self, shop: Any) -> None:
        owner, order = await shop.order()
        secret = (await shop.payments.start(owner, order)).client_secret
        intent = secret.partition("_secret_")[0]
        headers = {"Authorization": f"Bearer {shop.sim.KEY}"}
        await shop.sim.http.post(f"/v1/payment_intents/{intent}", data={"amount": "1"}, headers=headers)
        await shop.sim.confirm(secret)
        await shop.work(rounds=2)
        assert await shop.told(order, SECURED, MISMATCH) == [MISMATCH]
        assert "payment-mismatch" in await shop.alerts()

    async def test_an_intent_of_nobody_is_kept_and_told(self, shop: Any) -> None:
        async with shop.services.db.transaction() as tx:
            assert await shop.payments.facts.apply(tx, facts(shop, "pi_stranger", "succeeded", 0, "pay_x")) is None
            assert await tx.value("SELECT count(*) FROM payment_facts") == 1
        assert "payment-without-order" in await shop.alerts()


class TestCancelling:
    async def test_before_stripe_was_asked_it_is_ours(self, shop: Any) -> None:
        _, order = await shop.order()
        await cancel(shop, order)
        assert (await shop.view(order)).state is PaymentState.CANCELLED

    async def test_while_it_begins_nothing_is_made(self, shop: Any) -> None:
        """Beginning to pay has read an open payment when the cancellation commits: no intent for a dead payment."""
        owner, order = await shop.order()
        async with shop.services.db.transaction() as tx:
            await shop.payments.cancel(tx, order, "expired")
            starting = asyncio.create_task(shop.payments.start(owner, order), context=Context())
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"
            while not await tx.value(waits):
                await asyncio.sleep(0.01)
        started = await starting
        assert (started.state, started.client_secret) == (PaymentState.CANCELLED, None)
        assert await intents(shop) == {}

    @pytest.mark.parametrize("what", ["lost", "never_done", "latency"])
    async def test_afterwards_it_is_stripes_word(self, shop: Any, what: str) -> None:
        owner, order = await shop.order()
        await lose(shop, what)
        await shop.payments.start(owner, order)
        await cancel(shop, order)
        assert (await shop.view(order)).state is not PaymentState.CANCELLED
        await shop.work(rounds=2)
        assert (await shop.view(order)).state is PaymentState.CANCELLED
        assert set(await intents(shop)) == {"canceled"}

    async def test_a_late_success_wins(self, shop: Any) -> None:
        owner, order = await shop.order()
        await shop.sim.turn(settle_s=600)
        await shop.sim.confirm((await shop.payments.start(owner, order)).client_secret, "pm_usBankAccount_success")
        await cancel(shop, order)
        await shop.work(rounds=2)
        assert (await shop.view(order)).state is PaymentState.PROCESSING
        await shop.later(601)
        await shop.work(rounds=2)
        assert (await shop.view(order)).state is PaymentState.CAPTURED
        with pytest.raises(PaymentCaptured):
            await cancel(shop, order)

    async def test_a_cancelled_order_can_be_paid_anew(self, shop: Any) -> None:
        owner, order = await shop.order()
        first = await shop.payments.start(owner, order)
        await cancel(shop, order)
        await shop.work()
        async with shop.services.db.transaction() as tx:
            assert (await shop.payments.open(tx, order, owner, pounds(2500))).attempt == 2
        second = await shop.payments.start(owner, order)
        assert first.client_secret != second.client_secret
        assert await intents(shop) == {"canceled": 1, "requires_payment_method": 1}


async def refund(shop: Any, order: Any, amount: int, refund_id: RefundId | None = None) -> RefundId:
    wanted = refund_id or RefundId(ids.new_id())
    lines = (RefundLine(line_id=ids.new_id(), copies=1, amount=amount),)
    async with shop.services.db.transaction() as tx:
        await shop.payments.refund(tx, order, wanted, pounds(amount), lines, "line-cancelled")
    return wanted


class TestRefunds:
    async def test_in_part_then_the_rest_never_more(self, shop: Any) -> None:
        _, order = await shop.paid()
        first = await refund(shop, order, 1000)
        await refund(shop, order, 1000, first)  # asked twice
        await shop.work()
        with pytest.raises(RefundTooLarge):
            await refund(shop, order, 1501)
        await refund(shop, order, 1500)
        await shop.work()
        assert (await shop.view(order)).refunded == pounds(2500)
        assert await shop.told(order, "refund.succeeded") == ["refund.succeeded"] * 2
        assert (await shop.sim.counts())["by_order"][ids.encode("order", order)]["refunded"] == 2500

    async def test_nothing_paid_nothing_back(self, shop: Any) -> None:
        _, order = await shop.order()
        with pytest.raises(PaymentNotCaptured):
            await refund(shop, order, 1)

    @pytest.mark.parametrize("what", ["lost", "error_after", "error_stored"])
    async def test_a_lost_answer_is_one_refund(self, shop: Any, what: str) -> None:
        _, order = await shop.paid()
        await refund(shop, order, 700)
        await lose(shop, what, "POST /v1/refunds")
        with pytest.raises(Exception, match="does not answer"):
            await shop.work()
        await shop.later(25 * 3600 if what == "lost" else 61)
        await shop.work()
        assert (await shop.view(order)).refunded == pounds(700)
        assert (await shop.sim.counts())["refunds"] == {"succeeded": 1}

    async def test_a_refund_that_fails_later_gives_its_amount_back(self, shop: Any) -> None:
        _, order = await shop.paid(method="pm_card_refundFail")
        await refund(shop, order, 2500)
        await shop.work()
        assert (await shop.view(order)).refunded == pounds(2500)
        await shop.later(3600)
        await shop.work()
        assert await shop.told(order, "refund.succeeded", "refund.failed") == ["refund.succeeded", "refund.failed"]
        assert "refund-failed" in await shop.alerts()
        assert (await shop.view(order)).refunded == pounds(0)

    async def test_what_was_given_back_by_hand_counts(self, shop: Any) -> None:
        _, order = await shop.paid()
        headers, intent = {"Authorization": f"Bearer {shop.sim.KEY}"}, (await shop.view(order)).intent_id
        await shop.sim.http.post("/v1/refunds", data={"payment_intent": intent, "amount": "2000"}, headers=headers)
        async with shop.services.db.transaction() as tx:
            assert await shop.payments.hint(tx, intent, None) is not None
        await shop.work()
        with pytest.raises(RefundTooLarge):
            await refund(shop, order, 501)
        assert "refund-without-request" in await shop.alerts()

    @settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(asked=st.lists(st.integers(1, 1500), max_size=5), fails=st.booleans())
    async def test_never_more_back_than_taken(self, shop: Any, asked: list[int], fails: bool) -> None:
        _, order = await shop.paid(method="pm_card_refundFail" if fails else "pm_card_visa")
        for amount in asked:
            try:
                await refund(shop, order, amount)
            except RefundTooLarge:
                view = await shop.view(order)
                assert view.refunded.amount + view.refunding.amount + amount > 2500
            await shop.work()
            view, counts = await shop.view(order), (await shop.sim.counts())["by_order"]
            assert view.refunded.amount + view.refunding.amount <= view.captured.amount == 2500
            assert counts[ids.encode("order", order)]["refunded"] <= 2500


def facts(shop: Any, intent: str, status: str, at: int, payment_ref: str, order_ref: str = "") -> IntentFacts:
    return IntentFacts(
        id=intent,
        status=status,
        amount=2500,
        currency="gbp",
        received=2500 if status == "succeeded" else 0,
        refunded=0,
        order_ref=order_ref,
        payment_ref=payment_ref,
        failed_charge=None,
        failure=None,
        read_at=shop.clock.now() + timedelta(seconds=at),
    )


STORIES: tuple[tuple[str, ...], ...] = (
    ("requires_payment_method", "requires_action", "requires_payment_method", "processing", "succeeded"),
    ("requires_payment_method", "requires_action", "canceled"),
)


@pytest.mark.parametrize("story", STORIES, ids=["paid", "cancelled"])
async def test_readings_in_any_order_end_in_one_state(shop: Any, story: tuple[str, ...]) -> None:
    ends = set()
    for number, turned in enumerate(itertools.permutations(enumerate(story))):
        _, order = await shop.order()
        ref, own = ids.encode("payment", (await shop.view(order)).payment_id), ids.encode("order", order)
        async with shop.services.db.transaction() as tx:
            for at, status in turned:
                await shop.payments.facts.apply(tx, facts(shop, f"pi_{number}", status, at, ref, own))
        ends.add(((await shop.view(order)).state, tuple(await shop.told(order, SECURED, "payment.cancelled"))))
    assert len(ends) == 1
    assert ends <= {(PaymentState.CAPTURED, (SECURED,)), (PaymentState.CANCELLED, ("payment.cancelled",))}

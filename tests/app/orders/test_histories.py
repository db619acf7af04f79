"""Any history of people who tap twice, answers that get lost, servers that begin anew, webhooks that come twice, late
or never, and clocks that jump: after every step all invariants hold, and once nobody misbehaves every order ends right.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from app.orders.domain import OrderState
from app.orders.errors import CopiesStillMade, LineNotFound, OrderNotCancellable
from app.orders.fold import Visible
from app.payments.domain import PaymentState
from app.payments.errors import PaymentInDispute, PaymentNotCaptured, RefundTooLarge
from base import ids
from tests.app.orders.invariants import broken
from tests.app.orders.world import Bought, Places, World

T = TypeVar("T")
METHODS = [
    "pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired",
    "pm_usBankAccount_success", "pm_usBankAccount_insufficientFunds", "pm_card_pendingRefund",
]  # fmt: skip
COPIES = st.lists(st.integers(1, 3), min_size=1, max_size=2)
WHICH = st.integers(0, 2)
MOSTLY = st.sampled_from([0, 0, 500, 1000])
SHRINKING = (Phase.shrink,) if os.environ.get("TIRAGE_SHRINK") else ()
NOT_REFUNDED = (PaymentInDispute, PaymentNotCaptured, RefundTooLarge)
STEPS = int(os.environ.get("TIRAGE_STEPS", "10000"))
LOST = st.lists(st.sampled_from(["pass", "drop", "lose"]), max_size=4)
STRIPE_CALLS = ["POST /v1/payment_intents", "POST /v1/payment_intents/*/cancel", "POST /v1/refunds", "GET *", "*"]
STRIPE_FAULTS = ["error_before", "error_after", "error_stored", "rate_limit", "outage"]
PRINTER_CALLS = ["create", "get", "list", "cancel", "any"]
PRINTER_FAULTS = ["error_before", "error_after", "timeout_after", "rate_limit"]


class Loop:
    """The test's own loop, for rules that run in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(120)


class Histories(RuleBasedStateMachine):
    """What may happen."""

    loop: Loop
    at: Places
    steps: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.at)
        self.loop.run(self.world.start())
        self.seen: dict[str, tuple[int, ...]] = {}
        self.numbers: set[tuple[str, str]] = set()
        self.by_hand: Counter[tuple[str, int]] = Counter()

    def teardown(self) -> None:
        try:
            self.loop.run(self._ends_right())
        finally:
            self.loop.run(self.world.stop())

    def do(self, name: str, *doing: Coroutine[Any, Any, Any]) -> None:
        """One step, and what must hold after it."""
        self.steps[name] += 1
        if (done := self.steps.total()) % 500 == 0:
            print(f"{done} steps", flush=True)
        self.loop.run(self._done(*doing))

    async def _done(self, *doing: Coroutine[Any, Any, Any]) -> None:
        for one in doing:
            await one
        assert await broken(self.world) == []
        await self._only_grows()

    async def _only_grows(self) -> None:
        """What was counted stays counted, tracking numbers stay (I20)."""
        for order in self.world.orders:
            view = await self.world.services.orders.get(self.world.owner, ids.decode("order", order.id))
            async with self.world.services.db.reading() as db:
                parcels = await self.world.services.fulfilments.shipments(db, view.order.id)
            counts = tuple(
                n
                for line in view.lines
                for n in (line.quantities.shipped, line.quantities.cancelled, line.quantities.refunded)
            )
            before = self.seen.get(order.id, counts)
            assert all(new >= old for new, old in zip(counts, before, strict=True))
            self.seen[order.id] = counts
            numbers = {(order.id, number) for parcel in parcels for number in parcel.trackings}
            assert {number for number in self.numbers if number[0] == order.id} <= numbers
            self.numbers |= numbers

    async def _ends_right(self) -> None:
        """Nobody misbehaves any more: every order ends, with the money where the parcels say that it belongs."""
        await self.world.settle()
        assert await broken(self.world) == []
        charged = self.world.stripe.simulator.counts()["by_order"]
        made = {job.body["merchantReference"]: job for job in self.world.printer.book.all()}
        async with self.world.services.db.reading() as db:
            parked = await db.fetch("SELECT kind, last_reason FROM jobs WHERE state = 'parked'")
        assert [tuple(row) for row in parked] == []
        for order in self.world.orders:
            await self._ended(order, charged.get(order.id, {"captured": 0, "refunded": 0}), made)

    async def _ended(self, order: Bought, money: dict[str, int], made: dict[str, Any]) -> None:
        services = self.world.services
        view = await services.orders.get(self.world.owner, ids.decode("order", order.id))
        async with services.db.reading() as db:
            payment = await services.payments.of_order(db, view.order.id)
            (*_, fulfilment) = [None, *await services.fulfilments.of_order(db, view.order.id)]
        assert payment is not None
        if view.order.state is OrderState.EXPIRED or not payment.captured.amount:
            assert view.order.state in (OrderState.EXPIRED, OrderState.CANCELLED)
            assert (payment.state, money["captured"]) == (PaymentState.CANCELLED, 0)
            return
        assert fulfilment is not None
        late = [x for x in view.lines if x.quantities.shipped and x.quantities.cancelled]
        assert all(x.quantities.ordered in (x.quantities.shipped, x.quantities.cancelled) for x in view.lines)
        back = {x.id: x.quantities.cancelled + self.by_hand[order.id, x.number] for x in view.lines}
        gone = sum(x.total * min(back[x.id], x.quantities.ordered) // x.quantities.ordered for x in view.lines)
        is_dead = all(x.quantities.cancelled == x.quantities.ordered for x in view.lines)
        assert view.order.state is (OrderState.CANCELLED if is_dead else OrderState.PAID)
        owed = view.order.total if is_dead else gone
        assert (payment.captured.amount, payment.refunded.amount, money["refunded"]) == (order.total, owed, owed)
        job = made.get(ids.encode("fulfilment", fulfilment.id))
        assert is_dead or job is not None
        assert not is_dead or job is None or job.stage == "Cancelled"
        assert (view.shown.state is Visible.CANCELLED) == (is_dead and not late)
        async with services.db.reading() as db:
            cases = "SELECT count(*) FROM alerts WHERE rule = 'vendor-shipped-after-cancelled' AND subject = $1"
            assert await db.value(cases, ids.encode("fulfilment", fulfilment.id)) == bool(late)

    # People.

    @initialize(copies=COPIES, paid=st.booleans())
    def begins(self, copies: list[int], paid: bool) -> None:
        async def begin() -> None:
            await self.world.buy(copies, 1)
            await self.world.pay(self.world.orders[0], 1)
            if paid:
                await self.world.confirm(self.world.orders[0], "pm_card_visa")
                await self.world.work()

        self.do("begin", begin())

    @precondition(lambda self: len(self.world.orders) < 3)
    @rule(copies=COPIES, taps=st.integers(1, 3), lost=LOST)
    def buys(self, copies: list[int], taps: int, lost: list[str]) -> None:
        self.world.places.api.proxy.faults.extend(lost)
        self.do("buy", self.world.buy(copies, taps))

    @rule(which=WHICH, taps=st.integers(1, 3), lost=LOST, silent=LOST)
    def pays(self, which: int, taps: int, lost: list[str], silent: list[str]) -> None:
        self.world.places.api.proxy.faults.extend(lost)
        self.world.places.stripe.proxy.faults.extend(silent)
        self.do("pay", self.world.pay(self._order(which), taps))

    @rule(which=WHICH, method=st.sampled_from(METHODS), lost=LOST)
    def confirms(self, which: int, method: str, lost: list[str]) -> None:
        self.world.places.stripe.proxy.faults.extend(lost)
        self.do("confirm", self.world.confirm(self._order(which), method))

    @rule(which=WHICH, passed=st.booleans())
    def answers_the_bank(self, which: int, passed: bool) -> None:
        self.do("bank", self.world.answer_bank(self._order(which), passed=passed))

    @rule(which=WHICH, lost=LOST)
    def cancels(self, which: int, lost: list[str]) -> None:
        self.world.places.api.proxy.faults.extend(lost)
        self.do("cancel", self.world.cancel(self._order(which)))

    @rule(which=WHICH)
    def cancels_while_paying(self, which: int) -> None:
        order = self._order(which)

        async def both() -> None:
            await asyncio.gather(self.world.pay(order, 1), self.world.cancel(order))

        self.do("pay and cancel", both())

    @rule(which=WHICH, line=st.integers(1, 2), copies=st.integers(1, 2))
    def an_operator_gives_back(self, which: int, line: int, copies: int) -> None:
        async def give_back() -> None:
            with contextlib.suppress(CopiesStillMade, LineNotFound, *NOT_REFUNDED):
                order = self._order(which)
                await self.world.give_back(order, line, copies)
                self.by_hand[order.id, line] += copies

        self.do("give back", give_back())

    @rule(which=WHICH)
    def an_operator_ends(self, which: int) -> None:
        async def end() -> None:
            with contextlib.suppress(OrderNotCancellable):
                await self.world.end(self._order(which))

        self.do("end", end())

    @rule(which=WHICH, status=st.sampled_from(["needs_response", "under_review", "won"]))
    def a_bank_disputes(self, which: int, status: str) -> None:
        self.do("dispute", self.world.dispute(self._order(which), status))

    def _order(self, which: int) -> Bought:
        return self.world.orders[which % len(self.world.orders)]

    # The world.

    @rule(seconds=st.sampled_from([1, 5, 60, 900, 3600, 25 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.do("later", self.world.later(seconds))

    @rule(how=st.sampled_from(["plain", "plain", "shuffled", "twice"]))
    def work_is_done(self, how: str) -> None:
        self.do(f"work {how}", self.world.work(shuffle=how == "shuffled", twice=how == "twice"))

    @rule(at=st.integers(1, 4), shuffle=st.booleans())
    def workers_die(self, at: int, shuffle: bool) -> None:
        self.do("workers die", self.world.work(shuffle=shuffle, dies_at=at))

    @rule(photos=st.integers(1, 2))
    def a_photo_cannot_be_printed(self, photos: int) -> None:
        async def told() -> None:
            self.world.unprintable = photos

        self.do("unprintable", told())

    @rule()
    def the_scheduler_sweeps(self) -> None:
        self.do("sweep", self.world.sweep())

    @rule(who=st.sampled_from(["api", "services", "stripe", "printer"]))
    def somebody_begins_anew(self, who: str) -> None:
        self.do(f"restart {who}", self.world.restart(who))

    @rule(lost=LOST, duplicate=MOSTLY, drop=MOSTLY, shuffle=st.booleans())
    def stripe_delivers(self, lost: list[str], duplicate: int, drop: int, shuffle: bool) -> None:
        async def deliver() -> None:
            await self.world.turn_stripe(webhooks={"duplicate": duplicate, "drop": drop, "shuffle": shuffle})
            self.world.places.api.proxy.faults.extend(lost)
            await self.world.deliver()

        self.do("deliver", deliver())

    @rule(on=st.sampled_from(STRIPE_CALLS), what=st.sampled_from(STRIPE_FAULTS), lost=LOST)
    def stripe_fails(self, on: str, what: str, lost: list[str]) -> None:
        self.world.places.stripe.proxy.faults.extend(lost)
        self.do("stripe fails", self.world.turn_stripe(faults=[{"on": on, "what": what, "times": 2}]))

    @rule(on=st.sampled_from(PRINTER_CALLS), kind=st.sampled_from(PRINTER_FAULTS), lost=LOST)
    def the_printer_fails(self, on: str, kind: str, lost: list[str]) -> None:
        self.world.places.printer.proxy.faults.extend(lost)
        self.do("printer fails", self.world.turn_printer(faults=[{"on": on, "kind": kind, "times": 2}]))

    @rule(
        pace=st.sampled_from([1, 60, 600]),
        pause=st.sampled_from([0, 0, 300]),
        on_cancel=st.sampled_from(["normal", "race", "fail", "partial", "late_shipped"]),
        callbacks=st.sampled_from(["normal", "off", "duplicate", "reversed", "early"]),
        split=st.booleans(),
    )
    def the_printer_changes(self, pace: int, pause: int, on_cancel: str, callbacks: str, split: bool) -> None:
        knobs = {"pause_s": pause, "on_cancel": on_cancel, "callbacks": callbacks, "split": split}
        self.do("printer changes", self.world.turn_printer(**knobs, produce_s=pace, ship_s=pace))


async def histories(at: Places, examples: int, steps: int, *, fixed: bool) -> Counter[str]:
    """Run histories; how often each step was taken."""
    told: Counter[str] = Counter()
    given = {"loop": Loop(asyncio.get_running_loop()), "at": at, "steps": told}
    machine = type("Drawn", (Histories,), given)
    await asyncio.to_thread(
        run_state_machine_as_test,
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=fixed,
            phases=(Phase.generate, *SHRINKING),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return told


async def test_some_histories(at: Places) -> None:
    told = await histories(at, 3, 12, fixed=True)
    assert sum(told.values()) > 30


@pytest.mark.soak
async def test_many_histories(at: Places) -> None:
    told = await histories(at, STEPS // 35, 50, fixed=False)  # a history ends before its fifty steps now and then
    print(f"{told.total()} steps: {dict(told)}")
    assert told.total() >= STEPS

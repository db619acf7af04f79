"""The seven kinds of drift, each made in the simulators, found, mended or told, and found once."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from app.fulfilment.domain import FulfilmentState
from app.kernel.alerts import open_alerts
from app.orders.domain import OrderState
from app.orders.fold import Visible
from app.reconcile.domain import RULES, Drift, FindingState
from app.reconcile.errors import CaseNotFound
from app.reconcile.service import PATIENCE, WHOLE_EVERY
from base import ids
from base.ids import OrderId, RefundId
from base.money import Money
from tests.app.reconcile.conftest import GRACE_S, LOOKS, World

After = Callable[[], Awaitable[None]]
Made = tuple[Drift, str, OrderId | None, After]
"""A drift that was made: its kind, what differs, whose order it is, and a check of what must be so afterwards."""
NEVER_S = 10**6


async def nothing() -> None:
    """A person decides: nothing is changed."""


async def a_capture_that_nobody_heard_of(world: World) -> Made:
    _, order, secret = await world.placed()
    await world.sim.confirm(secret)

    async def after() -> None:
        assert (await world.fulfilment(order)).state is FulfilmentState.RENDERING

    return Drift.PAID_NOT_SUBMITTED, "capture-unheard", order, after


async def an_order_that_did_not_hear_of_its_payment(world: World) -> Made:
    owner, order, secret = await world.placed()
    await world.sim.confirm(secret)
    await world.read(order)
    await world.lose("order.settle")

    async def after() -> None:
        assert (await world.counter.state(owner, order))[0] is OrderState.PAID

    return Drift.PAID_NOT_SUBMITTED, "not-settled", order, after


async def a_print_file_that_nobody_makes(world: World) -> Made:
    _, order = await world.paid()
    await world.lose("print.master")

    async def after() -> None:
        async with world.db.transaction() as tx:
            sql = "SELECT state FROM jobs WHERE kind = 'print.master' AND payload->>'fulfilment' = $1 ORDER BY position"
            name = ids.encode("fulfilment", (await world.services.fulfilments.of_order(tx, order))[0].id)
            assert [row["state"] for row in await tx.fetch(sql, name)] == ["cancelled", "queued"]

    return Drift.PAID_NOT_SUBMITTED, "not-rendered", order, after


async def a_fulfilment_that_nobody_sends(world: World) -> Made:
    _, order = await world.paid()
    await world.render(order)
    await world.lose("fulfilment.submit")

    async def after() -> None:
        assert (await world.fulfilment(order)).state is FulfilmentState.SUBMITTED

    return Drift.PAID_NOT_SUBMITTED, "not-sent", order, after


async def money_for_an_order_that_is_not_ours(world: World) -> Made:
    metadata = {"metadata[order_id]": "ord_of_somebody_else", "metadata[payment_id]": "x"}
    method = {"payment_method": "pm_card_visa", "confirm": "true"}
    await world.stripe("payment_intents", amount="900", currency="gbp", **metadata, **method)
    return Drift.CAPTURED_WITHOUT_ORDER, "no-order", None, nothing


async def a_second_intent_for_a_paid_order(world: World) -> Made:
    owner, order = await world.submitted()
    metadata = {"metadata[order_id]": ids.encode("order", order)}
    method = {"payment_method": "pm_card_visa", "confirm": "true"}
    await world.stripe("payment_intents", amount="1234", currency="gbp", **metadata, **method)

    async def after() -> None:
        told = (await world.sim.counts())["by_order"][ids.encode("order", order)]
        view = await world.shop.view(order)
        assert (told["captured"] - told["refunded"], told["refunded"]) == (view.amount.amount, 1234)
        assert (view.captured, view.refunded.amount, view.refunding.amount) == (view.amount, 0, 0)
        assert (await world.counter.state(owner, order)) == (OrderState.PAID, Visible.PAID)

    return Drift.CAPTURED_TWICE, "second-intent", order, after


async def a_vendor_order_made_twice(world: World) -> Made:
    _, order = await world.submitted()
    body = (await world.printer.orders())[0]["body"]
    await world.printer.http.post("/v4.0/orders", json={**body, "idempotencyKey": "another-key"})
    return Drift.VENDOR_ORDER, "doubled", order, nothing


async def a_vendor_order_that_is_not_ours(world: World) -> Made:
    body = (await world.printer.orders())[0]["body"]
    stranger = {**body, "idempotencyKey": "a-strangers", "merchantReference": "reprint of last week"}
    await world.printer.http.post("/v4.0/orders", json=stranger)
    return Drift.VENDOR_ORDER, "unknown-here", None, nothing


async def a_vendor_order_whose_answer_was_lost(world: World) -> Made:
    _, order = await world.paid()
    await world.render(order)
    await world.printer.turn(faults=[{"on": "create", "kind": "error_after"}])
    await world.once("fulfilment.submit")
    await world.lose("fulfilment.submit")
    before = (await world.printer.counts())["orders"]

    async def after() -> None:
        assert (await world.fulfilment(order)).state is FulfilmentState.SUBMITTED
        assert (await world.printer.counts())["orders"] >= before
        named = [one for one in await world.printer.orders() if one["body"]["merchantReference"] == name]
        assert len(named) == 1

    name = ids.encode("fulfilment", (await world.fulfilment(order)).id)
    return Drift.VENDOR_ORDER, "sent-unheard", order, after


async def a_vendor_order_that_the_vendor_lost(world: World) -> Made:
    _, order = await world.submitted()
    lost = (await world.fulfilment(order)).vendor_order_id
    await world.printer.http.post("/_sim/forget", json={"order": lost})
    return Drift.VENDOR_ORDER, "unknown-there", order, nothing


async def a_parcel_that_left_unseen(world: World) -> Made:
    await world.printer.turn(ship_s=1)
    owner, order = await world.submitted()
    await world.printer.turn(ship_s=NEVER_S)

    async def after() -> None:
        await world.once("fulfilment.poll")
        await world.work()
        assert (await world.counter.state(owner, order))[1] is Visible.SHIPPED

    return Drift.SHIPPED_NOT_RECORDED, "parcel", order, after


async def a_parcel_that_the_order_did_not_hear_of(world: World) -> Made:
    await world.printer.turn(ship_s=1)
    owner, order = await world.submitted()
    await world.printer.turn(ship_s=NEVER_S)
    await world.later(10)
    await world.once("fulfilment.poll")
    await world.lose("order.follow")

    async def after() -> None:
        assert (await world.counter.state(owner, order))[1] is Visible.SHIPPED

    return Drift.SHIPPED_NOT_RECORDED, "lines", order, after


async def a_cancellation_that_the_order_did_not_hear_of(world: World) -> Made:
    owner, order = await world.paid()
    await world.counter.cancel(owner, order)
    await world.lose("order.follow")

    async def after() -> None:
        view = await world.shop.view(order)
        assert (await world.counter.state(owner, order))[0] is OrderState.CANCELLED
        assert view.refunded == view.captured

    return Drift.PAID_NOT_SUBMITTED, "cancellation-unheard", order, after


async def a_refund_made_in_the_dashboard(world: World) -> Made:
    _, order = await world.submitted()
    await world.stripe("refunds", payment_intent=await world.intent(order), amount="100")

    async def after() -> None:
        assert (await world.shop.view(order)).refunded == Money(100, "GBP")
        counts = (await world.sim.counts())["by_order"][ids.encode("order", order)]
        assert counts["refunded"] == 100
        assert "refund-without-request" in await world.alerts()

    return Drift.REFUND, "made-elsewhere", order, after


async def a_refund_that_nobody_makes(world: World) -> Made:
    _, order = await world.submitted()
    async with world.db.transaction() as tx:
        refund = RefundId(ids.new_id())
        await world.services.payments.refund(tx, order, refund, Money(50, "GBP"), (), "goodwill")
    await world.lose("payment.refund")

    async def after() -> None:
        assert (await world.shop.view(order)).refunded == Money(50, "GBP")

    return Drift.REFUND, "not-made", order, after


async def a_dispute_that_nobody_heard_of(world: World) -> Made:
    _, order = await world.submitted()
    await world.sim.http.post("/_sim/disputes", json={"payment_intent": await world.intent(order)})

    async def after() -> None:
        assert await world.shop.told(order, "payment.disputed") == ["payment.disputed"]
        assert "payment-disputed" in await world.alerts()

    return Drift.REFUND, "dispute-unheard", order, after


async def a_capture_of_another_amount(world: World) -> Made:
    _, order, secret = await world.placed()
    await world.stripe(f"payment_intents/{secret.partition('_secret_')[0]}", amount="5000")
    await world.sim.confirm(secret)
    return Drift.AMOUNT, "captured", order, nothing


async def a_vendor_that_charges_more_than_it_said(world: World) -> Made:
    await world.printer.turn(charge_percent=200)
    _, order = await world.submitted()
    await world.printer.turn(charge_percent=100)
    return Drift.AMOUNT, "vendor-charge", order, nothing


MAKERS = (
    a_parcel_that_the_order_did_not_hear_of,
    a_capture_that_nobody_heard_of,
    an_order_that_did_not_hear_of_its_payment,
    a_print_file_that_nobody_makes,
    a_fulfilment_that_nobody_sends,
    money_for_an_order_that_is_not_ours,
    a_second_intent_for_a_paid_order,
    a_vendor_order_made_twice,
    a_vendor_order_that_is_not_ours,
    a_vendor_order_whose_answer_was_lost,
    a_vendor_order_that_the_vendor_lost,
    a_parcel_that_left_unseen,
    a_cancellation_that_the_order_did_not_hear_of,
    a_refund_made_in_the_dashboard,
    a_refund_that_nobody_makes,
    a_dispute_that_nobody_heard_of,
    a_capture_of_another_amount,
    a_vendor_that_charges_more_than_it_said,
)


async def test_each_drift_is_found_once_and_mended_or_told(world: World) -> None:
    await world.printer.turn(ship_s=NEVER_S)
    await world.submitted()  # in which nothing differs
    made = [await make(world) for make in MAKERS]
    assert {drift for drift, *_ in made} == set(Drift)
    await world.lose(*LOOKS)
    await world.later(GRACE_S + 60)
    report = await world.reconcile()
    seen = [(one.finding.drift, one.finding.what, one.finding.order_id) for one in report.seen]
    assert sorted(map(str, seen)) == sorted(str((drift, what, order)) for drift, what, order, _ in made)
    assert all(one.is_new for one in report.seen)
    cases = {one.finding.drift for one in report.seen if one.state is FindingState.CASE}
    assert await world.alerts() == {RULES[drift][0] for drift in cases}
    await world.work()
    for _, _, _, after in made:
        await after()
    before = await world.rows()
    again = await world.reconcile()
    assert not any(one.is_new for one in again.seen)
    assert await world.rows() == before
    assert {one.state for one in again.seen} <= {FindingState.CASE, FindingState.REPAIRED}


async def test_what_is_young_is_not_judged(world: World) -> None:
    await a_capture_that_nobody_heard_of(world)
    await a_second_intent_for_a_paid_order(world)
    assert (await world.reconcile()).seen == ()


async def test_most_scheduled_runs_look_a_day_back_and_some_a_week(world: World) -> None:
    await a_capture_that_nobody_heard_of(world)
    await world.lose(*LOOKS)
    await world.later(86_400 + 60)
    recent = await world.services.reconciler.scheduled(WHOLE_EVERY + 1)
    assert (recent.looked_at["captures"], recent.seen) == (0, ())
    whole = await world.services.reconciler.scheduled(WHOLE_EVERY)
    assert (whole.looked_at["captures"], len(whole.seen)) == (1, 1)


async def test_a_repair_that_does_not_help_becomes_a_case_which_a_person_closes(world: World) -> None:
    _, _, order, _ = await a_print_file_that_nobody_makes(world)
    await world.later(GRACE_S + 1)
    (found,) = (await world.reconcile()).seen
    await world.work()
    await world.later((PATIENCE - 1) * GRACE_S)
    rows = await world.rows()
    assert [one.state for one in (await world.reconcile()).seen] == [FindingState.REPAIRED]
    assert await world.rows() == rows
    await world.later(GRACE_S)
    for is_told in (True, False):
        rows = await world.rows()
        (again,) = (await world.reconcile()).seen
        assert (again.id, again.state, again.is_new) == (found.id, FindingState.CASE, False)
        assert ((await world.rows()) == rows) != is_told
    assert await world.alerts() == {"reconcile-paid-not-submitted"}
    (case,) = await world.services.reconciler.cases()
    for name in (case.id, (await world.fulfilment(order)).id):
        assert (await world.services.orders.story_for_operators(name)).view.order.id == order
    await world.services.reconciler.close(case.id)
    assert await world.services.reconciler.cases() == []
    async with world.db.transaction() as tx:
        assert await open_alerts(tx) == []
    with pytest.raises(CaseNotFound):
        await world.services.reconciler.close(case.id)
    told = await world.shop.told(order, *(f"reconcile.{what}" for what in ("drift_found", "repaired", "case_opened")))
    assert told == ["reconcile.drift_found", "reconcile.repaired", "reconcile.case_opened"]


async def test_a_silent_side_leaves_everything_as_it_is(world: World) -> None:
    await a_capture_that_nobody_heard_of(world)
    await world.later(GRACE_S + 1)
    await world.printer.turn(outage=True)
    rows = await world.rows()
    with pytest.raises(Exception, match="vendor answers 503"):
        await world.reconcile()
    assert await world.rows() == rows
    assert msgspec.json.encode(rows)

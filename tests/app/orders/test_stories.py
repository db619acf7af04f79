"""Named stories of orders, from the tap to the parcel, with Stripe and a printer that are really asked."""

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner

from app.kernel.alerts import open_alerts
from app.orders.service import OrderView
from base import ids
from base.ids import OrderId
from tests.app.orders.invariants import broken
from tests.app.orders.world import Bought, World
from tirage.main import main

MOST_S = 600  # the longest time between two looks at the printer, as the world is set


async def paid(world: World, copies: list[int]) -> Bought:
    """An order whose person has confirmed."""
    await world.buy(copies, 1)
    order = world.orders[-1]
    await world.pay(order, 1)
    await world.confirm(order, "pm_card_visa")
    return order


async def view(world: World, order: Bought) -> OrderView:
    return await world.services.orders.get(world.owner, ids.decode("order", order.id))


async def pass_time(world: World, *seconds: int) -> None:
    """Do what is due, after each of these times."""
    for wait in seconds:
        await world.later(wait)
        while await world.work():
            continue


async def alerts(world: World) -> set[str]:
    async with world.services.db.reading() as db:
        return {row["rule"] for row in await db.fetch("SELECT rule FROM alerts")}


async def money(world: World, order: Bought) -> tuple[int, int, int]:
    """(captures, captured, refunded) at Stripe."""
    one: dict[str, Any] = world.stripe.simulator.counts()["by_order"][order.id]
    return one["captures"], one["captured"], one["refunded"]


async def test_reading_a_payment_begins_nothing(world: World) -> None:
    await world.buy([1], 1)
    (order,) = world.orders
    path = f"/v1/orders/{order.id}/payment"

    async def kept() -> list[Any]:
        async with world.services.db.reading() as db:
            sql = "SELECT o::text, p::text FROM orders o JOIN payments p ON p.order_id = o.id"
            return [tuple(row) for row in await db.fetch(sql)]

    before = await kept()
    told = (await world.call("GET", path)).json()
    assert (told["state"], told["clientSecret"]) == ("created", None)
    assert await kept() == before
    assert world.stripe.simulator.counts()["requests"] == {}
    assert (await world.call("POST", path)).status_code == 202
    secrets = {(await world.call("GET", path)).json()["clientSecret"] for _ in range(2)}
    assert len(secrets - {None}) == len(secrets) == 1
    assert world.stripe.simulator.counts()["requests"]["POST payment_intents"] == 1


@pytest.mark.parametrize("fault", ["drop", pytest.param("lose", marks=pytest.mark.soak)])
async def test_the_first_answer_to_everything_is_lost(world: World, fault: str) -> None:
    """Ours, Stripe's and the printer's, after their commit (`drop`), or the question itself (`lose`)."""
    proxies = [one.proxy for one in (world.places.api, world.places.stripe, world.places.printer)]
    ours, stripe, printer = proxies
    before = [proxy.met[fault] for proxy in proxies]
    ours.faults.extend([fault, "pass", fault, "pass", fault, "pass"])  # draft, price, order
    await world.buy([2, 1], 1)
    ours.faults.extend([fault, "pass"])
    stripe.faults.append(fault)  # the intent
    await world.pay(world.orders[0], 1)
    assert world.orders[0].secret is None
    await pass_time(world, 30)  # what the call planned finds the intent, or makes it
    await world.pay(world.orders[0], 0)
    stripe.faults.append(fault)  # the phone's confirmation
    await world.confirm(world.orders[0], "pm_card_visa")
    await world.confirm(world.orders[0], "pm_card_visa")
    stripe.faults.append(fault)  # the reading
    await pass_time(world, 5, 30)
    printer.faults.extend([fault, "pass", fault])  # the order, and the first look at it
    await pass_time(world, 900, 30, 60, MOST_S, MOST_S)
    assert [proxy.met[fault] - old for proxy, old in zip(proxies, before, strict=True)] == [4, 3, 2]
    assert (await view(world, world.orders[0])).shown.state == "shipped"
    assert await money(world, world.orders[0]) == (1, world.orders[0].total, 0)
    assert len(world.printer.book.all()) == 1
    assert await broken(world) == []


async def test_without_any_webhook_it_ends_within_two_looks(world: World) -> None:
    """Nothing is ever delivered: Stripe's events are not sent, the printer calls nobody (I32)."""
    await world.turn_printer(callbacks="off")
    order = await paid(world, [1])
    await pass_time(world, 5, 900)
    assert len(world.printer.book.all()) == 1
    await world.later(60)  # the parcel leaves
    await pass_time(world, MOST_S, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    async with world.services.db.reading() as db:
        assert await db.value("SELECT count(*) FROM webhooks") == 0
    assert await broken(world) == []


async def test_one_is_shipped_and_one_is_cancelled_and_refunded(world: World) -> None:
    await world.turn_printer(on_cancel="partial", split=True, ship_s=3_600)
    order = await paid(world, [1, 2])
    await pass_time(world, 5, 900, 60)
    await world.cancel(order)
    await pass_time(world, 5, 60, 3_600, MOST_S, MOST_S)
    shown = await view(world, order)
    gone, left = shown.lines
    assert (gone.quantities.cancelled, gone.quantities.refunded, gone.quantities.shipped) == (1, 1, 0)
    assert (left.quantities.cancelled, left.quantities.refunded, left.quantities.shipped) == (0, 0, 2)
    assert (shown.order.state, shown.shown.state) == ("paid", "shipped")
    assert await money(world, order) == (1, order.total, gone.total)
    assert await broken(world) == []


async def test_shipped_after_cancelled_is_a_case_and_loses_nothing(world: World) -> None:
    await world.turn_printer(on_cancel="late_shipped", produce_s=60, ship_s=60)
    order = await paid(world, [1])
    await pass_time(world, 5, 900)
    await world.cancel(order)
    await pass_time(world, 5)
    assert (await view(world, order)).shown.state == "cancelled"
    await pass_time(world, 60, MOST_S, MOST_S)
    shown = await view(world, order)
    assert (shown.order.state, shown.shown.state) == ("cancelled", "shipped")
    assert await money(world, order) == (1, order.total, order.total)
    async with world.services.db.reading() as db:
        (parcel,) = await world.services.fulfilments.shipments(db, shown.order.id)
    assert (parcel.state, len(parcel.trackings)) == ("shipped", 1)
    assert "vendor-shipped-after-cancelled" in await alerts(world)
    assert await broken(world) == []


async def tirage(world: World, *args: str) -> tuple[int, str]:
    """What an operator's command says, in a process's own parts."""
    keep = {"TIRAGE_STRIPE_TIMEOUT": "5", **world.places.env}
    told = await asyncio.to_thread(CliRunner().invoke, main, ["order", *args], env=keep)
    return told.exit_code, told.output


async def test_an_operator_gives_back_what_was_damaged_and_then_the_rest(world: World) -> None:
    order = await paid(world, [3, 1])
    await pass_time(world, 5)
    damaged = ["refund", order.id, "--line", "1", "--quantity", "2", "--reason", "damaged"]
    code, said = await tirage(world, *damaged)
    assert (code, "still to be made" in said) == (1, True), said
    await pass_time(world, 900, 60, MOST_S, MOST_S)
    shown = await view(world, order)
    price = shown.lines[0].total * 2 // 3
    assert (await tirage(world, *damaged, "--dry-run"))[1].startswith(f"would give back {price} GBP")
    assert await money(world, order) == (1, order.total, 0)
    assert (await tirage(world, *damaged))[0] == 0
    await pass_time(world, 5)
    assert "asked for before and is succeeded" in (await tirage(world, *damaged))[1]
    await pass_time(world, 5)
    assert await money(world, order) == (1, order.total, price)
    assert (await view(world, order)).lines[0].quantities.refunded == 2
    code, said = await tirage(world, *damaged, "--reference", "ticket-2")
    assert (code, "1 copies of line 1 are not refunded yet" in said) == (1, True), said
    assert (await tirage(world, "refund", order.id, "--all", "--reason", "goodwill"))[0] == 0
    await pass_time(world, 5)
    assert await money(world, order) == (1, order.total, order.total)
    shown = await view(world, order)
    assert ([x.quantities.refunded for x in shown.lines], shown.shown.state) == ([3, 1], "shipped")
    code, said = await tirage(world, "refund", order.id, "--all", "--reason", "again")
    assert (code, "More would be refunded" in said) == (1, True), said
    story = await world.services.orders.story_for_operators(shown.order.id)
    assert [one.actor for one in story.entries if one.name == "refund.requested"] == ["operator", "operator"]
    assert await broken(world) == []


async def test_goodwill_is_no_second_refund_of_what_the_printer_does_not_make(world: World) -> None:
    await world.turn_printer(on_cancel="partial", split=True, ship_s=3_600)
    order = await paid(world, [1, 2])
    await pass_time(world, 5, 900, 60)
    gift = ["refund", order.id, "--line", "1", "--quantity", "1", "--reason", "late", "--goodwill"]
    assert (await tirage(world, *gift))[0] == 0
    assert "the printer is asked first" in (await tirage(world, "cancel", order.id, "--reason", "asked"))[1]
    await pass_time(world, 5, 60, 3_600, MOST_S, MOST_S)
    gone, left = (await view(world, order)).lines
    assert (gone.quantities.cancelled, gone.quantities.refunded, left.quantities.refunded) == (1, 1, 0)
    assert await money(world, order) == (1, order.total, gone.total)
    assert "refund-not-covered" not in await alerts(world)
    assert await broken(world) == []


async def test_an_operator_ends_what_cannot_be_made(world: World) -> None:
    order = await paid(world, [1])
    assert (await tirage(world, "refund", order.id, "--all", "--reason", "asked"))[0] == 1  # nothing is captured yet
    await pass_time(world, 5)
    async with world.services.db.transaction() as tx:
        (found,) = await world.services.fulfilments.of_order(tx, ids.decode("order", order.id))
        await world.services.fulfilments.fail(tx, found.id, "vendor-refused")
    await pass_time(world, 1)
    assert (await view(world, order)).shown.state == "on_hold"
    end = ["cancel", ids.encode("fulfilment", found.id), "--reason", "not-possible"]
    assert f"at once, {order.total} GBP" in (await tirage(world, *end, "--dry-run"))[1]
    assert (await view(world, order)).shown.state == "on_hold"
    assert (await tirage(world, *end))[0] == 0
    await pass_time(world, 5, 900)
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)
    assert "nothing to do" in (await tirage(world, *end))[1]
    assert len(world.printer.book.all()) == 0
    assert await broken(world) == []


async def test_one_refused_photo_holds_the_order_though_the_others_are_ready(world: World) -> None:
    world.unprintable = 1
    order = await paid(world, [3, 1])
    await pass_time(world, 5, 900)
    shown = await view(world, order)
    assert (shown.shown.state, shown.holds) == ("on_hold", {"master_refused"})
    await world.cancel(order)
    await pass_time(world, 5)
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)


@pytest.mark.parametrize("end", ["won", "lost"])
async def test_a_dispute_holds_back_what_is_not_sent(world: World, end: str) -> None:
    async def says(status: str) -> None:
        intent = str(order.secret).partition("_secret_")[0]
        told = {"payment_intent": intent, "status": status}
        assert (await world.http.post(f"{world.places.stripe.url}/_sim/disputes", json=told)).is_success
        await world.deliver()
        await pass_time(world, 1)

    order = await paid(world, [1, 2])
    await pass_time(world, 5)
    await says("needs_response")
    assert (await view(world, order)).shown.state == "on_hold"
    assert "The payment is disputed" in (await tirage(world, "refund", order.id, "--all", "--reason", "asked"))[1]
    await pass_time(world, 900, 601, 601)
    assert (len(world.printer.book.all()), (await view(world, order)).holds) == (0, {"payment_disputed"})
    await says(end)
    await pass_time(world, 60, 60)
    await pass_time(world, MOST_S, MOST_S)
    shown = await view(world, order)
    is_lost = end == "lost"
    assert shown.shown.state == ("cancelled" if is_lost else "shipped")
    assert len(world.printer.book.all()) == (not is_lost)
    assert await money(world, order) == (1, order.total, 0)  # what the bank took is no refund of ours
    assert await alerts(world) == {"payment-disputed"}
    assert await broken(world) == []
    story = await world.services.orders.story_for_operators(shown.order.id)
    assert [entry.name for entry in story.entries].count("payment.disputed") == 2


@pytest.mark.parametrize("fault", ["timeout_after", "error_before"])
async def test_a_dispute_while_it_is_being_sent_holds_it_or_is_a_case(world: World, fault: str) -> None:
    """The answer to our sending was lost: did the printer get it, or not? Either way the dispute is not passed over."""
    order = await paid(world, [1])
    await pass_time(world, 5)
    await world.turn_printer(faults=[{"on": "create", "kind": fault}], produce_s=3_600)
    await world.later(900)
    await world.work()  # one attempt
    has_it = len(world.printer.book.all())
    assert has_it == (fault == "timeout_after")

    async def says(status: str) -> None:
        await world.dispute(order, status)
        async with world.services.db.reading() as db:
            money = await world.services.payments.of_order(db, OrderId(ids.decode("order", order.id)))
        assert money is not None
        assert await world.services.payments.read(money.payment_id)

    await says("needs_response")
    await pass_time(world, 60, 601, 601)
    assert len(world.printer.book.all()) == has_it  # not sent again
    shown = await view(world, order)
    assert (shown.shown.state, shown.holds) == ("on_hold", {"payment_disputed"})
    async with world.services.db.reading() as db:
        (made,) = await world.services.fulfilments.of_order(db, shown.order.id)
    assert made.state == ("submitted" if has_it else "submitting")
    case = {"sent-while-disputed"} if has_it else set()
    assert await alerts(world) == {"payment-disputed"} | case
    story = await world.services.orders.story_for_operators(shown.order.id)
    assert [entry.name for entry in story.entries].count("fulfilment.contradicted") == has_it
    assert "held for: payment_disputed" in (await tirage(world, "show", order.id))[1]
    await says("won")
    await pass_time(world, 60, 3_600, MOST_S, MOST_S)
    assert (len(world.printer.book.all()), (await view(world, order)).shown.state) == (1, "shipped")
    async with world.services.db.transaction(readonly=True) as tx:
        assert await open_alerts(tx) == []
    assert await broken(world) == []


async def test_a_dispute_about_what_is_shipped_changes_nothing_of_it(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    told = {"payment_intent": str(order.secret).partition("_secret_")[0], "status": "needs_response"}
    await world.http.post(f"{world.places.stripe.url}/_sim/disputes", json=told)
    await world.http.post(f"{world.places.stripe.url}/_sim/disputes", json={**told, "status": "lost"})
    await world.deliver()
    await pass_time(world, 1, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    assert await money(world, order) == (1, order.total, 0)
    assert await broken(world) == []

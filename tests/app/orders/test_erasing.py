"""A person who has bought something is erased, at every point of the way: nobody keeps money for what is not printed,
and nothing hangs."""

from typing import Any

import pytest

from app.fulfilment.domain import FulfilmentState
from app.kernel import jobs
from base import ids, printing
from tests.app.orders.invariants import broken
from tests.app.orders.test_stories import MOST_S, alerts, money, paid, pass_time, view
from tests.app.orders.world import Bought, World


async def erase(world: World) -> dict[str, Any]:
    answer = await world.call("DELETE", "/v1/me")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def unfinished(world: World) -> list[str]:
    """Jobs that do not come to an end; looks at what Stripe and a printer may still change are planned for weeks."""
    sql = """SELECT kind FROM jobs WHERE state IN ('queued', 'published', 'parked')
             AND kind NOT IN ('payment.read', 'payment.refund', 'fulfilment.poll') ORDER BY kind"""
    async with world.services.db.reading() as db:
        return [row["kind"] for row in await db.fetch(sql)]


async def state_of(world: World, order: Bought) -> FulfilmentState:
    async with world.services.db.reading() as db:
        (found,) = await world.services.fulfilments.of_order(db, ids.decode("order", order.id))
    return found.state


async def until(world: World, kind: str) -> None:
    """Do everything but jobs of this kind, until one waits."""
    for _ in range(40):
        async with world.services.db.reading() as db:
            rows = await db.fetch("SELECT id, kind FROM jobs WHERE state = 'queued' ORDER BY not_before")
        if any(row["kind"] == kind for row in rows):
            return
        assert await world.attempt(rows[0]["id"]) is None
    raise AssertionError(f"{kind} is never planned")


async def ends_with_its_money_back(world: World, order: Bought) -> None:
    await pass_time(world, 5, 900, 60, MOST_S, 3_600)
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)
    assert [line.quantities.refunded for line in (await view(world, order)).lines] == order.copies
    assert len(world.printer.book.all()) == 0
    assert await unfinished(world) == []
    assert await alerts(world) == set()
    assert await broken(world) == []


@pytest.mark.parametrize("begun", [False, True])
async def test_what_is_not_paid_ends(world: World, begun: bool) -> None:
    await world.buy([2], 1)
    (order,) = world.orders
    if begun:
        await world.pay(order, 1)
    await erase(world)
    await pass_time(world, 5, 60)
    assert (await view(world, order)).order.state == "cancelled"
    assert world.stripe.simulator.counts()["by_order"].get(order.id, {}).get("captured", 0) == 0
    await world.confirm(order, "pm_card_visa")  # the app shows its payment sheet still
    await pass_time(world, 60, 600)
    assert world.stripe.simulator.counts()["by_order"].get(order.id, {}).get("captured", 0) == 0
    async with world.services.db.reading() as db:
        assert await db.value("SELECT state FROM drafts") == "abandoned"
    assert await unfinished(world) == []
    assert await alerts(world) == set()
    assert await broken(world) == []


async def test_what_was_paid_a_moment_ago_goes_back(world: World) -> None:
    """Stripe has taken the money; we hear of it after the erasure."""
    order = await paid(world, [1, 2])
    await erase(world)
    await ends_with_its_money_back(world, order)


async def test_what_is_secured_and_not_settled_goes_back(world: World) -> None:
    order = await paid(world, [1])
    await world.later(5)
    await until(world, "order.settle")
    await erase(world)
    await ends_with_its_money_back(world, order)


async def test_what_is_to_be_rendered_is_not(world: World) -> None:
    order = await paid(world, [1, 2])
    await world.later(5)
    await until(world, printing.KIND)
    await erase(world)
    async with world.services.db.reading() as db:
        states = await db.fetch("SELECT state, payload->>'sha256' AS sha FROM jobs WHERE kind = $1", printing.KIND)
    assert [tuple(row) for row in states] == [("cancelled", None)] * 2
    await ends_with_its_money_back(world, order)


@pytest.mark.parametrize("unprintable", [0, 1])
async def test_a_worker_that_is_rendering_ends_and_nothing_comes_of_it(world: World, unprintable: int) -> None:
    order = await paid(world, [1])
    await world.later(5)
    await until(world, printing.KIND)
    async with world.services.db.transaction() as tx:
        job = await jobs.lock(tx, await tx.value("SELECT id FROM jobs WHERE kind = $1", printing.KIND))
        assert job is not None
        await jobs.mark_published(tx, [job])
    await erase(world)
    world.unprintable = unprintable  # the original is gone already, or was fetched before
    await world.attempt(job.id)
    async with world.services.db.reading() as db:
        row = await db.one("SELECT state, payload->>'sha256' AS sha FROM jobs WHERE id = $1", job.id)
        steps = await db.value("SELECT body::text FROM step_runs WHERE job_id = $1", job.id)
    assert (row["state"], row["sha"], steps) == ("done", None, "{}")
    await ends_with_its_money_back(world, order)


async def test_what_is_rendered_and_not_sent_goes_back(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5)
    assert await state_of(world, order) == "submitting"
    await erase(world)
    assert await state_of(world, order) == "cancelled"
    await ends_with_its_money_back(world, order)


async def test_what_a_person_had_to_decide_is_decided(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5)
    async with world.services.db.transaction() as tx:
        (found,) = await world.services.fulfilments.of_order(tx, ids.decode("order", order.id))
        await world.services.fulfilments.fail(tx, found.id, "vendor-refused")
    await pass_time(world, 1)
    await erase(world)
    await pass_time(world, 5, 900)
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)
    assert await broken(world) == []


@pytest.mark.parametrize("fault", ["timeout_after", "error_before"])
async def test_what_was_being_sent_is_asked_after(world: World, fault: str) -> None:
    """Whether the printer has it is not known: it is looked up, cancelled there if it is, and the money goes back."""
    await world.turn_printer(faults=[{"on": "create", "kind": fault}], produce_s=36_000)
    order = await paid(world, [1])
    await pass_time(world, 5)
    await world.later(900)
    await world.work()  # one attempt
    assert len(world.printer.book.all()) == (fault == "timeout_after")
    await erase(world)
    assert await state_of(world, order) == "cancelling"
    for wait in (60, 600, 1_800):
        await world.later(wait)
        await world.work()  # once: the database's clock does not move, so a second try would be at the same moment
    await pass_time(world, 60, MOST_S)
    assert await state_of(world, order) == "cancelled"
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)
    assert await unfinished(world) == []
    assert await broken(world) == []


async def test_what_the_printer_has_goes_on(world: World) -> None:
    await world.turn_printer(produce_s=3_600)
    order = await paid(world, [1])
    await pass_time(world, 5, 900)
    assert await state_of(world, order) == "submitted"
    await erase(world)
    await pass_time(world, 60, 3_600, MOST_S, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    assert await money(world, order) == (1, order.total, 0)
    assert await unfinished(world) == []
    assert await alerts(world) == set()
    assert await broken(world) == []


async def test_what_the_printer_will_not_make_after_all_goes_back(world: World) -> None:
    await world.turn_printer(produce_s=3_600)
    order = await paid(world, [1])
    await pass_time(world, 5, 900)
    await erase(world)
    await world.end(order)
    await pass_time(world, 5, 60, MOST_S, MOST_S)
    assert (await view(world, order)).shown.state == "cancelled"
    assert await money(world, order) == (1, order.total, order.total)
    assert await broken(world) == []


async def test_what_is_shipped_stays_as_it_is(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    await erase(world)
    await pass_time(world, 60, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    assert await money(world, order) == (1, order.total, 0)
    assert await unfinished(world) == []
    assert await broken(world) == []

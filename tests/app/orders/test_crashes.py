"""Real deaths on the way from a price to a print job: whoever asks again, there is one order, one charge, one job.

`make test` takes the first, the last and a seeded suspension of the sending; `make soak` every one of all.
"""

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from app.kernel import jobs
from base import ids
from tests.app import working
from tests.app.crashes import Case, Crashes
from tests.app.orders.invariants import broken
from tests.app.orders.world import HOME, World


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.soak)], ids=["some", "all"])
def crashes(request: pytest.FixtureRequest, world: World) -> Crashes:
    return Crashes(world.places.env, every=request.param, seeded=1)


async def job_of(world: World, kind: str) -> str:
    """The youngest waiting job of a kind."""
    async with world.services.db.reading() as db:
        sql = "SELECT id FROM jobs WHERE kind = $1 AND state = 'queued' ORDER BY position DESC LIMIT 1"
        return str(await db.value(sql, kind))


async def again(world: World, cases: list[Case]) -> None:
    """The dispatcher finds what nobody answered; each job is done by somebody who lives."""
    async with world.services.db.transaction() as tx:
        for lane in ("checkout", "record"):
            await jobs.requeue_stale(tx, "home", lane, 0)
    for case in cases:
        assert await working.attempt(world.services, UUID(case["job"])) is None


async def counts(world: World, *tables: str) -> set[Any]:
    async with world.services.db.reading() as db:
        return {await db.value(f"SELECT count(*) FROM {table}") for table in tables}


@pytest.mark.soak
async def test_placing_an_order(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        body = msgspec.json.encode({"quoteId": (await world.quote([1, 2]))["id"], "recipient": HOME}).decode()
        return {"path": "/v1/orders", "token": world.token(), "key": uuid4().hex, "body": body}

    cases = await crashes.happen("call", prepare)
    for case in cases:  # the phone was not answered: it asks again
        body = msgspec.json.decode(case["body"])
        told = {(await world.call("POST", case["path"], body, case["key"])).content for _ in range(2)}
        assert len(told) == 1
    assert await counts(world, "orders", "payments", "order_recipients") == {len(cases)}
    assert await broken(world) == []


@pytest.mark.soak
async def test_settling_what_was_paid(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        await world.buy([1], 1)
        await world.pay(world.orders[-1], 1)
        await world.confirm(world.orders[-1], "pm_card_visa")
        await working.attempt(world.services, UUID(await job_of(world, "payment.read")))
        return {"job": await job_of(world, "order.settle")}

    cases = await crashes.happen("job", prepare)
    await again(world, cases)
    paid = "(SELECT FROM orders WHERE state = 'paid') AS paid"
    masters = "(SELECT FROM jobs WHERE kind = 'print.master') AS masters"
    assert await counts(world, paid, "fulfilments", masters) == {len(cases)}
    assert await broken(world) == []


async def test_sending_to_the_printer(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        await world.buy([2], 1)
        await world.pay(world.orders[-1], 1)
        await world.confirm(world.orders[-1], "pm_card_visa")
        for kind in ("payment.read", "order.settle", "print.master"):
            await world.attempt(UUID(await job_of(world, kind)))
        return {"job": await job_of(world, "fulfilment.submit")}

    cases = await crashes.happen("job", prepare)
    await again(world, cases)
    await world.settle()
    printed = {job.body["merchantReference"] for job in world.printer.book.all()}
    assert len(printed) == len(world.printer.book.all()) == len(cases)
    charged = world.stripe.simulator.counts()["by_order"]
    assert {(one["captures"], one["refunded"]) for one in charged.values()} == {(1, 0)}
    assert len(charged) == len({ids.decode("order", order.id) for order in world.orders}) == len(cases)
    assert await broken(world) == []

"""What one comparison costs with many orders in its window: questions to others, statements, processor time (printed).

Only counts are judged: they may grow by pages of a hundred, never by the order.
"""

import os
import time
from collections import Counter
from typing import Any

import pytest

from app.fulfilment.domain import Master
from base.ids import OrderId
from tests.app.reconcile.conftest import World

ORDERS = int(os.environ.get("TIRAGE_ORDERS", "600"))


async def sent(world: World, of: Master | None) -> tuple[OrderId, Master]:
    """An order that the printer has, printed from the same file as all others."""
    _, order = await world.paid()
    if of is None:
        await world.render(order)
    async with world.db.transaction() as tx:
        (found,) = await world.services.fulfilments.of_order(tx, order)
        (line,) = await world.services.fulfilments.lines(tx, found.id)
        made = line.master or of
        assert made is not None
        if line.master is None:
            named = Master(**{**{name: getattr(made, name) for name in made.__struct_fields__}, "line_id": line.id})
            await world.services.fulfilments.masters_ready(tx, found.id, (named,))
    await world.once("fulfilment.submit")
    return order, made


async def counted(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], float, float]:
    """Questions and statements of a run, and its seconds of processor time and on the clock."""
    seen: Counter[str] = Counter()
    gateway, vendor = world.services.gateway, world.services.vendors["prodigi"]
    asked, answered = vendor._ask, gateway._answer  # type: ignore[attr-defined]

    async def ask(method: str, path: str, *more: Any, **named: Any) -> Any:
        seen["printer"] += 1
        return await asked(method, path, *more, **named)

    async def answer(waiting: Any) -> Any:
        seen["stripe"] += 1
        return await answered(waiting)

    held = [await world.db.acquire() for _ in range(world.db.settings.pool_max)]
    for connection in held:
        connection._con.add_query_logger(lambda record: seen.update(["statements"]))
        await world.db.pool.release(connection)
    with monkeypatch.context() as patched:
        patched.setattr(vendor, "_ask", ask)
        patched.setattr(gateway, "_answer", answer)
        processor, clock = time.process_time(), time.perf_counter()
        report = await world.reconcile()
        took = time.process_time() - processor, time.perf_counter() - clock
    assert report.looked_at["captures"] == report.looked_at["vendorOrders"] == ORDERS
    assert report.seen == ()
    return seen, *took


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_a_run_asks_by_pages_and_never_by_the_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    master: Master | None = None
    begun = time.perf_counter()
    for number in range(ORDERS):
        _, master = await sent(world, master)
        if number % 100 == 99:
            print(f"{number + 1} orders after {time.perf_counter() - begun:.0f} s", flush=True)
    await world.shop.later(1_000)
    seen, processor, clock = await counted(world, monkeypatch)
    ours = world.services.reconciler
    outside = await ours._read(ours._clock.now().replace(year=2000))
    before = time.process_time()
    await ours._ours(ours._clock.now().replace(year=2000), outside)
    print(f"{ORDERS} orders: {dict(seen)}, {processor:.2f} s of processor, {clock:.2f} s, with both simulators;")
    print(f"our own rows alone {time.process_time() - before:.2f} s of processor")
    pages = -(-ORDERS // 100)
    assert seen["stripe"] <= 2 * pages + 2
    assert seen["printer"] <= pages + 1
    assert seen["statements"] <= 40  # a new connection asks for the types of arrays

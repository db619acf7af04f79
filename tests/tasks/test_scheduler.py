"""The scheduler plans each period once, whoever leads."""

import asyncio
from datetime import UTC, datetime, timedelta

from app.handlers import HANDLERS
from app.kernel.db import Database
from app.kernel.stalls import LATE_S
from app.kinds import KINDS
from app.services import Services
from tasks.scheduler import SCHEDULES, STALLS_EVERY_S, Scheduler


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


async def planned(db: Database) -> list[str]:
    async with db.transaction() as tx:
        return [row["dedupe_key"] for row in await tx.fetch("SELECT dedupe_key FROM jobs ORDER BY position")]


async def test_each_period_once_also_after_a_hand_over(services: Services, db: Database) -> None:
    clock = Clock()
    first, second = (Scheduler(db, services.spine, clock, {"uploads.expire": 300}) for _ in range(2))
    assert await first.plan_due() == ["uploads.expire"]
    assert await first.plan_due() == []
    async with db.transaction() as tx:
        await tx.execute("UPDATE jobs SET state = 'done'")
    assert await second.plan_due() == []
    clock.moment += timedelta(seconds=300)
    assert await second.plan_due() == ["uploads.expire"]
    assert await first.plan_due() == []
    assert len(await planned(db)) == 2


async def test_only_one_leads(services: Services, db: Database) -> None:
    stop = asyncio.Event()
    both = [
        asyncio.create_task(Scheduler(db, services.spine, services.clock, {"uploads.expire": 3600}).run(stop))
        for _ in range(2)
    ]
    async with asyncio.timeout(10):
        while not await planned(db):
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)
    async with db.transaction() as tx:
        holders = await tx.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1", 0x7363)
    stop.set()
    await asyncio.gather(*both)
    assert holders == 1
    assert len(await planned(db)) == 1


async def test_it_tells_of_work_that_nobody_takes_once_it_has_led_for_a_while(services: Services, db: Database) -> None:
    now = 1_000.0
    scheduler = Scheduler(db, services.spine, services.clock, {"orders.expire": 60}, lambda: now)
    await scheduler.plan_due()
    async with db.transaction() as tx:
        await tx.execute("UPDATE jobs SET not_before = now() - interval '2 hours'")

    async def told() -> list[str]:
        await scheduler.look_for_stalls()
        async with db.transaction() as tx:
            return [row["subject"] for row in await tx.fetch("SELECT subject FROM alerts WHERE closed_at IS NULL")]

    assert await told() == []
    scheduler.leads()
    now += LATE_S - 1
    assert await told() == []
    now += 1
    assert await told() == ["home/sweep"]
    async with db.transaction() as tx:
        await tx.execute("UPDATE jobs SET state = 'done', finished_at = now()")
    now += STALLS_EVERY_S - 1
    assert await told() == ["home/sweep"]
    now += 1
    assert await told() == []


def test_every_schedule_has_a_kind_and_a_handler() -> None:
    for kind in SCHEDULES:
        assert kind in KINDS
        assert kind in HANDLERS

"""A lane that nobody works on is told of once, and settled when it moves; slow, failing and held ones are not."""

from typing import Any
from uuid import UUID, uuid4

import msgspec

from app.kernel import alerts, jobs, stalls
from app.kernel.db import Database, Transaction
from app.kernel.jobs import JobKind, Plan
from base.jobs import LANES

LATE_S = LANES["record"].ttl_s + stalls.LATE_S


class Empty(msgspec.Struct, frozen=True):
    pass


async def late(tx: Transaction, lane: str = "record", since_s: int = LATE_S + 1, **fields: Any) -> UUID:
    """A job that has been due for so long."""
    kind = JobKind(name="t.kind", lane=lane, time_limit_s=5, max_attempts=3)
    job = await jobs.plan(tx, kind, Plan(kind=kind.name, payload=Empty(), **fields), "home", None)
    assert job is not None
    await tx.execute("UPDATE jobs SET not_before = now() - make_interval(secs => $2) WHERE id = $1", job, since_s)
    return job


async def told(tx: Transaction) -> list[tuple[str, str, int]]:
    await stalls.look(tx)
    return sorted((one.severity, one.subject, one.count) for one in await alerts.open_alerts(tx))


async def test_told_once_until_something_of_the_lane_ends(db: Database) -> None:
    async with db.transaction() as tx:
        job = await late(tx, since_s=LATE_S - 10)
        assert await told(tx) == []
        other = await late(tx)
        await late(tx, lane="sweep")  # an hour late is nothing there
        await late(tx, lane="preview")
        for _ in range(2):
            assert await told(tx) == [("critical", "home/record", 1), ("error", "home/preview", 1)]
        detail = {one.subject: one.detail for one in await alerts.open_alerts(tx)}
        assert detail["home/record"] == f"1 jobs, the oldest due for {LATE_S + 1} s, 1 of them not handed out"
        await jobs.finish(tx, job)
        assert await told(tx) == [("error", "home/preview", 1)]
        assert await tx.value("SELECT state FROM jobs WHERE id = $1", other) == "queued"


async def test_published_again_and_again_it_stays_as_old_as_it_is(db: Database) -> None:
    """The dispatcher lives, every worker is down: what nobody answers is handed out anew, and parked in the end."""
    async with db.transaction() as tx:
        first = await late(tx)
        await late(tx)
        for _ in range(2):
            rows = await jobs.due(tx, "home", "record", in_flight=9, per_owner=9)
            assert await jobs.mark_published(tx, rows) == 2
            assert await told(tx) == [("critical", "home/record", 1)]
            await tx.execute("UPDATE jobs SET published_at = published_at - interval '1 hour'")
            assert await jobs.requeue_stale(tx, "home", "record", 60) == 2
            assert await told(tx) == [("critical", "home/record", 1)]
        row = await jobs.lock(tx, first)
        assert row is not None
        await jobs.park(tx, row, "unanswered")
        await tx.execute("DELETE FROM alerts WHERE rule = 'job-parked'")
        assert await told(tx) == [("critical", "home/record", 1)], "parking it is no sign of life"


async def test_what_fails_is_due_later_and_what_is_held_is_meant(db: Database) -> None:
    async with db.transaction() as tx:
        job = await late(tx)
        await jobs.failed(tx, job, 1, uuid4().hex, final=False)
        assert await told(tx) == []
        await late(tx)
        await jobs.hold(tx, "home", "record")
        assert await told(tx) == []
        await jobs.release(tx, "home", "record")
        assert await told(tx) == [("critical", "home/record", 1)]

"""The spine: from a commit to a worker's hands, how fast a backlog is handed out, and what guards and events cost."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec

from app.kernel import events, jobs
from app.kernel.db import Database, DatabaseSettings
from app.kernel.events import Origin
from app.kernel.jobs import JobKind, Plan
from app.kernel.migrate import migrate
from app.machines import MACHINES
from base.jobs import LANES
from base.settings import Secret
from devstack.stack import running_servers
from tasks.broker import Delivery, LaneBroker, serve
from tasks.dispatcher import Dispatcher
from tasks.queue import Queue

KIND = JobKind(name="bench", lane="record", time_limit_s=30)
LANE = msgspec.structs.replace(LANES["record"], in_flight=100_000, per_owner=100_000)


class Empty(msgspec.Struct, frozen=True):
    """No payload."""


def run() -> dict[str, Any]:
    """Milliseconds and rates; one process holds writer, dispatcher and worker, the servers are the real ones."""
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder), {}) as stack:
        env = stack.environment()
        return asyncio.run(_measure(env["TIRAGE_DATABASE_URL"], env["TIRAGE_NATS_URL"]))


async def _measure(database_url: str, nats_url: str) -> dict[str, Any]:
    settings = DatabaseSettings(
        url=Secret(database_url), pool_min=4, pool_max=16, acquire_timeout_s=30, statement_timeout_ms=60_000
    )
    db = Database(settings)
    await db.start()
    await migrate(db, MACHINES)
    queue, stop = Queue(nats_url, "bench"), asyncio.Event()
    await queue.connect()
    got: dict[UUID, float] = {}

    async def work(delivery: Delivery) -> None:
        got.setdefault(delivery.job.id, time.monotonic())
        delivery.durable = True

    broker = LaneBroker(queue, LANE, [KIND.name], work)
    running = [
        asyncio.create_task(serve(broker, 64, stop, 5)),
        asyncio.create_task(Dispatcher(db, queue, [LANE]).run(stop)),
    ]
    await asyncio.sleep(1.5)
    figures = {
        "commit_to_worker_idle_ms": await _latency(db, got, 200, 0.02),
        "commit_to_worker_at_500_per_s_ms": await _latency(db, got, 2_500, 0.002),
        "backlog_published_per_s": await _backlog(db, got, 5_000),
        "cost_of_guards_and_event_us": await _costs(db),
    }
    stop.set()
    await asyncio.gather(*running, return_exceptions=True)
    await queue.close()
    await db.stop()
    return figures


async def _plan(db: Database, committed: dict[UUID, float]) -> None:
    async with db.transaction() as tx:
        job = await jobs.plan(tx, KIND, Plan(kind=KIND.name, payload=Empty(), owner_id=uuid4()), "bench", None)
    assert job is not None
    committed[job] = time.monotonic()


async def _latency(db: Database, got: dict[UUID, float], count: int, every_s: float) -> dict[str, float]:
    """From just after COMMIT returned to the worker having the job."""
    committed: dict[UUID, float] = {}
    begun, writing = time.monotonic(), []
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + number * every_s - time.monotonic()))
        writing.append(asyncio.create_task(_plan(db, committed)))
    await asyncio.gather(*writing)
    while any(job not in got for job in committed):
        await asyncio.sleep(0.01)
    waits = sorted((got[job] - at) * 1000 for job, at in committed.items())
    reached = count / (max(committed.values()) - begun)
    return {
        "p50": round(statistics.median(waits), 1),
        "p99": round(waits[int(0.99 * len(waits))], 1),
        "written_per_s": round(reached),
    }


async def _backlog(db: Database, got: dict[UUID, float], count: int) -> int:
    """Jobs a second that one dispatcher publishes and marks, from a backlog committed at once."""
    async with db.transaction() as tx:
        for _ in range(count):
            await jobs.plan(tx, KIND, Plan(kind=KIND.name, payload=Empty(), owner_id=uuid4()), "bench", None)
    begun, before = time.monotonic(), len(got)
    while len(got) < before + count:
        await asyncio.sleep(0.01)
    return round(count / (time.monotonic() - begun))


class _Told(events.Event, frozen=True, kw_only=True):
    type = "bench.told"


async def _costs(db: Database) -> dict[str, float]:
    """Microseconds a row of one UPDATE of a state: bare, with the guards, and with guards and an event beside it."""
    async with db.transaction() as tx:
        await tx.execute("CREATE TABLE bare (id uuid PRIMARY KEY, state text NOT NULL)")
        await tx.execute("CREATE TABLE guarded (id uuid PRIMARY KEY, state text NOT NULL)")
        await tx.execute("SELECT guard_states('guarded', 'bench')")
        for old, new in (("", "a"), ("a", "b"), ("b", "a")):
            await tx.execute("INSERT INTO transitions VALUES ('bench', $1, $2, NULL)", old, new)
        row = uuid4()
        for table in ("bare", "guarded"):
            await tx.execute(f"INSERT INTO {table} VALUES ($1, 'a')", row)
    rounds: dict[str, list[float]] = {"bare": [], "guarded": [], "guarded_and_event": []}
    for _ in range(7):
        for name, samples in rounds.items():
            samples.append(await _updates(db, name, row))
    return {name: round(statistics.median(samples), 1) for name, samples in rounds.items()}


async def _updates(db: Database, name: str, row: UUID, count: int = 500) -> float:
    table = "bare" if name == "bare" else "guarded"
    async with db.transaction() as tx:
        begun = time.perf_counter()
        for number in range(count):
            await tx.execute(f"UPDATE {table} SET state = $2 WHERE id = $1", row, "ab"[(number + 1) % 2])
            if name == "guarded_and_event":
                await events.append(tx, _Told(), aggregate_id=row, owner_id=None, origin=Origin(actor="system"))
        spent = time.perf_counter() - begun
        await tx.execute(f"UPDATE {table} SET state = 'a' WHERE id = $1 AND state <> 'a'", row)
    return spent / count * 1e6

"""The dispatcher: one a region hands due rows to the queue and looks after those that nobody answered.

Publish first, then mark: killed in between, the same message id is published again and the queue drops the second one.
Leadership is an advisory lock on a connection of its own; a second dispatcher waits as standby.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from prometheus_client import Gauge
from taskiq import BrokerMessage

from app.kernel import jobs
from app.kernel.db import CHANNEL, Database
from app.kernel.jobs import JobRow
from base import telemetry
from base.errors import ServiceUnavailable
from base.jobs import ENCODER, LANES, Job, Lane
from tasks.broker import LaneBroker
from tasks.queue import QUEUE_ERRORS, Queue

log = telemetry.logger(__name__)

LOOK_EVERY_S: Final = 1.0
CARE_EVERY_S: Final = 2.0
LOCK_SPACE: Final = 0x6469  # "di"

OLDEST: Final = Gauge("tirage_lane_oldest_seconds", "Age of the oldest due, unfinished job", ("region", "lane"))
DEPTH: Final = Gauge("tirage_lane_depth", "Unfinished jobs", ("region", "lane", "state"))
WAIT: Final = Gauge("tirage_lane_predicted_wait_seconds", "Queued jobs by the lane's recent pace", ("region", "lane"))


class Dispatcher:
    """Publishes the due jobs of one region."""

    def __init__(self, db: Database, queue: Queue, lanes: Sequence[Lane] = tuple(LANES.values())) -> None:
        self._db, self._queue, self._lanes = db, queue, lanes
        self._brokers = {lane.name: LaneBroker(queue, lane) for lane in lanes}
        self._woken = asyncio.Event()
        self._cared_at = self._back_at = -math.inf
        self._is_away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Lead or stand by until `stop`."""
        await self._queue.connect()
        while not stop.is_set():
            with contextlib.suppress(ServiceUnavailable, *QUEUE_ERRORS):
                async with self._leadership(stop) as leads:
                    if leads:
                        await self._lead(stop, leads)
            await _sleep(stop, 0.5)

    @contextlib.asynccontextmanager
    async def _leadership(self, stop: asyncio.Event) -> Any:
        """The connection that holds the region's lock and hears its wake-ups, or None while stopping."""
        connection = await self._db.connect()
        try:
            sql = "SELECT pg_try_advisory_lock($1, hashtext($2))"
            while not await connection.fetchval(sql, LOCK_SPACE, self._queue.region):
                await _sleep(stop, LOOK_EVERY_S)
                if stop.is_set():
                    yield None
                    return
            await connection.add_listener(CHANNEL, self._on_notify)
            yield connection
        finally:
            connection.terminate()

    def _on_notify(self, *received: object) -> None:
        if received[-1] == f"jobs:{self._queue.region}":
            self._woken.set()

    async def _lead(self, stop: asyncio.Event, connection: Any) -> None:
        log.info("dispatcher_leads", region=self._queue.region)
        self._cared_at = -math.inf
        while not stop.is_set() and not connection.is_closed():
            self._woken.clear()
            try:
                busy = await self.look()
            except ServiceUnavailable as error:
                log.warning("dispatcher_waits", region=self._queue.region, error=str(error))
                self._is_away = True
                await _sleep(stop, 0.5)
                continue
            if not busy:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), LOOK_EVERY_S)

    async def look(self) -> bool:
        """One look at every lane; whether anything was published."""
        if time.monotonic() - self._cared_at > CARE_EVERY_S:
            await self._care()
            self._cared_at = time.monotonic()
        counts = [await self._publish_due(lane) for lane in self._lanes]
        return any(counts)

    async def _publish_due(self, lane: Lane) -> int:
        async with self._db.transaction(readonly=True) as tx:
            rows = await jobs.due(tx, self._queue.region, lane.name, in_flight=lane.in_flight, per_owner=lane.per_owner)
            done = await jobs.steps_done(tx, [row.id for row in rows]) if rows else {}
        if not rows:
            return 0
        broker = self._brokers[lane.name]
        sent = await asyncio.gather(
            *(broker.kick(_message(row, done.get(row.id, ()))) for row in rows), return_exceptions=True
        )
        published = [row for row, failure in zip(rows, sent, strict=True) if failure is None]
        async with self._db.transaction() as tx:
            await jobs.mark_published(tx, published)
        if len(published) < len(rows):
            raise ServiceUnavailable("the queue does not take jobs")
        return len(published)

    async def _care(self) -> None:
        """Look after rows whose message is lost or too old, and tell how the lanes are."""
        region = self._queue.region
        try:
            created = await self._queue.ensure_jobs(self._lanes)
        except QUEUE_ERRORS as error:
            raise ServiceUnavailable("the queue does not answer") from error
        if self._is_away:
            self._is_away, self._back_at = False, time.monotonic()
        async with self._db.transaction() as tx:
            for lane in self._lanes:
                lost = await jobs.requeue_lost(tx, region, lane.name, created)
                stale = 0
                # What a region did while it was cut off is on its way: it has as long as if published now.
                if time.monotonic() - self._back_at > lane.republish_after_s:
                    stale = await jobs.requeue_stale(tx, region, lane.name, lane.republish_after_s)
                if lost or stale:
                    log.warning("jobs_published_again", lane=lane.name, lost=lost, stale=stale)
            for state in await jobs.survey(tx):
                _measure(state)


def _measure(state: jobs.LaneState) -> None:
    OLDEST.labels(state.region, state.lane).set(state.oldest_s)
    DEPTH.labels(state.region, state.lane, "queued").set(state.queued)
    DEPTH.labels(state.region, state.lane, "published").set(state.published)
    DEPTH.labels(state.region, state.lane, "parked").set(state.parked)
    WAIT.labels(state.region, state.lane).set(state.predicted_wait_s)


def _message(row: JobRow, done: tuple[str, ...]) -> BrokerMessage:
    job = Job(
        id=row.id,
        kind=row.kind,
        region=row.region,
        lane=row.lane,
        attempt=row.attempt,
        nonce=row.nonce,
        deadline=row.deadline,
        time_limit_s=row.time_limit_s,
        owner_id=row.owner_id,
        payload=row.payload,
        done=done,
        traceparent=row.traceparent,
        last_reason=row.last_reason,
    )
    return BrokerMessage(task_id=f"{row.id}:{row.attempt}", task_name=row.kind, message=ENCODER.encode(job), labels={})


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)

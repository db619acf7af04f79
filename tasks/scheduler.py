"""The scheduler: plans housekeeping by the clock. One leader; the dedupe key names the period, so two plan once.

It also sees when nobody does what is planned, since it needs neither a worker nor the queue.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from app.kernel import stalls
from app.kernel.db import Database
from app.kernel.jobs import Plan
from app.kernel.spine import Spine
from base import telemetry
from base.clock import Clock
from base.errors import ServiceUnavailable

log = telemetry.logger(__name__)

LOCK: Final = 0x7363  # "sc"
LOOK_EVERY_S: Final = 1.0
STALLS_EVERY_S: Final = 30.0

SCHEDULES: Final[dict[str, int]] = {
    # job kind: every so many seconds
    "prints.forget": 3_600,
    "webhooks.forget": 86_400,
    "events.partitions": 86_400,
    "uploads.expire": 300,
    "orders.expire": 60,
    "fulfilment.tend": 300,
    "quotes.expire": 300,
    "reconcile.run": 900,  # TIRAGE_RECONCILE_EVERY_S
    "uploads.reconcile": 60,
    "uploads.sweep": 3_600,
    "assets.empty_trash": 3_600,
    "edges.purge": 30,
    "retention.sweep": 3_600,
}


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a scheduled job: which period it is for, counted from the epoch."""

    number: int


class Scheduler:
    """Plans what is due in each period, once. `ticks` are seconds that only go forward."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        clock: Clock,
        schedules: Mapping[str, int],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._spine, self._clock, self._schedules, self._ticks = db, spine, clock, schedules, ticks
        self._stalls_at = math.inf
        self._planned: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Lead or stand by until `stop`."""
        while not stop.is_set():
            with contextlib.suppress(ServiceUnavailable):
                await self._try_to_lead(stop)
            await _sleep(stop)

    async def _try_to_lead(self, stop: asyncio.Event) -> None:
        connection = await self._db.connect()
        try:
            while not stop.is_set() and not connection.is_closed():
                if await connection.fetchval("SELECT pg_try_advisory_lock($1, 0)", LOCK):
                    self.leads()
                    while not stop.is_set() and not connection.is_closed():
                        await self.plan_due()
                        await self.look_for_stalls()
                        await _sleep(stop)
                await _sleep(stop)
        finally:
            connection.terminate()

    def leads(self) -> None:
        """From now on this one does it. What was late before, workers that were started with it may still take."""
        self._stalls_at = self._ticks() + stalls.LATE_S

    async def look_for_stalls(self) -> None:
        """See now and then whether a lane stands still."""
        if self._ticks() < self._stalls_at:
            return
        self._stalls_at = self._ticks() + STALLS_EVERY_S
        async with self._db.transaction() as tx:
            await stalls.look(tx)

    async def plan_due(self) -> list[str]:
        """Plan every kind whose period has begun and that this process has not planned yet; their names.

        A period whose job has already run is not planned again by a new leader: the key is remembered with the row.
        """
        now, planned = int(self._clock.now().timestamp()), []
        for kind, every in self._schedules.items():
            number = now // every
            if self._planned.get(kind) == number:
                continue
            async with self._db.transaction() as tx:
                if not await tx.value(RAN, f"{kind}@{number}"):
                    plan = Plan(kind=kind, payload=Period(number=number), dedupe=f"{kind}@{number}")
                    await self._spine.plan(tx, plan, cause=None)
                    planned.append(kind)
            self._planned[kind] = number
        return planned


RAN: Final = "SELECT EXISTS (SELECT FROM jobs WHERE dedupe_key = $1)"


async def _sleep(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)

"""Whether what we depend on elsewhere is there: edges, and the queues of regions. Silence becomes an alert.

Every process that watches asks by itself, each subject in a loop of its own. An alert is raised once when a subject has
been silent for `SILENCE_S`, and settled when it answers; the gauge tells the silence from its first second.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from prometheus_client import Gauge

from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Database
from base import telemetry
from base.errors import ServiceUnavailable

log = telemetry.logger(__name__)

EVERY_S: Final = 1.0
SILENCE_S: Final = 60
"""An edge or a server that is started anew is back long before."""
SILENT: Final = Gauge("tirage_silent_seconds", "Since an edge or a region's queue answered last", ("subject",))

Probe = Callable[[], Awaitable[object]]


class Reach:
    """Asks by `probes`, which raise `ServiceUnavailable`; subjects are `edge:URL` and `region:NAME`."""

    def __init__(self, db: Database, probes: Mapping[str, Probe], clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._probes, self._clock = db, probes, clock
        self._answered = dict.fromkeys(probes, clock())
        self._alerted: dict[str, bool] = {}  # a subject that is not in it may have an alert of an earlier process

    async def run(self, stop: asyncio.Event) -> None:
        """Ask every second until `stop`."""
        await asyncio.gather(*(self._watch(subject, stop) for subject in self._probes))

    async def _watch(self, subject: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(ServiceUnavailable):  # without a database the alert waits for the next look
                await self.look(subject)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_S)

    async def look(self, subject: str) -> None:
        """Ask once. Raises `ServiceUnavailable` when the alert could not be written; the next look does it."""
        try:
            await self._probes[subject]()
        except ServiceUnavailable as error:
            await self._silent(subject, str(error))
        else:
            self._answered[subject] = self._clock()
            SILENT.labels(subject).set(0)
            await self._back(subject)

    async def _silent(self, subject: str, detail: str) -> None:
        silent_s = self._clock() - self._answered[subject]
        SILENT.labels(subject).set(silent_s)
        if silent_s < SILENCE_S or self._alerted.get(subject):
            return
        async with self._db.transaction() as tx:
            await alerts.alert(tx, "out-of-reach", Severity.ERROR, subject, detail=detail)
        self._alerted[subject] = True

    async def _back(self, subject: str) -> None:
        if self._alerted.get(subject) is False:
            return
        async with self._db.transaction() as tx:
            await alerts.settle(tx, "out-of-reach", subject)
        if self._alerted.get(subject):
            log.info("in_reach_again", subject=subject)
        self._alerted[subject] = False

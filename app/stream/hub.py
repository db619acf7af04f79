"""Who of the open streams has news: one LISTEN connection a process, fan-out in memory.

The hub never carries events, it only wakes: each stream reads on from its own cursor, so a slow client, a lost NOTIFY
or a reconnect can delay an event but never lose one.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import Gauge

from app.kernel.db import CHANNEL, Database
from app.kernel.events import Cursor
from app.stream import store
from app.stream.errors import StreamsFull, TooManyStreams
from base import telemetry
from base.errors import ServiceUnavailable
from base.ids import OwnerId

log = telemetry.logger(__name__)

OPEN: Final = Gauge("tirage_event_streams_open", "Open event streams of this process")
TOPIC: Final = "events"
LOOK_S: Final = 1.0
"""How often to look without being woken: a lost NOTIFY, or a settled event behind a longer transaction."""
SETTLE_S: Final = (0.005, 0.02, 0.05, 0.1, 0.2)
"""After a wake-up that showed nothing settled yet, when to look again."""


class Hub:
    """The open streams of this process."""

    def __init__(self, db: Database, per_owner: int, in_all: int) -> None:
        self._db, self._per_owner, self._in_all = db, per_owner, in_all
        self._streams: dict[OwnerId, set[asyncio.Event]] = {}
        self._count = 0
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False

    async def start(self) -> None:
        """Begin to listen."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        """End every stream and stop listening."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """Let every open stream say goodbye and end; new ones are refused."""
        self.draining = True
        for events in self._streams.values():
            for event in events:
                event.set()

    @contextlib.contextmanager
    def subscribed(self, owner_id: OwnerId) -> Iterator[asyncio.Event]:
        """An event that is set whenever the owner has news. Raises `TooManyStreams` or `StreamsFull`."""
        if self.draining or self._count >= self._in_all:
            raise StreamsFull()
        mine = self._streams.setdefault(owner_id, set())
        if len(mine) >= self._per_owner:
            raise TooManyStreams()
        event = asyncio.Event()
        mine.add(event)
        self._count += 1
        OPEN.inc()
        try:
            yield event
        finally:
            mine.discard(event)
            self._count -= 1
            OPEN.dec()
            if not mine:
                self._streams.pop(owner_id, None)

    async def _listen(self) -> None:
        while True:
            lost = asyncio.Event()
            connection = None
            try:
                connection = await self._db.connect()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, self._told)
                self._woken.set()
                await lost.wait()
                log.warning("event_listener_lost")
            except ServiceUnavailable:
                await asyncio.sleep(LOOK_S)
            finally:
                if connection is not None and not connection.is_closed():
                    connection.terminate()

    def _told(self, _connection: Any, _pid: int, _channel: str, topic: str) -> None:
        if topic == TOPIC:
            self._woken.set()

    async def _look(self) -> None:
        seen: Cursor | None = None
        while True:
            notified = await self._wait(LOOK_S)
            if not self._streams:
                seen = None
                continue
            try:
                seen = await self._spread(seen, SETTLE_S if notified else ())
            except ServiceUnavailable:
                await asyncio.sleep(LOOK_S)

    async def _wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def _spread(self, seen: Cursor | None, again: tuple[float, ...]) -> Cursor:
        """Wake the streams whose owners have news; while nothing is settled, look `again` a few times."""
        until, found = await self._news(seen)
        for pause in again:
            if found or seen is None:
                break
            await asyncio.sleep(pause)
            until, found = await self._news(seen)
        for owner_id in found:
            for event in self._streams.get(owner_id, ()):
                event.set()
        return until

    async def _news(self, seen: Cursor | None) -> tuple[Cursor, list[OwnerId]]:
        owners = list(self._streams)
        async with self._db.reading() as db:
            until, _ = await store.latest(db)
            if seen is None:
                return until, owners
            if until == seen:
                return until, []
            return until, await store.owners_with_news(db, seen, until, owners)

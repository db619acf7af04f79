"""Reading an owner's events: a page at a time, or as they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from app.kernel.db import Database
from app.kernel.events import Cursor, OwnersEvents
from app.stream import store
from app.stream.domain import BEGINNING, Passed, Told, pass_on, read_cursor, spell
from app.stream.hub import Hub
from base.clock import Clock
from base.errors import ServiceUnavailable
from base.ids import OwnerId

LATEST: Final = "latest"
BATCH: Final = 100


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events in order, the cursor after them, and whether more are waiting."""

    events: list[Told]
    cursor: str
    more: bool


class Beat(msgspec.Struct, frozen=True):
    """Nothing happened for a while; the stream is alive."""


class Bye(msgspec.Struct, frozen=True):
    """The stream ends by our will; come again after `retry_ms`."""

    retry_ms: int


class StreamService:
    """An owner's events."""

    def __init__(self, db: Database, hub: Hub, clock: Clock, beat_s: int) -> None:
        self._db, self.hub, self._clock, self._beat_s = db, hub, clock, beat_s
        self._events: OwnersEvents[list[Passed]] = OwnersEvents(db, lambda found: [pass_on(event) for event in found])

    async def page(self, owner_id: OwnerId, after: str | None, limit: int) -> Page:
        """Events after a cursor (none: from the beginning; `latest`: from now on).

        Raises `CursorMalformed`, `EventsGone`.
        """
        cursor = self._cursor(after)
        # Looked at before the read: when the read finds nothing, nothing before this point is missing, and the reader
        # goes on from here, so that its cursor stays young.
        async with self._db.reading() as db:
            newest, now = await store.latest(db)
        found = [] if cursor is None else await self._events.read(owner_id, cursor, limit)
        if not found:
            return Page(events=[], cursor=spell(max(cursor or newest, newest), now), more=False)
        last = found[-1]
        told = [event.told for event in found if event.told is not None]
        return Page(events=told, cursor=spell(last.cursor, last.occurred_at), more=len(found) == limit)

    async def follow(self, owner_id: OwnerId, after: str | None, until: int) -> AsyncIterator[Told | Beat | Bye]:
        """Events as they come, until the moment `until` (the token's end, seconds since 1970) or our own end.

        Raises as `page`, and `TooManyStreams` or `StreamsFull`, before the first item.
        """
        cursor = self._cursor(after)
        with self.hub.subscribed(owner_id) as news:
            if cursor is None:
                async with self._db.reading() as db:
                    cursor, _ = await store.latest(db)
            yield Beat()
            while not self.hub.draining and self._clock.now().timestamp() < until:
                news.clear()
                try:
                    found = await self._events.read(owner_id, cursor, BATCH)
                except ServiceUnavailable:
                    break
                for event in found:
                    cursor = event.cursor
                    if event.told is not None:
                        yield event.told
                # A long replay must let others run, and let a gone client end it.
                await asyncio.sleep(0)
                if len(found) < BATCH and not await self._news(news):
                    yield Beat()
            yield Bye(retry_ms=1000)

    async def _news(self, news: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._beat_s):
                await news.wait()
        except TimeoutError:
            return False
        return True

    def _cursor(self, after: str | None) -> Cursor | None:
        if after == LATEST:
            return None
        return BEGINNING if not after else read_cursor(after, self._clock.now())

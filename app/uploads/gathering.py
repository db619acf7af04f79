"""A session's blocks become parts, by one process at a time.

Two at once would each send the parts that the other sends. S3 counts the last; SeaweedFS 4.48 lost a part of 3 in 75
objects that four put together at once. So there are turns, kept in the row; one that is not given back, because its
process died, ends by itself.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from app.kernel.db import Database
from app.uploads import store
from app.uploads.domain import Upload
from app.uploads.storage import UploadStorage
from base.errors import ServiceUnavailable

LOOKS: Final = 20
PAUSE_S: Final = 0.1
WORK_S: Final = 60
TURN: Final = timedelta(seconds=150)
"""Longer than the work and what the store's client may still be sending when that was stopped."""


class Gathering:
    """Takes turns in the whole cluster."""

    def __init__(self, db: Database, storage: UploadStorage) -> None:
        self._db, self._storage = db, storage
        self._working: set[asyncio.Task[bool]] = set()

    async def assemble(self, upload: Upload) -> bool:
        """`UploadStorage.assemble` in a turn; it goes on to its end though the caller is cancelled.

        Raises `ServiceUnavailable` while others have the turn, and when the work takes too long: what was made stays.
        """
        for _ in range(LOOKS):
            async with self._db.transaction() as tx:
                until = await store.take_turn(tx, upload.id, TURN)
            if until is not None:
                task = asyncio.create_task(self._work(upload, until))
                self._working.add(task)
                task.add_done_callback(self._ended)
                return await asyncio.shield(task)
            await asyncio.sleep(PAUSE_S)
        raise ServiceUnavailable("this upload is being put together")

    async def _work(self, upload: Upload, until: datetime) -> bool:
        try:
            async with asyncio.timeout(WORK_S):
                done = await self._storage.assemble(upload)
        except TimeoutError as error:  # something may still be on its way to the store, so the turn is not given back
            raise ServiceUnavailable("this upload is being put together") from error
        except Exception:
            await self._give_back(upload, until)
            raise
        await self._give_back(upload, until)
        return done

    async def _give_back(self, upload: Upload, until: datetime) -> None:
        async with self._db.transaction() as tx:
            await store.end_turn(tx, upload.id, until)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may

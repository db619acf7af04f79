"""A session's blocks become parts, by one process at a time.

Two at once would each send the parts that the other sends. S3 counts the last; SeaweedFS 4.48 lost a part of 3 in 75
objects that four put together at once. So there are turns, kept in the row, which whoever works renews; the turn of a
process that died ends by itself.
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
TURN: Final = timedelta(seconds=12)
RENEW_S: Final = 3


class Gathering:
    """Takes turns in the whole cluster."""

    def __init__(self, db: Database, storage: UploadStorage) -> None:
        self._db, self._storage = db, storage
        self._working: set[asyncio.Task[bool]] = set()

    async def assemble(self, upload: Upload, over: bool = False) -> bool:
        """`UploadStorage.assemble` in a turn; it goes on to its end though the caller is cancelled.

        Raises `ServiceUnavailable` while others have the turn.
        """
        for _ in range(LOOKS):
            async with self._db.transaction() as tx:
                until = await store.take_turn(tx, upload.id, TURN)
            if until is not None:
                task = asyncio.create_task(self._work(upload, over, until))
                self._working.add(task)
                task.add_done_callback(self._ended)
                return await asyncio.shield(task)
            await asyncio.sleep(PAUSE_S)
        raise ServiceUnavailable("this upload is being put together")

    async def _work(self, upload: Upload, over: bool, until: datetime) -> bool:
        work = asyncio.ensure_future(self._storage.assemble(upload, over))
        while not (await asyncio.wait({work}, timeout=RENEW_S))[0]:
            renewed = await self._renewed(upload, until)
            if renewed is None:  # we hung for longer than the turn lasts
                work.cancel()
                raise ServiceUnavailable("another process puts this upload together")
            until = renewed
        async with self._db.transaction() as tx:
            await store.end_turn(tx, upload.id, until)
        return work.result()

    async def _renewed(self, upload: Upload, until: datetime) -> datetime | None:
        try:
            async with self._db.transaction() as tx:
                return await store.renew_turn(tx, upload.id, until, TURN)
        except ServiceUnavailable:  # nobody else can take it either
            return until

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may

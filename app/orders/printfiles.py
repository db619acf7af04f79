"""Print files after the print: nobody can remove one while it is locked; then it goes, and its proof stays."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from app.kernel.db import Database, Transaction
from app.kernel.erasers import Kept
from app.orders import store
from app.orders.domain import PrintFile
from base import ids, printing, telemetry
from base.clock import Clock
from base.objects import ObjectLocked, Sites

log = telemetry.logger(__name__)

NEEDED: Final = timedelta(days=210)
"""After the printer is done: on its way for a month, then 180 days in which somebody may complain."""
BATCH: Final = 200


class PrintFiles:
    """The use cases of stored print files."""

    def __init__(self, db: Database, sites: Sites, clock: Clock) -> None:
        self._db, self._sites, self._clock = db, sites, clock

    async def kept_of(self, tx: Transaction, owner_id: UUID) -> tuple[Kept, ...]:
        """An owner's files that are locked, each until when; one that a worker makes just now will be locked so long
        at most."""
        stored = await store.print_files_of(tx, owner_id)
        latest = self._clock.now() + timedelta(days=printing.LOCK_DAYS + 1)
        coming = [(line, latest) for line in await store.files_being_made(tx, owner_id)]
        return tuple(
            Kept(
                what=f"print-file-of-{ids.encode('order_line', line)}",
                reason="locked-against-removal",
                until=f"{until + timedelta(days=1):%Y-%m-%d}",
            )
            for line, until in (*stored, *coming)
        )

    async def sweep(self) -> int:
        """Remove what is locked no more and needed no more, an erased person's at once; how many."""
        now = self._clock.now()
        async with self._db.reading() as db:
            found = await store.removable(db, now, now - NEEDED, BATCH)
        return sum([await self._remove(file) for file in found])

    async def _remove(self, file: PrintFile) -> bool:
        site = self._sites.at(file.region)
        bucket = site.buckets.masters
        try:
            await site.store.delete_version(bucket, file.key, file.version)
        except ObjectLocked:
            until = await site.store.locked_until(bucket, file.key, file.version)
            if until is None:  # refused for another reason: it stays, and so does what we know of it
                log.error("print_file_not_removed", key=file.key)
                return False
            async with self._db.transaction() as tx:
                await store.relock(tx, file, until)
            return False
        async with self._db.transaction() as tx:
            await store.removed(tx, file)
        return True

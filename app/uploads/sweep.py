"""What happens to bytes behind the scenes: blocks become objects, and what storage holds for nobody is removed.

A sweep looks at four kinds of orphans: multipart uploads that no open session claims, blocks of sessions that need
none, originals, ancestors and derivatives of assets that are not there or not living. It goes through each bucket by
pages and remembers where it stopped. Young things are left alone: their row may be about to be written; so is what
our names do not fit.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.assets.service import Assets
from app.kernel.db import Database, Transaction
from app.kernel.persons import PersonErased
from app.kernel.spine import Spine
from app.uploads import store
from app.uploads.domain import Upload, UploadState, needs_bytes
from app.uploads.ending import end_erased
from app.uploads.errors import UploadExpiredGone, UploadIncomplete, UploadNotOpen, UploadStorageLost
from app.uploads.planning import Assemble, ingest_of
from app.uploads.service import LOOKS, UNFINISHED_AFTER, Uploads
from app.uploads.storage import key_of
from base import ids, telemetry
from base.clock import Clock
from base.errors import ServiceUnavailable
from base.ids import MalformedId, OwnerId, UploadId
from base.objects import ObjectStore, Site, Sites, Stored

log = telemetry.logger(__name__)

YOUNG: Final = timedelta(hours=1)
PAGE: Final = 1000
PAGES: Final = 50
NO_ID: Final = UUID(int=0)

Finish = Callable[[Transaction], Awaitable[None]]


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """How many orphans of each kind a sweep removed."""

    multiparts: int = 0
    blocks: int = 0
    objects: int = 0

    def with_(self, other: "Swept") -> "Swept":
        """Both together."""
        return Swept(
            multiparts=self.multiparts + other.multiparts,
            blocks=self.blocks + other.blocks,
            objects=self.objects + other.objects,
        )


class Sweeper:
    """The use cases of record workers on the bytes of uploads."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        sites: Sites,
        assets: Assets,
        uploads: Uploads,
        clock: Clock,
    ) -> None:
        self._db, self._spine, self._sites = db, spine, sites
        self._assets, self._uploads, self._clock = assets, uploads, clock

    async def assemble(self, wanted: Assemble, finish: Finish) -> None:
        """Make one object of a session's blocks unless it has one, have it looked at, drop them; again is harmless."""
        async with self._db.transaction(readonly=True) as tx:
            upload = await store.get_any(tx, wanted.upload_id)
        if upload is None or upload.state is not UploadState.VERIFYING:
            return
        if upload.by_blocks or not await self._uploads.storage.is_committed(upload):
            await self._put_together(upload)
        async with self._db.transaction() as tx:
            current = await store.lock(tx, upload.id, upload.owner_id)
            if current is not None and current.state is UploadState.VERIFYING:  # not erased meanwhile
                await self._spine.plan(tx, ingest_of(upload), cause=None)
            await finish(tx)
        await self._uploads.storage.drop_blocks(upload)

    async def _put_together(self, upload: Upload) -> None:
        """Of blocks alone over what came to the key after the completion, by an upload that nobody has addresses of.

        Otherwise a process of the build before completed the session, and left parts and blocks to be made one.
        Raises `ServiceUnavailable`, also while another does it.
        """
        for _ in range(LOOKS):
            upload = await self._uploads.with_storage(upload)
            if await self._uploads.gathering.assemble(upload, over=upload.by_blocks):
                return
            if (await self._uploads.storage.see(upload)).lost:
                upload = await self._uploads.forget_storage(upload)
        raise ServiceUnavailable("storage loses what is put together")

    async def reconcile(self, limit: int = 100) -> int:
        """Finish what somebody began to complete and did not end (the process died, the answer never came).

        Up to `limit` in every region; one that cannot be reached keeps its own till later. How many were looked at.
        """
        before, looked = self._clock.now() - UNFINISHED_AFTER, 0
        for region in self._sites.names:
            async with self._db.transaction(readonly=True) as tx:
                found = await store.unfinished(tx, region, before, limit)
            if found and await self._is_reachable(region):
                for upload_id, owner_id, noted in found:
                    await self._finish(upload_id, owner_id, noted)
                looked += len(found)
        return looked

    async def _is_reachable(self, region: str) -> bool:
        site = self._sites.at(region)
        try:
            await site.store.ping(site.buckets.originals)
        except ServiceUnavailable as error:
            log.warning("region_not_reconciled", region=region, detail=str(error))
            return False
        return True

    async def _finish(self, upload_id: UploadId, owner_id: OwnerId, noted: datetime) -> None:
        try:
            await self._uploads.finish(owner_id, upload_id)
        except (UploadIncomplete, UploadStorageLost):
            async with self._db.transaction() as tx:
                await store.reopen(tx, upload_id, noted)
        except (UploadNotOpen, UploadExpiredGone, PersonErased):
            return  # it was ended meanwhile
        except ServiceUnavailable as error:
            log.warning("upload_not_reconciled", upload=ids.encode("upload", upload_id), detail=str(error))

    async def sweep(self, young: timedelta = YOUNG) -> Swept:
        """Remove orphans older than `young` in every region; one that cannot be reached keeps its own till later."""
        before, swept = self._clock.now() - young, Swept()
        await self._end_stranded()
        for region in self._sites.names:
            try:
                found = await self._sweep_site(self._sites.at(region), before)
            except ServiceUnavailable as error:
                log.warning("region_not_swept", region=region, detail=str(error))
                continue
            swept = swept.with_(found)
        log.info("uploads_swept", multiparts=swept.multiparts, blocks=swept.blocks, objects=swept.objects)
        return swept

    async def _end_stranded(self) -> None:
        """End sessions that still wait for an asset that is dead; what they left is removed by the jobs it causes."""
        after = NO_ID
        while True:
            async with self._db.transaction() as tx:
                page = await store.verifying(tx, after, PAGE)
                for asset_id in page.values():
                    if not await self._assets.is_living(tx, asset_id):
                        await end_erased(self._spine, tx, asset_id)
            if len(page) < PAGE:
                return
            after = max(page)

    async def _sweep_site(self, site: Site, before: datetime) -> Swept:
        kept = site.buckets
        return Swept(
            multiparts=await self._sweep_multiparts(site, before),
            blocks=await self._walk(site.store, kept.staging, before, self._idle_blocks),
            objects=sum(
                [
                    await self._walk(site.store, bucket, before, self._ownerless)
                    for bucket in (kept.originals, kept.ancestors, kept.derivatives)
                ]
            ),
        )

    async def _sweep_multiparts(self, site: Site, before: datetime) -> int:
        removed, originals = 0, site.buckets.originals
        for found in await site.store.multiparts(originals):
            if found.modified >= before or found.upload is None:
                continue
            asset_id = _named(found.key, "asset")
            if asset_id is not None and not await self._claims(asset_id, found):
                await site.store.abort_multipart(originals, found.key, found.upload)
                removed += 1
        return removed

    async def _claims(self, asset_id: UUID, found: Stored) -> bool:
        async with self._db.transaction(readonly=True) as tx:
            upload = await store.get_any(tx, asset_id)
        if upload is None or key_of(upload) != found.key:
            return False
        return needs_bytes(upload, self._clock.now()) and upload.storage_id == found.upload

    async def _walk(
        self,
        objects: ObjectStore,
        bucket: str,
        before: datetime,
        orphans: Callable[[list[Stored]], Awaitable[list[str]]],
    ) -> int:
        """One stretch through a bucket, from where the last one ended; begins again after the end."""
        removed, after = 0, await self._cursor(bucket)
        for _ in range(PAGES):
            page = await objects.listing(bucket, "", after, PAGE)
            for key in await orphans([entry for entry in page if entry.modified < before]):
                await objects.delete(bucket, key)
                removed += 1
            after = page[-1].key if len(page) == PAGE else ""
            if not after:
                break
        async with self._db.transaction() as tx:
            await store.move_sweep(tx, bucket, after)
        return removed

    async def _cursor(self, bucket: str) -> str:
        async with self._db.transaction(readonly=True) as tx:
            return await store.sweep_cursor(tx, bucket)

    async def _idle_blocks(self, page: list[Stored]) -> list[str]:
        """Blocks of sessions that are not there, or need none any more."""
        named = {entry.key: _named(entry.key, "upload") for entry in page}
        needed = set()
        async with self._db.transaction(readonly=True) as tx:
            for upload_id in _distinct(named.values()):
                upload = await store.get_any(tx, upload_id)
                if upload is not None and needs_bytes(upload, self._clock.now()):
                    needed.add(upload_id)
        return [key for key, upload_id in named.items() if upload_id is not None and upload_id not in needed]

    async def _ownerless(self, page: list[Stored]) -> list[str]:
        """Objects of assets that neither live nor are being sent."""
        named = {entry.key: _named(entry.key, "asset") for entry in page}
        needed = set()
        async with self._db.transaction(readonly=True) as tx:
            for asset_id in _distinct(named.values()):
                upload = await store.get_any(tx, asset_id)
                sending = upload is not None and needs_bytes(upload, self._clock.now())
                if sending or await self._assets.is_living(tx, asset_id):
                    needed.add(asset_id)
        return [key for key, asset_id in named.items() if asset_id is not None and asset_id not in needed]


def _named(key: str, kind: str) -> UUID | None:
    """The id that a key begins with."""
    try:
        return ids.decode(kind, key.partition("/")[0])
    except MalformedId:
        return None


def _distinct(found: Iterable[UUID | None]) -> set[UUID]:
    return {one for one in found if one is not None}

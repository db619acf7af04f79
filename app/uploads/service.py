"""Uploads: a session, an address for the bytes, and a completion that may be asked for again and again."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.assets.domain import AssetState, Brought
from app.assets.service import Assets
from app.kernel import jobs, quotas
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin
from app.kernel.jobs import JobRow
from app.kernel.persons import PersonErased, PersonKeys
from app.kernel.spine import Spine
from app.uploads import plan, store
from app.uploads.domain import (
    GRACE,
    HAS_BYTES,
    Declared,
    Progress,
    Upload,
    UploadAborted,
    UploadExpired,
    UploadOpened,
    UploadRevived,
    UploadState,
    UploadVerifying,
    needs_bytes,
    opened,
    progress_of,
)
from app.uploads.ending import SYSTEM, settle
from app.uploads.errors import (
    UploadExpiredGone,
    UploadIncomplete,
    UploadNotFound,
    UploadNotOpen,
    UploadReferenceReused,
    UploadStorageLost,
    UploadsUnfinished,
    UploadTooLarge,
)
from app.uploads.gathering import Gathering
from app.uploads.planning import Clean, cleaning
from app.uploads.settings import UploadLimits
from app.uploads.storage import PartAddress, Seen, UploadStorage
from base import ids, ingest
from base.clock import Clock
from base.errors import InvalidInput, ServiceUnavailable
from base.ids import AssetId, OwnerId, UploadId
from base.jobs import Outcome, Result
from base.objects import ObjectAbsent, Sites
from base.regions import Policy

MAX_BYTES: Final = 200 * 1024 * 1024
LIFETIME: Final = timedelta(days=7)
UNFINISHED_AFTER: Final = timedelta(seconds=60)
LOOKS: Final = 3
PATIENCE: Final = 20
PAUSE_S: Final = 0.1
PARTS_AT_ONCE: Final = 16
OWNER: Final = Origin(actor="owner")
VALIDATE: Final = "validate"


class Uploads:
    """The use cases of upload sessions."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        persons: PersonKeys,
        sites: Sites,
        assets: Assets,
        clock: Clock,
        policy: Policy,
        limits: UploadLimits,
    ) -> None:
        self._persons = persons
        self._db, self._spine, self._sites, self._policy = db, spine, sites, policy
        self._assets, self._clock, self._limits = assets, clock, limits
        self.storage = UploadStorage(sites)
        self.gathering = Gathering(db, self.storage)

    async def open(self, tx: Transaction, owner_id: OwnerId, declared: Declared) -> Upload:
        """Open a session in the caller's transaction; the same client reference gives the living session again.

        Raises `UploadTooLarge`, `UploadReferenceReused`, `QuotaExceeded`, `UploadsUnfinished`.
        """
        if declared.bytes > MAX_BYTES:
            raise UploadTooLarge(MAX_BYTES)
        upload_id, asset_id = UploadId(ids.new_id()), AssetId(ids.new_id())
        expires_at = self._clock.now() + LIFETIME
        rate = await store.latest_rate(tx, owner_id) or declared.bytes_per_second
        cut, region = plan.part_size(rate), self._policy.near(declared.country, self._spine.region)
        if not await store.insert(tx, upload_id, owner_id, asset_id, declared, cut, rate, expires_at, region):
            return await self._twin(tx, owner_id, declared)
        for quota, units in zip(self._limits.quotas, (1, declared.bytes), strict=True):
            await quotas.spend(tx, owner_id, quota, units)
        await self._within_ceiling(tx, owner_id)
        await self._spine.record(
            tx,
            UploadOpened(upload_id=upload_id, asset_id=asset_id, bytes=declared.bytes),
            aggregate_id=upload_id,
            owner_id=owner_id,
            origin=OWNER,
        )
        made = await store.get(tx, upload_id, owner_id)
        assert made is not None
        return made

    async def _within_ceiling(self, tx: Transaction, owner_id: OwnerId) -> None:
        """Refuse a session that was just opened; whoever spends the quota of sessions waits here for others."""
        if await store.open_bytes(tx, owner_id) > self._limits.bytes_open:
            raise UploadsUnfinished(self._limits.bytes_open)

    async def create(self, owner_id: OwnerId, declared: Declared) -> Upload:
        """`open` in a transaction of its own, for the face that has no idempotency keys; raises `PersonErased`."""
        async with self._db.transaction() as tx:
            await self._persons.hold(tx, owner_id)
            return await self.open(tx, owner_id, declared)

    async def _twin(self, tx: Transaction, owner_id: OwnerId, declared: Declared) -> Upload:
        assert declared.client_reference is not None
        twin = await store.by_reference(tx, owner_id, declared.client_reference)
        if twin is None or not declared.agrees(twin):
            raise UploadReferenceReused()
        return twin

    async def get(self, owner_id: OwnerId, upload_id: UUID) -> Progress:
        """An owner's session and what of it storage holds; raises `UploadNotFound`."""
        upload = await self.owned(owner_id, upload_id)
        if upload.state is not UploadState.OPEN:
            return progress_of(upload)
        upload, seen = await self.see(upload)
        return progress_of(upload, seen.held)

    async def see(self, upload: Upload) -> tuple[Upload, Seen]:
        """A session that was open and what storage holds of it; a multipart upload that is lost is forgotten.

        One that somebody is just putting together is gone a moment before its object is seen: that is waited for.
        """
        for _ in range(PATIENCE):
            seen = await self.storage.see(upload)
            if not seen.lost or not seen.held.gaps:
                return upload, seen
            upload = await self.owned(upload.owner_id, upload.id)
            if upload.state is not UploadState.OPEN:
                return upload, seen
            if upload.completing_at is None or upload.completing_at < self._clock.now() - UNFINISHED_AFTER:
                break
            await asyncio.sleep(PAUSE_S)
        else:
            raise ServiceUnavailable("storage does not say yet whether the parts were put together")
        return await self.forget_storage(upload), seen

    async def forget_storage(self, upload: Upload) -> Upload:
        """The session without its multipart upload."""
        async with self._db.transaction() as tx:
            await store.claim_storage(tx, upload, None)
        return msgspec.structs.replace(upload, storage_id=None)

    async def parts(
        self, owner_id: OwnerId, upload_id: UUID, wanted: Sequence[plan.WantedPart] = ()
    ) -> tuple[Progress, list[PartAddress]]:
        """Addresses for the wanted parts, or for the first that are missing; none once all is there.

        Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`, `InvalidInput`.
        """
        upload = opened(await self.owned(owner_id, upload_id))
        count = plan.part_count(upload.part_bytes, upload.bytes)
        if any(part.number > count for part in wanted):
            raise InvalidInput(f"this upload has {count} parts", field="parts")
        seen = Seen(held=plan.Held(size=upload.bytes, part_bytes=upload.part_bytes))
        if upload.storage_id is not None or upload.appended:
            upload, seen = await self.see(upload)
        progress = progress_of(opened(upload), seen.held)
        missing = seen.held.missing_parts[:PARTS_AT_ONCE]
        chosen = wanted or [plan.WantedPart(number=number, sha256=None) for number in missing]
        if seen.held.whole or not chosen:
            return progress, []
        upload = opened(await self.with_storage(upload))
        assert upload.storage_id is not None
        found = [self.storage.address(upload, upload.storage_id, part.number, part.sha256) for part in chosen]
        return progress, found

    async def with_storage(self, upload: Upload) -> Upload:
        """The session with a multipart upload: its own, or a new one, of which two at once make one."""
        if upload.storage_id is not None:
            return upload
        made = await self.storage.begin(upload)
        async with self._db.transaction() as tx:
            claimed = await store.claim_storage(tx, upload, made)
            found = await store.get_any(tx, upload.id)
        if not claimed:
            await self.storage.abandon(upload, made)
        if found is None or found.storage_id is None:
            raise UploadNotOpen()
        return found

    async def arrived(self, owner_id: OwnerId, upload_id: UUID) -> None:
        """Make sure, outside any transaction, that an open session's bytes are in storage, as one object if they can.

        The client is never believed; again and at once is harmless. Raises `UploadNotFound`, `UploadExpiredGone`,
        `UploadNotOpen`, `UploadIncomplete`, `UploadStorageLost`, `ServiceUnavailable`.
        """
        upload = await self.owned(owner_id, upload_id)
        if upload.state in HAS_BYTES:
            return
        for _ in range(LOOKS):
            upload, seen = await self.see(opened(upload))
            if upload.state in HAS_BYTES:
                return
            if seen.lost and seen.held.gaps:
                raise UploadStorageLost()
            if seen.held.gaps:
                raise UploadIncomplete([(gap.first, gap.end - 1) for gap in seen.held.gaps])
            by_blocks = bool(seen.held.unsent_parts) and seen.held.is_line
            async with self._db.transaction() as tx:
                await store.journal(tx, upload, by_blocks, seen.latest)
            if by_blocks:
                await self._close_addresses(upload)
                return
            if await self._as_one(upload, seen):
                return
        raise UploadIncomplete()

    async def _as_one(self, upload: Upload, seen: Seen) -> bool:
        """Make one object of parts, and of blocks that fill the gaps between them; False: look again."""
        if not seen.held.unsent_parts:
            return await self.storage.commit(upload, seen)
        upload = await self.forget_storage(upload) if seen.lost else upload
        try:
            return await self.gathering.assemble(await self.with_storage(upload))
        except ObjectAbsent:  # the next look says what is missing
            return False

    async def _close_addresses(self, upload: Upload) -> None:
        """Let no address be good for anything: the blocks are the file."""
        if upload.storage_id is not None:
            await self.forget_storage(upload)
            await self.storage.abandon(upload, upload.storage_id)

    async def finish(self, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """`arrived` and `complete` in one, for faces that have no call of their own for it; raises `PersonErased`."""
        await self.arrived(owner_id, upload_id)
        async with self._db.transaction() as tx:
            await self._persons.hold(tx, owner_id)
            return await self.complete(tx, owner_id, upload_id)

    async def complete(self, tx: Transaction, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """Turn a session whose bytes have `arrived` into an asset; asked again, the same answer.

        They are its blocks if those alone are the file, else its object: what comes later changes neither (ADR 0018).
        Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`.
        """
        upload = await store.lock(tx, upload_id, owner_id)
        if upload is None:
            raise UploadNotFound()
        if upload.state in HAS_BYTES:
            return upload
        opened(upload)
        if upload.by_blocks:
            renewed = await store.renew(tx, upload.id)
            upload = msgspec.structs.replace(upload, token=renewed, storage_id=None, received_sha256=None)
        told = UploadVerifying(upload_id=upload.id, asset_id=upload.asset_id)
        await store.transition(tx, self._spine, upload, UploadState.VERIFYING, told, OWNER)
        brought = Brought(
            upload_id=upload.id, region=upload.region, bytes=upload.bytes, declared_type=upload.content_type
        )
        await self._assets.create(tx, upload.asset_id, owner_id, brought)
        return msgspec.structs.replace(upload, state=UploadState.VERIFYING)

    async def abort(self, owner_id: OwnerId, upload_id: UUID) -> None:
        """Give a session up; its bytes are removed. Raises `UploadNotFound`, `UploadNotOpen`."""
        async with self._db.transaction() as tx:
            upload = await store.lock(tx, upload_id, owner_id)
            if upload is None:
                raise UploadNotFound()
            if upload.state is UploadState.ABORTED:
                return
            opened(upload)
            await store.transition(
                tx, self._spine, upload, UploadState.ABORTED, UploadAborted(upload_id=upload.id), OWNER
            )

    async def revive(self, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """Open an expired session again within the grace time, counted as open bytes and as no new session.

        Raises `UploadNotFound`, `UploadNotOpen`, `UploadExpiredGone`, `UploadReferenceReused`, `UploadsUnfinished`.
        """
        now = self._clock.now()
        async with self._db.transaction() as tx:
            upload = await store.lock(tx, upload_id, owner_id)
            if upload is None:
                raise UploadNotFound()
            if upload.state is UploadState.OPEN:
                return upload
            if upload.state is not UploadState.EXPIRED:
                raise UploadNotOpen()
            if upload.expires_at + GRACE < now:
                raise UploadExpiredGone()
            reference = upload.client_reference
            if reference is not None and await store.by_reference(tx, owner_id, reference) is not None:
                raise UploadReferenceReused()
            await store.set_expiry(tx, upload.id, now + LIFETIME)
            told = UploadRevived(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.OPEN, told, OWNER)
            await quotas.spend(tx, owner_id, self._limits.quotas[0], 0)
            await self._within_ceiling(tx, owner_id)
            return msgspec.structs.replace(upload, state=UploadState.OPEN, expires_at=now + LIFETIME)

    async def expire_overdue(self, tx: Transaction, limit: int = 500) -> int:
        """Expire sessions whose time is over."""
        overdue = await store.overdue(tx, self._clock.now(), limit)
        for upload in overdue:
            told = UploadExpired(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.EXPIRED, told, SYSTEM)
        return len(overdue)

    async def apply_ingest(self, tx: Transaction, job: JobRow, result: Result) -> Outcome | None:
        """Apply one answer of a pixel worker to the asset and to the session that brought it.

        What was found to be a photo stays one, though a worker could not go on with it: its job is set aside (LOST).
        """
        told = msgspec.json.decode(job.payload, type=ingest.Ingest)
        asset = await self._assets.apply_step(tx, ids.decode("asset", told.asset), job, result)
        upload = await store.lock_by_asset(tx, asset.id)
        if upload is not None and upload.state is UploadState.VERIFYING:
            await settle(self._spine, tx, upload, asset, result)
        if asset.state is AssetState.ERASED:
            await jobs.forget(tx, job.id)
        if asset.state is AssetState.ERASED or (asset.state is AssetState.DUPLICATE and result.step != VALIDATE):
            await self.undo_late(tx, asset.id, job, result)
        unfinished = result.outcome is Outcome.REFUSED and asset.state in (
            AssetState.PROCESSING,
            AssetState.PREVIEW_READY,
        )
        return Outcome.LOST if unfinished else None

    async def undo_late(self, tx: Transaction, asset_id: AssetId, job: JobRow, result: Result) -> None:
        """A worker went on with a photo that was erased, or turned out to be another's twin: its objects go as well.

        Each step is followed by a removal of its own: one that runs already has looked at the bucket before.
        """
        late = cleaning(asset_id, job.owner_id, f"asset.clean.late:{asset_id}:{job.id}:{result.step}")
        await self._spine.plan(tx, late, cause=job.id)

    async def clean_later(self, upload: Upload) -> None:
        """Have what a dead asset has removed once more: bytes of it were stored after its end."""
        async with self._db.transaction() as tx:
            await self._spine.plan(tx, cleaning(upload.asset_id, upload.owner_id), cause=None)

    async def clean(self, wanted: Clean) -> None:
        """Remove a dead asset's objects everywhere, and blocks that no session needs; nothing else that lives."""
        async with self._db.transaction(readonly=True) as tx:
            upload = await store.get_any(tx, wanted.asset_id)
            alive = await self._assets.is_living(tx, wanted.asset_id)
        if upload is None or needs_bytes(upload, self._clock.now()):
            return
        await self.storage.drop_blocks(upload)
        if alive:
            return
        await self.storage.close(upload)
        prefix, site = ids.encode("asset", wanted.asset_id) + "/", self._sites.at(upload.region)
        for bucket in (site.buckets.originals, site.buckets.ancestors, site.buckets.derivatives):
            while found := await site.store.list_keys(bucket, prefix):
                for key in found:
                    await site.store.delete(bucket, key)

    async def erase_all(self, tx: Transaction, owner_id: UUID) -> list[UUID]:
        """Abort an owner's open sessions and forget what their device said; the asset ids whose bytes must go."""
        gone = []
        for upload in await store.open_of_owner(tx, owner_id):
            told = UploadAborted(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.ABORTED, told, SYSTEM)
            gone.append(upload.asset_id)
        await store.forget(tx, owner_id)
        return list(gone)

    async def owned(self, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """An owner's session; raises `UploadNotFound`, also for somebody else's, and `PersonErased`."""
        async with self._db.reading() as db:
            upload = await store.get(db, upload_id, owner_id)
            if upload is None:
                raise UploadNotFound()
            if upload.state is UploadState.ABORTED and await self._persons.is_erased(db, owner_id):
                raise PersonErased()
        return upload

"""Uploads: a session, an address for the bytes, and a completion that may be asked for again and again."""

from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.assets.domain import Asset, AssetState
from app.assets.service import Assets
from app.kernel import jobs, quotas
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin, Recorded
from app.kernel.jobs import JobRow, Plan
from app.kernel.quotas import Quota
from app.kernel.spine import Spine
from app.uploads import store
from app.uploads.domain import (
    Declared,
    Upload,
    UploadAborted,
    UploadCompleted,
    UploadExpired,
    UploadOpened,
    UploadRejected,
    UploadRevived,
    UploadState,
    UploadVerifying,
)
from app.uploads.errors import (
    UploadExpiredGone,
    UploadIncomplete,
    UploadNotFound,
    UploadNotOpen,
    UploadReferenceReused,
    UploadTooLarge,
)
from base import ids, ingest, keys
from base.clock import Clock
from base.ids import AssetId, OwnerId, UploadId
from base.jobs import Result
from base.objects import Buckets, ObjectAbsent, ObjectStore

MAX_BYTES: Final = 200 * 1024 * 1024
LIFETIME: Final = timedelta(days=7)
GRACE: Final = timedelta(days=7)
ADDRESS_LIFETIME_S: Final = 900
A_DAY: Final = Quota("uploads", 20_000)
OWNER: Final = Origin(actor="owner")
SYSTEM: Final = Origin(actor="system")


class PartAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where to PUT one part: the URL, the headers that are signed into it, its byte range and relative expiry."""

    number: int
    url: str
    headers: dict[str, str]
    first_byte: int
    bytes: int
    expires_in_s: int


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """Remove every object of an asset, if nothing living needs it any more."""

    asset_id: UUID


class Uploads:
    """The use cases of upload sessions."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        objects: ObjectStore,
        buckets: Buckets,
        assets: Assets,
        clock: Clock,
        quota: Quota = A_DAY,
    ) -> None:
        self._db, self._spine, self._objects, self._buckets = db, spine, objects, buckets
        self._assets, self._clock, self._quota = assets, clock, quota

    async def open(self, tx: Transaction, owner_id: OwnerId, declared: Declared) -> Upload:
        """Open a session in the caller's transaction; the same client reference gives the living session again.

        Raises `UploadTooLarge`, `UploadReferenceReused`, `QuotaExceeded`.
        """
        if declared.bytes > MAX_BYTES:
            raise UploadTooLarge(MAX_BYTES)
        await quotas.spend(tx, owner_id, self._quota)
        upload_id, asset_id = UploadId(ids.new_id()), AssetId(ids.new_id())
        expires_at = self._clock.now() + LIFETIME
        if not await store.insert(tx, upload_id, owner_id, asset_id, declared, expires_at):
            return await self._twin(tx, owner_id, declared)
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

    async def _twin(self, tx: Transaction, owner_id: OwnerId, declared: Declared) -> Upload:
        assert declared.client_reference is not None
        twin = await store.by_reference(tx, owner_id, declared.client_reference)
        if twin is None or (twin.bytes, twin.content_type, twin.sha256) != (
            declared.bytes,
            declared.content_type,
            declared.sha256,
        ):
            raise UploadReferenceReused()
        return twin

    async def get(self, owner_id: OwnerId, upload_id: UUID) -> tuple[Upload, int]:
        """An owner's session and how many of its bytes storage holds; raises `UploadNotFound`."""
        upload = await self._owned(owner_id, upload_id)
        if upload.state is UploadState.OPEN:
            return upload, await self._arrived(upload) or 0
        return upload, upload.bytes if upload.state in (UploadState.VERIFYING, UploadState.COMPLETED) else 0

    async def parts(self, owner_id: OwnerId, upload_id: UUID) -> list[PartAddress]:
        """Addresses for what is missing, each for one PUT of exactly the declared bytes.

        Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`.
        """
        upload = _open(await self._owned(owner_id, upload_id))
        url, headers = self._objects.presign_put(
            self._buckets.originals,
            _key(upload),
            size=upload.bytes,
            content_type=upload.content_type,
            sha256=upload.sha256,
            expires_s=ADDRESS_LIFETIME_S,
        )
        return [
            PartAddress(
                number=1,
                url=url,
                headers=headers,
                first_byte=0,
                bytes=upload.bytes,
                expires_in_s=ADDRESS_LIFETIME_S,
            )
        ]

    async def arrived(self, owner_id: OwnerId, upload_id: UUID) -> None:
        """Check with storage, outside any transaction, that an open session's bytes are there.

        The client is never believed. Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`, `UploadIncomplete`.
        """
        upload = await self._owned(owner_id, upload_id)
        if upload.state in (UploadState.VERIFYING, UploadState.COMPLETED, UploadState.REJECTED):
            return
        if await self._arrived(_open(upload)) != upload.bytes:
            raise UploadIncomplete()

    async def complete(self, tx: Transaction, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """Turn a session whose bytes have `arrived` into an asset; asked again, the same answer.

        Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`.
        """
        upload = await store.lock(tx, upload_id, owner_id)
        if upload is None:
            raise UploadNotFound()
        if upload.state in (UploadState.VERIFYING, UploadState.COMPLETED, UploadState.REJECTED):
            return upload
        _open(upload)
        told = UploadVerifying(upload_id=upload.id, asset_id=upload.asset_id)
        await store.transition(tx, self._spine, upload, UploadState.VERIFYING, told, OWNER)
        await self._assets.create(tx, upload.asset_id, owner_id, upload.id, upload.bytes, upload.content_type)
        return msgspec.structs.replace(upload, state=UploadState.VERIFYING)

    async def abort(self, owner_id: OwnerId, upload_id: UUID) -> None:
        """Give a session up; its bytes are removed. Raises `UploadNotFound`, `UploadNotOpen`."""
        async with self._db.transaction() as tx:
            upload = await store.lock(tx, upload_id, owner_id)
            if upload is None:
                raise UploadNotFound()
            if upload.state is UploadState.ABORTED:
                return
            _open(upload)
            await store.transition(
                tx, self._spine, upload, UploadState.ABORTED, UploadAborted(upload_id=upload.id), OWNER
            )

    async def revive(self, owner_id: OwnerId, upload_id: UUID) -> Upload:
        """Open an expired session again within the grace time; raises `UploadNotFound`, `UploadExpiredGone`."""
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
            await store.set_expiry(tx, upload.id, now + LIFETIME)
            told = UploadRevived(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.OPEN, told, OWNER)
            return msgspec.structs.replace(upload, state=UploadState.OPEN, expires_at=now + LIFETIME)

    async def expire_overdue(self, tx: Transaction, limit: int = 500) -> int:
        """Expire sessions whose time is over."""
        overdue = await store.overdue(tx, self._clock.now(), limit)
        for upload in overdue:
            told = UploadExpired(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.EXPIRED, told, SYSTEM)
        return len(overdue)

    async def apply_ingest(self, tx: Transaction, job: JobRow, result: Result) -> None:
        """Apply one answer of a pixel worker to the asset and to the session that brought it."""
        told = msgspec.json.decode(job.payload, type=ingest.Ingest)
        asset = await self._assets.apply_step(tx, ids.decode("asset", told.asset), job, result)
        upload = await store.lock_by_asset(tx, asset.id)
        if upload is not None and upload.state is UploadState.VERIFYING:
            await self._settle(tx, upload, asset)
        if asset.state is AssetState.ERASED:
            await self._undo_late(tx, asset, job)

    async def _undo_late(self, tx: Transaction, asset: Asset, job: JobRow) -> None:
        """A worker went on after the erasure: what it told is emptied, what it stored is removed."""
        await jobs.forget_steps(tx, job.id)
        late = Plan(
            kind="asset.clean",
            payload=Clean(asset_id=asset.id),
            owner_id=asset.owner_id,
            dedupe=f"asset.clean.late:{asset.id}:{job.id}",
        )
        await self._spine.plan(tx, late, cause=job.id)

    async def _settle(self, tx: Transaction, upload: Upload, asset: Asset) -> None:
        """Rejected with its asset; completed as soon as that is known to be a photo."""
        if asset.state is AssetState.REJECTED:
            reason = asset.reason or "unusable"
            await store.save_reason(tx, upload.id, reason)
            rejected = UploadRejected(upload_id=upload.id, asset_id=asset.id, reason=reason)
            await store.transition(tx, self._spine, upload, UploadState.REJECTED, rejected, SYSTEM)
        elif asset.sha256 is not None or asset.state is AssetState.DUPLICATE:
            completed = UploadCompleted(upload_id=upload.id, asset_id=asset.id)
            await store.transition(tx, self._spine, upload, UploadState.COMPLETED, completed, SYSTEM)

    async def clean(self, wanted: Clean) -> None:
        """Remove a dead asset's objects everywhere; does nothing while the asset or its session lives."""
        async with self._db.transaction(readonly=True) as tx:
            upload = await store.get_any(tx, wanted.asset_id)
            alive = await self._assets.is_living(tx, wanted.asset_id)
        if alive or upload is None or upload.state is UploadState.OPEN:
            return
        prefix = ids.encode("asset", wanted.asset_id) + "/"
        for bucket in (self._buckets.originals, self._buckets.ancestors, self._buckets.derivatives):
            while found := await self._objects.list_keys(bucket, prefix):
                for key in found:
                    await self._objects.delete(bucket, key)

    async def erase_all(self, tx: Transaction, owner_id: UUID) -> list[UUID]:
        """Abort an owner's open sessions and forget what their device said; the asset ids whose bytes must go."""
        gone = []
        for upload in await store.open_of_owner(tx, owner_id):
            told = UploadAborted(upload_id=upload.id)
            await store.transition(tx, self._spine, upload, UploadState.ABORTED, told, SYSTEM)
            gone.append(upload.asset_id)
        await store.forget(tx, owner_id)
        return list(gone)

    async def _owned(self, owner_id: OwnerId, upload_id: UUID) -> Upload:
        async with self._db.reading() as db:
            upload = await store.get(db, upload_id, owner_id)
        if upload is None:
            raise UploadNotFound()
        return upload

    async def _arrived(self, upload: Upload) -> int | None:
        try:
            return (await self._objects.head(self._buckets.originals, _key(upload))).size
        except ObjectAbsent:
            return None


def _key(upload: Upload) -> str:
    return keys.original(ids.encode("asset", upload.asset_id))


def _open(upload: Upload) -> Upload:
    if upload.state is UploadState.EXPIRED:
        raise UploadExpiredGone()
    if upload.state is not UploadState.OPEN:
        raise UploadNotOpen()
    return upload


async def planned_ingest(tx: Transaction, happened: Recorded) -> Plan | None:
    """The ingest job of an asset that was just created."""
    upload = await store.lock_by_asset(tx, happened.aggregate_id)
    if upload is None:
        return None
    asset = ids.encode("asset", upload.asset_id)
    return Plan(
        kind=ingest.KIND,
        payload=ingest.Ingest(asset=asset, bytes=upload.bytes, sha256=upload.sha256),
        owner_id=upload.owner_id,
        dedupe=f"{ingest.KIND}:{asset}",
    )


async def planned_cleaning(tx: Transaction, happened: Recorded) -> Plan | None:
    """The removal of a dead asset's objects; of an expired session's only after its grace time."""
    upload = await store.get_any(tx, happened.aggregate_id)
    if upload is None:
        return None
    not_before = upload.expires_at + GRACE if upload.state is UploadState.EXPIRED else None
    return Plan(
        kind="asset.clean",
        payload=Clean(asset_id=upload.asset_id),
        owner_id=upload.owner_id,
        not_before=not_before,
        dedupe=f"asset.clean:{upload.asset_id}",
    )

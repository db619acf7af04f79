"""The care of assets: trash and purge, the way back to the original, ingest once more, fitness for a print, flags."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from app.assets import store
from app.assets.domain import (
    TRASH_LIFETIME,
    Alike,
    Asset,
    AssetAnalysed,
    AssetCleared,
    AssetFlagged,
    AssetRestored,
    AssetTrashed,
    HoldKind,
    Provenance,
)
from app.assets.errors import AssetNotFound, AssetNotProcessable, AssetNotReady, OriginalGone, PrintImpossible
from app.assets.moderation import Moderator
from app.assets.service import LIVING, Assets, existing, flagged
from app.kernel import jobs
from app.kernel.db import Database, Transaction
from app.kernel.events import Event, Origin, Recorded
from app.kernel.jobs import JobRow, Plan
from app.kernel.spine import Spine
from base import ids, ingest, keys
from base.clock import Clock
from base.ids import AssetId, OwnerId
from base.jobs import Outcome, Result
from base.objects import ObjectAbsent, Sites
from imagecore import classes, readiness
from imagecore.errors import OutOfBounds
from imagecore.findings import Analysis
from imagecore.geometry import Box
from imagecore.likeness import LEAST_QUALITY, NEAR_BITS
from imagecore.readiness import Readiness

LINK_S: Final = 300
OWNER: Final = Origin(actor="owner")
SYSTEM: Final = Origin(actor="system")
OPERATOR: Final = Origin(actor="operator")
_ANALYSED: Final = msgspec.json.Decoder(ingest.Analysed)
_SUITED: Final = msgspec.json.Decoder(ingest.Suited)


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A way to one's own original that ends soon."""

    url: str
    expires_in_s: int


class Fitness(msgspec.Struct, frozen=True, kw_only=True):
    """How well a photo suits a print, the part of it that was judged, and whether it was looked at already."""

    readiness: Readiness
    part: Box
    analysed: bool


class AssetCare:
    """The use cases. Without a moderator nobody looks at photos, but operators can still flag them."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        sites: Sites,
        assets: Assets,
        clock: Clock,
        moderator: Moderator | None = None,
    ) -> None:
        self._db, self._spine, self._sites = db, spine, sites
        self._assets, self._clock, self._moderator = assets, clock, moderator

    async def trash(self, owner_id: OwnerId, asset_id: UUID) -> None:
        """Put an asset into the trash, for `TRASH_LIFETIME`; there already, it stays. Raises `AssetNotFound`."""
        async with self._db.transaction() as tx:
            asset = existing(await store.lock_own(tx, asset_id, owner_id))
            until = self._clock.now() + TRASH_LIFETIME
            if await store.hold(tx, asset.id, HoldKind.TRASH, "asked", until):
                await self._tell(tx, asset, AssetTrashed(asset_id=asset.id, until=until), OWNER)

    async def restore(self, owner_id: OwnerId, asset_id: UUID) -> Asset:
        """Take an asset out of the trash; outside, it stays. Raises `AssetNotFound`."""
        async with self._db.transaction() as tx:
            asset = existing(await store.lock_own(tx, asset_id, owner_id))
            if await store.release(tx, asset.id, HoldKind.TRASH):
                await self._tell(tx, asset, AssetRestored(asset_id=asset.id), OWNER)
            return asset

    async def empty_trash(self, tx: Transaction, limit: int = 200) -> int:
        """Erase what has been in the trash long enough; how many.

        An asset is locked before its hold, here as by its owner, and looked at again under the lock.
        """
        now, erased = self._clock.now(), 0
        for asset_id in await store.overdue_trash(tx, now, limit):
            asset = await store.lock(tx, asset_id)
            if asset is not None and asset.trashed_until is not None and asset.trashed_until <= now:
                await self._assets.erase(tx, asset, SYSTEM)
                erased += 1
        return erased

    async def original_link(self, owner_id: OwnerId, asset_id: UUID) -> Link:
        """A short way to an owner's original; raises `AssetNotFound`, `OriginalGone`."""
        asset = await self._assets.get(owner_id, asset_id)
        name, site = ids.encode("asset", asset.id), self._sites.at(asset.region)
        try:
            await site.store.head(site.buckets.originals, keys.original(name))
        except ObjectAbsent as absent:
            raise OriginalGone() from absent
        extension = "jpg" if asset.format == "jpeg" else asset.format or "bin"
        url = site.store.presign_get(
            site.buckets.originals, keys.original(name), filename=f"{name}.{extension}", expires_s=LINK_S
        )
        return Link(url=url, expires_in_s=LINK_S)

    async def process_again(self, tx: Transaction, owner_id: OwnerId, asset_id: UUID) -> Asset:
        """Plan ingest once more, at the engine of today; what runs already is enough.

        Raises `AssetNotFound`, `AssetNotProcessable` for one that can never be used.
        """
        asset = existing(await store.lock_own(tx, asset_id, owner_id))
        if asset.state not in LIVING:
            raise AssetNotProcessable()
        name = ids.encode("asset", asset.id)
        again = Plan(
            kind=ingest.KIND,
            payload=ingest.Ingest(asset=name, bytes=asset.bytes, sha256=asset.sha256),
            owner_id=asset.owner_id,
            region=asset.region,
            dedupe=f"{ingest.KIND}:{name}",
        )
        await self._spine.plan(tx, again, cause=None)
        return asset

    async def readiness(self, owner_id: OwnerId, asset_id: UUID, class_: str, trim_um: tuple[int, int]) -> Fitness:
        """How an asset suits a class at a trim size, for the part we would suggest.

        Raises `AssetNotFound`, `AssetNotReady`, `PrintImpossible`.
        """
        async with self._db.transaction(readonly=True) as tx:
            asset = await store.get(tx, asset_id, owner_id)
            analysis = None if asset is None else await store.analysis(tx, asset.id)
        if asset is None:
            raise AssetNotFound()
        if asset.width is None or asset.height is None:
            raise AssetNotReady()
        try:
            return judged(asset.width, asset.height, analysis, class_, trim_um, hdr=asset.hdr)
        except OutOfBounds as error:
            raise PrintImpossible() from error

    async def prints(self, owner_id: OwnerId, asset_id: UUID) -> tuple[ingest.PrintFit, ...]:
        """What the pipeline found at every target size; raises `AssetNotFound`, `AssetNotReady`."""
        async with self._db.transaction(readonly=True) as tx:
            if await store.get(tx, asset_id, owner_id) is None:
                raise AssetNotFound()
            found = await store.prints(tx, asset_id)
        if found is None:
            raise AssetNotReady()
        return found

    async def alike(self, owner_id: OwnerId, asset_id: UUID) -> list[Alike]:
        """The owner's other photos that look the same, nearest first: advice, no state. Raises `AssetNotFound`."""
        async with self._db.transaction(readonly=True) as tx:
            asset = await store.get(tx, asset_id, owner_id)
            if asset is None:
                raise AssetNotFound()
            return await store.alike(tx, asset, NEAR_BITS, LEAST_QUALITY)

    async def provenance(self, owner_id: OwnerId, asset_id: UUID) -> Provenance:
        """Where an asset came from and what was done with it; raises `AssetNotFound`."""
        async with self._db.transaction(readonly=True) as tx:
            asset = await store.get(tx, asset_id, owner_id)
            if asset is None:
                raise AssetNotFound()
            return await store.provenance(tx, asset)

    async def apply_analysis(self, tx: Transaction, job: JobRow, result: Result) -> AssetId | None:
        """Keep what a worker saw on a photo, then what it suits, and tell; the asset's id where the photo is dead.

        Nothing is kept of such a one, and what the worker stored has to go.
        """
        wanted = msgspec.json.decode(job.payload, type=ingest.Analyse)
        asset_id = AssetId(ids.decode("asset", wanted.asset))
        asset = await store.lock(tx, asset_id)
        if asset is None or asset.state not in LIVING:
            await jobs.forget(tx, job.id)
            return asset_id
        if result.outcome is not Outcome.OK:
            return None
        if result.step == "analyse":
            await store.save_analysis(tx, asset.id, _ANALYSED.decode(result.body))
            return None
        await store.save_prints(tx, asset.id, _SUITED.decode(result.body))
        await self._tell(tx, asset, AssetAnalysed(asset_id=asset.id), Origin(actor="system", cause=job.id))
        if self._moderator is not None:
            plan = Plan(kind="asset.moderate", payload=wanted, owner_id=asset.owner_id, dedupe=f"moderate:{asset.id}")
            await self._spine.plan(tx, plan, cause=job.id)
        return None

    async def moderate(self, wanted: ingest.Analyse) -> None:
        """Ask the moderator about one asset, outside any transaction; raises `ServiceUnavailable`."""
        asset_id = ids.decode("asset", wanted.asset)
        async with self._db.transaction(readonly=True) as tx:
            asset = await store.peek(tx, asset_id)
        if self._moderator is None or asset is None or asset.state not in LIVING or asset.sha256 is None:
            return
        looked = await self._moderator.look(wanted.asset, asset.sha256)
        if looked.reason is not None:
            await self.flag(asset_id, looked.reason, SYSTEM)

    async def flag(self, asset_id: UUID, reason: str, origin: Origin = OPERATOR) -> None:
        """Let nothing be made of an asset until it is cleared; raises `AssetNotFound`."""
        async with self._db.transaction() as tx:
            asset = existing(await store.lock(tx, asset_id))
            if await store.hold(tx, asset.id, HoldKind.FLAGGED, reason, None):
                await self._tell(tx, asset, AssetFlagged(asset_id=asset.id, reason=reason), origin)

    async def clear(self, asset_id: UUID) -> None:
        """Take an operator's or moderator's flag away; raises `AssetNotFound`."""
        async with self._db.transaction() as tx:
            asset = existing(await store.lock(tx, asset_id))
            if await store.release(tx, asset.id, HoldKind.FLAGGED):
                await self._tell(tx, asset, AssetCleared(asset_id=asset.id), OPERATOR)

    async def is_flagged(self, tx: Transaction, asset_ids: Sequence[UUID]) -> bool:
        """Whether any of these assets must wait for a person before it is made."""
        return bool(await flagged(tx, asset_ids))

    async def _tell(self, tx: Transaction, asset: Asset, told: Event, origin: Origin) -> None:
        await self._spine.record(tx, told, aggregate_id=asset.id, owner_id=asset.owner_id, origin=origin)


def judged(
    width: int, height: int, analysis: Analysis | None, class_: str, trim_um: tuple[int, int], *, hdr: bool
) -> Fitness:
    """The fitness of an upright picture of these sides; what nobody looked at is unknown. Raises `OutOfBounds`."""
    found = readiness.judge(width, height, analysis or readiness.UNSEEN, classes.named(class_), trim_um, hdr=hdr)
    return Fitness(readiness=found.readiness, part=found.part, analysed=analysis is not None)


async def planned_analysis(tx: Transaction, happened: Recorded) -> Plan | None:
    """The look at an asset that has just become ready."""
    asset = await store.peek(tx, happened.aggregate_id)
    if asset is None or asset.engine is None:
        return None
    name = ids.encode("asset", asset.id)
    return Plan(
        kind=ingest.ANALYSE,
        payload=ingest.Analyse(asset=name, engine=asset.engine),
        owner_id=asset.owner_id,
        region=asset.region,
        dedupe=f"{ingest.ANALYSE}:{name}",
    )

"""Assets: what a person's photos are, and how the answers of pixel workers change them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from app.assets import store
from app.assets.domain import (
    Asset,
    AssetCreated,
    AssetDuplicateFound,
    AssetErased,
    AssetPreviewReady,
    AssetReady,
    AssetRejected,
    AssetState,
    AssetValidated,
    Brought,
    Found,
    Hold,
    HoldKind,
    Known,
    Seen,
)
from app.assets.errors import AssetNotFound, AssetNotViewable
from app.delivery import store as delivery
from app.delivery.service import Address, Minter
from app.kernel.db import Database, Readable, Transaction
from app.kernel.events import Origin
from app.kernel.jobs import JobRow
from app.kernel.spine import Spine
from base import ids
from base.ids import AssetId, OwnerId
from base.ingest import Previews, Rendition, Validated
from base.jobs import Outcome, Result
from imagecore import recipe as recipes
from imagecore.facts import Note, belies
from imagecore.recipe import Format, Recipe

_VALIDATED: Final = msgspec.json.Decoder(Validated)
_PREVIEWS: Final = msgspec.json.Decoder(Previews)
VIEWABLE: Final = frozenset({AssetState.PREVIEW_READY, AssetState.READY})
FALLBACK: Final = "fallback-"
LIVING: Final = frozenset({AssetState.PROCESSING, AssetState.PREVIEW_READY, AssetState.READY})

EndBringing = Callable[[Transaction, UUID], Awaitable[None]]
"""Ends whatever still brings the bytes of an asset that is being erased."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An asset with addresses of its images: (address, width, height), lightest first."""

    asset: Asset
    variants: list[tuple[Address, int, int]]


async def flagged(db: Readable, asset_ids: Sequence[UUID]) -> list[Hold]:
    """Which of these assets wait for a person before anything is made of them, and why."""
    return await store.holds(db, asset_ids, HoldKind.FLAGGED)


class Rung(msgspec.Struct, frozen=True):
    """A stored rung of the ladder: the square it fits into, and its own size, in pixels."""

    side: int
    width: int
    height: int


class Assets:
    """The use cases of assets. Only the API has a minter."""

    def __init__(self, db: Database, spine: Spine, end_bringing: EndBringing, minter: Minter | None = None) -> None:
        self._db, self._spine, self._end_bringing = db, spine, end_bringing
        self._minter, self._each = minter, store.reader(db)

    async def get(self, owner_id: OwnerId, asset_id: UUID) -> Asset:
        """An owner's asset; raises `AssetNotFound`, also for somebody else's."""
        found = await self._each.read(asset_id, owner_id)
        if found is None:
            raise AssetNotFound()
        return found

    async def page(self, owner_id: OwnerId, before: UUID | None, limit: int, trash: bool = False) -> list[Asset]:
        """An owner's assets, newest first: those in the trash, or those outside."""
        async with self._db.reading() as db:
            return await store.page(db, owner_id, before, limit, trash)

    async def show(
        self, owner_id: OwnerId, asset_ids: Sequence[UUID], sides: Sequence[int], format_: Format
    ) -> list[Shown]:
        """Addresses of an owner's images; raises `AssetNotFound`, `AssetNotViewable` for any of them."""
        shown = []
        async with self._db.transaction(readonly=True) as tx:
            for asset_id in asset_ids:
                asset = await store.get(tx, asset_id, owner_id)
                if asset is None:
                    raise AssetNotFound()
                shown.append(self._shown(asset, sides, format_))
        return shown

    def _shown(self, asset: Asset, sides: Sequence[int], format_: Format) -> Shown:
        if asset.state not in VIEWABLE or asset.engine is None or asset.width is None or asset.height is None:
            raise AssetNotViewable()
        assert self._minter is not None, "only the API mints"
        name = ids.encode("asset", asset.id)
        addresses = self._minter.ladder(name, asset.engine, sides, format_, fallbacks_of(asset), asset.region)
        sizes = [fitted(asset.width, asset.height, address.side) for address in addresses]
        return Shown(asset=asset, variants=[(a, *size) for a, size in zip(addresses, sizes, strict=True)])

    async def create(self, tx: Transaction, asset_id: AssetId, owner_id: OwnerId, brought: Brought) -> None:
        """A completed upload becomes an asset, in the upload's transaction."""
        await store.insert(tx, asset_id, owner_id, brought)
        await self._spine.record(
            tx,
            AssetCreated(asset_id=asset_id, upload_id=brought.upload_id, bytes=brought.bytes),
            aggregate_id=asset_id,
            owner_id=owner_id,
            origin=Origin(actor="owner"),
        )

    async def seen(
        self, db: Readable, owner_id: OwnerId, asset_ids: Sequence[UUID], *, held: bool = False
    ) -> dict[UUID, Seen]:
        """An owner's assets among these by id, erased ones too, with the findings on them.

        `held` keeps their states as they are until the caller's transaction ends.
        """
        if not asset_ids:
            return {}
        return {one.asset.id: one for one in await store.seen(db, owner_id, asset_ids, held=held)}

    def address(self, asset: Asset, recipe: Recipe) -> Address:
        """Where a rendition of a viewable asset can be fetched."""
        assert self._minter is not None, "only the API mints"
        return self._minter.one(ids.encode("asset", asset.id), recipe, region=asset.region)

    async def regions(self, db: Readable, asset_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Which region keeps each of these assets."""
        return await store.regions(db, asset_ids)

    async def anyones(self, db: Readable, asset_id: UUID) -> Asset:
        """Any owner's asset, for operators; raises `AssetNotFound`."""
        return existing(await store.peek(db, asset_id))

    async def stored_rungs(self, db: Readable, asset: Asset) -> list[Rung]:
        """Which rungs of the JPEG ladder are stored at the engine of the asset's ancestor, lightest first."""
        if asset.engine is None:
            return []
        stored = {one.recipe: one for one in await store.previews(db, asset.id)}
        wanted = [(side, recipes.text(recipes.rung(side, asset.engine))) for side in recipes.RUNGS]
        return [Rung(side, stored[text].width, stored[text].height) for side, text in wanted if text in stored]

    async def is_living(self, tx: Transaction, asset_id: UUID) -> bool:
        """Whether the asset exists and is of use to its owner."""
        return await store.state(tx, asset_id) in LIVING

    async def known(
        self, tx: Readable, owner_id: OwnerId, digests: Sequence[str], asset_ids: Sequence[UUID], sizes: Sequence[int]
    ) -> list[Known]:
        """An owner's living assets with one of these digests, ids (or a duplicate's of these) or sizes."""
        return await store.known(tx, owner_id, digests, asset_ids, sizes)

    async def apply_step(self, tx: Transaction, asset_id: UUID, job: JobRow, result: Result) -> Asset:
        """Apply one step of ingest; the asset as it is afterwards, locked."""
        origin = Origin(actor="system", cause=job.id)
        asset = await _locked(tx, asset_id)
        if asset.state not in LIVING or result.outcome is Outcome.LOST:
            return asset
        if result.outcome is Outcome.REFUSED and asset.sha256 is not None:
            return asset  # it is a photo, and what was made of it stands
        if result.outcome is Outcome.REFUSED:
            await self._reject(tx, asset, result.reason or "unusable", origin)
        elif result.step == "validate":
            await self._validated(tx, asset, job, result, origin)
        elif result.step in ("first_previews", "previews"):
            await self._previews(tx, asset, result, origin)
        return await _locked(tx, asset_id)

    async def _reject(self, tx: Transaction, asset: Asset, reason: str, origin: Origin) -> None:
        await store.save_reason(tx, asset.id, reason)
        told = AssetRejected(asset_id=asset.id, reason=reason)
        await store.transition(tx, self._spine, asset, AssetState.REJECTED, told, origin)

    async def _validated(self, tx: Transaction, asset: Asset, job: JobRow, result: Result, origin: Origin) -> None:
        found = _VALIDATED.decode(result.body)
        first = await store.living_twin(tx, asset, found.sha256)
        if first is not None:
            await store.save_duplicate(tx, asset.id, first)
            told = AssetDuplicateFound(asset_id=asset.id, first_id=first)
            await store.transition(tx, self._spine, asset, AssetState.DUPLICATE, told, origin)
            return
        await store.save_found(
            tx,
            asset.id,
            Found(
                sha256=found.sha256,
                format=found.format,
                width=found.width,
                height=found.height,
                notes=(*told_otherwise(asset.declared_type, found.format), *found.notes),
                engine=result.engine or "",
                facts=bytes(found.facts),
            ),
        )
        await self._spine.record(
            tx,
            AssetValidated(asset_id=asset.id, width=found.width, height=found.height, format=found.format),
            aggregate_id=asset.id,
            owner_id=asset.owner_id,
            origin=origin,
        )

    async def _previews(self, tx: Transaction, asset: Asset, result: Result, origin: Origin) -> None:
        made = _PREVIEWS.decode(result.body)
        await store.save_previews(tx, asset.id, made.renditions, made.thumbhash)
        await store.save_notes(tx, asset.id, noted(asset.notes, made.renditions))
        if asset.state is AssetState.PROCESSING and result.step == "first_previews":
            told = AssetPreviewReady(asset_id=asset.id)
            await store.transition(tx, self._spine, asset, AssetState.PREVIEW_READY, told, origin)
        elif asset.state is AssetState.PREVIEW_READY and result.step == "previews":
            await store.transition(tx, self._spine, asset, AssetState.READY, AssetReady(asset_id=asset.id), origin)

    async def erase_all(self, tx: Transaction, owner_id: UUID, origin: Origin) -> list[UUID]:
        """Erase everything an owner has; the ids whose objects must go."""
        gone = []
        for asset_id, _ in await store.of_owner(tx, owner_id):
            asset = await store.lock(tx, asset_id)
            if asset is not None:
                await self.erase(tx, asset, origin)
                gone.append(asset_id)
        return gone

    async def erase(self, tx: Transaction, asset: Asset, origin: Origin) -> None:
        """Erase one locked asset and end what brings it; the event causes its objects to go, and edges to be told."""
        await store.forget(tx, asset.id)
        await delivery.deny(tx, [ids.encode("asset", asset.id)])
        await self._end_bringing(tx, asset.id)
        told = AssetErased(asset_id=asset.id)
        await store.transition(tx, self._spine, asset, AssetState.ERASED, told, origin)

    async def delete(self, owner_id: OwnerId, asset_id: UUID) -> None:
        """The owner erases one asset; raises `AssetNotFound`."""
        async with self._db.transaction() as tx:
            asset = existing(await store.lock_own(tx, asset_id, owner_id))
            await self.erase(tx, asset, Origin(actor="owner"))


def existing(asset: Asset | None) -> Asset:
    """The asset, if it is there and not erased; raises `AssetNotFound`."""
    if asset is None or asset.state is AssetState.ERASED:
        raise AssetNotFound()
    return asset


def told_otherwise(declared_type: str, format_: str) -> tuple[str, ...]:
    """The note that a file is not of the declared type: it is read by its content, whatever was said of it."""
    return (Note.BY_CONTENT.value,) if belies(declared_type.removeprefix("image/"), format_) else ()


def noted(notes: Sequence[str], made: Sequence[Rendition]) -> tuple[str, ...]:
    """An asset's notes after these were made: a side that exists as a fallback only is noted."""
    told = {recipe.width: recipe.class_ == "fallback" for recipe in (recipes.parse(one.recipe) for one in made)}
    kept = [note for note in notes if note not in {f"{FALLBACK}{side}" for side in told}]
    return (*kept, *(f"{FALLBACK}{side}" for side, is_fallback in told.items() if is_fallback))


def fallbacks_of(asset: Asset) -> frozenset[int]:
    """The sides of an asset's ladder that exist as fallbacks only."""
    return frozenset(int(note.removeprefix(FALLBACK)) for note in asset.notes if note.startswith(FALLBACK))


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """The size of a picture fitted into a square, never enlarged; the shorter side is rounded, ties up."""
    longer = max(width, height)
    if longer <= side:
        return width, height
    return max(1, (2 * width * side + longer) // (2 * longer)), max(1, (2 * height * side + longer) // (2 * longer))


async def _locked(tx: Transaction, asset_id: UUID) -> Asset:
    """An asset that a job of ours names; it exists, since assets are never deleted."""
    found = await store.lock(tx, asset_id)
    assert found is not None
    return found

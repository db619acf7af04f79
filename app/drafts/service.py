"""Drafts: putting something together, what stands against ordering it, freezing it for an order.

A draft's row is locked before its photos' rows, and the photos' states are held until the transaction ends: what makes
a photo ready in between waits, and then finds the draft to look at again.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from app.assets.domain import AssetState, Seen
from app.assets.errors import AssetNotFound
from app.assets.service import Assets
from app.catalog.errors import VariantUnknown
from app.catalog.service import Catalog
from app.drafts import checks, store
from app.drafts.checks import Looked
from app.drafts.domain import (
    MOST_OF_ALL,
    OPEN,
    Draft,
    DraftAbandoned,
    DraftChanged,
    DraftCreated,
    DraftOrdered,
    DraftReady,
    DraftReleased,
    DraftReopened,
    DraftState,
    FrozenDraft,
    FrozenItem,
    Item,
    Wish,
    digest_of,
)
from app.drafts.errors import (
    DraftClosed,
    DraftNotFound,
    DraftNotReady,
    ItemUnknown,
    QuoteStale,
    TooManyCopies,
    VersionMissing,
    VersionMoved,
)
from app.drafts.preview import Preview, preview_of, proof_of
from app.kernel.db import Database, Readable, Transaction
from app.kernel.events import Origin, Recorded
from app.kernel.jobs import Plan
from app.kernel.persons import PersonKeys
from app.kernel.spine import Spine
from base.ids import AssetId, DraftId, ItemId, OwnerId, new_id

NOTE: Final = "draft_items.gift_note"
REVIEW: Final = "drafts.review"
OWNER: Final = Origin(actor="owner")
SYSTEM: Final = Origin(actor="system")

T = TypeVar("T")


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """The job to look at the drafts that have a photo again."""

    asset_id: UUID


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A draft with its gift notes in plain words, for its owner's eyes."""

    draft: Draft
    notes: dict[ItemId, str]


class Drafts:
    """The use cases."""

    def __init__(self, db: Database, spine: Spine, persons: PersonKeys, assets: Assets, catalog: Catalog) -> None:
        self._db, self._spine, self._persons = db, spine, persons
        self._assets, self._catalog = assets, catalog

    async def create(self, tx: Transaction, owner_id: OwnerId, wishes: Sequence[Wish]) -> Shown:
        """A new draft; raises `AssetNotFound`, `VariantUnknown`, `ItemUnknown`, `TooManyCopies`."""
        items = await self._items(tx, owner_id, wishes, ())
        draft_id = DraftId(new_id())
        await store.insert(tx, draft_id, owner_id, items)
        told = DraftCreated(draft_id=draft_id, items=len(items))
        await self._spine.record(tx, told, aggregate_id=draft_id, owner_id=owner_id, origin=OWNER)
        await self._settle(tx, draft_id, OWNER)
        return await self._shown(tx, await _existing(tx, draft_id))

    async def get(self, owner_id: OwnerId, draft_id: UUID) -> Shown:
        """An owner's draft; raises `DraftNotFound`."""
        async with self._db.transaction(readonly=True) as tx:
            return await self._shown(tx, await self.read(tx, owner_id, draft_id))

    async def read(self, db: Readable, owner_id: OwnerId, draft_id: UUID) -> Draft:
        """An owner's draft in one statement, notes sealed; raises `DraftNotFound`."""
        return _owned(await store.get(db, draft_id), owner_id)

    async def change(self, owner_id: OwnerId, draft_id: UUID, version: int | None, wishes: Sequence[Wish]) -> Shown:
        """Put these items in place of version `version`'s.

        Raises `DraftNotFound`, `VersionMissing`, `VersionMoved`, `DraftClosed` and what `create` raises.
        """
        async with self._db.transaction() as tx:
            draft = _changeable(_owned(await store.lock_own(tx, draft_id, owner_id), owner_id))
            if version is None:
                raise VersionMissing()
            if draft.version != version:
                raise VersionMoved(f"it is version {draft.version} now")
            items = await self._items(tx, owner_id, wishes, draft.items)
            told = DraftChanged(
                draft_id=draft.id, draft_version=await store.replace_items(tx, draft_id, items), items=len(items)
            )
            await self._spine.record(tx, told, aggregate_id=draft.id, owner_id=owner_id, origin=OWNER)
            await self._settle(tx, draft_id, OWNER)
            return await self._shown(tx, await _existing(tx, draft_id))

    async def abandon(self, owner_id: OwnerId, draft_id: UUID) -> None:
        """Give a draft up; raises `DraftNotFound`, `DraftClosed`."""
        async with self._db.transaction() as tx:
            draft = _changeable(_owned(await store.lock_own(tx, draft_id, owner_id), owner_id))
            await self._abandon(tx, draft, OWNER)

    async def looked(self, owner_id: OwnerId, draft_id: UUID) -> tuple[Draft, list[Looked]]:
        """A draft and what there is to say of each item; raises `DraftNotFound`."""
        async with self._db.reading() as db:
            draft = await self.read(db, owner_id, draft_id)
            return draft, await self._look(db, draft, held=False, suggest=True)

    async def preview(
        self, owner_id: OwnerId, draft_id: UUID, side: int, *, proof: bool, paper_white: bool = False
    ) -> tuple[Draft, list[Preview]]:
        """How each item will look, from the boxes that its master will use; raises `DraftNotFound`."""
        async with self._db.reading() as db:
            draft = await self.read(db, owner_id, draft_id)
            seen = await self._seen(db, draft, held=False)
            offer = await self._catalog.current(db)
        shown = []
        for item in draft.items:
            one, variant = seen.get(item.asset_id), offer.variants.get(item.sku)
            address = self._assets.address
            through = proof_of(offer, item, variant) if proof else None
            shown.append(preview_of(item, one, variant, side, proof=through, paper_white=paper_white, address=address))
        return draft, shown

    # --- for orders ---

    async def freeze(self, tx: Transaction, owner_id: OwnerId, draft_id: UUID, version: int) -> FrozenDraft:
        """The draft as it is ordered, from now on unchangeable.

        `version` is one that the caller has seen, in a quote. Raises `DraftNotFound`, `QuoteStale` for another version,
        `DraftClosed`, `DraftNotReady`.
        """
        draft = _changeable(_owned(await store.lock_seen(tx, draft_id, owner_id), owner_id))
        if draft.version != version:
            raise QuoteStale(f"the draft is version {draft.version} now, the price is for {version}")
        seen = await self._seen(tx, draft, held=True)
        if draft.state is not DraftState.READY or not checks.is_ready(await self._judged(tx, draft, seen)):
            raise DraftNotReady()
        items = tuple([await self._frozen(tx, item, seen[item.asset_id]) for item in draft.items])
        told = DraftOrdered(draft_id=draft.id, draft_version=draft.version)
        await store.transition(tx, self._spine, draft, DraftState.ORDERED, told, OWNER)
        return FrozenDraft(
            draft_id=draft.id, owner_id=owner_id, version=draft.version, digest=digest_of(items), items=items
        )

    async def release(self, tx: Transaction, draft_id: UUID) -> None:
        """Its order ended unpaid: it can be changed, and ordered, again; an erased person's is given up. Asked again,
        nothing happens."""
        draft = await store.lock(tx, draft_id)
        if draft is None or draft.state is not DraftState.ORDERED:
            return
        told = DraftReleased(draft_id=draft.id)
        await store.transition(tx, self._spine, draft, DraftState.EDITING, told, SYSTEM)
        if await self._persons.is_erased(tx, draft.owner_id):
            await self._abandon(tx, await _existing(tx, draft_id), SYSTEM)
        else:
            await self._settle(tx, draft_id, SYSTEM)

    async def gift_notes(self, tx: Transaction, draft_id: UUID) -> dict[ItemId, str]:
        """The gift notes of any draft in plain words, for the packing slip; raises `PersonErased`."""
        return (await self._shown(tx, await _existing(tx, draft_id))).notes

    # --- what happens to photos ---

    async def review(self, tx: Transaction, asset_id: UUID, cause: UUID | None) -> None:
        """Look at every open draft with this photo again."""
        for draft_id in await store.open_with(tx, asset_id):
            await self._settle(tx, draft_id, Origin(actor="system", cause=cause))

    async def erase_all(self, tx: Transaction, owner_id: UUID, origin: Origin) -> None:
        """Give an owner's open drafts up, and forget what is written in any."""
        for draft_id in await store.open_of_owner(tx, owner_id):
            draft = await store.lock(tx, draft_id)
            if draft is not None and draft.state in OPEN:
                await self._abandon(tx, draft, origin)
        await store.forget_notes(tx, owner_id)

    # --- parts ---

    async def _abandon(self, tx: Transaction, draft: Draft, origin: Origin) -> None:
        told = DraftAbandoned(draft_id=draft.id)
        await store.transition(tx, self._spine, draft, DraftState.ABANDONED, told, origin)

    async def _items(
        self, tx: Transaction, owner_id: OwnerId, wishes: Sequence[Wish], present: Sequence[Item]
    ) -> list[Item]:
        """What is asked for, checked against what there is, words sealed."""
        named = [wish.id for wish in wishes if wish.id is not None]
        if len(set(named)) != len(named) or not set(named) <= {item.id for item in present}:
            raise ItemUnknown()
        if sum(wish.copies for wish in wishes) > MOST_OF_ALL:
            raise TooManyCopies(f"at most {MOST_OF_ALL} copies")
        offer = await self._catalog.current(tx)
        seen = await self._assets.seen(tx, owner_id, sorted({wish.asset_id for wish in wishes}), held=True)
        made = []
        for wish in wishes:
            if wish.asset_id not in seen or seen[wish.asset_id].asset.state is AssetState.ERASED:
                raise AssetNotFound()
            if wish.sku not in offer.variants:
                raise VariantUnknown(f"{wish.sku} is not sold")
            made.append(await self._item(tx, owner_id, wish, offer.variants[wish.sku].papers[0]))
        return made

    async def _item(self, tx: Transaction, owner_id: OwnerId, wish: Wish, default_paper: str) -> Item:
        note = None
        if wish.gift_note is not None:
            note = await self._persons.seal(tx, owner_id, wish.gift_note.encode(), NOTE)
        return Item(
            id=wish.id or ItemId(new_id()),
            asset_id=wish.asset_id,
            sku=wish.sku,
            copies=wish.copies,
            paper=wish.paper or default_paper,
            orientation=wish.orientation,
            fit=wish.fit,
            crop=wish.crop,
            focal=wish.focal,
            border_um=wish.border_um,
            gift_note=note,
        )

    async def _settle(self, tx: Transaction, draft_id: UUID, origin: Origin) -> None:
        """Resolve duplicates, then make the state what the checks say."""
        draft = await store.lock(tx, draft_id)
        if draft is None or draft.state not in OPEN:
            return
        draft = await self._resolved(tx, draft, origin)
        ready = checks.is_ready(await self._look(tx, draft, held=True))
        if ready and draft.state is DraftState.EDITING:
            done = DraftReady(draft_id=draft.id, draft_version=draft.version)
            await store.transition(tx, self._spine, draft, DraftState.READY, done, origin)
        elif not ready and draft.state is DraftState.READY:
            lost = DraftReopened(draft_id=draft.id, draft_version=draft.version)
            await store.transition(tx, self._spine, draft, DraftState.EDITING, lost, origin)

    async def _resolved(self, tx: Transaction, draft: Draft, origin: Origin) -> Draft:
        """The draft with the first photo in place of each duplicate."""
        seen = await self._seen(tx, draft, held=True)
        firsts: dict[AssetId, AssetId] = {
            one.asset.id: one.asset.duplicate_of for one in seen.values() if one.asset.duplicate_of is not None
        }
        if not firsts:
            return draft
        version = await store.resolve(tx, draft.id, firsts)
        told = DraftChanged(draft_id=draft.id, draft_version=version, items=len(draft.items))
        await self._spine.record(tx, told, aggregate_id=draft.id, owner_id=draft.owner_id, origin=origin)
        return await _existing(tx, draft.id)

    async def _seen(self, db: Readable, draft: Draft, *, held: bool) -> dict[UUID, Seen]:
        return await self._assets.seen(db, draft.owner_id, sorted({i.asset_id for i in draft.items}), held=held)

    async def _look(self, db: Readable, draft: Draft, *, held: bool, suggest: bool = False) -> list[Looked]:
        return await self._judged(db, draft, await self._seen(db, draft, held=held), suggest=suggest)

    async def _judged(
        self, db: Readable, draft: Draft, seen: Mapping[UUID, Seen], *, suggest: bool = False
    ) -> list[Looked]:
        variants = (await self._catalog.current(db)).variants
        return [checks.look(i, seen.get(i.asset_id), variants.get(i.sku), suggest=suggest) for i in draft.items]

    async def _frozen(self, tx: Transaction, item: Item, seen: Seen) -> FrozenItem:
        variant, size = await self._catalog.variant(tx, item.sku), checks.size_of(seen.asset)
        assert size is not None and seen.asset.sha256 is not None, "a ready photo has both"  # noqa: PT018
        return FrozenItem(
            item_id=item.id,
            asset_id=item.asset_id,
            sha256=seen.asset.sha256,
            width=size[0],
            height=size[1],
            sku=item.sku,
            copies=item.copies,
            paper=item.paper,
            trim_um=checks.trim_of(item, variant, size),
            fit=item.fit,
            part=item.crop,
            focal=item.focal,
            border_um=item.border_um,
            has_gift_note=item.gift_note is not None,
        )

    async def _shown(self, tx: Transaction, draft: Draft) -> Shown:
        sealed = {item.id: item.gift_note for item in draft.items if item.gift_note is not None}
        notes = {key: await self._persons.unseal(tx, draft.owner_id, note, NOTE) for key, note in sealed.items()}
        return Shown(draft=draft, notes={key: note.decode() for key, note in notes.items()})


async def planned_review(tx: Transaction, happened: Recorded) -> Plan | None:
    """The job for a photo that some open draft has."""
    if not await store.open_with(tx, happened.aggregate_id):
        return None
    # No dedupe key: a job that runs already has looked at the state before this one.
    return Plan(kind=REVIEW, payload=Review(asset_id=happened.aggregate_id), owner_id=happened.owner_id)


def _owned(draft: Draft | None, owner_id: OwnerId) -> Draft:
    if draft is None or draft.owner_id != owner_id or draft.state is DraftState.ABANDONED:
        raise DraftNotFound()
    return draft


def _changeable(draft: Draft) -> Draft:
    if draft.state not in OPEN:
        raise DraftClosed()
    return draft


async def _existing(tx: Transaction, draft_id: UUID) -> Draft:
    """A draft that this transaction has just written or locked."""
    found = await store.get(tx, draft_id)
    assert found is not None
    return found

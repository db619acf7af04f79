"""Shares: showing photos to others, small, until the link is revoked at every edge."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from app.assets.domain import Asset, AssetState
from app.assets.errors import AssetNotFound
from app.assets.service import VIEWABLE, Assets, fitted
from app.delivery import store as delivery
from app.delivery.denials import Denials
from app.delivery.service import SHARE_SIDES, Minter, ShareAddress
from app.delivery.store import Told
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin
from app.kernel.spine import Spine
from app.shares import store
from app.shares.domain import Share, ShareCreated, ShareRevoked
from app.shares.errors import ShareNotFound
from base import ids
from base.ids import OwnerId, ShareId, new_id
from imagecore.recipe import Format

OWNER = Origin(actor="owner")


class SharedPhoto(msgspec.Struct, frozen=True, kw_only=True):
    """A shared photo with its addresses: (address, width, height), lightest first."""

    asset: Asset
    variants: list[tuple[ShareAddress, int, int]]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A share with what it shows, or, once revoked, with the edges that gave their word to show it no more."""

    share: Share
    photos: list[SharedPhoto]
    told: list[Told]


class Shares:
    """The use cases. Only the API has a minter."""

    def __init__(
        self, db: Database, spine: Spine, assets: Assets, denials: Denials, minter: Minter | None = None
    ) -> None:
        self._db, self._spine, self._assets, self._denials, self._minter = db, spine, assets, denials, minter

    async def create(self, tx: Transaction, owner_id: OwnerId, photos: Sequence[UUID]) -> Share:
        """Share photos of one's own, each named once; raises `AssetNotFound`."""
        wanted = list(dict.fromkeys(photos))
        found = await self._assets.seen(tx, owner_id, wanted)
        if any(one not in found or found[one].asset.state is AssetState.ERASED for one in wanted):
            raise AssetNotFound()
        share_id = ShareId(new_id())
        await store.insert(tx, share_id, owner_id, wanted)
        told = ShareCreated(share_id=share_id, photos=len(wanted))
        await self._spine.record(tx, told, aggregate_id=share_id, owner_id=owner_id, origin=OWNER)
        made = await store.get(tx, share_id, owner_id)
        assert made is not None
        return made

    async def page(self, owner_id: OwnerId, before: UUID | None, limit: int) -> list[Share]:
        """An owner's shares, newest first, revoked ones too."""
        async with self._db.reading() as db:
            return await store.page(db, owner_id, before, limit)

    async def open(self, owner_id: OwnerId, share_id: UUID, format_: Format) -> Opened:
        """A share and the addresses of what can be shown of it; raises `ShareNotFound`.

        A photo that is still on its way, in the trash or erased is left out.
        """
        async with self._db.transaction(readonly=True) as tx:
            share = await store.get(tx, share_id, owner_id)
            if share is None:
                raise ShareNotFound()
            told = await delivery.receipts(tx, ids.encode("share", share.id))
            found = {} if share.revoked_at else await self._assets.seen(tx, owner_id, share.photos)
        assets = [found[one].asset for one in share.photos if one in found]
        shown = [self._shown(share, asset, format_) for asset in assets if _can_be_shown(asset)]
        return Opened(share=share, photos=shown, told=told)

    def _shown(self, share: Share, asset: Asset, format_: Format) -> SharedPhoto:
        assert self._minter is not None, "only the API mints"
        assert asset.engine is not None
        name, link = ids.encode("asset", asset.id), ids.encode("share", share.id)
        made = self._minter.shared(name, asset.engine, link, SHARE_SIDES, format_, asset.region)
        sizes = [fitted(asset.width or 1, asset.height or 1, address.side) for address in made]
        return SharedPhoto(asset=asset, variants=[(a, *size) for a, size in zip(made, sizes, strict=True)])

    async def revoke(self, owner_id: OwnerId, share_id: UUID) -> None:
        """End a share at every edge; ended before, it stays so. Raises `ShareNotFound`."""
        async with self._db.transaction() as tx:
            if await store.get(tx, share_id, owner_id) is None:
                raise ShareNotFound()
            if await store.revoke(tx, share_id, owner_id):
                await self._ended(tx, owner_id, share_id)

    async def erase_all(self, tx: Transaction, owner_id: OwnerId) -> None:
        """End and forget everything an owner shared."""
        for share_id in await store.open_of_owner(tx, owner_id):
            await self._ended(tx, owner_id, share_id)
        await store.forget(tx, owner_id)

    async def _ended(self, tx: Transaction, owner_id: OwnerId, share_id: UUID) -> None:
        await self._denials.revoke(tx, [ids.encode("share", share_id)])
        told = ShareRevoked(share_id=ShareId(share_id))
        await self._spine.record(tx, told, aggregate_id=share_id, owner_id=owner_id, origin=OWNER)


def _can_be_shown(asset: Asset) -> bool:
    return asset.state in VIEWABLE and asset.engine is not None and asset.trashed_until is None

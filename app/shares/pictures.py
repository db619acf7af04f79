"""Public pictures: renditions of a photo that are stored already, under addresses that never end until withdrawn."""

from uuid import UUID

import msgspec

from app.assets.domain import Asset
from app.assets.service import Assets, Rung
from app.delivery import store as delivery
from app.delivery.denials import Denials
from app.delivery.service import DurableAddress, Minter
from app.delivery.store import Told
from app.kernel.db import Database, Readable
from app.kernel.events import Origin
from app.kernel.spine import Spine
from app.shares import store
from app.shares.domain import Picture, PicturePublished, PictureWithdrawn
from app.shares.errors import PictureFlagged, PictureGone, PictureNotFound, PictureNotStored
from base import ids, keys
from base.ids import AssetId
from imagecore.recipe import RUNGS

OPERATOR = Origin(actor="operator")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A public picture with its addresses, or, once withdrawn, with the edges that gave their word."""

    picture: Picture
    variants: list[tuple[DurableAddress, int, int]]
    told: list[Told]


class Pictures:
    """The use cases, for operators. Only the API has a minter.

    A picture is made of the JPEG rungs that ingest stored, so that it exists when its address does; they stay as long
    as the photo.
    """

    def __init__(
        self, db: Database, spine: Spine, assets: Assets, denials: Denials, minter: Minter | None = None
    ) -> None:
        self._db, self._spine, self._assets, self._denials, self._minter = db, spine, assets, denials, minter

    async def publish(self, asset_id: UUID, by: str) -> Published:
        """Make a photo public; public already, it stays so.

        Raises `AssetNotFound`, `PictureFlagged`, `PictureNotStored`, `PictureGone`.
        """
        async with self._db.transaction() as tx:
            asset = await self._assets.anyones(tx, asset_id)
            if asset.flagged is not None:
                raise PictureFlagged()
            if len(await self._assets.stored_rungs(tx, asset)) < len(RUNGS):
                raise PictureNotStored()
            if await store.publish(tx, asset.id, by):
                told = PicturePublished(asset_id=asset.id)
                await self._spine.record(tx, told, aggregate_id=asset.id, owner_id=None, origin=OPERATOR)
            shown = await self._shown(tx, asset.id)
        if shown.picture.withdrawn_at is not None:
            raise PictureGone()
        return shown

    async def get(self, asset_id: UUID) -> Published:
        """One public picture; raises `PictureNotFound`."""
        async with self._db.transaction(readonly=True) as tx:
            return await self._shown(tx, asset_id)

    async def page(self, before: UUID | None, limit: int) -> list[Picture]:
        """Public pictures, newest photo first, withdrawn ones too."""
        async with self._db.reading() as db:
            return await store.pictures(db, before, limit)

    async def withdraw(self, asset_id: UUID) -> None:
        """End a public picture at every edge, for good; raises `PictureNotFound`."""
        async with self._db.transaction() as tx:
            if await store.picture(tx, asset_id) is None:
                raise PictureNotFound()
            if await store.withdraw(tx, asset_id):
                await self._denials.revoke(tx, [keys.picture(ids.encode("asset", asset_id))])
                told = PictureWithdrawn(asset_id=AssetId(asset_id))
                await self._spine.record(tx, told, aggregate_id=asset_id, owner_id=None, origin=OPERATOR)

    async def _shown(self, db: Readable, asset_id: UUID) -> Published:
        picture = await store.picture(db, asset_id)
        if picture is None:
            raise PictureNotFound()
        if picture.withdrawn_at is not None:
            told = await delivery.receipts(db, keys.picture(ids.encode("asset", asset_id)))
            return Published(picture=picture, variants=[], told=told)
        asset = await self._assets.anyones(db, asset_id)
        rungs = await self._assets.stored_rungs(db, asset)
        return Published(picture=picture, variants=self._variants(asset, rungs), told=[])

    def _variants(self, asset: Asset, rungs: list[Rung]) -> list[tuple[DurableAddress, int, int]]:
        assert self._minter is not None, "only the API mints"
        assert asset.engine is not None
        name = ids.encode("asset", asset.id)
        made = self._minter.durable(name, asset.engine, [rung.side for rung in rungs], "jpg", asset.region)
        return [(address, rung.width, rung.height) for address, rung in zip(made, rungs, strict=True)]

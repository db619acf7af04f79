"""Photos and their images over HTTP."""

from typing import Annotated

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from app.assets.errors import AssetNotFound, AssetNotViewable
from app.assets.schemas import AssetOut, AssetPageOut, ImageOut, ImagesOut, MintImages
from app.assets.service import Assets
from app.web.guards import Customer, CustomerController
from app.web.openapi import fails
from base import ids


class AssetController(CustomerController):
    """Photos."""

    path = "/v1/assets"
    tags = ("assets",)
    assets: Assets

    @get("/", operation_id="ListAssets", summary="List photos", responses=fails(ids.MalformedId))
    async def page(
        self,
        who: NamedDependency[Customer],
        before: Annotated[
            str | None, QueryParameter(description="The `next` of the page before.", max_length=40)
        ] = None,
        limit: Annotated[int, QueryParameter(description="At most so many.", ge=1, le=200)] = 50,
    ) -> AssetPageOut:
        """The caller's photos, newest first."""
        found = await self.assets.page(who.owner_id, ids.decode("asset", before) if before else None, limit)
        return AssetPageOut(
            assets=[AssetOut.of(asset) for asset in found],
            next=ids.encode("asset", found[-1].id) if len(found) == limit else None,
        )

    @get("/{asset_id:str}", operation_id="ReadAsset", summary="Read a photo", responses=fails(AssetNotFound))
    async def read(self, asset_id: FromPath[str], who: NamedDependency[Customer]) -> AssetOut:
        """One photo."""
        return AssetOut.of(await self.assets.get(who.owner_id, ids.decode("asset", asset_id)))

    @delete("/{asset_id:str}", operation_id="EraseAsset", summary="Erase a photo", responses=fails(AssetNotFound))
    async def erase(self, asset_id: FromPath[str], who: NamedDependency[Customer]) -> None:
        """Erase a photo for good: original, previews and what was found of it."""
        await self.assets.delete(who.owner_id, ids.decode("asset", asset_id))


class ImageController(CustomerController):
    """Images of photos at the edge."""

    path = "/v1/images"
    tags = ("assets",)
    assets: Assets

    @post(
        "/",
        operation_id="MintImages",
        summary="Addresses of images",
        status_code=200,
        responses=fails(AssetNotFound, AssetNotViewable),
    )
    async def mint(self, data: JSONBody[MintImages], who: NamedDependency[Customer]) -> ImagesOut:
        """Signed addresses at the edge for a whole `srcset`. Asked again soon, the same addresses."""
        wanted = [ids.decode("asset", asset_id) for asset_id in data.asset_ids]
        shown = await self.assets.show(who.owner_id, wanted, data.sides, data.format)
        return ImagesOut(images=[ImageOut.of(one) for one in shown])

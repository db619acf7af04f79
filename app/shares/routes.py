"""Shares over HTTP, and public pictures for operators."""

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.assets.errors import AssetNotFound
from app.kernel.idempotency import Idempotency
from app.shares.errors import PictureFlagged, PictureGone, PictureNotFound, PictureNotStored, ShareNotFound
from app.shares.pictures import Pictures
from app.shares.schemas import (
    CreateShare,
    OpenedShareOut,
    PictureOut,
    PicturePageOut,
    PublishedOut,
    PublishPicture,
    ShareOut,
    SharePageOut,
)
from app.shares.service import Shares
from app.web.guards import CustomerController, OperatorController, customer, operator
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids

_BEFORE = QueryParameter(description="The `next` of the page before.", max_length=40)
_LIMIT = QueryParameter(description="At most so many.", ge=1, le=200)


class ShareController(CustomerController):
    """Shares."""

    path = "/v1/shares"
    tags = ("shares",)
    shares: Shares
    idempotency: Idempotency

    @post(
        "/",
        operation_id="CreateShare",
        summary="Share photos",
        status_code=201,
        responses=fails(*KEY_ERRORS, AssetNotFound),
    )
    async def create(self, data: JSONBody[CreateShare], request: Request[Any, Any, Any]) -> Response[ShareOut]:
        """Let others see photos, small, until the share is revoked. The originals are never shown."""
        call = await keyed(request)
        wanted = [ids.decode("asset", asset_id) for asset_id in data.asset_ids]
        given = await self.idempotency.once(
            call, lambda tx: self.shares.create(tx, call.owner_id, wanted), as_json(201, ShareOut.of)
        )
        return answered(given)

    @get("/", operation_id="ListShares", summary="List shares", responses=fails(ids.MalformedId))
    async def page(
        self,
        before: Annotated[str | None, _BEFORE] = None,
        limit: Annotated[int, _LIMIT] = 50,
    ) -> SharePageOut:
        """The caller's shares, newest first, revoked ones too."""
        who = customer()
        found = await self.shares.page(who.owner_id, ids.decode("share", before) if before else None, limit)
        return SharePageOut(
            shares=[ShareOut.of(share) for share in found],
            next=ids.encode("share", found[-1].id) if len(found) == limit else None,
        )

    @get("/{share_id:str}", operation_id="ReadShare", summary="Read a share", responses=fails(ShareNotFound))
    async def read(
        self,
        share_id: FromPath[str],
        format_: Annotated[
            Literal["jpg", "webp", "avif"], QueryParameter(name="format", description="The encoding of its images.")
        ] = "jpg",
    ) -> OpenedShareOut:
        """Its photos with addresses to hand on; once revoked, the edges that gave their word."""
        who = customer()
        return OpenedShareOut.of(await self.shares.open(who.owner_id, ids.decode("share", share_id), format_))

    @delete("/{share_id:str}", operation_id="RevokeShare", summary="Revoke a share", responses=fails(ShareNotFound))
    async def revoke(self, share_id: FromPath[str]) -> None:
        """End the share's addresses, whoever has them; every edge is told and gives a receipt."""
        who = customer()
        await self.shares.revoke(who.owner_id, ids.decode("share", share_id))


class PictureController(OperatorController):
    """Public pictures."""

    path = "/ops/pictures"
    tags = ("operators",)
    pictures: Pictures

    @post(
        "/",
        operation_id="PublishPicture",
        summary="Publish a picture",
        status_code=200,
        responses=fails(AssetNotFound, PictureFlagged, PictureNotStored, PictureGone),
    )
    async def publish(self, data: JSONBody[PublishPicture]) -> PublishedOut:
        """Give a photo's stored renditions addresses that do not end. Published again, it is the same picture."""
        who = operator()
        return PublishedOut.of(await self.pictures.publish(ids.decode("asset", data.asset_id), who.name))

    @get("/", operation_id="ListPictures", summary="List public pictures", responses=fails(ids.MalformedId))
    async def page(
        self,
        before: Annotated[str | None, _BEFORE] = None,
        limit: Annotated[int, _LIMIT] = 50,
    ) -> PicturePageOut:
        """What was published, newest photo first, withdrawn pictures too."""
        found = await self.pictures.page(ids.decode("asset", before) if before else None, limit)
        return PicturePageOut(
            pictures=[PictureOut.of(picture) for picture in found],
            next=ids.encode("asset", found[-1].asset_id) if len(found) == limit else None,
        )

    @get("/{asset_id:str}", operation_id="ReadPicture", summary="Read a picture", responses=fails(PictureNotFound))
    async def read(self, asset_id: FromPath[str]) -> PublishedOut:
        """Its addresses; once withdrawn, the edges that gave their word."""
        return PublishedOut.of(await self.pictures.get(ids.decode("asset", asset_id)))

    @delete(
        "/{asset_id:str}",
        operation_id="WithdrawPicture",
        summary="Withdraw a picture",
        responses=fails(PictureNotFound),
    )
    async def withdraw(self, asset_id: FromPath[str]) -> None:
        """End a public picture at every edge, for good; its owner still sees the photo."""
        await self.pictures.withdraw(ids.decode("asset", asset_id))

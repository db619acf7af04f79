"""Photos and their images over HTTP."""

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.assets.care import AssetCare
from app.assets.errors import (
    AssetNotFound,
    AssetNotProcessable,
    AssetNotReady,
    AssetNotViewable,
    OriginalGone,
    PrintImpossible,
)
from app.assets.schemas import (
    AlikeOut,
    AlikesOut,
    AssetOut,
    AssetPageOut,
    ImageOut,
    ImagesOut,
    LinkOut,
    MintImages,
    PrintsOut,
    ProvenanceOut,
    ReadinessOut,
)
from app.assets.service import Assets
from app.kernel.idempotency import Idempotency
from app.web.guards import CustomerController, customer
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids


def trim(name: str) -> Any:
    """The parameter of one side of a print."""
    return QueryParameter(
        name=name, description="A side of the print after cutting, in micrometres.", ge=20_000, le=3_000_000
    )


class AssetController(CustomerController):
    """Photos."""

    path = "/v1/assets"
    tags = ("assets",)
    assets: Assets
    care: AssetCare
    idempotency: Idempotency

    @get("/", operation_id="ListAssets", summary="List photos", responses=fails(ids.MalformedId))
    async def page(
        self,
        before: Annotated[
            str | None, QueryParameter(description="The `next` of the page before.", max_length=40)
        ] = None,
        limit: Annotated[int, QueryParameter(description="At most so many.", ge=1, le=200)] = 50,
        trash: Annotated[bool, QueryParameter(description="Those in the trash, instead of those outside.")] = False,
    ) -> AssetPageOut:
        """The caller's photos, newest first."""
        who = customer()
        found = await self.assets.page(who.owner_id, ids.decode("asset", before) if before else None, limit, trash)
        return AssetPageOut(
            assets=[AssetOut.of(asset) for asset in found],
            next=ids.encode("asset", found[-1].id) if len(found) == limit else None,
        )

    @get("/{asset_id:str}", operation_id="ReadAsset", summary="Read a photo", responses=fails(AssetNotFound))
    async def read(self, asset_id: FromPath[str]) -> AssetOut:
        """One photo."""
        who = customer()
        return AssetOut.of(await self.assets.get(who.owner_id, ids.decode("asset", asset_id)))

    @delete(
        "/{asset_id:str}", operation_id="TrashOrEraseAsset", summary="Remove a photo", responses=fails(AssetNotFound)
    )
    async def remove(
        self,
        asset_id: FromPath[str],
        permanently: Annotated[
            bool, QueryParameter(description="Erase it now, original and previews, instead of into the trash.")
        ] = False,
    ) -> None:
        """Put a photo into the trash; 30 days later it is erased, unless restored. Or erase it for good at once."""
        who = customer()
        wanted = ids.decode("asset", asset_id)
        await (self.assets.delete if permanently else self.care.trash)(who.owner_id, wanted)

    @post(
        "/{asset_id:str}/restore",
        operation_id="RestoreAsset",
        summary="Take a photo out of the trash",
        status_code=200,
        responses=fails(AssetNotFound),
    )
    async def restore(self, asset_id: FromPath[str]) -> AssetOut:
        """Out of the trash; a photo that is in no trash stays as it is."""
        who = customer()
        wanted = ids.decode("asset", asset_id)
        await self.care.restore(who.owner_id, wanted)
        return AssetOut.of(await self.assets.get(who.owner_id, wanted))

    @post(
        "/{asset_id:str}/original-link",
        operation_id="LinkOriginal",
        summary="A short link to the original",
        status_code=200,
        responses=fails(AssetNotFound, OriginalGone),
    )
    async def original_link(self, asset_id: FromPath[str]) -> LinkOut:
        """An address of the very bytes that were sent. It ends soon; ask again for another."""
        who = customer()
        link = await self.care.original_link(who.owner_id, ids.decode("asset", asset_id))
        return LinkOut(url=link.url, expires_in_s=link.expires_in_s)

    @post(
        "/{asset_id:str}/processing",
        operation_id="ProcessAsset",
        summary="Work on a photo again",
        status_code=202,
        responses=fails(*KEY_ERRORS, AssetNotFound, AssetNotProcessable),
    )
    async def process(self, asset_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[AssetOut]:
        """Make facts and previews again, with what works today; while that runs already, nothing more is planned."""
        call = await keyed(request)
        wanted = ids.decode("asset", asset_id)
        given = await self.idempotency.once(
            call, lambda tx: self.care.process_again(tx, call.owner_id, wanted), as_json(202, AssetOut.of)
        )
        return answered(given)

    @get(
        "/{asset_id:str}/readiness",
        operation_id="ReadReadiness",
        summary="How a photo suits a print",
        responses=fails(AssetNotFound, AssetNotReady, PrintImpossible),
    )
    async def readiness(
        self,
        asset_id: FromPath[str],
        output: Annotated[
            Literal["standard", "matte", "poster", "square"],
            QueryParameter(name="class", description="The output class."),
        ],
        width_um: Annotated[int, trim("widthUm")],
        height_um: Annotated[int, trim("heightUm")],
    ) -> ReadinessOut:
        """Pixels an inch, what a crop loses, and findings before money; what was not looked at yet is unknown."""
        who = customer()
        wanted = ids.decode("asset", asset_id)
        return ReadinessOut.of(await self.care.readiness(who.owner_id, wanted, output, (width_um, height_um)))

    @get(
        "/{asset_id:str}/prints",
        operation_id="ListPrints",
        summary="What a photo can be printed as",
        responses=fails(AssetNotFound, AssetNotReady),
    )
    async def prints(self, asset_id: FromPath[str]) -> PrintsOut:
        """How it suits every usual size of every class, as found when it was looked at (`asset.analysed`)."""
        who = customer()
        return PrintsOut.of(await self.care.prints(who.owner_id, ids.decode("asset", asset_id)))

    @get(
        "/{asset_id:str}/alike",
        operation_id="ListAlike",
        summary="Photos that look the same",
        responses=fails(AssetNotFound),
    )
    async def alike(self, asset_id: FromPath[str]) -> AlikesOut:
        """The caller's own photos that look like this one, nearest first. Advice: nothing follows from it."""
        who = customer()
        found = await self.care.alike(who.owner_id, ids.decode("asset", asset_id))
        return AlikesOut(alike=[AlikeOut.of(one) for one in found])

    @get(
        "/{asset_id:str}/provenance",
        operation_id="ReadProvenance",
        summary="Where a photo came from",
        responses=fails(AssetNotFound),
    )
    async def provenance(self, asset_id: FromPath[str]) -> ProvenanceOut:
        """The upload that brought it, every step of work on it, the files made, and how long each kind is kept."""
        who = customer()
        return ProvenanceOut.of(await self.care.provenance(who.owner_id, ids.decode("asset", asset_id)))


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
    async def mint(self, data: JSONBody[MintImages]) -> ImagesOut:
        """Signed addresses at the edge for a whole `srcset`. Asked again soon, the same addresses."""
        who = customer()
        wanted = [ids.decode("asset", asset_id) for asset_id in data.asset_ids]
        shown = await self.assets.show(who.owner_id, wanted, data.sides, data.format)
        return ImagesOut(images=[ImageOut.of(one) for one in shown])

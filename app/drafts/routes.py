"""Drafts over HTTP."""

import re
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, patch, post
from litestar.params import FromPath, HeaderParameter, JSONBody

from app.assets.errors import AssetNotFound
from app.catalog.errors import CatalogueMissing, VariantUnknown
from app.drafts.errors import DraftClosed, DraftNotFound, ItemUnknown, TooManyCopies, VersionMissing, VersionMoved
from app.drafts.schemas import AskPreview, ChecksOut, DraftOut, PreviewsOut, PutDraft
from app.drafts.service import Drafts, Shown
from app.kernel.idempotency import Idempotency
from app.web.guards import CustomerController, customer
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids

_TAG: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')
_ITEM_ERRORS: Final = (AssetNotFound, VariantUnknown, ItemUnknown, TooManyCopies, CatalogueMissing)


class DraftController(CustomerController):
    """Drafts."""

    path = "/v1/drafts"
    tags = ("drafts",)
    drafts: Drafts
    idempotency: Idempotency

    @post(
        "/",
        operation_id="CreateDraft",
        summary="Begin a draft",
        status_code=201,
        responses=fails(*KEY_ERRORS, *_ITEM_ERRORS),
    )
    async def create(self, data: JSONBody[PutDraft], request: Request[Any, Any, Any]) -> Response[DraftOut]:
        """Put photos and products together. Photos may still be on their way."""
        call = await keyed(request)
        given = await self.idempotency.once(
            call, lambda tx: self.drafts.create(tx, call.owner_id, data.wishes()), as_json(201, DraftOut.of)
        )
        return answered(given)

    @get("/{draft_id:str}", operation_id="ReadDraft", summary="Read a draft", responses=fails(DraftNotFound))
    async def read(self, draft_id: FromPath[str]) -> Response[DraftOut]:
        """One draft; the `ETag` names its version."""
        who = customer()
        return _tagged(await self.drafts.get(who.owner_id, ids.decode("draft", draft_id)))

    @patch(
        "/{draft_id:str}",
        operation_id="ChangeDraft",
        summary="Change a draft",
        responses=fails(DraftNotFound, VersionMissing, VersionMoved, DraftClosed, *_ITEM_ERRORS),
    )
    async def change(
        self,
        draft_id: FromPath[str],
        data: JSONBody[PutDraft],
        if_match: Annotated[
            str | None,
            HeaderParameter(name="If-Match", description="The `ETag` of the version that is changed.", max_length=20),
        ] = None,
    ) -> Response[DraftOut]:
        """Put these items in place of the draft's; an item with its id stays the same item."""
        who = customer()
        wanted = ids.decode("draft", draft_id)
        return _tagged(await self.drafts.change(who.owner_id, wanted, _version(if_match), data.wishes()))

    @delete(
        "/{draft_id:str}",
        operation_id="AbandonDraft",
        summary="Give a draft up",
        responses=fails(DraftNotFound, DraftClosed),
    )
    async def abandon(self, draft_id: FromPath[str]) -> None:
        """Give a draft up; its photos stay."""
        who = customer()
        await self.drafts.abandon(who.owner_id, ids.decode("draft", draft_id))

    @get(
        "/{draft_id:str}/checks",
        operation_id="CheckDraft",
        summary="What stands against ordering a draft",
        responses=fails(DraftNotFound, CatalogueMissing),
    )
    async def checks(self, draft_id: FromPath[str]) -> ChecksOut:
        """Every item looked at for its own size and paper, with a crop to offer."""
        who = customer()
        return ChecksOut.of(*await self.drafts.looked(who.owner_id, ids.decode("draft", draft_id)))

    @post(
        "/{draft_id:str}/preview",
        operation_id="PreviewDraft",
        summary="How a draft will look",
        status_code=200,
        responses=fails(DraftNotFound, CatalogueMissing),
    )
    async def preview(self, draft_id: FromPath[str], data: JSONBody[AskPreview]) -> PreviewsOut:
        """A picture of each item after cutting, from the boxes that its print master will use."""
        who = customer()
        wanted = ids.decode("draft", draft_id)
        proof, white = data.proof, data.paper_white
        shown = await self.drafts.preview(who.owner_id, wanted, data.side, proof=proof, paper_white=white)
        return PreviewsOut.of(*shown)


def _tagged(shown: Shown) -> Response[DraftOut]:
    return Response(DraftOut.of(shown), headers={"ETag": f'"{shown.draft.version}"'})


def _version(tag: str | None) -> int | None:
    """The version in an `If-Match`; 0, which no draft has, for one that we never gave."""
    if tag is None:
        return None
    found = _TAG.fullmatch(tag.strip())
    return int(found[1]) if found else 0

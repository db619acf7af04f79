"""Drafts on the wire."""

from datetime import datetime
from typing import Annotated, Literal, Self

from msgspec import Meta

from app.drafts.checks import Check, Looked, Suggestion, is_ready
from app.drafts.domain import LONGEST_NOTE, MOST_BORDER_UM, MOST_COPIES, MOST_ITEMS, Draft, Fit, Item, Orientation, Wish
from app.drafts.preview import Preview
from app.drafts.service import Shown
from app.web.wire import WireIn, WireOut
from base import ids
from base.ids import AssetId, ItemId

Pixel = Annotated[int, Meta(ge=0, le=99_999)]


class CropIn(WireIn, frozen=True, kw_only=True):
    """A rectangle in pixels of the upright original."""

    x: Annotated[Pixel, Meta(description="From the left.", examples=[0])]
    y: Annotated[Pixel, Meta(description="From the top.", examples=[120])]
    width: Annotated[int, Meta(description="Its width.", ge=1, le=99_999, examples=[3000])]
    height: Annotated[int, Meta(description="Its height.", ge=1, le=99_999, examples=[2000])]


class FocalIn(WireIn, frozen=True, kw_only=True):
    """The point to keep in sight, in ten-thousandths of the crop's sides."""

    x: Annotated[int, Meta(description="From the left.", ge=0, le=10_000, examples=[5000])]
    y: Annotated[int, Meta(description="From the top.", ge=0, le=10_000, examples=[4000])]


class ItemIn(WireIn, frozen=True, kw_only=True):
    """One photo as one product."""

    asset_id: Annotated[str, Meta(description="The photo.", max_length=40, examples=["ast_01h455vb4pex5vsknk084sn02q"])]
    sku: Annotated[
        str,
        Meta(description="The variant's code.", min_length=1, max_length=60, examples=["photo-10x15-standard"]),
    ]
    id: Annotated[str | None, Meta(description="An item of this draft to go on with; none for a new one.")] = None
    copies: Annotated[int, Meta(description="How many.", ge=1, le=MOST_COPIES)] = 1
    paper: Annotated[
        Annotated[str, Meta(min_length=1, max_length=30)] | None,
        Meta(description="One of the variant's papers; none is its default."),
    ] = None
    orientation: Annotated[
        Orientation, Meta(description="How the paper lies; `auto`: as the photo, or its crop, does.")
    ] = "auto"
    fit: Annotated[
        Fit, Meta(description="`cover` fills the paper, `whole` sets all of the photo, or its crop, on white.")
    ] = "cover"
    crop: Annotated[CropIn | None, Meta(description="What to show of the photo; none is all of it.")] = None
    focal: Annotated[
        FocalIn | None, Meta(description="What to keep in sight where the paper has another shape; none: the middle.")
    ] = None
    border_um: Annotated[int, Meta(description="White inside the edge, micrometres.", ge=0, le=MOST_BORDER_UM)] = 0
    gift_note: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_NOTE)] | None,
        Meta(description="Words for whoever gets it; stored encrypted."),
    ] = None

    def wish(self) -> Wish:
        """To the domain; raises `MalformedId`."""
        crop = None if self.crop is None else (self.crop.x, self.crop.y, self.crop.width, self.crop.height)
        return Wish(
            id=None if self.id is None else ItemId(ids.decode("item", self.id)),
            asset_id=AssetId(ids.decode("asset", self.asset_id)),
            sku=self.sku,
            copies=self.copies,
            paper=self.paper,
            orientation=self.orientation,
            fit=self.fit,
            crop=crop,
            focal=(5_000, 5_000) if self.focal is None else (self.focal.x, self.focal.y),
            border_um=self.border_um,
            gift_note=self.gift_note,
        )


class PutDraft(WireIn, frozen=True, kw_only=True):
    """What is wanted."""

    items: Annotated[list[ItemIn], Meta(description="The items, in order.", max_length=MOST_ITEMS)]

    def wishes(self) -> list[Wish]:
        """To the domain; raises `MalformedId`."""
        return [item.wish() for item in self.items]


class CropOut(WireOut, frozen=True, kw_only=True):
    """A rectangle in pixels of the upright original."""

    x: Annotated[int, Meta(description="From the left.")]
    y: Annotated[int, Meta(description="From the top.")]
    width: Annotated[int, Meta(description="Its width.")]
    height: Annotated[int, Meta(description="Its height.")]

    @classmethod
    def of(cls, box: tuple[int, int, int, int]) -> Self:
        """From the domain."""
        return cls(x=box[0], y=box[1], width=box[2], height=box[3])


class FocalOut(WireOut, frozen=True, kw_only=True):
    """The point to keep in sight, in ten-thousandths of the crop's sides."""

    x: Annotated[int, Meta(description="From the left.")]
    y: Annotated[int, Meta(description="From the top.")]


class ItemOut(WireOut, frozen=True, kw_only=True):
    """One photo as one product."""

    id: Annotated[str, Meta(description="The item's id.")]
    asset_id: Annotated[str, Meta(description="The photo.")]
    sku: Annotated[str, Meta(description="The variant's code.")]
    copies: Annotated[int, Meta(description="How many.")]
    paper: Annotated[str, Meta(description="The paper.")]
    orientation: Annotated[str, Meta(description="`auto`, `portrait` or `landscape`.")]
    fit: Annotated[str, Meta(description="`cover` or `whole`.")]
    crop: Annotated[CropOut | None, Meta(description="What is shown of the photo; null is all of it.")]
    focal: Annotated[FocalOut, Meta(description="What is kept in sight.")]
    border_um: Annotated[int, Meta(description="White inside the edge, micrometres.")]
    gift_note: Annotated[str | None, Meta(description="Words for whoever gets it.")]

    @classmethod
    def of(cls, item: Item, note: str | None) -> Self:
        """From the domain."""
        return cls(
            id=ids.encode("item", item.id),
            asset_id=ids.encode("asset", item.asset_id),
            sku=item.sku,
            copies=item.copies,
            paper=item.paper,
            orientation=item.orientation,
            fit=item.fit,
            crop=None if item.crop is None else CropOut.of(item.crop),
            focal=FocalOut(x=item.focal[0], y=item.focal[1]),
            border_um=item.border_um,
            gift_note=note,
        )


class DraftOut(WireOut, frozen=True, kw_only=True):
    """A draft."""

    id: Annotated[str, Meta(description="The draft's id.")]
    state: Annotated[
        str, Meta(description="`editing`, `ready_for_checkout` or `ordered`.", examples=["ready_for_checkout"])
    ]
    version: Annotated[int, Meta(description="Grows with every change; in quotes, the `ETag`.")]
    items: Annotated[list[ItemOut], Meta(description="The items, in order.")]
    created_at: Annotated[datetime, Meta(description="When it was begun, UTC.")]
    updated_at: Annotated[datetime, Meta(description="When its items last changed, UTC.")]

    @classmethod
    def of(cls, shown: Shown) -> Self:
        """From the domain."""
        draft = shown.draft
        return cls(
            id=ids.encode("draft", draft.id),
            state=draft.state.value,
            version=draft.version,
            items=[ItemOut.of(item, shown.notes.get(item.id)) for item in draft.items],
            created_at=draft.created_at,
            updated_at=draft.updated_at,
        )


class CheckOut(WireOut, frozen=True, kw_only=True):
    """One thing to know."""

    code: Annotated[str, Meta(description="What it is; stable.", examples=["low-resolution"])]
    severity: Annotated[
        str, Meta(description="`note`, `soft`, `strong` do not stop; `wait` goes by itself; `reject` must be changed.")
    ]
    value: Annotated[int | None, Meta(description="What was measured, in the code's own unit.")]
    limit: Annotated[int | None, Meta(description="What it was held against.")]

    @classmethod
    def of(cls, check: Check) -> Self:
        """From the domain."""
        return cls(code=check.code, severity=check.severity.value, value=check.value, limit=check.limit)


class SuggestionOut(WireOut, frozen=True, kw_only=True):
    """A crop of this shape that cuts least. It is only shown; nothing uses it by itself."""

    crop: Annotated[CropOut, Meta(description="The crop.")]
    lost_per_mille: Annotated[int, Meta(description="How much of the photo it leaves out, thousandths.")]
    keeps_faces: Annotated[bool, Meta(description="Whether every known face is whole in it.")]
    keeps_text: Annotated[bool, Meta(description="Whether all known text is whole in it.")]

    @classmethod
    def of(cls, best: Suggestion) -> Self:
        """From the domain."""
        return cls(
            crop=CropOut.of(best.crop),
            lost_per_mille=best.lost,
            keeps_faces=best.keeps_faces,
            keeps_text=best.keeps_text,
        )


class ItemChecksOut(WireOut, frozen=True, kw_only=True):
    """What there is to say of one item."""

    item_id: Annotated[str, Meta(description="The item.")]
    checks: Annotated[list[CheckOut], Meta(description="Things to know.")]
    ppi: Annotated[int | None, Meta(description="Pixels an inch of the print; null while the photo is not known.")]
    lost_per_mille: Annotated[int | None, Meta(description="How much of the photo is not shown, thousandths.")]
    suggestion: Annotated[SuggestionOut | None, Meta(description="A crop to offer.")]

    @classmethod
    def of(cls, one: Looked) -> Self:
        """From the domain."""
        return cls(
            item_id=ids.encode("item", one.item_id),
            checks=[CheckOut.of(check) for check in one.checks],
            ppi=one.ppi,
            lost_per_mille=one.lost,
            suggestion=None if one.suggestion is None else SuggestionOut.of(one.suggestion),
        )


class ChecksOut(WireOut, frozen=True, kw_only=True):
    """What stands for and against ordering a draft."""

    version: Annotated[int, Meta(description="The version that was looked at.")]
    ready: Annotated[bool, Meta(description="Whether nothing stands against ordering it; an empty draft is not.")]
    items: Annotated[list[ItemChecksOut], Meta(description="By item.")]

    @classmethod
    def of(cls, draft: Draft, looked: list[Looked]) -> Self:
        """From the domain."""
        return cls(version=draft.version, ready=is_ready(looked), items=[ItemChecksOut.of(one) for one in looked])


class AskPreview(WireIn, frozen=True, kw_only=True):
    """Which previews."""

    side: Annotated[Literal[400, 800, 1600], Meta(description="The paper's longer side in pixels.")] = 800
    proof: Annotated[
        bool, Meta(description="A soft proof: the colours that the class's printing holds, at proof quality.")
    ] = False
    paper_white: Annotated[
        bool, Meta(description="In a proof, show the paper's tint beside the screen's white, where it has one.")
    ] = False


class PreviewOut(WireOut, frozen=True, kw_only=True):
    """An item's paper, and where on it the picture stands; what it does not cover is white."""

    item_id: Annotated[str, Meta(description="The item.")]
    reason: Annotated[
        str | None, Meta(description="Why there is no picture: `not-viewable` or `not-placed` (see the checks).")
    ]
    url: Annotated[str | None, Meta(description="The picture, signed.")]
    expires_in_s: Annotated[int | None, Meta(description="How long the address lasts, seconds from now.")]
    paper_width: Annotated[int, Meta(description="The paper after cutting, pixels.")]
    paper_height: Annotated[int, Meta(description="The paper after cutting, pixels.")]
    placed: Annotated[CropOut, Meta(description="Where on the paper the picture stands, pixels.")]
    proof: Annotated[
        Literal["srgb", "adobe", "fogra39"] | None, Meta(description="The printing that the picture shows, if a proof.")
    ]
    proof_declared: Annotated[
        bool | None,
        Meta(
            description="Whether the printer has said that it prints so. Otherwise the proof shows what is usual for "
            "this kind of print, and the real one may differ."
        ),
    ]

    @classmethod
    def of(cls, shown: Preview) -> Self:
        """From the domain."""
        return cls(
            item_id=ids.encode("item", shown.item_id),
            reason=shown.reason,
            url=None if shown.address is None else shown.address.url,
            expires_in_s=None if shown.address is None else shown.address.expires_in_s,
            paper_width=shown.paper[0],
            paper_height=shown.paper[1],
            placed=CropOut.of((*shown.placed,)),
            proof=None if shown.proof is None else shown.proof.condition,
            proof_declared=None if shown.proof is None else shown.proof.declared,
        )


class PreviewsOut(WireOut, frozen=True, kw_only=True):
    """How a draft will look."""

    version: Annotated[int, Meta(description="The version that is shown.")]
    items: Annotated[list[PreviewOut], Meta(description="By item.")]

    @classmethod
    def of(cls, draft: Draft, shown: list[Preview]) -> Self:
        """From the domain."""
        return cls(version=draft.version, items=[PreviewOut.of(one) for one in shown])

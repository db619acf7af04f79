"""Shares and public pictures on the wire."""

from datetime import datetime
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from app.delivery.store import Told
from app.shares.domain import Picture, Share
from app.shares.pictures import Published
from app.shares.service import Opened
from app.web.wire import WireIn, WireOut
from base import ids


class CreateShare(WireIn, frozen=True, kw_only=True):
    """Which photos others may see."""

    asset_ids: Annotated[
        list[Annotated[str, Meta(max_length=40)]],
        Meta(description="Photos.", min_length=1, max_length=100, examples=[["ast_01h455vb4pex5vsknk084sn02q"]]),
    ]


class ShareOut(WireOut, frozen=True, kw_only=True):
    """A share. It holds no address: reading it gives them."""

    id: Annotated[str, Meta(description="The share's id.")]
    asset_ids: Annotated[list[str], Meta(description="Its photos, in the order given.")]
    created_at: Annotated[datetime, Meta(description="When it was made, UTC.")]
    revoked_at: Annotated[datetime | None, Meta(description="When it was revoked, UTC; null while it is open.")]

    @classmethod
    def of(cls, share: Share) -> Self:
        """From the domain."""
        return cls(
            id=ids.encode("share", share.id),
            asset_ids=[ids.encode("asset", photo) for photo in share.photos],
            created_at=share.created_at,
            revoked_at=share.revoked_at,
        )


class SharePageOut(WireOut, frozen=True, kw_only=True):
    """A page of shares, newest first."""

    shares: Annotated[list[ShareOut], Meta(description="The shares.")]
    next: Annotated[str | None, Meta(description="Give as `before` for the next page; null at the end.")]


class LastingVariantOut(WireOut, frozen=True, kw_only=True):
    """One size of an image under an address without an end of its own."""

    side: Annotated[int, Meta(description="The square it fits into, in pixels.")]
    width: Annotated[int, Meta(description="Pixels.")]
    height: Annotated[int, Meta(description="Pixels.")]
    url: Annotated[str, Meta(description="The address at the edge; works without authorisation.")]


class SharedPhotoOut(WireOut, frozen=True, kw_only=True):
    """A shared photo."""

    asset_id: Annotated[str, Meta(description="The photo.")]
    thumbhash: Annotated[str | None, Meta(description="A placeholder (ThumbHash, base64).")]
    variants: Annotated[list[LastingVariantOut], Meta(description="Lightest first, at most 800 pixels.")]


class EdgeWordOut(WireOut, frozen=True, kw_only=True):
    """An edge's word that it serves it no more."""

    node: Annotated[str, Meta(description="Which edge.")]
    at: Annotated[datetime, Meta(description="From when on, UTC.")]

    @classmethod
    def of(cls, told: Told) -> Self:
        """From the domain."""
        return cls(node=told.node, at=told.at)


class OpenedShareOut(WireOut, frozen=True, kw_only=True):
    """A share with what it shows."""

    share: Annotated[ShareOut, Meta(description="The share.")]
    photos: Annotated[list[SharedPhotoOut], Meta(description="What can be seen; none once it is revoked.")]
    receipts: Annotated[list[EdgeWordOut], Meta(description="Which edges were told that it is revoked.")]

    @classmethod
    def of(cls, opened: Opened) -> Self:
        """From the domain."""
        return cls(
            share=ShareOut.of(opened.share),
            photos=[
                SharedPhotoOut(
                    asset_id=ids.encode("asset", photo.asset.id),
                    thumbhash=photo.asset.thumbhash,
                    variants=[
                        LastingVariantOut(side=address.side, width=width, height=height, url=address.url)
                        for address, width, height in photo.variants
                    ],
                )
                for photo in opened.photos
            ],
            receipts=[EdgeWordOut.of(told) for told in opened.told],
        )


class PublishPicture(WireIn, frozen=True, kw_only=True):
    """Which photo becomes a public picture."""

    asset_id: Annotated[str, Meta(description="The photo.", max_length=40, examples=["ast_01h455vb4pex5vsknk084sn02q"])]


class PictureOut(WireOut, frozen=True, kw_only=True):
    """A public picture."""

    asset_id: Annotated[str, Meta(description="The photo.")]
    published_by: Annotated[str, Meta(description="The operator.")]
    published_at: Annotated[datetime, Meta(description="When, UTC.")]
    withdrawn_at: Annotated[datetime | None, Meta(description="When it was withdrawn, UTC; null while it is public.")]

    @classmethod
    def of(cls, picture: Picture) -> Self:
        """From the domain."""
        return cls(**{**msgspec.structs.asdict(picture), "asset_id": ids.encode("asset", picture.asset_id)})


class PicturePageOut(WireOut, frozen=True, kw_only=True):
    """A page of public pictures, newest photo first."""

    pictures: Annotated[list[PictureOut], Meta(description="The pictures, withdrawn ones too.")]
    next: Annotated[str | None, Meta(description="Give as `before` for the next page; null at the end.")]


class PublishedOut(WireOut, frozen=True, kw_only=True):
    """A public picture with its addresses."""

    picture: Annotated[PictureOut, Meta(description="The picture.")]
    variants: Annotated[list[LastingVariantOut], Meta(description="Lightest first; none once it is withdrawn.")]
    receipts: Annotated[list[EdgeWordOut], Meta(description="Which edges were told that it is withdrawn.")]

    @classmethod
    def of(cls, published: Published) -> Self:
        """From the domain."""
        return cls(
            picture=PictureOut.of(published.picture),
            variants=[
                LastingVariantOut(side=address.side, width=width, height=height, url=address.url)
                for address, width, height in published.variants
            ],
            receipts=[EdgeWordOut.of(told) for told in published.told],
        )

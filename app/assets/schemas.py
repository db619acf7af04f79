"""Assets and their images on the wire."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from msgspec import Meta

from app.assets.domain import Asset
from app.assets.service import Shown
from app.web.wire import WireIn, WireOut
from base import ids


class AssetOut(WireOut, frozen=True, kw_only=True):
    """A photo."""

    id: Annotated[str, Meta(description="The photo's id.")]
    state: Annotated[
        str,
        Meta(
            description="`processing`, `preview_ready`, `ready`, `duplicate` or `rejected`.",
            examples=["preview_ready"],
        ),
    ]
    bytes: Annotated[int, Meta(description="The original's size.")]
    format: Annotated[str | None, Meta(description="What the bytes are, whatever the name says.")]
    width: Annotated[int | None, Meta(description="Pixels, upright.")]
    height: Annotated[int | None, Meta(description="Pixels, upright.")]
    sha256: Annotated[str | None, Meta(description="The original's SHA-256, hex, as we measured it.")]
    thumbhash: Annotated[str | None, Meta(description="A placeholder of some 25 bytes (ThumbHash, base64).")]
    notes: Annotated[list[str], Meta(description="What was done or should be known: codes.")]
    duplicate_of: Annotated[str | None, Meta(description="The photo with the same bytes that came first.")]
    reason: Annotated[str | None, Meta(description="Why it was rejected: a code.")]
    created_at: Annotated[datetime, Meta(description="When it came, UTC.")]

    @classmethod
    def of(cls, asset: Asset) -> Self:
        """From the domain."""
        return cls(
            id=ids.encode("asset", asset.id),
            state=asset.state.value,
            bytes=asset.bytes,
            format=asset.format,
            width=asset.width,
            height=asset.height,
            sha256=asset.sha256,
            thumbhash=asset.thumbhash,
            notes=list(asset.notes),
            duplicate_of=None if asset.duplicate_of is None else ids.encode("asset", asset.duplicate_of),
            reason=asset.reason,
            created_at=asset.created_at,
        )


class AssetPageOut(WireOut, frozen=True, kw_only=True):
    """A page of photos, newest first."""

    assets: Annotated[list[AssetOut], Meta(description="The photos.")]
    next: Annotated[str | None, Meta(description="Give as `before` for the next page; null at the end.")]


class MintImages(WireIn, frozen=True, kw_only=True):
    """Which images are wanted."""

    asset_ids: Annotated[
        list[Annotated[str, Meta(max_length=40)]],
        Meta(description="Photos.", min_length=1, max_length=100, examples=[["ast_01h455vb4pex5vsknk084sn02q"]]),
    ]
    sides: Annotated[
        list[Literal[200, 400, 800, 1600]],
        Meta(description="Squares to fit into, in pixels.", min_length=1, max_length=4, examples=[[200, 400]]),
    ]
    format: Annotated[Literal["jpg", "webp", "avif"], Meta(description="The encoding.")] = "jpg"


class VariantOut(WireOut, frozen=True, kw_only=True):
    """One size of an image."""

    side: Annotated[int, Meta(description="The square it fits into, in pixels.")]
    width: Annotated[int, Meta(description="Pixels.")]
    height: Annotated[int, Meta(description="Pixels.")]
    url: Annotated[str, Meta(description="The address at the edge; works without authorisation until it ends.")]
    expires_at: Annotated[datetime, Meta(description="When the address ends, UTC.")]
    expires_in_s: Annotated[int, Meta(description="The same as whole seconds from now.")]


class ImageOut(WireOut, frozen=True, kw_only=True):
    """The addresses of one photo's images, lightest first."""

    asset_id: Annotated[str, Meta(description="The photo.")]
    thumbhash: Annotated[str | None, Meta(description="A placeholder (ThumbHash, base64).")]
    variants: Annotated[list[VariantOut], Meta(description="Lightest first.")]

    @classmethod
    def of(cls, shown: Shown) -> Self:
        """From the domain."""
        return cls(
            asset_id=ids.encode("asset", shown.asset.id),
            thumbhash=shown.asset.thumbhash,
            variants=[
                VariantOut(
                    side=address.side,
                    width=width,
                    height=height,
                    url=address.url,
                    expires_at=datetime.fromtimestamp(address.expires, UTC),
                    expires_in_s=address.expires_in_s,
                )
                for address, width, height in shown.variants
            ],
        )


class ImagesOut(WireOut, frozen=True, kw_only=True):
    """Signed addresses."""

    images: Annotated[list[ImageOut], Meta(description="One entry a photo, in the order asked.")]

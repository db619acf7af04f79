"""Assets and their images on the wire."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from app.assets.care import Fitness
from app.assets.domain import ARTIFACTS, Alike, Asset, Provenance
from app.assets.service import Shown
from app.web.wire import WireIn, WireOut
from base import ids
from base.ingest import PrintFit


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
    trashed_until: Annotated[datetime | None, Meta(description="It is in the trash, and erased then (UTC).")]
    flagged: Annotated[str | None, Meta(description="Why nothing is made of it for now: a code.")]

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
            trashed_until=asset.trashed_until,
            flagged=asset.flagged,
        )


class AssetPageOut(WireOut, frozen=True, kw_only=True):
    """A page of photos, newest first."""

    assets: Annotated[list[AssetOut], Meta(description="The photos.")]
    next: Annotated[str | None, Meta(description="Give as `before` for the next page; null at the end.")]


class LinkOut(WireOut, frozen=True, kw_only=True):
    """An address that ends soon."""

    url: Annotated[str, Meta(description="The address; works without authorisation until it ends.")]
    expires_in_s: Annotated[int, Meta(description="Whole seconds until it ends.")]


class FindingOut(WireOut, frozen=True, kw_only=True):
    """One thing to know before printing."""

    code: Annotated[str, Meta(description="What was found: a code.")]
    level: Annotated[str, Meta(description="`reject` stops an order; `strong` and `soft` warn; `note` only tells.")]
    value: Annotated[int, Meta(description="What was measured, in the code's own unit.")]
    limit: Annotated[int, Meta(description="What it was held against.")]


class PartOut(WireOut, frozen=True, kw_only=True):
    """A part of the upright photo, in pixels."""

    x: Annotated[int, Meta(description="Pixels left of it.")]
    y: Annotated[int, Meta(description="Pixels above it.")]
    width: Annotated[int, Meta(description="Pixels.")]
    height: Annotated[int, Meta(description="Pixels.")]


class ReadinessOut(WireOut, frozen=True, kw_only=True):
    """How a photo suits a print."""

    printable: Annotated[bool, Meta(description="Nothing found stops an order.")]
    analysed: Annotated[bool, Meta(description="The photo was looked at; else wait for `asset.analysed`.")]
    ppi: Annotated[int, Meta(description="Pixels an inch on paper.")]
    lost: Annotated[int, Meta(description="Thousandths of the photo that the shape cuts off.")]
    part: Annotated[PartOut, Meta(description="The part that was judged: the one we suggest.")]
    findings: Annotated[list[FindingOut], Meta(description="What to know before printing.")]

    @classmethod
    def of(cls, fitness: Fitness) -> Self:
        """From the domain."""
        ready, part = fitness.readiness, fitness.part
        return cls(
            printable=ready.printable,
            analysed=fitness.analysed,
            ppi=ready.ppi,
            lost=ready.lost,
            part=PartOut(x=part.x, y=part.y, width=part.width, height=part.height),
            findings=[
                FindingOut(code=f.code.value, level=f.level.value, value=f.value, limit=f.limit) for f in ready.findings
            ],
        )


class PrintFitOut(WireOut, frozen=True, kw_only=True):
    """How a photo suits one size of one class."""

    output: Annotated[str, Meta(description="The output class.")]
    width_um: Annotated[int, Meta(description="The print after cutting, micrometres; turned to suit the photo.")]
    height_um: Annotated[int, Meta(description="The same, its other side.")]
    ppi: Annotated[int, Meta(description="Pixels an inch on paper.")]
    lost: Annotated[int, Meta(description="Thousandths of the photo that the shape cuts off.")]
    level: Annotated[str | None, Meta(description="The worst finding: `note`, `soft`, `strong`, `reject`; or null.")]
    findings: Annotated[list[str], Meta(description="What was found: codes.")]


class PrintsOut(WireOut, frozen=True, kw_only=True):
    """How a photo suits every usual size."""

    prints: Annotated[list[PrintFitOut], Meta(description="By class, smallest size first.")]

    @classmethod
    def of(cls, found: tuple[PrintFit, ...]) -> Self:
        """From what the pipeline found."""
        return cls(prints=[PrintFitOut(**{**msgspec.structs.asdict(f), "findings": list(f.findings)}) for f in found])


class AlikeOut(WireOut, frozen=True, kw_only=True):
    """Another photo that looks the same."""

    asset_id: Annotated[str, Meta(description="The photo.")]
    distance: Annotated[int, Meta(description="Bits of 64 that differ; 0 looks the same.")]

    @classmethod
    def of(cls, one: Alike) -> Self:
        """From the domain."""
        return cls(asset_id=ids.encode("asset", one.asset_id), distance=one.distance)


class AlikesOut(WireOut, frozen=True, kw_only=True):
    """Photos that look the same."""

    alike: Annotated[list[AlikeOut], Meta(description="Nearest first; at most 50.")]


class StepOut(WireOut, frozen=True, kw_only=True):
    """One step of work on a photo."""

    step: Annotated[str, Meta(description="Which.")]
    attempt: Annotated[int, Meta(description="Which attempt, from 1.")]
    outcome: Annotated[str, Meta(description="`ok`, `failed`, `refused` or `lost`.")]
    reason: Annotated[str | None, Meta(description="Why it did not go well: a code.")]
    ms: Annotated[int, Meta(description="Milliseconds it took.")]
    engine: Annotated[str | None, Meta(description="The revision of what made pixels.")]
    at: Annotated[datetime, Meta(description="When it was recorded, UTC.")]


class PreviewOut(WireOut, frozen=True, kw_only=True):
    """One stored preview."""

    recipe: Annotated[str, Meta(description="How it was made, as canonical text.")]
    extension: Annotated[str, Meta(description="Its file extension.")]
    width: Annotated[int, Meta(description="Pixels.")]
    height: Annotated[int, Meta(description="Pixels.")]
    bytes: Annotated[int, Meta(description="Its size.")]
    sha256: Annotated[str, Meta(description="Of its bytes, hex.")]


class ArtifactOut(WireOut, frozen=True, kw_only=True):
    """A kind of files that a photo has."""

    name: Annotated[str, Meta(description="`original`, `ancestor`, `preview` or `master`.")]
    made_from: Annotated[str, Meta(description="From what.")]
    kept: Annotated[str, Meta(description="How long: a code.")]


class ProvenanceOut(WireOut, frozen=True, kw_only=True):
    """Where a photo came from and what was done with it."""

    asset_id: Annotated[str, Meta(description="The photo.")]
    upload_id: Annotated[str | None, Meta(description="The upload that brought it.")]
    declared_type: Annotated[str, Meta(description="The content type that was declared.")]
    sha256: Annotated[str | None, Meta(description="Of the original, hex, as we measured it.")]
    engine: Annotated[str | None, Meta(description="The revision that made its ancestor.")]
    steps: Annotated[list[StepOut], Meta(description="Every step, oldest first.")]
    previews: Annotated[list[PreviewOut], Meta(description="What is stored, lightest first.")]
    artifacts: Annotated[list[ArtifactOut], Meta(description="How long each kind of files is kept.")]

    @classmethod
    def of(cls, told: Provenance) -> Self:
        """From the domain."""
        return cls(
            asset_id=ids.encode("asset", told.asset.id),
            upload_id=None if told.upload_id is None else ids.encode("upload", told.upload_id),
            declared_type=told.asset.declared_type,
            sha256=told.asset.sha256,
            engine=told.asset.engine,
            steps=[StepOut(**msgspec.structs.asdict(step)) for step in told.steps],
            previews=[PreviewOut(**msgspec.structs.asdict(preview)) for preview in told.previews],
            artifacts=[ArtifactOut(**msgspec.structs.asdict(kind)) for kind in ARTIFACTS],
        )


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
    fallback: Annotated[
        bool, Meta(description="A lighter stand-in: the wanted one took too much. Process the photo again for it.")
    ]


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
                    fallback=address.fallback,
                )
                for address, width, height in shown.variants
            ],
        )


class ImagesOut(WireOut, frozen=True, kw_only=True):
    """Signed addresses."""

    images: Annotated[list[ImageOut], Meta(description="One entry a photo, in the order asked.")]

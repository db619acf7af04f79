"""Uploads on the wire."""

from datetime import datetime
from typing import Annotated, Literal, Self

from msgspec import Meta

from app.uploads.check import LIMIT, Asked, Verdict
from app.uploads.domain import Declared, Progress, Upload, progress_of
from app.uploads.plan import Advice, WantedPart
from app.uploads.service import MAX_BYTES
from app.uploads.storage import PartAddress
from app.web.wire import WireIn, WireOut
from base import ids

ContentType = Literal[
    "image/jpeg", "image/heic", "image/heif", "image/png", "image/webp", "image/avif", "image/tiff", "image/gif"
]
Size = Annotated[
    int, Meta(description=f"The file's size in bytes, at most {MAX_BYTES}.", ge=1, le=2**40, examples=[3_145_728])
]
Digest = Annotated[
    str, Meta(description="The file's SHA-256, hex; storage then refuses other bytes.", pattern="^[0-9a-f]{64}$")
]
Reference = Annotated[
    str,
    Meta(
        description="The app's own name for this photo; the same one finds the open session again.",
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._:/=+-]+$",
    ),
]


Source = Annotated[
    str,
    Meta(
        description="The photo's id where the app found it (the phone's library).",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
    ),
]
When = Annotated[datetime, Meta(tz=True)]
Side = Annotated[int, Meta(ge=1, le=100_000)]
Rate = Annotated[int, Meta(ge=1, le=10**10)]
Country = Annotated[str, Meta(description="ISO 3166-1 alpha-2, capitals.", pattern="^[A-Z]{2}$", examples=["NL"])]


class CreateUpload(WireIn, frozen=True, kw_only=True):
    """What is going to be sent."""

    bytes: Size
    content_type: Annotated[ContentType, Meta(description="The file's media type.", examples=["image/jpeg"])]
    sha256: Annotated[Digest | None, Meta(description="The file's SHA-256, if known.")] = None
    client_reference: Annotated[Reference | None, Meta(description="The app's own name for this photo.")] = None
    source_id: Annotated[Source | None, Meta(description="The photo's id in the phone's library.")] = None
    source_modified_at: Annotated[When | None, Meta(description="When the library says it was changed last.")] = None
    pixel_width: Annotated[Side | None, Meta(description="Width of the original, if the library tells it.")] = None
    pixel_height: Annotated[Side | None, Meta(description="Height of the original, if the library tells it.")] = None
    bytes_per_second: Annotated[
        Rate | None,
        Meta(description="What the system says the network can send; the advice is for it until we observed better."),
    ] = None
    country: Annotated[Country | None, Meta(description="Where the phone is: the bytes are kept near it.")] = None

    def declared(self) -> Declared:
        """To the domain."""
        return Declared(
            bytes=self.bytes,
            content_type=self.content_type,
            sha256=self.sha256,
            client_reference=self.client_reference,
            source_id=self.source_id,
            source_modified_at=self.source_modified_at,
            pixel_width=self.pixel_width,
            pixel_height=self.pixel_height,
            bytes_per_second=self.bytes_per_second,
            country=self.country,
        )


class NextOut(WireOut, frozen=True, kw_only=True):
    """What to do next, from what storage holds and how fast bytes came."""

    path: Annotated[
        Literal["direct", "append", "complete", "none"],
        Meta(
            description="`direct`: ask `…/parts` and PUT to storage. `append`: the network is too slow for that; send "
            "small pieces under `/v1/tus/{id}`. `complete`: all bytes are there. `none`: nothing to send."
        ),
    ]
    part_bytes: Annotated[int, Meta(description="Bytes of one request.")]
    parallel: Annotated[int, Meta(description="How many requests at once.")]

    @classmethod
    def of(cls, advice: Advice) -> Self:
        """From the domain."""
        return cls(path=advice.path.value, part_bytes=advice.part_bytes, parallel=advice.parallel)


class UploadOut(WireOut, frozen=True, kw_only=True):
    """An upload session."""

    id: Annotated[str, Meta(description="The session's id.")]
    asset_id: Annotated[str, Meta(description="The photo's id once the upload is complete.")]
    state: Annotated[
        str,
        Meta(description="`open`, `verifying`, `completed`, `rejected`, `aborted` or `expired`.", examples=["open"]),
    ]
    bytes: Annotated[int, Meta(description="The declared size.")]
    content_type: Annotated[str, Meta(description="The declared media type.")]
    reason: Annotated[str | None, Meta(description="Why it was rejected: a code.")]
    warning: Annotated[
        str | None,
        Meta(description="`low-resolution-representation`: far fewer pixels came than were declared."),
    ]
    expires_at: Annotated[datetime, Meta(description="Until when bytes are taken, UTC.")]
    next: Annotated[NextOut, Meta(description="What to do next.")]

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """From the domain, before storage was looked at."""
        return cls.seen(progress_of(upload))

    @classmethod
    def seen(cls, progress: Progress) -> Self:
        """From the domain."""
        upload = progress.upload
        return cls(
            id=ids.encode("upload", upload.id),
            asset_id=ids.encode("asset", upload.asset_id),
            state=upload.state.value,
            bytes=upload.bytes,
            content_type=upload.content_type,
            reason=upload.reason,
            warning=upload.warning,
            expires_at=upload.expires_at,
            next=NextOut.of(progress.advice),
        )


class RangeOut(WireOut, frozen=True, kw_only=True):
    """A range of a file's bytes."""

    first_byte: Annotated[int, Meta(description="The first byte, from 0.")]
    bytes: Annotated[int, Meta(description="How many.")]


class UploadProgressOut(WireOut, frozen=True, kw_only=True):
    """An upload session and what storage holds of it."""

    upload: Annotated[UploadOut, Meta(description="The session.")]
    arrived_bytes: Annotated[int, Meta(description="Bytes that storage holds.")]
    missing: Annotated[list[RangeOut], Meta(description="What storage does not hold, in order; at most 100 ranges.")]

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """From the domain."""
        return cls(
            upload=UploadOut.seen(progress),
            arrived_bytes=progress.arrived,
            missing=[RangeOut(first_byte=gap.first, bytes=gap.bytes) for gap in progress.gaps[:100]],
        )


class WantedPartIn(WireIn, frozen=True, kw_only=True):
    """A part whose address is wanted."""

    number: Annotated[int, Meta(description="The part's number, from 1.", ge=1, le=10_000, examples=[1])]
    sha256: Annotated[
        Digest | None, Meta(description="The part's SHA-256, hex, if known: storage then refuses other bytes.")
    ] = None


class WantedParts(WireIn, frozen=True, kw_only=True):
    """Which parts' addresses are wanted."""

    parts: Annotated[list[WantedPartIn], Meta(description="The parts, each once.", min_length=1, max_length=100)]

    def wanted(self) -> list[WantedPart]:
        """To the domain."""
        return [WantedPart(number=part.number, sha256=part.sha256) for part in self.parts]


class PartOut(WireOut, frozen=True, kw_only=True):
    """Where to send one part: one PUT of exactly these bytes, with exactly these headers."""

    number: Annotated[int, Meta(description="The part's number, from 1.")]
    method: Annotated[Literal["PUT"], Meta(description="The method of the request.")]
    url: Annotated[str, Meta(description="The address; secret, it needs no further authorisation.")]
    headers: Annotated[dict[str, str], Meta(description="Headers that are part of the signature.")]
    first_byte: Annotated[int, Meta(description="The part's first byte in the file.")]
    bytes: Annotated[int, Meta(description="The part's size.")]
    expires_in_s: Annotated[int, Meta(description="Whole seconds from now until the address ends; ask again then.")]

    @classmethod
    def of(cls, part: PartAddress) -> Self:
        """From the domain."""
        return cls(
            number=part.number,
            method="PUT",
            url=part.url,
            headers=part.headers,
            first_byte=part.first_byte,
            bytes=part.bytes,
            expires_in_s=part.expires_in_s,
        )


class BackgroundOut(WireOut, frozen=True, kw_only=True):
    """One request for the whole file, for a phone's background transfer: safe to send twice, and a day late."""

    method: Annotated[Literal["PUT"], Meta(description="The method of the request.")]
    path: Annotated[str, Meta(description="The path on this API; secret, it needs no further authorisation.")]
    expires_in_s: Annotated[int, Meta(description="Whole seconds from now until the path ends.")]


class PartsOut(WireOut, frozen=True, kw_only=True):
    """Addresses of parts."""

    parts: Annotated[
        list[PartOut], Meta(description="The parts that were asked for, or the first that are missing; none: complete.")
    ]
    missing_bytes: Annotated[int, Meta(description="How many bytes are still missing in all.")]
    background: Annotated[BackgroundOut, Meta(description="The other way: the whole file in one request.")]
    next: Annotated[NextOut, Meta(description="What to do next.")]

    @classmethod
    def of(cls, progress: Progress, parts: list[PartAddress], background: BackgroundOut) -> Self:
        """From the domain."""
        return cls(
            background=background,
            parts=[PartOut.of(part) for part in parts],
            missing_bytes=progress.upload.bytes - progress.arrived,
            next=NextOut.of(progress.advice),
        )


class AskedPhoto(WireIn, frozen=True, kw_only=True):
    """A photo that might be sent: its hash, or its source, or its size, or several of them."""

    sha256: Annotated[Digest | None, Meta(description="The file's SHA-256, if known.")] = None
    source_id: Annotated[Source | None, Meta(description="The photo's id in the phone's library.")] = None
    source_modified_at: Annotated[When | None, Meta(description="When the library says it was changed last.")] = None
    bytes: Annotated[Size | None, Meta(description="The file's size, if nothing better is known.")] = None


class CheckUploads(WireIn, frozen=True, kw_only=True):
    """Photos that might be sent."""

    photos: Annotated[list[AskedPhoto], Meta(description="Up to 1,000 photos.", min_length=1, max_length=LIMIT)]

    def asked(self) -> list[Asked]:
        """To the domain."""
        return [
            Asked(
                sha256=one.sha256,
                source_id=one.source_id,
                source_modified_at=one.source_modified_at,
                bytes=one.bytes,
            )
            for one in self.photos
        ]


class VerdictOut(WireOut, frozen=True, kw_only=True):
    """What to do with one photo, and why."""

    action: Annotated[
        Literal["send", "skip", "hash"],
        Meta(description="`send` it; `skip` it; or compute its `hash` from the file (again) and ask with that."),
    ]
    reason: Annotated[
        str | None,
        Meta(
            description="`exact`: the same bytes are here. `same_source`: this very photo is. `uploading_now`: a "
            "session is sending it. `in_trash`: it is in the trash. `client_hash_stale`: its source is known with "
            "another hash; compute it anew, and if it stays the same send the photo. `rejected`: this very photo was "
            "sent and cannot be used; its session's `reason` says why. Null: not known."
        ),
    ]
    asset_id: Annotated[str | None, Meta(description="The photo that is here.")]
    upload_id: Annotated[str | None, Meta(description="The session that is sending it, or that was rejected.")]
    sha256: Annotated[str | None, Meta(description="The hash of the photo that is here.")]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """From the domain."""
        return cls(
            action=verdict.do.value,
            reason=None if verdict.reason is None else verdict.reason.value,
            asset_id=None if verdict.asset_id is None else ids.encode("asset", verdict.asset_id),
            upload_id=None if verdict.upload_id is None else ids.encode("upload", verdict.upload_id),
            sha256=verdict.sha256,
        )


class VerdictsOut(WireOut, frozen=True, kw_only=True):
    """Verdicts in the order of the photos."""

    photos: Annotated[list[VerdictOut], Meta(description="One entry a photo, in the same order.")]

"""Uploads on the wire."""

from datetime import datetime
from typing import Annotated, Literal, Self

from msgspec import Meta

from app.uploads.domain import Declared, Upload
from app.uploads.service import MAX_BYTES, PartAddress
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


class CreateUpload(WireIn, frozen=True, kw_only=True):
    """What is going to be sent."""

    bytes: Size
    content_type: Annotated[ContentType, Meta(description="The file's media type.", examples=["image/jpeg"])]
    sha256: Annotated[Digest | None, Meta(description="The file's SHA-256, if known.")] = None
    client_reference: Annotated[Reference | None, Meta(description="The app's own name for this photo.")] = None

    def declared(self) -> Declared:
        """To the domain."""
        return Declared(
            bytes=self.bytes,
            content_type=self.content_type,
            sha256=self.sha256,
            client_reference=self.client_reference,
        )


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
    expires_at: Annotated[datetime, Meta(description="Until when bytes are taken, UTC.")]

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """From the domain."""
        return cls(
            id=ids.encode("upload", upload.id),
            asset_id=ids.encode("asset", upload.asset_id),
            state=upload.state.value,
            bytes=upload.bytes,
            content_type=upload.content_type,
            reason=upload.reason,
            expires_at=upload.expires_at,
        )


class UploadProgressOut(WireOut, frozen=True, kw_only=True):
    """An upload session and what storage holds of it."""

    upload: Annotated[UploadOut, Meta(description="The session.")]
    arrived_bytes: Annotated[int, Meta(description="Bytes that storage holds.")]

    @classmethod
    def of(cls, upload: Upload, arrived: int) -> Self:
        """From the domain."""
        return cls(upload=UploadOut.of(upload), arrived_bytes=arrived)


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


class PartsOut(WireOut, frozen=True, kw_only=True):
    """Addresses of what is missing."""

    parts: Annotated[list[PartOut], Meta(description="One entry a missing part.")]

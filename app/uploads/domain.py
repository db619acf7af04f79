"""Upload sessions: from a promise of bytes to bytes that were looked at."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

import msgspec

from app.kernel.events import Code, Event, event
from app.kernel.states import Machine
from app.uploads.errors import UploadExpiredGone, UploadGivenUp, UploadNotOpen
from app.uploads.plan import Advice, Held, Path, Range, advise
from base.ids import AssetId, OwnerId, UploadId


class UploadState(StrEnum):
    """Where a session is; progress is what storage holds and is not stored."""

    OPEN = "open"
    VERIFYING = "verifying"
    COMPLETED = "completed"
    REJECTED = "rejected"
    ABORTED = "aborted"
    EXPIRED = "expired"


@event
class UploadOpened(Event, frozen=True, kw_only=True):
    """A phone said what it is going to send."""

    type: ClassVar[str] = "upload.opened"
    upload_id: UploadId
    asset_id: AssetId
    bytes: int


@event
class UploadVerifying(Event, frozen=True, kw_only=True):
    """All bytes are in storage; they are being looked at."""

    type: ClassVar[str] = "upload.verifying"
    upload_id: UploadId
    asset_id: AssetId


@event
class UploadCompleted(Event, frozen=True, kw_only=True):
    """The bytes are what was promised, and a photo."""

    type: ClassVar[str] = "upload.completed"
    upload_id: UploadId
    asset_id: AssetId


@event
class UploadRejected(Event, frozen=True, kw_only=True):
    """The bytes are not a photo, or not those promised."""

    type: ClassVar[str] = "upload.rejected"
    upload_id: UploadId
    asset_id: AssetId
    reason: Code


@event
class UploadAborted(Event, frozen=True, kw_only=True):
    """The owner gave it up, or erased its photo before anybody had looked at it."""

    type: ClassVar[str] = "upload.aborted"
    upload_id: UploadId


@event
class UploadExpired(Event, frozen=True, kw_only=True):
    """Nothing came in time; it may be revived within the grace time."""

    type: ClassVar[str] = "upload.expired"
    upload_id: UploadId


@event
class UploadRevived(Event, frozen=True, kw_only=True):
    """An expired session was opened again."""

    type: ClassVar[str] = "upload.revived"
    upload_id: UploadId


_S = UploadState
MACHINE: Final[Machine[UploadState]] = Machine(
    "upload",
    "uploads",
    {_S.OPEN: UploadOpened.type},
    {
        (_S.OPEN, _S.VERIFYING): UploadVerifying.type,
        (_S.VERIFYING, _S.COMPLETED): UploadCompleted.type,
        (_S.VERIFYING, _S.REJECTED): UploadRejected.type,
        (_S.VERIFYING, _S.ABORTED): UploadAborted.type,
        (_S.OPEN, _S.ABORTED): UploadAborted.type,
        (_S.OPEN, _S.EXPIRED): UploadExpired.type,
        (_S.EXPIRED, _S.OPEN): UploadRevived.type,
    },
)


GRACE: Final = timedelta(days=7)
"""How long an expired session can still be revived."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `bytes`, `content_type`, `sha256`, `source_*`, `pixel_*` and `metadata` are what the client declared.

    `token` marks its object, `storage_id` is its multipart upload in the store, `part_bytes` how it is cut. `appended`:
    there are blocks. `completing_at` is the journal: somebody began to put the bytes together. `by_blocks`: they
    alone are the file, of which a record worker makes the object. `received_sha256` is the hash of its bytes, where
    they came through us or a worker has read them. `rate`: observed bytes a second. `region` keeps its bytes.
    """

    id: UploadId
    owner_id: OwnerId
    asset_id: AssetId
    region: str
    state: UploadState
    bytes: int
    content_type: str
    sha256: str | None
    client_reference: str | None
    source_id: str | None
    source_modified_at: datetime | None
    pixel_width: int | None
    pixel_height: int | None
    metadata: str | None
    reason: str | None
    warning: str | None
    token: UUID
    storage_id: str | None
    part_bytes: int
    appended: bool
    by_blocks: bool
    received_sha256: str | None
    rate: int | None
    addressed_at: datetime | None
    completing_at: datetime | None
    created_at: datetime
    expires_at: datetime


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a phone says of a photo before sending it, of its network (bytes a second it expects to send), and of where
    it is: `country` is ISO 3166-1 alpha-2. `metadata` is all of it as a tus client wrote it."""

    bytes: int
    content_type: str
    sha256: str | None = None
    client_reference: str | None = None
    source_id: str | None = None
    source_modified_at: datetime | None = None
    pixel_width: int | None = None
    pixel_height: int | None = None
    bytes_per_second: int | None = None
    country: str | None = None
    metadata: str | None = None

    def agrees(self, upload: Upload) -> bool:
        """Whether a session was declared the same."""
        ours = (self.bytes, self.content_type, self.sha256)
        return ours == (upload.bytes, upload.content_type, upload.sha256)


def needs_bytes(upload: Upload, now: datetime) -> bool:
    """Whether unfinished bytes in storage are still of use: sending, revivable, or being put together."""
    if upload.state is UploadState.EXPIRED:
        return upload.expires_at + GRACE > now
    return upload.state is UploadState.OPEN or (upload.state is UploadState.VERIFYING and upload.appended)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A session, the bytes of it that are missing in storage, and what to do next."""

    upload: Upload
    gaps: tuple[Range, ...]
    advice: Advice

    @property
    def arrived(self) -> int:
        """How many bytes storage holds."""
        return self.upload.bytes - sum(gap.bytes for gap in self.gaps)


HAS_BYTES: Final = frozenset({UploadState.VERIFYING, UploadState.COMPLETED, UploadState.REJECTED})
ENDED: Final = frozenset({UploadState.COMPLETED, UploadState.REJECTED, UploadState.ABORTED})
NOTHING: Final = Advice(path=Path.NONE, part_bytes=0, parallel=0)


def opened(upload: Upload) -> Upload:
    """The session, if it takes bytes; raises `UploadExpiredGone`, `UploadGivenUp`, `UploadNotOpen`."""
    if upload.state is UploadState.EXPIRED:
        raise UploadExpiredGone()
    if upload.state is UploadState.ABORTED:
        raise UploadGivenUp()
    if upload.state is not UploadState.OPEN:
        raise UploadNotOpen()
    return upload


def progress_of(upload: Upload, held: Held | None = None) -> Progress:
    """Where a session stands, given what storage holds (None: nothing, or nothing to ask for)."""
    if upload.state is not UploadState.OPEN:
        gaps = () if upload.state in HAS_BYTES else (Range(0, upload.bytes),)
        return Progress(upload=upload, gaps=gaps, advice=NOTHING)
    held = held or Held(size=upload.bytes, part_bytes=upload.part_bytes)
    return Progress(upload=upload, gaps=tuple(held.gaps), advice=advise(held, upload.rate))


LOW_RESOLUTION: Final = "low-resolution-representation"


def warning_of(upload: Upload, width: int | None, height: int | None) -> str | None:
    """`low-resolution-representation` when fewer than nine tenths of the declared pixels came."""
    if None in (upload.pixel_width, upload.pixel_height, width, height):
        return None
    declared, came = (upload.pixel_width or 0) * (upload.pixel_height or 0), (width or 0) * (height or 0)
    return LOW_RESOLUTION if 10 * came < 9 * declared else None


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What was or is being sent, as far as asking before sending needs it."""

    id: UploadId
    asset_id: AssetId
    state: UploadState
    reason: str | None
    sha256: str | None
    source_id: str | None
    source_modified_at: datetime | None

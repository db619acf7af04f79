"""Upload sessions: from a promise of bytes to bytes that were looked at."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from app.kernel.events import Code, Event, event
from app.kernel.states import Machine
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
    """The owner gave it up."""

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
        (_S.OPEN, _S.ABORTED): UploadAborted.type,
        (_S.OPEN, _S.EXPIRED): UploadExpired.type,
        (_S.EXPIRED, _S.OPEN): UploadRevived.type,
    },
)


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `bytes`, `content_type` and `sha256` are what the client declared."""

    id: UploadId
    owner_id: OwnerId
    asset_id: AssetId
    state: UploadState
    bytes: int
    content_type: str
    sha256: str | None
    client_reference: str | None
    reason: str | None
    created_at: datetime
    expires_at: datetime


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a phone says of a photo before sending it."""

    bytes: int
    content_type: str
    sha256: str | None
    client_reference: str | None

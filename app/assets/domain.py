"""Assets: a person's photo as we keep it. Original, ancestor, preview and master are artifacts with own lifecycles."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from app.kernel.events import Code, Digest, Event, event
from app.kernel.states import Machine
from base.ids import AssetId, OwnerId, UploadId


class AssetState(StrEnum):
    """Where an asset is. What apps show: processing, preview_ready, ready."""

    PROCESSING = "processing"
    PREVIEW_READY = "preview_ready"
    READY = "ready"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    ERASED = "erased"


@event
class AssetCreated(Event, frozen=True, kw_only=True):
    """A completed upload became an asset that is being looked at."""

    type: ClassVar[str] = "asset.created"
    asset_id: AssetId
    upload_id: UploadId
    bytes: int


@event
class AssetValidated(Event, frozen=True, kw_only=True):
    """The file is a photo we can print."""

    type: ClassVar[str] = "asset.validated"
    asset_id: AssetId
    sha256: Digest
    width: int
    height: int
    format: Code


@event
class AssetPreviewReady(Event, frozen=True, kw_only=True):
    """The first previews (200 and 400 px) can be shown."""

    type: ClassVar[str] = "asset.preview_ready"
    asset_id: AssetId


@event
class AssetReady(Event, frozen=True, kw_only=True):
    """All previews are stored; the asset can be bought with."""

    type: ClassVar[str] = "asset.ready"
    asset_id: AssetId


@event
class AssetDuplicateFound(Event, frozen=True, kw_only=True):
    """The same bytes are already there; `first_id` names the living asset."""

    type: ClassVar[str] = "asset.duplicate_found"
    asset_id: AssetId
    first_id: AssetId


@event
class AssetRejected(Event, frozen=True, kw_only=True):
    """The file cannot be used; `reason` is a code of the catalogue of reasons."""

    type: ClassVar[str] = "asset.rejected"
    asset_id: AssetId
    reason: Code


@event
class AssetErased(Event, frozen=True, kw_only=True):
    """The owner erased it, or was erased."""

    type: ClassVar[str] = "asset.erased"
    asset_id: AssetId


_S = AssetState
MACHINE: Final[Machine[AssetState]] = Machine(
    "asset",
    "assets",
    {_S.PROCESSING: AssetCreated.type},
    {
        (_S.PROCESSING, _S.PREVIEW_READY): AssetPreviewReady.type,
        (_S.PREVIEW_READY, _S.READY): AssetReady.type,
        (_S.PROCESSING, _S.DUPLICATE): AssetDuplicateFound.type,
        (_S.PROCESSING, _S.REJECTED): AssetRejected.type,
        (_S.PREVIEW_READY, _S.REJECTED): AssetRejected.type,
        **{(state, _S.ERASED): AssetErased.type for state in _S if state is not _S.ERASED},
    },
)


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """An asset. `width` and `height` are as displayed, in pixels; None until validated."""

    id: AssetId
    owner_id: OwnerId
    state: AssetState
    bytes: int
    declared_type: str
    sha256: str | None
    format: str | None
    width: int | None
    height: int | None
    notes: tuple[str, ...]
    thumbhash: str | None
    engine: str | None
    duplicate_of: AssetId | None
    reason: str | None
    created_at: datetime


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What validation found, to be stored with the asset."""

    sha256: str
    format: str
    width: int
    height: int
    notes: tuple[str, ...]
    engine: str
    facts: bytes


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A living asset as somebody about to send a photo needs to know of it."""

    id: AssetId
    sha256: str | None
    bytes: int
    in_trash: bool

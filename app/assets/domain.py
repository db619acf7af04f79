"""Assets: a person's photo as we keep it. Original, ancestor, preview and master are artifacts with own lifecycles."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from app.kernel.events import Code, Event, event
from app.kernel.states import Machine
from base.ids import AssetId, OwnerId, UploadId
from imagecore.findings import Analysis


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


@event
class AssetAnalysed(Event, frozen=True, kw_only=True):
    """What a photo shows and how good it is was looked at; readiness knows it now."""

    type: ClassVar[str] = "asset.analysed"
    asset_id: AssetId


@event
class AssetTrashed(Event, frozen=True, kw_only=True):
    """The owner put it into the trash; it is erased at `until` unless restored."""

    type: ClassVar[str] = "asset.trashed"
    asset_id: AssetId
    until: datetime


@event
class AssetRestored(Event, frozen=True, kw_only=True):
    """The owner took it out of the trash."""

    type: ClassVar[str] = "asset.restored"
    asset_id: AssetId


@event
class AssetFlagged(Event, frozen=True, kw_only=True):
    """A moderator or an operator lets nothing be made of it for now; `reason` is a code."""

    type: ClassVar[str] = "asset.flagged"
    asset_id: AssetId
    reason: Code


@event
class AssetCleared(Event, frozen=True, kw_only=True):
    """An operator took the flag away."""

    type: ClassVar[str] = "asset.cleared"
    asset_id: AssetId


class HoldKind(StrEnum):
    """What may hold an asset beside its state."""

    TRASH = "trash"
    FLAGGED = "flagged"


TRASH_LIFETIME: Final = timedelta(days=30)


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A class of files that an asset has: what it is made from, and how long it is kept."""

    name: str
    made_from: str
    kept: str


ARTIFACTS: Final = (
    Artifact(name="original", made_from="upload", kept="until-erased"),
    Artifact(name="ancestor", made_from="original", kept="until-erased"),
    Artifact(name="preview", made_from="ancestor", kept="until-erased-or-engine-retired"),
    Artifact(name="master", made_from="original", kept="locked-until-180-days-after-delivery"),
)
"""The lifecycle of each class of files; an ancestor's half is kept with it.

Everything but the original and a locked master can be made again.
"""

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
        **{(state, _S.ERASED): AssetErased.type for state in _S if state is not _S.ERASED},
    },
)


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload brought: which one, the region that keeps it, its size and what it was declared to be."""

    upload_id: UploadId
    region: str
    bytes: int
    declared_type: str


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """An asset. `width` and `height` are as displayed, in pixels; None until validated. `region` keeps its bytes.

    `hdr`: its numbers are PQ or HLG, which no print can be made of.
    """

    id: AssetId
    owner_id: OwnerId
    region: str
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
    hdr: bool = False
    trashed_until: datetime | None = None
    flagged: str | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An asset with the findings on its picture (None while nobody looked at it) and what holds it."""

    asset: Asset
    analysis: Analysis | None
    holds: frozenset[HoldKind]


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
    """A living asset as somebody about to send a photo needs to know of it, with those asked for that are its twins."""

    id: AssetId
    sha256: str | None
    bytes: int
    in_trash: bool
    duplicates: tuple[AssetId, ...]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A row that holds an asset."""

    asset_id: AssetId
    kind: HoldKind
    reason: str
    since: datetime
    until: datetime | None


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """Another photo of the same owner that looks the same; `distance` in bits of 64."""

    asset_id: AssetId
    distance: int


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one attempt: how it went, whole milliseconds, engine."""

    step: str
    attempt: int
    outcome: str
    reason: str | None
    ms: int
    engine: str | None
    at: datetime


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One stored preview."""

    recipe: str
    extension: str
    width: int
    height: int
    bytes: int
    sha256: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where an asset came from and what was done with it."""

    asset: Asset
    upload_id: UploadId | None
    steps: tuple[StepRun, ...]
    previews: tuple[Preview, ...]

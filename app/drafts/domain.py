"""Drafts: what a person wants printed, as data: photos, products, crops, papers, words."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final, Literal

import msgspec

from app.kernel.events import Event, event
from app.kernel.states import Machine
from base.ids import AssetId, DraftId, ItemId, OwnerId

MOST_ITEMS: Final = 200
MOST_COPIES: Final = 500
MOST_OF_ALL: Final = 2_000
MOST_BORDER_UM: Final = 50_000
LONGEST_NOTE: Final = 300

Fit = Literal["cover", "whole"]
Orientation = Literal["auto", "portrait", "landscape"]


class DraftState(StrEnum):
    """Where a draft is. `ready_for_checkout` is reached and lost by what happens to its photos as well."""

    EDITING = "editing"
    READY = "ready_for_checkout"
    ORDERED = "ordered"
    ABANDONED = "abandoned"


OPEN: Final = frozenset({DraftState.EDITING, DraftState.READY})


@event
class DraftCreated(Event, frozen=True, kw_only=True):
    """A person began to put something together."""

    type: ClassVar[str] = "draft.created"
    draft_id: DraftId
    items: int


@event
class DraftChanged(Event, frozen=True, kw_only=True):
    """Its items are others now; quotes of older versions are stale."""

    type: ClassVar[str] = "draft.changed"
    draft_id: DraftId
    draft_version: int
    items: int


@event
class DraftReady(Event, frozen=True, kw_only=True):
    """Nothing stands against ordering it."""

    type: ClassVar[str] = "draft.ready_for_checkout"
    draft_id: DraftId
    draft_version: int


@event
class DraftReopened(Event, frozen=True, kw_only=True):
    """Something stands against ordering it again; its checks say what."""

    type: ClassVar[str] = "draft.reopened"
    draft_id: DraftId
    draft_version: int


@event
class DraftOrdered(Event, frozen=True, kw_only=True):
    """It is part of an order, as it is."""

    type: ClassVar[str] = "draft.ordered"
    draft_id: DraftId
    draft_version: int


@event
class DraftReleased(Event, frozen=True, kw_only=True):
    """Its order ended unpaid; it can be changed again."""

    type: ClassVar[str] = "draft.released"
    draft_id: DraftId


@event
class DraftAbandoned(Event, frozen=True, kw_only=True):
    """Its owner gave it up."""

    type: ClassVar[str] = "draft.abandoned"
    draft_id: DraftId


_S = DraftState
MACHINE: Final[Machine[DraftState]] = Machine(
    "draft",
    "drafts",
    {_S.EDITING: DraftCreated.type},
    {
        (_S.EDITING, _S.READY): DraftReady.type,
        (_S.READY, _S.EDITING): DraftReopened.type,
        (_S.READY, _S.ORDERED): DraftOrdered.type,
        (_S.ORDERED, _S.EDITING): DraftReleased.type,
        (_S.EDITING, _S.ABANDONED): DraftAbandoned.type,
        (_S.READY, _S.ABANDONED): DraftAbandoned.type,
    },
)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One item as its owner asks for it. `id` names an item of the draft to go on with; None is a new one.

    `crop` is (x, y, width, height) in pixels of the upright original, None for all of it; `focal` is in 1/10000 of the
    crop; `border_um` of white stand inside the trim; `paper` None is the variant's default.
    """

    id: ItemId | None
    asset_id: AssetId
    sku: str
    copies: int
    paper: str | None
    orientation: Orientation
    fit: Fit
    crop: tuple[int, int, int, int] | None
    focal: tuple[int, int]
    border_um: int
    gift_note: str | None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item as stored; the gift note is sealed under the person's key."""

    id: ItemId
    asset_id: AssetId
    sku: str
    copies: int
    paper: str
    orientation: Orientation
    fit: Fit
    crop: tuple[int, int, int, int] | None
    focal: tuple[int, int]
    border_um: int
    gift_note: bytes | None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A draft with its items in order; `version` grows with every change of them."""

    id: DraftId
    owner_id: OwnerId
    state: DraftState
    version: int
    created_at: datetime
    updated_at: datetime
    items: tuple[Item, ...]


class FrozenItem(msgspec.Struct, frozen=True, kw_only=True):
    """One photo as one product, final: with `PrintMaster` the same words mean the same things.

    `sha256`, `width` and `height` (upright, pixels) are the original's; `trim_um` is the print as the picture stands on
    it; `part` is the person's crop in pixels of the upright original, None for all of it; `focal` is in 1/10000 of the
    part. A gift note is never in here, only whether there is one.
    """

    item_id: ItemId
    asset_id: AssetId
    sha256: str
    width: int
    height: int
    sku: str
    copies: int
    paper: str
    trim_um: tuple[int, int]
    fit: Fit
    part: tuple[int, int, int, int] | None
    focal: tuple[int, int]
    border_um: int
    has_gift_note: bool


class FrozenDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A draft as it is ordered; `digest` is the SHA-256 (hex) of its items' canonical JSON."""

    draft_id: DraftId
    owner_id: OwnerId
    version: int
    digest: str
    items: tuple[FrozenItem, ...]


def digest_of(items: tuple[FrozenItem, ...]) -> str:
    """The start of the hash chain draft → render → file."""
    return hashlib.sha256(msgspec.json.encode(items, order="sorted")).hexdigest()

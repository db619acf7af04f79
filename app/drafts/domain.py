"""Drafts: what a person wants printed, as data: photos, products, crops, papers, words."""

from typing import Literal

import msgspec

from base.ids import AssetId, DraftId, ItemId, OwnerId

Fit = Literal["cover", "whole"]


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

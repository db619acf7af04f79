"""What stands for and against printing an item: codes with severities, before any money. Pure."""

from enum import StrEnum
from typing import Final

import msgspec

from app.assets.domain import Asset, AssetState, HoldKind, Seen
from app.catalog.domain import Variant
from app.drafts.domain import Item
from base.ids import ItemId
from imagecore import classes, crops, readiness, sheets
from imagecore.classes import OutputClass
from imagecore.findings import Analysis, is_text
from imagecore.geometry import Box as Part
from imagecore.readiness import Print
from imagecore.sheets import Sheet

UNKNOWN: Final = Analysis(revision=0, faces=None, text=None, quality=None)


class Severity(StrEnum):
    """`reject` stands against an order until something is changed, `wait` goes by itself; the others do not stop."""

    NOTE = "note"
    SOFT = "soft"
    STRONG = "strong"
    WAIT = "wait"
    REJECT = "reject"


STOPPING: Final = frozenset({Severity.WAIT, Severity.REJECT})

NO_ITEMS: Final = "no-items"
PHOTO_PROCESSING: Final = "photo-processing"
PHOTO_REJECTED: Final = "photo-rejected"
PHOTO_GONE: Final = "photo-gone"
PHOTO_IN_TRASH: Final = "photo-in-trash"
PHOTO_HELD: Final = "photo-held"
NOT_SOLD: Final = "variant-not-sold"
PAPER_NOT_OFFERED: Final = "paper-not-offered"
CROP_OUTSIDE: Final = "crop-outside"
BORDER_TOO_WIDE: Final = "border-too-wide"
OWN: Final = (
    NO_ITEMS,
    PHOTO_PROCESSING,
    PHOTO_REJECTED,
    PHOTO_GONE,
    PHOTO_IN_TRASH,
    PHOTO_HELD,
    NOT_SOLD,
    PAPER_NOT_OFFERED,
    CROP_OUTSIDE,
    BORDER_TOO_WIDE,
)
"""Codes beside those of `imagecore.readiness.Code`; an interface."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know of an item (None: of the whole draft); `value` and `limit` in the code's own unit."""

    code: str
    severity: Severity
    item_id: ItemId | None
    value: int | None = None
    limit: int | None = None


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A crop that cuts least, to be shown and never forced; `lost` in thousandths of the photo."""

    crop: tuple[int, int, int, int]
    lost: int
    keeps_faces: bool
    keeps_text: bool


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on one item. Effective ppi and share lost where the photo's size is known, and a suggestion
    where one was sought."""

    item_id: ItemId
    checks: tuple[Check, ...]
    ppi: int | None = None
    lost: int | None = None
    suggestion: Suggestion | None = None


def is_ready(looked: list[Looked]) -> bool:
    """Whether a draft with these items can be ordered."""
    return bool(looked) and not any(check.severity in STOPPING for one in looked for check in one.checks)


def is_landscape(item: Item, size: tuple[int, int]) -> bool:
    """Whether the print lies: as asked, or as what is shown of the photo does."""
    if item.orientation != "auto":
        return item.orientation == "landscape"
    width, height = item.crop[2:] if item.crop is not None else size
    return width > height


def trim_of(item: Item, variant: Variant, size: tuple[int, int]) -> tuple[int, int]:
    """The trim as the picture stands on it, micrometres."""
    return variant.standing(landscape=is_landscape(item, size))


def sheet_of(item: Item, variant: Variant, size: tuple[int, int]) -> Sheet:
    """The print that the master will be; raises `OutOfBounds` for a crop or border that does not fit."""
    return sheets.plan(
        classes.named(variant.output_class),
        size,
        trim_of(item, variant, size),
        part=None if item.crop is None else Part(*item.crop),
        focal=item.focal,
        fit=item.fit,
        border_um=item.border_um,
    )


def size_of(asset: Asset) -> tuple[int, int] | None:
    """Upright pixels, once known."""
    return None if asset.width is None or asset.height is None else (asset.width, asset.height)


def look(item: Item, seen: Seen | None, variant: Variant | None, *, suggest: bool = False) -> Looked:
    """Everything there is to say of one item; a crop is sought only for somebody who may take it."""
    found = [*_photo(item, seen), *_product(item, variant)]
    size = None if seen is None else size_of(seen.asset)
    if seen is None or size is None or variant is None or seen.asset.state is AssetState.ERASED:
        return Looked(item_id=item.id, checks=tuple(found))
    misfit = _misfit(item, variant, size)
    if misfit is not None:
        return Looked(item_id=item.id, checks=(*found, misfit))
    analysis = seen.analysis or UNKNOWN
    sheet, class_ = sheet_of(item, variant, size), classes.named(variant.output_class)
    ready = readiness.check(*size, analysis, _print(item, variant, size, sheet), hdr=seen.asset.hdr)
    found += [
        Check(code=f.code.value, severity=Severity(f.level.value), item_id=item.id, value=f.value, limit=f.limit)
        for f in ready.findings
    ]
    suggestion = _suggestion(size, sheet, class_, trim_of(item, variant, size), analysis) if suggest else None
    return Looked(item_id=item.id, checks=tuple(found), ppi=ready.ppi, lost=ready.lost, suggestion=suggestion)


_HOLDS: Final = {
    HoldKind.TRASH: (PHOTO_IN_TRASH, Severity.REJECT),
    HoldKind.FLAGGED: (PHOTO_HELD, Severity.WAIT),
}


def _photo(item: Item, seen: Seen | None) -> list[Check]:
    state = AssetState.ERASED if seen is None else seen.asset.state
    holds = [] if seen is None else [_HOLDS[kind] for kind in sorted(seen.holds)]
    held = [Check(code=code, severity=severity, item_id=item.id) for code, severity in holds]
    if state is AssetState.READY:
        return held
    code, severity = {
        AssetState.ERASED: (PHOTO_GONE, Severity.REJECT),
        AssetState.REJECTED: (PHOTO_REJECTED, Severity.REJECT),
    }.get(state, (PHOTO_PROCESSING, Severity.WAIT))
    return [Check(code=code, severity=severity, item_id=item.id), *held]


def _product(item: Item, variant: Variant | None) -> list[Check]:
    if variant is None:
        return [Check(code=NOT_SOLD, severity=Severity.REJECT, item_id=item.id)]
    if item.paper not in variant.papers:
        return [Check(code=PAPER_NOT_OFFERED, severity=Severity.REJECT, item_id=item.id)]
    return []


def _misfit(item: Item, variant: Variant, size: tuple[int, int]) -> Check | None:
    """A crop that leaves the photo, or a border that leaves no picture."""
    if item.crop is not None:
        x, y, width, height = item.crop
        over = max(x + width - size[0], y + height - size[1])
        if over > 0:
            return Check(code=CROP_OUTSIDE, severity=Severity.REJECT, item_id=item.id, value=over, limit=0)
    most = sheets.most_border(variant.trim_um)
    if item.border_um > most:
        return Check(code=BORDER_TOO_WIDE, severity=Severity.REJECT, item_id=item.id, value=item.border_um, limit=most)
    return None


def _print(item: Item, variant: Variant, size: tuple[int, int], sheet: Sheet) -> Print:
    """What the pixel core judges. With a border nothing of the picture is trimmed: it stands on white like a whole."""
    width, height = (side - 2 * item.border_um for side in trim_of(item, variant, size))
    return Print(
        class_=classes.named(variant.output_class),
        trim_width_um=width,
        trim_height_um=height,
        part=sheet.part,
        whole=item.fit == "whole" or item.border_um > 0,
    )


def _suggestion(
    size: tuple[int, int], sheet: Sheet, class_: OutputClass, trim_um: tuple[int, int], analysis: Analysis
) -> Suggestion:
    """The best part of the whole photo for what the picture fills on this sheet."""
    filled = sheets.inside(sheet.trim, sheet.border) if sheet.border else Part(0, 0, sheet.width, sheet.height)
    inset = 0 if sheet.border else readiness.inset_of(class_, *trim_um)
    text = analysis.text if analysis.text is not None and is_text(analysis.text) else ()
    best = crops.suggest(*size, (filled.width, filled.height), analysis.faces or (), text, inset)
    return Suggestion(crop=(*best.part,), lost=best.lost, keeps_faces=best.keeps_faces, keeps_text=best.keeps_text)

"""What an item will look like on its paper: the boxes of its master, scaled to a screen. Pure but for the address."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from app.assets.domain import Asset, Seen
from app.assets.service import VIEWABLE
from app.catalog.domain import Offer, Variant
from app.delivery.service import Address
from app.drafts import checks
from app.drafts.domain import Item
from base.ids import ItemId
from imagecore.classes import named
from imagecore.geometry import Box as Part
from imagecore.geometry import Placement, rescale
from imagecore.recipe import Crop, Print, Recipe
from imagecore.sheets import Sheet

SIDES: Final = (400, 800, 1600)
NOT_VIEWABLE: Final = "not-viewable"
NOT_PLACED: Final = "not-placed"


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The printing condition that a soft proof shows; `declared` by the vendor, else its class's usual one."""

    condition: Print
    declared: bool


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """An item's paper after cutting, in screen pixels, and where on it the picture at `address` stands.

    Without an address `reason` says why: `not-viewable` (the photo has no previews) or `not-placed` (see the checks).
    """

    item_id: ItemId
    reason: str | None
    address: Address | None = None
    paper: tuple[int, int] = (0, 0)
    placed: Placement = Placement(0, 0, 0, 0)
    proof: Proof | None = None


def preview_of(
    item: Item,
    seen: Seen | None,
    variant: Variant | None,
    side: int,
    *,
    proof: Proof | None,
    paper_white: bool,
    address: Callable[[Asset, Recipe], Address],
) -> Preview:
    """One item's preview within `side` pixels, or why there is none."""
    if seen is None or seen.asset.state not in VIEWABLE or seen.asset.engine is None:
        return Preview(item_id=item.id, reason=NOT_VIEWABLE)
    looked = checks.look(item, seen, variant)
    size = checks.size_of(seen.asset)
    if variant is None or size is None or looked.ppi is None:
        return Preview(item_id=item.id, reason=NOT_PLACED)
    sheet = checks.sheet_of(item, variant, size)
    paper, placed = on_screen(sheet, side)
    condition = None if proof is None else proof.condition
    recipe = recipe_of(visible_part(sheet), placed, seen.asset.engine, condition, paper_white=paper_white)
    where = address(seen.asset, recipe)
    return Preview(item_id=item.id, reason=None, address=where, paper=paper, placed=placed, proof=proof)


def proof_of(offer: Offer, item: Item, variant: Variant | None) -> Proof | None:
    """What a soft proof of an item shows."""
    if variant is None:
        return None
    declared = offer.printed_with(variant, item.paper)
    return Proof(condition=declared or named(variant.output_class).proof, declared=declared is not None)


def visible_part(sheet: Sheet) -> Part:
    """What of the photo is left after cutting, in pixels of the upright original."""
    shown, placed, trim = sheet.part, sheet.placed, sheet.trim
    inner = _overlap(placed, trim)
    local = Part(inner.x - placed.x, inner.y - placed.y, inner.width, inner.height)
    cut = rescale(local, placed.width, placed.height, shown.width, shown.height)
    return Part(shown.x + cut.x, shown.y + cut.y, cut.width, cut.height)


def on_screen(sheet: Sheet, side: int) -> tuple[tuple[int, int], Placement]:
    """The paper after cutting within `side` pixels, and where the picture stands on it."""
    trim, inner = sheet.trim, _overlap(sheet.placed, sheet.trim)
    longer = max(trim.width, trim.height)
    paper = tuple(max(1, (2 * length * side + longer) // (2 * longer)) for length in (trim.width, trim.height))
    local = Part(inner.x - trim.x, inner.y - trim.y, inner.width, inner.height)
    return (paper[0], paper[1]), Placement(*rescale(local, trim.width, trim.height, *paper))


def recipe_of(part: Part, placed: Placement, engine: str, condition: Print | None, *, paper_white: bool) -> Recipe:
    """The rendition: exactly this part at this size.

    With a printing condition it is a soft proof: the colours go through it and back, as the print file's do, at proof
    quality. Paper white is another white than the screen's only where there is a paper to speak of.
    """
    plain = Recipe(width=placed.width, height=placed.height, engine=engine, fit="cover", crop=Crop(*part))
    if condition is None:
        return plain
    white = paper_white and condition != "srgb"
    return replace(plain, class_="proof", quality=90, chroma="444", proof=condition, white=white)


def _overlap(placed: Placement, trim: Part) -> Part:
    left, top = max(placed.x, trim.x), max(placed.y, trim.y)
    right = min(placed.x + placed.width, trim.x + trim.width)
    bottom = min(placed.y + placed.height, trim.y + trim.height)
    return Part(left, top, right - left, bottom - top)

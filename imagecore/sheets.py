"""A print as a sheet: its sides, what is cut off, which part of the photo is on it and where. Integers only, no pixels.

The one plan behind print masters, the previews of drafts and their checks: what a person is shown is what is made.
"""

from typing import Final, Literal

import msgspec

from imagecore import geometry
from imagecore.classes import MASTER_PPI, OutputClass
from imagecore.errors import OutOfBounds
from imagecore.geometry import Box as Part

MOST_PIXELS: Final = 400_000_000

Fit = Literal["cover", "whole"]


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A planned print, in pixels from the sheet's top left.

    `trim` is what is left of the sheet after cutting; `border` of white stands inside it. `part` of the upright
    original fills `placed`; what that does not cover is white.
    """

    width: int
    height: int
    trim: Part
    border: int
    fit: Fit
    part: Part
    placed: geometry.Placement


def plan(
    class_: OutputClass,
    source: tuple[int, int],
    trim_um: tuple[int, int],
    *,
    area: tuple[int, int] | None = None,
    part: Part | None = None,
    focal: tuple[int, int] = (5_000, 5_000),
    fit: Fit = "cover",
    border_um: int = 0,
) -> Sheet:
    """The sheet for a print of this trim from an upright original of these sides.

    `area`: the vendor's print area in pixels, where it has one. `part`: the user's crop; to cover, its shape is brought
    to that of what it fills around `focal`. `border_um` of white are kept inside the trim. Raises `OutOfBounds`.
    """
    width, height, trim = _sides(class_, trim_um, area)
    geometry.check(border_um, 0, most_border(trim_um), "border")
    border = trim.width * border_um // trim_um[0]
    shown = part or Part(0, 0, *source)
    geometry.check_box(shown, *source)
    if fit == "cover":
        filled = inside(trim, border) if border else Part(0, 0, width, height)
        shown = geometry.within(shown, geometry.cover(shown.width, shown.height, filled.width, filled.height, focal))
    at = placed(width, height, trim, fit=fit, border=border, part=shown)
    return Sheet(width=width, height=height, trim=trim, border=border, fit=fit, part=shown, placed=at)


def most_border(trim_um: tuple[int, int]) -> int:
    """The widest white border of a print, in micrometres."""
    return (min(trim_um) - 1) // 3


def placed(width: int, height: int, trim: Part, *, fit: Fit, border: int, part: Part) -> geometry.Placement:
    """Where on a sheet a part stands, and how large."""
    if fit == "cover":
        return geometry.Placement(*(inside(trim, border) if border else Part(0, 0, width, height)))
    free = inside(trim, border)
    inner = geometry.letterbox(part.width, part.height, free.width, free.height, enlarge=True)
    return geometry.Placement(free.x + inner.x, free.y + inner.y, inner.width, inner.height)


def inside(trim: Part, border: int) -> Part:
    """What a border leaves of the trim."""
    return Part(trim.x + border, trim.y + border, trim.width - 2 * border, trim.height - 2 * border)


def _sides(class_: OutputClass, trim_um: tuple[int, int], area: tuple[int, int] | None) -> tuple[int, int, Part]:
    """Sheet sides and trim box in pixels."""
    if class_.square and trim_um[0] != trim_um[1]:
        raise OutOfBounds("a square class has square prints")
    boxes = geometry.print_boxes(*trim_um, class_.bleed_um, min(class_.safe_um, (min(trim_um) - 1) // 2), MASTER_PPI)
    width, height = area or (boxes.width, boxes.height)
    geometry.check_sides(width, height)
    if width * height > MOST_PIXELS:
        raise OutOfBounds(f"a master of {width} x {height} pixels")
    return width, height, geometry.rescale(boxes.trim, boxes.width, boxes.height, width, height)

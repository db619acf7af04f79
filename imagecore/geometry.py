"""Exact geometry: integers in, integers out, one rounding rule (nearest, ties up), bounds checked before anything.

Pixels of the upright picture have their origin top left. Lengths are micrometres, focal points 1/10000 of a side. Every
function raises `OutOfBounds` for arguments outside the limits below; inside them no product reaches 2**63, so the
compiled and the plain form give the same numbers.
"""

from typing import Final, NamedTuple

from imagecore.errors import OutOfBounds

PER_INCH: Final = 25_400
FOCAL_SCALE: Final = 10_000
MAX_SIDE: Final = 1_000_000  # pixels
MAX_LENGTH: Final = 100_000_000  # micrometres: 100 m
MAX_PPI: Final = 10_000


class Box(NamedTuple):
    """A rectangle in pixels; `width` and `height` are at least 1."""

    x: int
    y: int
    width: int
    height: int


class Placement(NamedTuple):
    """A picture of `width` x `height` set at `x`, `y` on a canvas."""

    x: int
    y: int
    width: int
    height: int


class PrintBoxes(NamedTuple):
    """The whole printed sheet in pixels, and where trim and safe area lie on it."""

    width: int
    height: int
    trim: Box
    safe: Box


def _nearest(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, ties up (towards positive infinity)."""
    return (2 * numerator + denominator) // (2 * denominator)


def check(value: int, low: int, high: int, what: str) -> None:
    """Raise `OutOfBounds` unless `low <= value <= high` and the value is an integer."""
    if type(value) is not int or not low <= value <= high:
        raise OutOfBounds(f"{what}: {value} is not within {low}..{high}")


def check_sides(*sides: int) -> None:
    """Raise `OutOfBounds` unless every side is within 1..MAX_SIDE."""
    for side in sides:
        check(side, 1, MAX_SIDE, "side")


def check_box(box: Box, width: int, height: int) -> None:
    """Raise `OutOfBounds` unless the box lies within a picture of these sides and is not empty."""
    check_sides(width, height)
    check(box.x, 0, width - 1, "x")
    check(box.y, 0, height - 1, "y")
    check(box.width, 1, width - box.x, "width")
    check(box.height, 1, height - box.y, "height")


def pixels(length_um: int, ppi: int) -> int:
    """Pixels that cover a length at a resolution."""
    check(length_um, 0, MAX_LENGTH, "length")
    check(ppi, 1, MAX_PPI, "ppi")
    return _nearest(length_um * ppi, PER_INCH)


def effective_ppi(box: Box, width_um: int, height_um: int) -> int:
    """Input pixels an inch when the box fills a print of this size: the worse axis, rounded down (199.9 is not 200)."""
    check_box(box, box.x + box.width, box.y + box.height)
    check(width_um, 1, MAX_LENGTH, "length")
    check(height_um, 1, MAX_LENGTH, "length")
    return min(box.width * PER_INCH // width_um, box.height * PER_INCH // height_um)


def fit(width: int, height: int, box_width: int, box_height: int, enlarge: bool = False) -> tuple[int, int]:
    """The largest size of this shape within the box; the size itself if it is smaller and must not be enlarged."""
    check_sides(width, height, box_width, box_height)
    if not enlarge and width <= box_width and height <= box_height:
        return width, height
    if box_width * height <= box_height * width:
        return box_width, min(box_height, max(1, _nearest(height * box_width, width)))
    return min(box_width, max(1, _nearest(width * box_height, height))), box_height


def cover(width: int, height: int, box_width: int, box_height: int, focal: tuple[int, int] = (5_000, 5_000)) -> Box:
    """The largest part of the picture with the box's shape, its middle as near to the focal point as it can be.

    Enlarged or shrunk to the box it fills it. The focal point is in 1/10000 of the sides.
    """
    check_sides(width, height, box_width, box_height)
    for part in focal:
        check(part, 0, FOCAL_SCALE, "focal point")
    if box_width * height <= box_height * width:
        part_width, part_height = min(width, max(1, _nearest(height * box_width, box_height))), height
    else:
        part_width, part_height = width, min(height, max(1, _nearest(width * box_height, box_width)))
    return Box(_slide(width, part_width, focal[0]), _slide(height, part_height, focal[1]), part_width, part_height)


def _slide(side: int, part: int, focal: int) -> int:
    """Where a part of a side starts so that its middle is nearest to the focal point."""
    wanted = _nearest(2 * side * focal - part * FOCAL_SCALE, 2 * FOCAL_SCALE)
    return max(0, min(side - part, wanted))


def letterbox(width: int, height: int, box_width: int, box_height: int, enlarge: bool = False) -> Placement:
    """The whole picture centred on a canvas of the box's size; an odd rest goes right and below."""
    fitted_width, fitted_height = fit(width, height, box_width, box_height, enlarge)
    return Placement((box_width - fitted_width) // 2, (box_height - fitted_height) // 2, fitted_width, fitted_height)


def rescale(box: Box, width: int, height: int, to_width: int, to_height: int) -> Box:
    """The same part of the same picture at another size: both edges rounded, never empty, never outside."""
    check_box(box, width, height)
    check_sides(to_width, to_height)
    left, right = _edges(box.x, box.width, width, to_width)
    top, bottom = _edges(box.y, box.height, height, to_height)
    return Box(left, top, right - left, bottom - top)


def _edges(start: int, length: int, side: int, to_side: int) -> tuple[int, int]:
    first = min(to_side - 1, _nearest(start * to_side, side))
    last = _nearest((start + length) * to_side, side)
    return first, max(first + 1, min(to_side, last))


def within(outer: Box, inner: Box) -> Box:
    """A part of a part, in the picture's coordinates."""
    check_box(inner, outer.width, outer.height)
    return Box(outer.x + inner.x, outer.y + inner.y, inner.width, inner.height)


def enlarges(box: Box, width: int, height: int) -> bool:
    """Whether filling `width` x `height` from this part needs more pixels than it has on either axis."""
    check_sides(width, height, box.width, box.height)
    return width > box.width or height > box.height


def print_boxes(trim_width_um: int, trim_height_um: int, bleed_um: int, safe_um: int, ppi: int) -> PrintBoxes:
    """A sheet with bleed on all sides, in pixels: (trim + 2 bleed) rounded once, then trim and safe edges on it."""
    for length in (trim_width_um, trim_height_um):
        check(length, 1, MAX_LENGTH // 2, "trim")
        check(bleed_um, 0, min(length, MAX_LENGTH // 4), "bleed")
        check(safe_um, 0, (length - 1) // 2, "safe margin")
    across = _print_axis(trim_width_um, bleed_um, safe_um, ppi)
    down = _print_axis(trim_height_um, bleed_um, safe_um, ppi)
    boxes = [Box(across[i], down[i], max(1, across[i + 1] - across[i]), max(1, down[i + 1] - down[i])) for i in (1, 3)]
    check_sides(across[0], down[0])
    return PrintBoxes(across[0], down[0], boxes[0], boxes[1])


def _print_axis(trim_um: int, bleed_um: int, safe_um: int, ppi: int) -> tuple[int, int, int, int, int]:
    """Sheet length, trim edges, safe edges, all as pixels from the sheet's edge."""
    edges = (bleed_um, bleed_um + trim_um, bleed_um + safe_um, bleed_um + trim_um - safe_um)
    first, second, third, fourth = (pixels(edge, ppi) for edge in edges)
    return pixels(trim_um + 2 * bleed_um, ppi), first, second, third, fourth


def aspect_class(width: int, height: int) -> str:
    """`square`, `standard` (to 1.6), `wide` (to 2.2), `panorama` (to 4) or `extreme`, whichever side is longer."""
    check_sides(width, height)
    longer, shorter = max(width, height), min(width, height)
    for name, limit in (("square", 105), ("standard", 160), ("wide", 220), ("panorama", 400)):
        if longer * 100 <= shorter * limit:
            return name
    return "extreme"

"""Where to cut: the largest part of a photo with a print's shape that keeps faces and text, if one does.

All in integers. Faces and text come as boxes in ten-thousandths of the upright picture; a part is in its pixels. The
user's own crop is never moved: `lost` and `cut` only tell what it takes away.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from imagecore import geometry
from imagecore.findings import SCALE, Box
from imagecore.geometry import Box as Part

HEAD_ABOVE: Final = 45
HEAD_ASIDE: Final = 15
HEAD_BELOW: Final = 15
"""A detector's box runs from brow to chin: a head is larger, by these hundredths of the box's sides."""


class Suggestion(msgspec.Struct, frozen=True):
    """A part to print. `lost`: thousandths of the photo outside it.

    `keeps_faces`: every head is whole in it and every face whole within the inset; `keeps_text`: every line is within
    the inset. Where faces cannot be kept, offer `fit` (the whole photo on white) beside it.
    """

    part: Part
    lost: int
    keeps_faces: bool
    keeps_text: bool


def head(face: Box) -> Box:
    """The whole head around a face, cut at the picture's edges."""
    wide, tall = face.right - face.left, face.bottom - face.top
    return Box(
        max(0, face.left - wide * HEAD_ASIDE // 100),
        max(0, face.top - tall * HEAD_ABOVE // 100),
        min(SCALE, face.right + wide * HEAD_ASIDE // 100),
        min(SCALE, face.bottom + tall * HEAD_BELOW // 100),
    )


def pixels(box: Box, width: int, height: int) -> Part:
    """The smallest part that holds all of a box."""
    left, top = box.left * width // SCALE, box.top * height // SCALE
    right, bottom = -(-box.right * width // SCALE), -(-box.bottom * height // SCALE)
    return Part(left, top, max(1, right - left), max(1, bottom - top))


def lost(part: Part, width: int, height: int) -> int:
    """Thousandths of the picture that lie outside the part, nearest, ties up."""
    geometry.check_box(part, width, height)
    whole = width * height
    return (2 * 1000 * (whole - part.width * part.height) + whole) // (2 * whole)


def cut(part: Part, wanted: Part) -> int:
    """Thousandths of `wanted` that lie outside the part; 0 only when it is whole."""
    across = min(part.x + part.width, wanted.x + wanted.width) - max(part.x, wanted.x)
    down = min(part.y + part.height, wanted.y + wanted.height) - max(part.y, wanted.y)
    area = wanted.width * wanted.height
    gone = area - max(0, across) * max(0, down)
    return -(-1000 * gone // area)


def suggest(
    width: int, height: int, shape: tuple[int, int], faces: Sequence[Box], text: Sequence[Box], inset: int = 0
) -> Suggestion:
    """The part of `width` x `height` pixels with this shape (any two integers) that cuts least.

    Faces come before text, text before the middle of the picture. `inset`: ten-thousandths of the part's sides that
    trimming takes from each edge. Raises `OutOfBounds`.
    """
    middle = geometry.cover(width, height, *shape)
    margins = (middle.width * inset // SCALE, middle.height * inset // SCALE)
    heads = [pixels(head(f), width, height) for f in faces]
    cores = [pixels(f, width, height) for f in faces]
    lines = [pixels(t, width, height) for t in text]

    def cost(part: Part) -> tuple[int, ...]:
        """Least is best: faces cut, then by how much; the same for text; then the distance from the middle."""
        inner = _inner(part, margins)
        faces_cut = [cut(part, h) + cut(inner, c) for h, c in zip(heads, cores, strict=True)]
        lines_cut = [cut(inner, line) for line in lines]
        away = abs(part.x - middle.x) + abs(part.y - middle.y)
        return (_count(faces_cut), sum(faces_cut), _count(lines_cut), sum(lines_cut), away, part.x, part.y)

    best = min(_places(middle, width, height, margins, (*heads, *cores, *lines)), key=cost)
    faces_cut, _, lines_cut, *_ = cost(best)
    return Suggestion(best, lost(best, width, height), faces_cut == 0, lines_cut == 0)


def _count(values: Sequence[int]) -> int:
    return sum(value > 0 for value in values)


def _places(middle: Part, width: int, height: int, margins: tuple[int, int], wanted: Iterable[Part]) -> list[Part]:
    """Every place worth trying: the middle, both ends, and where an edge meets something wanted."""
    free_x, free_y = width - middle.width, height - middle.height
    xs, ys = {middle.x, 0, free_x}, {middle.y, 0, free_y}
    for part in wanted:
        xs |= {part.x - margins[0], part.x + part.width + margins[0] - middle.width}
        ys |= {part.y - margins[1], part.y + part.height + margins[1] - middle.height}
    return [
        Part(x, y, middle.width, middle.height)
        for x in sorted({max(0, min(free_x, x)) for x in xs})
        for y in sorted({max(0, min(free_y, y)) for y in ys})
    ]


def _inner(part: Part, margins: tuple[int, int]) -> Part:
    return Part(
        part.x + margins[0],
        part.y + margins[1],
        max(1, part.width - 2 * margins[0]),
        max(1, part.height - 2 * margins[1]),
    )

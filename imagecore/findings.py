"""What was found on a photo, as plain data: no pixels, no models, so that anybody may import it."""

from typing import Final

import msgspec

from imagecore.quality import Quality

SCALE: Final = 10_000


class Box(msgspec.Struct, frozen=True, order=True):
    """A rectangle in ten-thousandths of the upright picture's sides; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


SEVERAL: Final = 3
"""Single regions turn up on clouds, chains, cups and cats; three at once were text on every picture tried."""


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """Findings about one original. `faces` and `text` are None ("unknown") where their model is absent.

    `quality` is None for pictures too small to measure (under 34 px a side).
    """

    revision: int
    faces: tuple[Box, ...] | None
    text: tuple[Box, ...] | None
    quality: Quality | None


def is_text(boxes: tuple[Box, ...]) -> bool:
    """Whether these boxes are worth a warning."""
    return len(boxes) >= SEVERAL

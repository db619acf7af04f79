"""Sharpness, exposure, noise and JPEG damage, measured in one pass over gray pixels at their own scale.

Kernel sums are integers, so compiled, uncompiled and any processor agree; only the last step to a figure divides.

- **Blur**: an edge blurred by a Gaussian of standard deviation s has, along it, (sum of squared slopes) / (sum of
  squared second differences) = 2 s². Taken over tiles with strong edges, the sharper ones: a shallow depth of field is
  no fault.
- **Noise**: Immerkær (1996), "Fast Noise Variance Estimation", in the smoothest tiles.
- **Blockiness**: mean step across the strongest of eight column (and row) phases against the other seven; a grid of
  8 x 8 blocks shows as one phase, wherever a later crop has moved it.
"""

from array import array
from math import isqrt
from typing import Final

import msgspec

TILE: Final = 32
DARK: Final = 5
BRIGHT: Final = 250
_SUMS: Final = 6
_EDGE: Final = 4 * 16 * 16 // 2 * TILE
"""Least sum of squared (doubled) slopes for a tile to have an edge: one step of 16 levels along its length."""
_TOP: Final = 4
"""One in so many of the tiles with the strongest edges decides how sharp the picture is."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What pixels tell of a photo's quality.

    `blur`: standard deviation of the edges' blur in hundredths of a pixel, None where the picture has no edges;
    `noise`: standard deviation in hundredths of a level; `blockiness`: step across block borders in hundredths of the
    step elsewhere (100 is none); `dark`, `bright`: thousandths of the picture at or beyond `DARK`, `BRIGHT`; `mean`:
    level, 0 to 255.
    """

    blur: int | None
    noise: int
    blockiness: int
    dark: int
    bright: int
    mean: int


def _measure(gray: bytes | memoryview, width: int, height: int, tiles: "array[int]", phases: "array[int]") -> int:
    """Add the sums of each whole tile to `tiles` (six a tile) and of each phase to `phases` (8 columns, 8 rows)."""
    across, below = (width - 2) >> 5, (height - 2) >> 5
    for y in range(1, height - 1):
        row = (y - 1) >> 5
        for x in range(1, width - 1):
            at = y * width + x
            here = gray[at]
            left, right, up, down = gray[at - 1], gray[at + 1], gray[at - width], gray[at + width]
            phases[x & 7] += right - here if right > here else here - right
            phases[8 + (y & 7)] += down - here if down > here else here - down
            column = (x - 1) >> 5
            if column >= across or row >= below:
                continue
            slope_x, slope_y = right - left, down - up
            corners = gray[at - width - 1] + gray[at - width + 1] + gray[at + width - 1] + gray[at + width + 1]
            bend = 4 * here - left - right - up - down
            rough = 4 * here - 2 * (left + right + up + down) + corners
            tile = 6 * (row * across + column)
            tiles[tile] += slope_x * slope_x + slope_y * slope_y
            tiles[tile + 1] += bend * bend
            tiles[tile + 2] += rough if rough > 0 else -rough
            tiles[tile + 3] += here <= 5
            tiles[tile + 4] += here >= 250
            tiles[tile + 5] += here
    return 0


def sums(gray: bytes | memoryview, width: int, height: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """(six sums a tile, sixteen phase sums) of a gray picture, one byte a pixel, row by row.

    Raises `ValueError` unless `gray` has width x height bytes and holds at least one tile.
    """
    if len(gray) != width * height or width < TILE + 2 or height < TILE + 2 or len(gray) > 1 << 28:
        raise ValueError(f"{len(gray)} bytes for {width} x {height} gray pixels")
    count = ((width - 2) // TILE) * ((height - 2) // TILE)
    tiles, phases = array("q", bytes(8 * _SUMS * count)), array("q", bytes(8 * 16))
    _measure(gray, width, height, tiles, phases)
    flat = tiles.tolist()
    return [tuple(flat[_SUMS * i : _SUMS * (i + 1)]) for i in range(count)], phases.tolist()


def measure(gray: bytes | memoryview, width: int, height: int) -> Quality:
    """The quality of a gray picture (sRGB luma) at its own scale; raises `ValueError` as `sums`."""
    tiles, phases = sums(gray, width, height)
    area = len(tiles) * TILE * TILE
    return Quality(
        blur=_blur(tiles),
        noise=_noise(tiles),
        blockiness=max(_blockiness(phases[:8]), _blockiness(phases[8:])),
        dark=_rounded(1000 * sum(t[3] for t in tiles), area),
        bright=_rounded(1000 * sum(t[4] for t in tiles), area),
        mean=_rounded(sum(t[5] for t in tiles), area),
    )


def _blur(tiles: list[tuple[int, ...]]) -> int | None:
    """The lower quartile of the blur of the tiles with the strongest edges."""
    edged = sorted((t for t in tiles if t[0] >= _EDGE), key=lambda t: -t[0])
    strongest = edged[: max(1, len(edged) // _TOP)]
    if not strongest:
        return None
    # Slopes are doubled differences, so their squares count four times: s² = slopes / 4 / (2 bends).
    found = sorted(isqrt(10_000 * t[0] // max(1, 8 * t[1])) for t in strongest)
    return found[len(found) // 4]


def _noise(tiles: list[tuple[int, ...]]) -> int:
    """The tenth percentile over tiles that are not clipped; sigma = sqrt(pi / 2) / 6 x mean of the absolute mask."""
    most = TILE * TILE // 10
    found = sorted(t[2] for t in tiles if t[3] <= most and t[4] <= most)
    if not found:
        return 0
    # sqrt(pi / 2) / 6 = 0.208886, in hundredths of a level.
    return _rounded(found[len(found) // 10] * 208_886, 10_000 * TILE * TILE)


def _blockiness(phases: list[int]) -> int:
    """The strongest phase against the mean of the others."""
    others = sum(phases) - max(phases)
    return 100 if others == 0 else _rounded(700 * max(phases), others)


def _rounded(value: int, by: int) -> int:
    """Nearest, ties up."""
    return (2 * value + by) // (2 * by)

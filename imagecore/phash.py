"""Perceptual hash kernel: 64 bits of a discrete cosine transform over a 32 x 32 gray picture, with a quality score.

The arithmetic is in integers (cosines scaled by 4096), so that compiled, uncompiled and any processor agree to the
bit. Which pictures are alike is decided in `likeness.py`.
"""

from array import array
from math import cos, pi
from typing import Final

SIDE: Final = 32
KEPT: Final = 8
SCALE: Final = 4096
HALF_A_LEVEL: Final = (SCALE * SCALE * SIDE * SIDE) // 8
"""A coefficient of this size is a wave of half a gray level: less is rounding or noise."""

_COSINES: Final = array(
    "q", [round(SCALE * cos(pi * (2 * x + 1) * u / (2 * SIDE))) for u in range(KEPT) for x in range(SIDE)]
)


def _transform(gray: bytes, cosines: "array[int]", rows: "array[int]", out: "array[int]") -> int:
    """Write the 8 x 8 lowest coefficients of 32 x 32 `gray` to `out`, vertical frequency first; `rows` is scratch."""
    for u in range(8):
        for y in range(32):
            total = 0
            for x in range(32):
                total += gray[32 * y + x] * cosines[32 * u + x]
            rows[32 * u + y] = total
    for v in range(8):
        for u in range(8):
            total = 0
            for y in range(32):
                total += rows[32 * u + y] * cosines[32 * v + y]
            out[8 * v + u] = total
    return 0


def coefficients(gray: bytes) -> list[int]:
    """The 64 lowest DCT coefficients of a 32 x 32 gray picture, row by row; the first is the mean.

    Raises `ValueError` when `gray` is not 1,024 bytes.
    """
    if len(gray) != SIDE * SIDE:
        raise ValueError(f"expected {SIDE * SIDE} bytes of gray, got {len(gray)}")
    rows, out = array("q", bytes(8 * KEPT * SIDE)), array("q", bytes(8 * KEPT * KEPT))
    _transform(gray, _COSINES, rows, out)
    return out.tolist()


def describe(gray: bytes) -> tuple[int, int]:
    """(hash, quality) of a 32 x 32 gray picture.

    The hash is an unsigned 64-bit number, first coefficient highest: a bit is set where the coefficient is above the
    lower median. Quality is 0 to 100: the share of bits (the mean's apart) that stand clear of the median by more
    than noise; a flat picture has 0. Raises `ValueError` as `coefficients`.
    """
    found = coefficients(gray)
    median = sorted(found)[KEPT * KEPT // 2 - 1]
    bits = 0
    clear = 0
    for value in found:
        bits = bits * 2 + (value > median)
        clear += abs(value - median) >= HALF_A_LEVEL
    clear -= abs(found[0] - median) >= HALF_A_LEVEL
    return bits, clear * 100 // (KEPT * KEPT - 1)

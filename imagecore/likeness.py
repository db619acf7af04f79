"""Which pictures are the same photo: re-encoded, resized or cropped a little.

Thresholds come from generated pairs (`tests/imagecore/test_likeness.py`): unrelated photos stay above 14 bits, two
exposures of one motif measured 16, copies cropped by up to 5 % a side stay within 10 in 19 of 20 cases.
"""

from typing import Final

import msgspec

from imagecore import phash

NEAR_BITS: Final = 10
LEAST_QUALITY: Final = 25
"""Below this, too few bits say anything: solid fills have 0, noise 1, smooth gradients and vignettes up to 15."""


class Fingerprint(msgspec.Struct, frozen=True):
    """Perceptual hash (unsigned, 64 bits) and its quality (0 to 100) of the upright picture in sRGB gray."""

    bits: int
    quality: int


def fingerprint(gray: bytes) -> Fingerprint:
    """The fingerprint of a picture squeezed to 32 x 32 gray, one byte a pixel, row by row; else `ValueError`."""
    return Fingerprint(*phash.describe(gray))


def distance(one: Fingerprint, other: Fingerprint) -> int:
    """Bits that differ, 0 to 64."""
    return (one.bits ^ other.bits).bit_count()


def alike(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether to offer the two as the same photo; never true for a picture too flat to tell."""
    return min(one.quality, other.quality) >= LEAST_QUALITY and distance(one, other) <= NEAR_BITS

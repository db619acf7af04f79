"""A photo's quality: which of its stored pixels the kernel looks at, and how its figures are kept.

Measured at the pixels' own scale, neither turned nor scaled nor converted to another profile: at ingest from the one
decode, else from the original.
"""

from typing import Final

import msgspec

from imagecore import colour, containers, quality, vips
from imagecore.load import load, stored
from imagecore.quality import Quality

REVISION: Final = 1
"""Raised when the same photo gets other figures; `analyse.REVISION` is then raised with it."""
MOST_PIXELS: Final = 3072
"""No more than this many columns and rows are looked at, from the middle."""
_GRID: Final = 8
_LEAST: Final = quality.TILE + 2


def quality_of(raw: bytes) -> Quality | None:
    """The quality of an original, decoded for it; None for less than 34 px a side. Raises `PixelFailure`."""
    return quality_in(load(raw) if containers.sniff(raw) == "heic" else stored(raw, sequential=True))


def quality_in(image: vips.Image) -> Quality | None:
    """The quality of a photo's pixels as they are stored; None for less than 34 px a side. Raises `PixelFailure`."""
    width, height = min(image.width, MOST_PIXELS), min(image.height, MOST_PIXELS)
    if min(width, height) < _LEAST:
        return None
    left, top = ((side - part) // 2 // _GRID * _GRID for side, part in ((image.width, width), (image.height, height)))
    reading = colour.reading_of(image)
    if reading.origin is colour.Origin.BROKEN:  # of CMYK, libvips would ask the profile for gray
        image = vips.with_profile(image, reading.profile.data)
    with vips.failures():
        gray = image.crop(left, top, width, height).colourspace("b-w").extract_band(0)
        level = gray if gray.format == "uchar" else (gray / 257).cast("uchar")
        return quality.measure(memoryview(level.write_to_memory()), width, height)


def encode(found: Quality | None) -> bytes:
    """The figures as the JSON that is stored; `null` where there are too few pixels."""
    return msgspec.json.encode(found)


def decode(kept: bytes) -> Quality | None:
    """The figures of such JSON; raises `msgspec.ValidationError`."""
    return msgspec.json.decode(kept, type=Quality | None)

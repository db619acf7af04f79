"""Reading ICC profiles that strangers attached to photos: what one claims, and whether it can be used at all.

libvips falls back to sRGB without a word when a profile is cut, garbage or for another colour space, so this module
decides before libvips sees it. Layout: ICC.1:2022 (v4), sections 7.2 (header), 7.3 (tag table), 9 (tags), 10 (types).
"""

import hashlib
import struct
from enum import StrEnum
from typing import Final

import msgspec

MAX_BYTES: Final = 4 << 20
HEADER: Final = 128
MAX_TAGS: Final = 200
MAX_NAME: Final = 120
MAX_VERSION: Final = 4
"""ICC.2 (iccMAX, version 5) is another format, which Little CMS does not read."""


class Space(StrEnum):
    """Device colour spaces we take in or print."""

    GRAY = "gray"
    RGB = "rgb"
    CMYK = "cmyk"


class Intent(StrEnum):
    """ICC rendering intents, by libvips' names. Black-point compensation is a switch beside it (not part of ICC)."""

    PERCEPTUAL = "perceptual"
    RELATIVE = "relative"
    SATURATION = "saturation"
    ABSOLUTE = "absolute"


class Rendering(msgspec.Struct, frozen=True):
    """A conversion's settings; named in recipes and manifests."""

    intent: Intent = Intent.RELATIVE
    black_point: bool = True


BANDS: Final = {Space.GRAY: 1, Space.RGB: 3, Space.CMYK: 4}
_SPACES: Final = {b"GRAY": Space.GRAY, b"RGB ": Space.RGB, b"CMYK": Space.CMYK}
_CLASSES: Final = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
_CURVES: Final = frozenset({b"curv", b"para"})
_PARAMETERS: Final = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}  # numbers of each kind of `para` curve
_TABLES: Final = frozenset({b"mft1", b"mft2", b"mAB "})
_MATRIX: Final = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")


class Unusable(ValueError):
    """These bytes are no profile that a photo can be read by; the text says why, in a few words."""


class Header(msgspec.Struct, frozen=True):
    """What a sound profile says of itself. `sha256` is over all its bytes, in hexadecimal."""

    space: Space
    description: str
    sha256: str


def read(data: bytes) -> Header:
    """The facts of a profile that can turn device colours into measured ones; else `Unusable`."""
    if len(data) < HEADER + 4:
        raise Unusable("shorter than a header")
    if len(data) > MAX_BYTES:
        raise Unusable(f"larger than {MAX_BYTES} bytes")
    declared = struct.unpack_from(">I", data)[0]
    if data[36:40] != b"acsp":
        raise Unusable("signature missing")
    if data[8] > MAX_VERSION:
        raise Unusable(f"version {data[8]}")
    if not HEADER + 4 <= declared <= len(data):
        raise Unusable(f"declares {declared} bytes, has {len(data)}")
    space = _SPACES.get(data[16:20])
    if space is None or data[12:16] not in _CLASSES or data[20:24] not in {b"XYZ ", b"Lab "}:
        raise Unusable("class or colour space not for photos")
    tags = _tags(data[:declared])
    _check_transform(space, tags)
    if space is Space.GRAY and b"kTRC" not in tags and data[64:68] != bytes(4):
        raise Unusable("no table for its intent")
    return Header(space, _name(tags.get(b"desc", b"")), hashlib.sha256(data).hexdigest())


def _tags(data: bytes) -> dict[bytes, bytes]:
    """Each tag's bytes by signature; raises `Unusable` when the table or a tag leaves the file."""
    count = struct.unpack_from(">I", data, HEADER)[0]
    if count > MAX_TAGS or HEADER + 4 + 12 * count > len(data):
        raise Unusable("tag table leaves the file")
    found = {}
    for number in range(count):
        signature, offset, size = struct.unpack_from(">4sII", data, HEADER + 4 + 12 * number)
        if offset + size > len(data) or size < 8:
            raise Unusable("a tag leaves the file")
        if signature in found:
            raise Unusable("a tag twice")
        found[signature] = data[offset : offset + size]
    return found


def _check_transform(space: Space, tags: dict[bytes, bytes]) -> None:
    """A table to the connection space, or the curves and colorants of a matrix, of the right types."""
    if tags.get(b"A2B0", b"")[:4] in _TABLES:
        return
    if space is Space.CMYK:
        raise Unusable("no table from inks to colours")
    needed = (b"kTRC",) if space is Space.GRAY else _MATRIX
    for name in needed:
        tag = tags.get(name, b"")
        sound = len(tag) >= 20 and tag[:4] == b"XYZ " if name.endswith(b"XYZ") else _curve_is_whole(tag)
        if not sound:
            raise Unusable(f"{name.decode()} missing or malformed")


def _curve_is_whole(tag: bytes) -> bool:
    if tag[:4] not in _CURVES or len(tag) < 12:
        return False
    if tag[:4] == b"para":
        numbers = _PARAMETERS.get(struct.unpack_from(">H", tag, 8)[0])
        return numbers is not None and 12 + 4 * numbers <= len(tag)
    return 12 + 2 * int(struct.unpack_from(">I", tag, 8)[0]) <= len(tag)


def _name(tag: bytes) -> str:
    """The description of a v2 (`desc`) or v4 (`mluc`) profile: printable, cut at `MAX_NAME`, maybe empty."""
    if tag[:4] == b"desc" and len(tag) >= 12:
        length = int(struct.unpack_from(">I", tag, 8)[0])
        text = tag[12 : 12 + length].split(b"\0")[0].decode("latin-1")
    elif tag[:4] == b"mluc" and len(tag) >= 28:
        length, offset = struct.unpack_from(">II", tag, 20)
        text = tag[offset : offset + length].decode("utf-16-be", "replace").split("\0")[0]
    else:
        text = ""
    return "".join(c for c in text if c.isprintable())[:MAX_NAME].strip()

"""What a finished file carries beside its picture: nothing but colour profiles may leave us.

The bytes are walked, nothing is decoded, and unknown parts are named, not passed over.
"""

import struct
from typing import Final

from imagecore import containers, exif
from imagecore.errors import Rejected

_PLAIN: Final = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD), (b"",)),  # tables, frames, scans (T.81)
    0xE0: (b"JFIF\0", b"JFXX\0"),
    0xE2: (b"ICC_PROFILE\0",),
    0xEE: (b"Adobe",),
}
_PNG: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME"})
_WEBP: Final = frozenset({b"EXIF", b"XMP "})
_TIFF: Final = {
    0x010E: "description", 0x010F: "make", 0x0110: "model", 0x0132: "time", 0x013B: "artist", 0x02BC: "xmp",
    0x8298: "copyright", 0x83BB: "iptc", 0x8649: "photoshop", 0x8769: "exif", 0x8825: "gps",
}  # fmt: skip


def extras(raw: bytes) -> list[str]:
    """What a JPEG, PNG, WebP, AVIF or TIFF carries that no rendition may; `unreadable` for anything else."""
    readers = {"jpeg": _jpeg, "png": _png, "webp": _webp, "avif": _avif, "tiff": _tiff}
    reader = readers.get(containers.label(raw))
    try:
        return ["unreadable"] if reader is None else sorted(reader(raw))
    except (Rejected, struct.error, IndexError):
        return ["unreadable"]


def _jpeg(raw: bytes) -> set[str]:
    found, at = set(), 2
    while at + 4 <= len(raw) and raw[at] == 0xFF and raw[at + 1] != 0xD9:
        marker, length = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        content = raw[at + 4 : at + 2 + length]
        if not content.startswith(_PLAIN.get(marker, ())):
            found.add(_segment(marker, content))
        if marker == 0xDA:
            break
        at += 2 + length
    return found | ({"trailing-data"} if containers.jpeg(raw).end != len(raw) else set())


def _segment(marker: int, content: bytes) -> str:
    known = {b"Exif\0": "exif", b"http://ns.adobe.com/xap": "xmp", b"Photoshop": "iptc", b"MPF\0": "more-pictures"}
    named = next((name for start, name in known.items() if content.startswith(start)), None)
    return named or ("comment" if marker == 0xFE else f"segment-{marker:02x}")


def _png(raw: bytes) -> set[str]:
    found, at = set(), 8
    while at + 12 <= len(raw):
        length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        if kind in _PNG:
            found.add(kind.decode().lower())
        at += length + 12
    return found


def _webp(raw: bytes) -> set[str]:
    found, at = set(), 12
    while at + 8 <= len(raw):
        kind, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        if kind in _WEBP:
            found.add(kind.decode().strip().lower())
        at += 8 + length + (length & 1)
    return found


def _avif(raw: bytes) -> set[str]:
    """Items of type `Exif` and `mime` (XMP) are announced in `meta` (ISO/IEC 23008-12 annex A)."""
    at = 0
    while at + 8 <= len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        if kind == b"meta":
            head = raw[at : at + size]
            return {name for mark, name in ((b"Exif", "exif"), (b"mime", "xmp")) if mark in head}
        at += max(size, 8)
    return {"unreadable"}


def _tiff(raw: bytes) -> set[str]:
    return {_TIFF[tag] for tag in exif.tags(raw) & _TIFF.keys()}

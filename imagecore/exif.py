"""The few EXIF facts that printing needs, read by ourselves with every offset checked (CIPA DC-008, TIFF 6.0).

The place a photo was taken at is never read: only whether there is one.
"""

import re
import struct
from typing import Final

import msgspec

MAX_ENTRIES: Final = 512
MAX_TEXT: Final = 64

_MAKE, _MODEL, _ORIENTATION, _EXIF_IFD, _GPS_IFD = 0x010F, 0x0110, 0x0112, 0x8769, 0x8825
_TAKEN, _OFFSET_TAKEN = 0x9003, 0x9011
_GPS_LATITUDE, _GPS_LONGITUDE = 0x0002, 0x0004
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIME: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_ZONE: Final = re.compile(r"[+-]\d\d:\d\d|Z")


class Exif(msgspec.Struct, frozen=True, kw_only=True):
    """`taken_at` is the camera's local time as `YYYY-MM-DDThh:mm:ss`, with its offset where the camera wrote one."""

    orientation: int | None = None
    camera: str | None = None
    taken_at: str | None = None
    has_gps: bool = False


class _Reader:
    """One TIFF structure; `ifd` maps tags to raw values."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}[data[:2]]

    def number(self, at: int, size: int) -> int:
        code = {2: "H", 4: "I"}[size]
        return int(struct.unpack_from(self.order + code, self.data, at)[0])

    def ifd(self, at: int) -> dict[int, tuple[int, bytes]]:
        """Type and bytes by tag; what points outside the data is left out."""
        found: dict[int, tuple[int, bytes]] = {}
        for index in range(min(self.number(at, 2), MAX_ENTRIES)):
            entry = at + 2 + 12 * index
            if entry + 12 > len(self.data):
                break
            tag, kind, count = self.number(entry, 2), self.number(entry + 2, 2), self.number(entry + 4, 4)
            length = _SIZES.get(kind, 0) * count
            start = entry + 8 if length <= 4 else self.number(entry + 8, 4)
            if length and start + length <= len(self.data):
                found.setdefault(tag, (kind, self.data[start : start + length]))
        return found

    def integer(self, value: tuple[int, bytes] | None) -> int | None:
        if value is None or value[0] not in (3, 4, 13):
            return None
        size = _SIZES[value[0]]
        return int(struct.unpack_from(self.order + {2: "H", 4: "I"}[size], value[1])[0])


def _text(value: tuple[int, bytes] | None) -> str:
    if value is None or value[0] not in (2, 7):
        return ""
    text = value[1].split(b"\0")[0].decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT].strip()


def _taken(entries: dict[int, tuple[int, bytes]]) -> str | None:
    match = _TIME.fullmatch(_text(entries.get(_TAKEN)))
    if match is None or match[1] == "0000":
        return None
    zone = _text(entries.get(_OFFSET_TAKEN))
    year, month, day, hour, minute, second = match.groups()
    stamp = f"{year}-{month}-{day}T{hour}:{minute}:{second}"
    return stamp + zone if _ZONE.fullmatch(zone) else stamp


def read(blob: bytes | None) -> Exif:
    """The facts in an EXIF blob (with or without its `Exif` prefix) or in a TIFF file; all absent where broken."""
    if not blob:
        return Exif()
    data = blob[6:] if blob[:6] == b"Exif\0\0" else blob
    if data[:2] not in (b"II", b"MM") or len(data) < 14:
        return Exif()
    reader = _Reader(data)
    try:
        main = reader.ifd(reader.number(4, 4))
        more = reader.integer(main.get(_EXIF_IFD))
        place = reader.integer(main.get(_GPS_IFD))
        detail = reader.ifd(more) if more else {}
        gps = reader.ifd(place) if place else {}
    except struct.error:
        return Exif()
    orientation = reader.integer(main.get(_ORIENTATION))
    return Exif(
        orientation=orientation if orientation in range(1, 9) else None,
        camera=" ".join(filter(None, (_text(main.get(_MAKE)), _text(main.get(_MODEL))))) or None,
        taken_at=_taken(detail),
        has_gps=_GPS_LATITUDE in gps or _GPS_LONGITUDE in gps,
    )


def tags(raw: bytes) -> frozenset[int]:
    """The tags of a TIFF file's first directory; raises `struct.error` where there is none."""
    reader = _Reader(raw)
    return frozenset(reader.ifd(reader.number(4, 4)))

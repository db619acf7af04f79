"""What a TIFF says of its pictures, read from its directories alone: before any native decoder has seen the file.

Layout: TIFF 6.0 (sections 2 and 8), BigTIFF, and DNG 1.7 for what tells a camera's raw file.
"""

import struct
from typing import Final

from imagecore.containers import Refusal, Structure
from imagecore.errors import Reason, Rejected

MAX_DIRECTORIES: Final = 10_000
MAX_ENTRIES: Final = 200_000
_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types that an entry's numbers may have
_REDUCED: Final = 1  # bit of NewSubfileType
_JPEG_COMPRESSION: Final = 7
_YCBCR: Final = 6
_SEPARATED: Final = 5
_CMYK_INKS: Final = 1
_SENSOR: Final = frozenset({32_803, 34_892})  # colour filter array, linear raw
_PHOTOMETRIC: Final = frozenset({0, 1, 2, 3, _SEPARATED, _YCBCR})
_ALPHA: Final = frozenset({1, 2})  # of ExtraSamples: associated, unassociated; 0 is anything, such as a saved selection
_READ_TAGS: Final = {
    254: "kind", 256: "width", 257: "height", 259: "compression", 262: "photometric", 330: "parts", 332: "inks",
    338: "extra", 50_706: "dng",
}  # fmt: skip

_Directory = dict[str, tuple[int, ...]]


class _Tiff:
    """Reads directories wherever they lie; whatever leaves the file is as if it were not there."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._order = "<" if raw[:1] == b"I" else ">"
        self._is_big = raw[2:4] in (b"+\x00", b"\x00+")
        self._entries = 0

    def first(self) -> int:
        """Where the first directory lies."""
        return self._number("Q" if self._is_big else "I", 8 if self._is_big else 4)

    def directory(self, at: int) -> tuple[_Directory, int]:
        """What is looked for in one directory, and where the next lies (0: nowhere)."""
        count_form, entry_form, step = ("Q", "HHQ", 20) if self._is_big else ("H", "HHI", 12)
        start = at + struct.calcsize(count_form)
        count = self._number(count_form, at)
        end = start + count * step
        if end > len(self.raw) or not count:
            return {}, 0
        self._entries += count
        if self._entries > MAX_ENTRIES:
            raise Rejected(Reason.CORRUPT, "too many directory entries")
        found: _Directory = {}
        for place in range(start, end, step):
            tag, type_, values = struct.unpack_from(self._order + entry_form, self.raw, place)
            if tag in _READ_TAGS:
                found[_READ_TAGS[tag]] = self._values(
                    _NUMBERS.get(type_), values, place + step - (8 if self._is_big else 4)
                )
        return found, self._number("Q" if self._is_big else "I", end)

    def _values(self, form: str | None, count: int, at: int) -> tuple[int, ...]:
        """An entry's numbers, 64 at most, which lie in it where they fit."""
        if form is None:
            return ()
        room, count = 8 if self._is_big else 4, min(count, 64)
        if struct.calcsize(form) * count > room:
            at = self._number("Q" if self._is_big else "I", at)
        try:
            return struct.unpack_from(f"{self._order}{count}{form}", self.raw, at)
        except struct.error:
            return ()

    def _number(self, form: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self._order + form, self.raw, at)[0])
        except struct.error:
            return 0


def read(raw: bytes) -> Structure:
    """What the first picture's numbers mean, and how many pictures there are that are no smaller copies of another.

    Refused: `unsupported-type`, a camera's raw file, which is a TIFF of a thumbnail; `unsupported-coding`, a thumbnail
    before the picture, and numbers that are neither gray, RGB, CMYK, a palette's nor a JPEG's. Raises `Rejected`
    (`corrupt`) for directories without end.
    """
    walk = _Tiff(raw)
    at, seen, pages, first = walk.first(), set[int](), 0, None
    while at and at not in seen and len(seen) < MAX_DIRECTORIES:
        seen.add(at)
        found, following = walk.directory(at)
        if first is None:
            first = found
        pages += not _one(found, "kind", 0) & _REDUCED
        at = following
    first = first or {}
    extra = first.get("extra", ())
    return Structure(
        width=_one(first, "width", 0) or None,
        height=_one(first, "height", 0) or None,
        end=len(raw),
        complete=True,
        frames=max(pages, 1),
        alpha=extra[0] in _ALPHA if extra else None,
        refusal=_refusal(first, [walk.directory(part)[0] for part in first.get("parts", ())], pages > 0),
    )


def _one(found: _Directory, name: str, default: int) -> int:
    return found[name][0] if found.get(name) else default


def _refusal(first: _Directory, parts: list[_Directory], has_more: bool) -> Refusal | None:
    """Why the first picture is not printed; `has_more`: one of full size stands behind it, where it is a copy."""
    if "dng" in first or any(_one(each, "photometric", 0) in _SENSOR for each in (first, *parts)):
        return Refusal(Reason.UNSUPPORTED_TYPE, "raw")
    photometric = _one(first, "photometric", 1)
    if _one(first, "kind", 0) & _REDUCED and has_more:
        what = "a thumbnail before the picture"
    elif photometric not in _PHOTOMETRIC:
        what = f"photometric interpretation {photometric}"
    elif photometric == _YCBCR and _one(first, "compression", 1) != _JPEG_COMPRESSION:
        what = "YCbCr that is no JPEG's"
    elif photometric == _SEPARATED and _one(first, "inks", _CMYK_INKS) != _CMYK_INKS:
        what = "inks that are not CMYK"
    else:
        return None
    return Refusal(Reason.UNSUPPORTED_CODING, what)

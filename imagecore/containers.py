"""What a file says of itself, read from its bytes alone: format, structure, where the picture ends.

Pure Python on purpose: this runs before any native decoder has seen the file, allocates nothing in proportion to
what a header claims, and takes bounded time (`MAX_PARTS`). Names of files are never looked at.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from imagecore.errors import Reason, Rejected

MAX_BYTES: Final = 200 << 20
MAX_PARTS: Final = 20_000

# The beginning decides. Each entry: offset, bytes, format.
_MAGIC: Final = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),
    (0, b"MM\x00+", "tiff"),
)
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
# Real picture formats that we do not print, then files that are no picture.
_FOREIGN: Final = (
    (b"BM", "bmp"), (b"8BPS", "psd"), (b"\x00\x00\x00\x0cjP  ", "jp2"), (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cJXL ", "jxl"), (b"%PDF-", "pdf"), (b"\x00\x00\x01\x00", "ico"), (b"v/1\x01", "exr"),
    (b"#?RADIANCE", "hdr"), (b"FUJIFILMCCD-RAW", "raw"), (b"IIU\x00", "raw"), (b"IIRO", "raw"), (b"qoif", "qoi"),
)  # fmt: skip
_OTHER: Final = (
    (b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"Rar!", "rar"), (b"7z\xbc\xaf", "7z"),
    (b"\x7fELF", "elf"), (b"MZ", "exe"), (b"%!PS", "postscript"), (b"\xfd7zXZ", "xz"), (b"<!DOCTYPE", "html"),
    (b"<html", "html"), (b"<script", "html"), (b"<?php", "php"),
)  # fmt: skip
PRINTABLE: Final = frozenset({"jpeg", "png", "webp", "gif", "tiff", "heic", "avif"})


def label(raw: bytes | memoryview) -> str:
    """What a file is by its content, also where it is no picture: `empty`, `svg`, `gzip`, … or `unknown`."""
    head = bytes(raw[:512])
    if not head:
        return "empty"
    if head[:4] == b"II*\x00" and head[8:10] == b"CR":
        return "raw"  # Canon's CR2, a TIFF but for its pixels
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _heif_kind(head)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "svg"
    return next((name for magic, name in (*_FOREIGN, *_OTHER) if head.startswith(magic)), "unknown")


def sniff(raw: bytes | memoryview) -> str:
    """The format by content: `jpeg png webp gif tiff heic avif`.

    Raises `Rejected` with `empty`, `unsupported-type` (a picture of another kind) or `not-an-image`.
    """
    name = label(raw)
    if name in PRINTABLE:
        return name
    if name == "empty":
        raise Rejected(Reason.EMPTY)
    if name == "svg" or name in {kind for _, kind in _FOREIGN}:
        raise Rejected(Reason.UNSUPPORTED_TYPE, name)
    raise Rejected(Reason.NOT_AN_IMAGE, name)


def is_a_file(tail: bytes) -> bool:
    """Whether what follows a picture reads as a file of its own (a polyglot), and is not only padding or a note."""
    kind = label(tail)
    if kind not in {"empty", "unknown"}:
        return True
    return b"PK\x05\x06" in tail[-66_000:] or b"PK\x03\x04" in tail[:4096]


def _heif_kind(head: bytes) -> str:
    """ISO/IEC 23008-12: the major brand decides, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "avif"
        if brand in _HEIC_BRANDS - {b"mif1", b"msf1", b"mif2"}:
            return "heic"
    if any(brand in _HEIC_BRANDS for brand in brands):
        return "heic"
    return "unknown"


class Refusal(msgspec.Struct, frozen=True):
    """Why a file whose headers are sound is not printed; of `unsupported-type`, `detail` is what it is instead."""

    reason: Reason
    detail: str


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is built. Sizes are of the stored picture, before any turning.

    `end` is where the picture's own data ends and `complete` whether all of it is there. `alpha` is None where a
    decoder has to tell; `carries_profile` says that there are parts of an ICC profile, whatever they hold.
    """

    width: int | None = None
    height: int | None = None
    end: int
    complete: bool
    coding: str | None = None
    subsampling: str | None = None
    components: int | None = None
    bits: int | None = None
    interlaced: bool = False
    frames: int | None = None
    alpha: bool | None = None
    carries_profile: bool = False
    exif_text: bytes = b""
    refusal: Refusal | None = None
    adobe_transform: int | None = None
    multi_picture: bool = False
    gain_map: bool = False
    depth_map: bool = False
    metadata_bytes: int = 0
    cicp: tuple[int, int, int] | None = None


# --- JPEG (ITU-T T.81 annex B) ---------------------------------------------------------------------------------------

_SOF: Final = {
    0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless", 0xC5: "hierarchical",
    0xC6: "hierarchical", 0xC7: "hierarchical", 0xC9: "arithmetic", 0xCA: "arithmetic-progressive",
    0xCB: "arithmetic-lossless", 0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical",
}  # fmt: skip
# The next marker inside entropy-coded data: not a stuffed zero, a restart or fill.
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SUBSAMPLING: Final = {
    (1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1", (4, 2): "4:1:0",
}  # fmt: skip
_GAIN_MAP_MARKS: Final = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"HDRGainMap", b"urn:iso:std:iso:ts:21496:-1")
_DEPTH_MARKS: Final = (b"ns.google.com/photos/1.0/depthmap", b"ns.google.com/photos/1.0/focus", b"GDepth:")


class _Jpeg:
    """The walk's state; `Structure` is what comes out."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.metadata = 0
        self.parts = 0
        self.scans = 0
        self.components = 0

    def frame(self, marker: int, body: bytes) -> None:
        """SOFn: precision, lines, samples a line, components and their sampling factors."""
        if len(body) < 6 or "width" in self.fields or len(body) < 6 + 3 * body[5]:
            raise Rejected(Reason.CORRUPT, "frame header")
        precision, height, width, count = struct.unpack(">BHHB", body[:6])
        factors = [(body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(count)]
        self.fields.update(width=width, height=height, bits=precision, components=count, coding=_SOF[marker])
        self.fields["interlaced"] = marker in (0xC2, 0xCA)
        self.components = count
        if count >= 3 and all(factors[1]):
            ratio = (factors[0][0] // factors[1][0], factors[0][1] // factors[1][1])
            self.fields["subsampling"] = _SUBSAMPLING.get(ratio)

    def segment(self, marker: int, body: bytes) -> None:
        """One marker segment before or between scans."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise Rejected(Reason.CORRUPT, "too many segments")
        if marker in _SOF:
            self.frame(marker, body)
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            self.fields["adobe_transform"] = body[11]
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            self.application(marker, body)

    def application(self, marker: int, body: bytes) -> None:
        """APPn and COM: only measured and looked through for well-known names."""
        self.metadata += len(body) + 4
        if marker == 0xE2 and body[:4] == b"MPF\x00":
            self.fields["multi_picture"] = True
        if marker == 0xE2 and body[:12] == b"ICC_PROFILE\x00":
            self.fields["carries_profile"] = True
        if any(mark in body for mark in _GAIN_MAP_MARKS):
            self.fields["gain_map"] = True
        if any(mark in body for mark in _DEPTH_MARKS):
            self.fields["depth_map"] = True

    def result(self, end: int, complete: bool) -> Structure:
        return msgspec.convert(
            {**self.fields, "metadata_bytes": self.metadata, "end": end, "complete": complete}, Structure
        )


def jpeg(raw: bytes) -> Structure:
    """Walk a JPEG from SOI to EOI. `end` is behind EOI; what follows is trailing data or further pictures (MPF).

    Raises `Rejected(corrupt)` where no picture can follow.
    """
    walk, at = _Jpeg(), 2
    while True:
        found = raw.find(b"\xff", at)
        if found < 0 or found + 1 >= len(raw):
            return walk.result(len(raw), complete=False)
        marker, at = raw[found + 1], found + 2
        if marker == 0xFF:
            at -= 1
        elif marker == 0xD9:
            return walk.result(at, complete=walk.scans > 0)
        elif marker not in (0x00, 0x01) and not 0xD0 <= marker <= 0xD8:
            at = _jpeg_segment(raw, walk, marker, at)
            if at > len(raw):
                return walk.result(len(raw), complete=False)


def _jpeg_segment(raw: bytes, walk: _Jpeg, marker: int, at: int) -> int:
    """Take one segment (and the scan behind an SOS); return where the next marker is looked for."""
    length = int.from_bytes(raw[at : at + 2], "big")
    if len(raw) - at < 2 or length < 2:
        if len(raw) - at < 2:
            return len(raw) + 1
        raise Rejected(Reason.CORRUPT, "segment length")
    body = raw[at + 2 : at + length]
    walk.segment(marker, body)
    at += length
    if marker != 0xDA:
        return at
    if "width" not in walk.fields:
        raise Rejected(Reason.CORRUPT, "scan before frame")
    if body and body[0] < walk.components:
        walk.fields["interlaced"] = True  # the other components' scans come later: decoders hold all coefficients
    walk.scans += 1
    match = _MARKER.search(raw, at)
    return match.start() if match else len(raw) + 1


# --- PNG (ISO/IEC 15948) ---------------------------------------------------------------------------------------------

_PNG_COMPONENTS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_METADATA: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME"})
_PNG_OPAQUE: Final = frozenset({0, 2, 3})
_MAX_TEXT: Final = 1 << 20


def png(raw: bytes) -> Structure:
    """Walk the chunks to IEND. `coding` is `indexed` for palettes. Raises `Rejected`."""
    if raw[12:16] != b"IHDR" or len(raw) < 33:
        raise Rejected(Reason.TRUNCATED if len(raw) < 33 else Reason.CORRUPT, "no IHDR")
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", raw[16:29])
    fields: dict[str, object] = {
        "width": width, "height": height, "bits": bits, "interlaced": interlace == 1,
        "components": _PNG_COMPONENTS.get(colour), "coding": "indexed" if colour == 3 else None,
        "alpha": colour not in _PNG_OPAQUE,
    }  # fmt: skip
    at, parts, metadata = 8, 0, 0
    while at + 12 <= len(raw):
        length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        parts += 1
        if parts > MAX_PARTS:
            raise Rejected(Reason.CORRUPT, "too many chunks")
        fields |= _PNG_CHUNKS[kind](raw[at + 8 : at + 8 + length]) if kind in _PNG_CHUNKS else {}
        metadata += length + 12 if kind in _PNG_METADATA else 0
        at += length + 12
        if kind == b"IEND":
            break
    complete = at <= len(raw) and raw[at - 8 : at - 4] == b"IEND"
    return msgspec.convert(
        {**fields, "end": min(at, len(raw)), "complete": complete, "metadata_bytes": metadata}, Structure
    )


def _png_text(body: bytes) -> dict[str, object]:
    name, _, text = body.partition(b"\0")
    return {"exif_text": text} if name in (b"Raw profile type exif", b"Raw profile type APP1") else {}


def exif_in(text: bytes) -> bytes | None:
    """The EXIF that ImageMagick writes as text, packed or plain: a name, a length, lines of hexadecimal digits."""
    try:
        plain = zlib.decompressobj().decompress(text[1:], _MAX_TEXT) if text[:1] == b"\0" else text
        return bytes.fromhex(b"".join(plain.split()[2:]).decode("ascii"))
    except (zlib.error, ValueError):
        return None


_PNG_CHUNKS: Final[dict[bytes, Callable[[bytes], dict[str, object]]]] = {
    b"acTL": lambda body: {"frames": int.from_bytes(body[:4], "big")} if len(body) >= 8 else {},
    b"cICP": lambda body: {"cicp": tuple(body[:3])} if len(body) >= 4 else {},
    b"tRNS": lambda _: {"alpha": True},
    b"iCCP": lambda _: {"carries_profile": True},
    b"tEXt": _png_text,
    b"zTXt": _png_text,
}


# --- GIF (GIF89a specification) ---------------------------------------------------------------------------------------


def gif_frames(raw: bytes, most: int) -> int:
    """Frames of a GIF, counted no further than `most`: decoders read every frame's data before they tell.

    A fault ends the count; judging it is left to the decoder.
    """
    at, frames = 13 + _gif_table(raw, 10), 0
    while frames < most and at + 2 <= len(raw):
        kind = raw[at]
        if kind == 0x2C:
            frames += 1
            at += 11 + _gif_table(raw, at + 9)
        elif kind == 0x21:
            at += 2
        else:
            break
        while at < len(raw) and raw[at]:
            at += raw[at] + 1
        at += 1
    return frames


def _gif_table(raw: bytes, flags: int) -> int:
    """Bytes of the colour table that the flags at this place announce."""
    return 3 << (raw[flags] & 7) + 1 if flags < len(raw) and raw[flags] & 0x80 else 0


# --- WebP (RFC 9649) -------------------------------------------------------------------------------------------------


def webp(raw: bytes) -> Structure:
    """Walk the RIFF chunks; the RIFF size says where the file must end. Frames counted from ANMF chunks."""
    end = 8 + int.from_bytes(raw[4:8], "little")
    at, frames, metadata, parts, carries_profile = 12, 0, 0, 0, False
    limit = min(end, len(raw))
    while at + 8 <= limit:
        kind, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        frames += kind == b"ANMF"
        carries_profile |= kind == b"ICCP"
        metadata += length + 8 if kind in (b"EXIF", b"XMP ", b"ICCP") else 0
        parts += 1
        if parts > MAX_PARTS:
            raise Rejected(Reason.CORRUPT, "too many chunks")
        at += 8 + length + (length & 1)
    complete = len(raw) >= end - 1 and at <= end + 1
    return Structure(
        end=limit,
        complete=complete,
        frames=frames or None,
        metadata_bytes=metadata,
        bits=8,
        carries_profile=carries_profile,
    )


# --- HEIF and AVIF (ISO/IEC 14496-12, 23008-12) ----------------------------------------------------------------------


def _boxes(raw: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """`(type, start of content, declared end)` of the boxes between `at` and `end`."""
    found: list[tuple[bytes, int, int]] = []
    while at + 8 <= end:
        size, kind, head = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(raw[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        if size < head or len(found) > MAX_PARTS:
            break
        found.append((kind, at + head, at + size))
        at += size
    return found


def _furthest_extent(raw: bytes, start: int, end: int) -> int:
    """The last byte in the file that an `iloc` (23008-12: 8.11.3 of 14496-12) points at, in extents by file offset.

    Raises `Rejected(corrupt)` where the box ends before its entries do.
    """
    body = memoryview(raw)[start:end]
    wide = raw[start : start + 1] == b"\x02"
    at = 10 if wide else 8
    if len(body) < at:
        raise Rejected(Reason.CORRUPT, "item locations")
    version, sizes, more = body[0], body[4], body[5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version in (1, 2) else 0
    count = int.from_bytes(body[6:at], "big")
    furthest = 0
    for _ in range(min(count, MAX_PARTS)):
        at += 4 if wide else 2
        method = 0
        if version in (1, 2):
            method = int.from_bytes(body[at : at + 2], "big") & 15
            at += 2
        at += 2
        base = int.from_bytes(body[at : at + base_size], "big")
        at += base_size
        extents = int.from_bytes(body[at : at + 2], "big")
        at += 2
        for _ in range(min(extents, MAX_PARTS)):
            at += index_size
            offset = int.from_bytes(body[at : at + offset_size], "big")
            length = int.from_bytes(body[at + offset_size : at + offset_size + length_size], "big")
            at += offset_size + length_size
            if method == 0:
                furthest = max(furthest, base + offset + length)
        if at > len(body):
            raise Rejected(Reason.CORRUPT, "item locations")
    return furthest


# Where an `infe` of this version holds its item's type; those before tell only a media type.
_ITEM_TYPE: Final = {b"\x02": 8, b"\x03": 10}


def _check_items(raw: bytes, start: int, end: int) -> None:
    """Raise `Rejected(corrupt)` where an `iinf` (14496-12: 8.11.6) names an item's type or media type in no text.

    pi-heif 1.4 makes strings of both, does not ask whether that went well, and takes the process down where it did not.
    """
    for kind, at, until in _boxes(raw, start + (8 if raw[start : start + 1] > b"\x00" else 6), end):
        if kind != b"infe":
            continue
        place = _ITEM_TYPE.get(raw[at : at + 1])
        told = raw[at + place : at + place + 4] if place else b"mime"
        strings = raw[at + (place or 4) + 4 : until].split(b"\0", 2) if told == b"mime" else []
        try:
            b"".join((told, *strings[1:2])).decode()
        except UnicodeDecodeError:
            raise Rejected(Reason.CORRUPT, "item type") from None


def heif(raw: bytes) -> Structure:
    """Where the boxes and the items they point at end. A cut file is told by this alone: decoders fill missing tiles.

    Sizes and profiles come from the decoder's header reader (`heif.read`). Raises `Rejected`: `truncated` when the
    item table itself is cut off.
    """
    top = _boxes(raw, 0, len(raw))
    needed = max((end for _, _, end in top), default=0)
    tables = [(start, end) for kind, start, end in top if kind == b"meta"]
    if not tables or tables[-1][1] > len(raw):
        raise Rejected(Reason.TRUNCATED if tables or needed > len(raw) else Reason.CORRUPT, "no item table")
    metadata, frames = 0, None
    if raw[8:12] == b"avis":
        frames = _samples(raw, next(((start, end) for kind, start, end in top if kind == b"moov"), (0, 0)))
    for kind, start, end in (box for table in tables for box in _boxes(raw, table[0] + 4, table[1])):
        if kind == b"iloc":
            needed = max(needed, _furthest_extent(raw, start, end))
        elif kind == b"iinf":
            _check_items(raw, start, end)
        metadata += end - start
    return Structure(end=min(needed, len(raw)), complete=needed <= len(raw), metadata_bytes=metadata, frames=frames)


_TRACK: Final = (b"trak", b"mdia", b"minf", b"stbl")


def _samples(raw: bytes, movie: tuple[int, int]) -> int | None:
    """How many frames the first track of an image sequence has (14496-12: 8.7.3); None where nothing tells."""
    start, end = movie
    for name in _TRACK:
        start, end = next(((s, e) for kind, s, e in _boxes(raw, start, min(end, len(raw))) if kind == name), (0, 0))
    sizes = next((s for kind, s, _ in _boxes(raw, start, min(end, len(raw))) if kind == b"stsz"), None)
    return None if sizes is None else int.from_bytes(raw[sizes + 8 : sizes + 12], "big")

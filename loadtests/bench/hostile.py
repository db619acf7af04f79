"""Files made to harm a decoder, by name, each with what must become of it: bombs, lies, cuts and disguises.

They are made here, byte by byte where the encoder would take long, and are the same on every run.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from imagecore import vips

ROWS_A_BLOCK: Final = 1_000


class Hostile(NamedTuple):
    """One file, the reason it is refused with (None: it is printed, within bounds), and its name's extension."""

    name: str
    raw: bytes
    reason: str | None
    extension: str | None = None


def picture(width: int = 64, height: int = 48) -> vips.Image:
    x = vips.pyvips.Image.xyz(width, height)
    return (x * 4)[0].bandjoin([(x * 3)[1], x[0] + x[1]]).cast("uchar").copy(interpretation="srgb")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_cicp(raw: bytes, primaries: int, transfer: int) -> bytes:
    """A PNG that says which colours and which curve its numbers mean (ITU-T H.273), all of their range in use."""
    return raw[:33] + png_chunk(b"cICP", bytes([primaries, transfer, 0, 1])) + raw[33:]


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, interlace: int = 0, rows: int = 16) -> bytes:
    """A PNG that claims a size and holds a few black rows."""
    line = bytes(1 + width * bits * {0: 1, 2: 3, 6: 4}[colour] // 8)
    return _png(width, height, bits, colour, interlace, zlib.compress(line * rows, 9))


def whole_png(width: int, height: int, *, bits: int, colour: int) -> bytes:
    """A PNG that holds every row it claims, black: one block of rows compressed once and repeated."""
    size = (1 + -(-width * bits * {0: 1, 2: 3}[colour] // 8)) * height
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(size * ROWS_A_BLOCK // height)) + packer.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 (RFC 1950) of nothing but zeros: the first sum stays 1, the second counts them.
    check = (size % 65_521 << 16) | 1
    body = b"\x78\xda" + block * (height // ROWS_A_BLOCK) + b"\x03\x00" + struct.pack(">I", check)
    return _png(width, height, bits, colour, 0, body)


def _png(width: int, height: int, bits: int, colour: int, interlace: int, body: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    """A TIFF that claims a size and holds nothing."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 4)]  # fmt: skip
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + ifd


def gif(frames: int) -> bytes:
    """A GIF of so many equal frames."""
    data = bytes(picture(32, 32).write_to_buffer(".gif"))
    start = data.index(b"\x2c\x00\x00\x00\x00")
    return data[:start] + data[start:-1] * frames + b"\x3b"


def svg(inside: str = "", before: str = "", size: int = 9) -> bytes:
    return f"{before}<svg xmlns='http://www.w3.org/2000/svg' width='{size}' height='{size}'>{inside}</svg>".encode()


def entity_bomb() -> bytes:
    entities = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(9))
    return svg("&e9;", f"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY e0 'ha'>{entities}]>")


def external_entity() -> bytes:
    return svg("&x;", "<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>")


def jpeg_of_a_size(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    raw = bytearray(picture().write_to_buffer(".jpg"))
    at = raw.index(b"\xff\xc0") + 5
    raw[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(raw)


def avif_of_a_size(width: int, height: int) -> bytes:
    """A small AVIF whose container claims another size."""
    raw = bytearray(picture().write_to_buffer(".avif[effort=0]"))
    at = raw.index(b"ispe") + 8
    raw[at : at + 8] = struct.pack(">II", width, height)
    return bytes(raw)


def corrupted(raw: bytes, step: int = 97) -> bytes:
    """A byte changed at every step through the second half."""
    changed = bytearray(raw)
    for at in range(len(raw) // 2, len(raw) - 2, step):
        changed[at] = 0x55
    return bytes(changed)


def files() -> Iterator[Hostile]:
    """All of them; lazily, the largest are some megabytes."""
    photo = bytes(picture(1800, 1200).write_to_buffer(".jpg[Q=90]"))
    yield Hostile("png 100k x 100k, one bit, whole", whole_png(100_000, 100_000, bits=1, colour=0), "too-many-pixels")
    yield Hostile("png 65536 square, one bit, whole", whole_png(65_000, 65_000, bits=1, colour=0), "too-many-pixels")
    yield Hostile("png 20k x 20k, whole", whole_png(20_000, 20_000, bits=8, colour=2), "too-many-pixels")
    yield Hostile("png 100k x 100k, 16 rows", png(100_000, 100_000, bits=1, colour=0), "too-many-pixels")
    yield Hostile("png interlaced, 16 bit", png(14_000, 14_000, bits=16, colour=6, interlace=1), "too-many-pixels")
    yield Hostile("tiff 200k x 200k, no data", tiff(200_000, 200_000), "too-many-pixels")
    yield Hostile("jpeg 65535 x 65535", jpeg_of_a_size(65_535, 65_535), "too-many-pixels")
    yield Hostile("jpeg 30k x 30k", jpeg_of_a_size(30_000, 30_000), "too-many-pixels")
    yield Hostile("avif 17000 square", avif_of_a_size(17_000, 17_000), "too-many-pixels")
    yield Hostile("gif of 20,000 frames", gif(20_000), "too-many-frames")
    yield Hostile("svg 100k x 100k", svg(size=100_000), "unsupported-type")
    yield Hostile("svg entity bomb", entity_bomb(), "not-an-image")
    yield Hostile("svg external entity", external_entity(), "unsupported-type")
    yield Hostile("svg named .jpg", svg(), "unsupported-type", "jpg")
    yield Hostile("html before jpeg", b"<html></html>" + photo, "not-an-image")
    yield Hostile("jpeg cut in half", photo[: len(photo) // 2], "truncated")
    yield Hostile("jpeg, every 97th byte changed", corrupted(photo), None)
    yield Hostile("jpeg before html", photo + b"<html><script>1</script></html>", None)
    heavy = photo[:2] + (b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65_527)) * 200 + photo[2:]
    yield Hostile("exif 64 KB, 200 times", heavy, None)
    yield Hostile("png named .jpg", bytes(picture(300, 200).write_to_buffer(".png")), None, "jpg")

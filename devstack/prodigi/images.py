"""What a printer looks at first: the kind of a file and its size in pixels, read from the header alone."""

import struct
from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn of ITU T.81 table B.1
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


class NotAnImage(Exception):
    """Neither JPEG nor PNG, or a header that ends too early."""


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels of a JPEG (ITU T.81) or PNG; raises `NotAnImage`."""
    try:
        if data.startswith(PNG):
            width, height = struct.unpack(">II", data[16:24])
            return int(width), int(height)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
    except (struct.error, IndexError) as error:
        raise NotAnImage("the header ends too early") from error
    raise NotAnImage("neither JPEG nor PNG")


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            raise NotAnImage("a JPEG marker is missing")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        else:
            at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])

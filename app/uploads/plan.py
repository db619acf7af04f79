"""How a file is cut into parts, what is missing of it, and which way the rest should go. Pure: no clock, no I/O.

S3 wants parts of at least 5 MiB, but for the last. On a slow network such a part takes minutes, and a phone's system
ends requests long before; there the advice is the append path, whose requests are as small as the network needs.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * KIB
MIN_PART: Final = 5 * MIB
MAX_PART: Final = 64 * MIB
FIRST_PART: Final = 8 * MIB
MIN_APPEND: Final = 64 * KIB
MAX_APPEND: Final = 4 * MIB
SMALL_BLOCK: Final = 16 * KIB
CUTS: Final = 64
TARGET_S: Final = 12
"""Seconds that one request should take."""
PATIENCE_S: Final = 25
"""A request that is expected to take longer goes the append way."""


class Range(msgspec.Struct, frozen=True, order=True):
    """Bytes [first, end) of a file."""

    first: int
    end: int

    @property
    def bytes(self) -> int:
        """How many."""
        return self.end - self.first


class Path(StrEnum):
    """Which way the next bytes go."""

    DIRECT = "direct"
    APPEND = "append"
    COMPLETE = "complete"
    NONE = "none"


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What a client does next: the path, how many bytes in one request, how many requests at once."""

    path: Path
    part_bytes: int
    parallel: int


class WantedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part whose address is asked for; with its SHA-256 (hex) storage refuses other bytes."""

    number: int
    sha256: str | None


def part_size(rate: int | None) -> int:
    """The part size for a network of `rate` bytes a second (None: not known yet)."""
    if rate is None:
        return FIRST_PART
    return min(MAX_PART, max(MIN_PART, rate * TARGET_S // MIB * MIB))


def part_range(number: int, part_bytes: int, size: int) -> Range:
    """Part `number` (from 1) of a file of `size` bytes."""
    return Range((number - 1) * part_bytes, min(size, number * part_bytes))


def part_count(part_bytes: int, size: int) -> int:
    """How many parts a file has."""
    return -(-size // part_bytes)


def most_blocks(size: int) -> int:
    """How many appended blocks a file may have: pieces of 16 KiB, and some more where connections were cut."""
    return size // SMALL_BLOCK + CUTS


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What storage holds of one file: whole, or some parts and some appended blocks (offset: size)."""

    size: int
    part_bytes: int
    whole: bool = False
    parts: Mapping[int, int] = {}
    blocks: Mapping[int, int] = {}

    def has_part(self, number: int) -> bool:
        """Whether the part itself is there, with the size it must have."""
        return self.parts.get(number) == part_range(number, self.part_bytes, self.size).bytes

    @property
    def missing_parts(self) -> list[int]:
        """The numbers of parts that neither are there nor are covered by blocks."""
        if self.whole:
            return []
        lines = joined(Range(first, first + size) for first, size in self.blocks.items())
        return [
            number
            for number in range(1, part_count(self.part_bytes, self.size) + 1)
            if not self.has_part(number) and not _covers(lines, part_range(number, self.part_bytes, self.size))
        ]

    @property
    def unsent_parts(self) -> list[int]:
        """The numbers of parts that are not there as parts: missing, or to be made of blocks."""
        if self.whole:
            return []
        return [n for n in range(1, part_count(self.part_bytes, self.size) + 1) if not self.has_part(n)]

    @property
    def ranges(self) -> list[Range]:
        """The bytes that are there, joined and in order."""
        if self.whole:
            return [Range(0, self.size)]
        parts = [part_range(number, self.part_bytes, self.size) for number in self.parts if self.has_part(number)]
        blocks = [Range(first, min(self.size, first + size)) for first, size in self.blocks.items()]
        return joined([*parts, *blocks])

    @property
    def line(self) -> dict[int, int]:
        """The blocks that follow each other from the beginning: nothing between them, none over another.

        Once it is the file it stays the file: a place that is taken takes no other block.
        """
        found, at = {}, 0
        while size := self.blocks.get(at, 0):
            found[at] = size
            at += size
        return found

    @property
    def is_line(self) -> bool:
        """Whether such blocks alone are the file."""
        return sum(self.line.values()) == self.size

    @property
    def bytes(self) -> int:
        """How many bytes are there."""
        return sum(found.bytes for found in self.ranges)

    @property
    def offset(self) -> int:
        """How many bytes are there without a gap from the beginning: where an append goes on."""
        found = self.ranges
        return found[0].end if found and found[0].first == 0 else 0

    @property
    def gaps(self) -> list[Range]:
        """The bytes that are missing, in order."""
        gaps, at = [], 0
        for found in self.ranges:
            if found.first > at:
                gaps.append(Range(at, found.first))
            at = found.end
        return gaps if at >= self.size else [*gaps, Range(at, self.size)]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, those that touch or overlap made one."""
    made: list[Range] = []
    for one in sorted(ranges):
        if made and one.first <= made[-1].end:
            made[-1] = Range(made[-1].first, max(made[-1].end, one.end))
        else:
            made.append(one)
    return made


def _covers(lines: list[Range], wanted: Range) -> bool:
    return any(line.first <= wanted.first and wanted.end <= line.end for line in lines)


def advise(held: Held, rate: int | None) -> Advice:
    """What to do next on a network of `rate` bytes a second (None: not known yet)."""
    if not held.gaps:
        return Advice(path=Path.COMPLETE, part_bytes=0, parallel=0)
    missing = held.missing_parts
    longest = min(held.part_bytes, held.size)
    if rate is not None and longest > rate * PATIENCE_S:
        fitting = rate * TARGET_S // MIN_APPEND * MIN_APPEND
        return Advice(path=Path.APPEND, part_bytes=min(MAX_APPEND, max(MIN_APPEND, fitting)), parallel=1)
    return Advice(path=Path.DIRECT, part_bytes=held.part_bytes, parallel=min(_parallel(rate), max(1, len(missing))))


def _parallel(rate: int | None) -> int:
    if rate is None:
        return 2
    return 1 if rate < 256 * KIB else 3 if rate < 2 * MIB else 4

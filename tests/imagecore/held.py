"""A table for the decode child: the ingest, and what the child holds between two jobs.

Used heap and Python's blocks count to the byte what jobs leave behind; resident memory swings, since glibc keeps up to
64 MB at hand after a large block was freed, and so is read once more after glibc was told to give back what is free.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from imagecore.jail_wire import Output

OPERATIONS: Final = {"ingest": "imagecore.render:ingest", "held": "jail_table:held"}


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one child holds. `used` is bytes of malloc'ed blocks in use, of all arenas and those mapped singly."""

    pid: int
    threads: int
    used: int
    blocks: int
    resident_kb: int
    trimmed_kb: int


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2` (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


_LIBC: Final = ctypes.CDLL(None)
_mallinfo: Final = _LIBC.mallinfo2
_mallinfo.restype = _Mallinfo


def status(field: str) -> int:
    """A number of this process's status: resident KiB, threads."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def held(_: bytes, __: Sequence[bytes]) -> Iterator[Output]:
    resident = status("VmRSS")
    gc.collect()
    heap = _mallinfo()
    _LIBC.malloc_trim(0)
    told = Held(
        pid=os.getpid(),
        threads=status("Threads"),
        used=heap.uordblks + heap.hblkhd,
        blocks=sys.getallocatedblocks(),
        resident_kb=resident,
        trimmed_kb=status("VmRSS"),
    )
    yield Output(name="held", data=msgspec.json.encode(told))

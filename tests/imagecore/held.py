"""A table for the decode child: the ingest, and what the child still holds when glibc has given back what is free.

After a large block was freed, glibc keeps up to 64 MB at hand, and resident memory swings by that from job to job. What
jobs leave behind is seen only without it.
"""

import ctypes
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from imagecore.jail_wire import Output

OPERATIONS: Final = {"ingest": "imagecore.render:ingest", "held": "jail_table:held"}


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def held(_: bytes, __: Sequence[bytes]) -> Iterator[Output]:
    """Resident KiB as they are, and after everything that is free was given back."""
    before = resident_kb()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    yield Output(name="held", data=msgspec.json.encode((before, resident_kb())))

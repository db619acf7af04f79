"""What parent and decode child say to each other: msgpack on a socket that keeps message bounds, pixels in memfds.

A child is one program with a literal table of operations. It is untrusted from the moment it has seen a file, so the
parent believes only shapes and sizes, and copies an output before it looks at it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

# The parent does not start at all where a child ends with this status: the machine cannot hold it.
UNAVAILABLE: Final = 75
MAX_MESSAGE: Final = 160 * 1024
MAX_INPUTS: Final = 8
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one child may use. Addresses, not resident pages, are limited: a 12 MP photo needs about 300 MB of them.

    `memory_mb` and `output_mb` are MiB; `files` open descriptors; a child ends after `jobs` jobs. `nice` is how far it
    steps back from the processor when others want it (0 to 19).
    """

    memory_mb: int = 1_000
    output_mb: int = 256
    files: int = 96
    jobs: int = 500
    nice: int = 0


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One product of an operation: bytes, and facts about them as the operation's own JSON or msgpack."""

    name: str
    data: bytes
    facts: bytes = b""


Operation = Callable[[bytes, Sequence[bytes]], Iterator[Output]]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Parent to child, once, before anything else: limits and the operations to make ready."""

    limits: Limits
    preload: tuple[str, ...]


class Request(msgspec.Struct, frozen=True, tag="request"):
    """Parent to child, with one descriptor an input."""

    operation: str
    params: bytes
    cpu_s: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Child to parent: limits and filter stand, imports are done."""


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """Child to parent: the request is here. A child that dies before this was dead already: ask another."""


class Made(msgspec.Struct, frozen=True, tag="made"):
    """Child to parent, with one descriptor: an output."""

    name: str
    facts: bytes


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Child to parent: no more outputs; the child is good for another job. CPU used by this job, resident peak."""

    cpu_ms: int
    peak_mb: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Child to parent: one of `imagecore.errors` by its code; `fit` says whether the child may be used again."""

    code: str
    reason: str
    detail: str
    fit: bool


ENCODER: Final = msgspec.msgpack.Encoder()
TO_CHILD: Final = msgspec.msgpack.Decoder(Start | Request)
TO_PARENT: Final = msgspec.msgpack.Decoder(Ready | Taken | Made | Done | Failed)


def sealed(name: str, data: bytes | memoryview) -> int:
    """A descriptor of anonymous memory holding `data`, which nobody can change or resize any more."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def contents(descriptor: int, limit: int) -> bytes:
    """A copy of all bytes behind a descriptor from the other side; raises `ValueError` over `limit` bytes."""
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise ValueError(f"{size} bytes are over the limit of {limit}")
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)

"""The disk cache: immutable files named by key and content digest, bounded by size, least recently used out first.

A file is written beside its place and renamed into it. After a restart each file's bytes are checked against the digest
in its name before it is served for the first time, so that nothing torn by a crash is ever sent. The first part of a
name is its asset's, so that everything of an asset can be found on the disk and removed.
"""

import asyncio
import contextlib
import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import Counter

from base import telemetry
from edge.node.flights import SingleFlight

log = telemetry.logger(__name__)

MEMORY: Final = 64 * 1024 * 1024
SHARE_OF_MEMORY: Final = 16  # a file larger than this part of it stays on disk
ASSET_DIGITS: Final = 16
NAME_DIGITS: Final = 48
UNKEPT: Final = Counter("tirage_edge_unkept_total", "Renditions that the cache's disk did not take")


class NotKept(Exception):
    """The disk does not take it: full, or broken."""


class Entry(msgspec.Struct):
    """A cached file: SHA-256 (hex) of its bytes, whether this process has seen them to be right, the bytes if held."""

    path: Path
    size: int
    digest: str
    checked: bool
    data: bytes | None = None

    @classmethod
    def unkept(cls, data: bytes) -> "Entry":
        """Bytes that are in hand, and in no file."""
        return cls(Path(os.devnull), len(data), _digest(data), True, data)


class DiskCache:
    """Files up to `limit` bytes in all, those lately used in memory up to `memory` bytes. Used by one event loop."""

    def __init__(self, folder: Path, limit: int, memory: int = MEMORY) -> None:
        self._folder, self._limit, self._memory = folder, limit, memory
        self._held: OrderedDict[str, Entry] = OrderedDict()
        self._held_size = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._writes = SingleFlight[Entry]()
        self.size = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._scan()

    def _scan(self) -> None:
        found = []
        for path in self._folder.glob("??/*"):
            name, _, digest = path.name.partition("-")
            if len(name) != NAME_DIGITS or len(digest) != 64:
                path.unlink(missing_ok=True)  # a write that a crash cut short
                continue
            status = path.stat()
            found.append((status.st_atime, name, Entry(path, status.st_size, digest, False)))
        for _, name, entry in sorted(found, key=lambda f: f[0]):
            self._drop(name)  # an older version of the same key that a crash left behind
            self._add(name, entry)
        self._evict()

    def _add(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry
        self.size += entry.size

    def held(self, key: str) -> Entry | None:
        """The file of a key if its bytes are in memory, marked as used."""
        name = _name(key)
        entry = self._held.get(name)
        if entry is not None:
            self._held.move_to_end(name)
            self._entries.move_to_end(name)
        return entry

    async def get(self, key: str) -> Entry | None:
        """The file of a key, marked as used; a file that is not what its name says is dropped."""
        entry = self.held(key)
        if entry is not None:
            return entry
        name = _name(key)
        entry = self._entries.get(name)
        if entry is None:
            return None
        is_small = entry.size <= self._memory // SHARE_OF_MEMORY
        if is_small or not (entry.checked and _is_there(entry)):
            data = await asyncio.to_thread(_right, entry)
            if self._entries.get(name) is not entry:
                return None
            if data is None:
                self._drop(name)
                return None
            self._hold(name, entry, data)
        entry.checked = True
        self._entries.move_to_end(name)
        return entry

    def _hold(self, name: str, entry: Entry, data: bytes) -> None:
        """Keep the bytes of a file in memory, and let go of what was used longest ago."""
        if len(data) > self._memory // SHARE_OF_MEMORY or name in self._held:
            return
        entry.data = data
        self._held[name] = entry
        self._held_size += len(data)
        while self._held_size > self._memory:
            self._release(next(iter(self._held)))

    def _release(self, name: str) -> None:
        entry = self._held.pop(name, None)
        if entry is not None and entry.data is not None:
            self._held_size -= len(entry.data)
            entry.data = None

    async def put(self, key: str, data: bytes) -> Entry:
        """Keep the bytes of a key, or what stands or is being written for it already: that is never replaced.

        A write goes on when who began it leaves: what is on the disk is always known here. Raises `NotKept`.
        """
        name = _name(key)
        standing = self._entries.get(name)
        if standing is not None and standing.checked:
            return standing
        entry, _ = await self._writes.run(name, lambda: self._keep(name, data))
        return entry

    async def _keep(self, name: str, data: bytes) -> Entry:
        try:
            path = await asyncio.to_thread(_write, self._folder / name[:2], name, data)
        except OSError as error:
            UNKEPT.inc()
            log.error("cache_does_not_write", error=type(error).__name__, errno=error.errno)
            raise NotKept from error
        old = self._forget(name)
        if old is not None and old.path != path:
            old.path.unlink(missing_ok=True)
        entry = Entry(path, len(data), path.name.rpartition("-")[2], True)
        self._add(name, entry)
        self._hold(name, entry, data)
        self._evict()
        return entry

    async def purge(self, asset: str) -> tuple[int, int]:
        """Remove every file of an asset from the disk, also what is being written; how many files and bytes that were.

        Nothing of the asset may be put from now on.
        """
        digits = _name(f"{asset}/")[:ASSET_DIGITS]
        await self._writes.land(digits)
        removed = await asyncio.to_thread(_remove, self._folder / digits[:2], digits)
        for name in removed:
            self._forget(name[:NAME_DIGITS])
        return len(removed), sum(removed.values())

    def _drop(self, name: str) -> None:
        entry = self._forget(name)
        if entry is not None:
            entry.path.unlink(missing_ok=True)

    def _forget(self, name: str) -> Entry | None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._release(name)
            self.size -= entry.size
        return entry

    def _evict(self) -> None:
        while self.size > self._limit and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))


def _name(key: str) -> str:
    asset = key.partition("/")[0]
    return _digest(asset.encode())[:ASSET_DIGITS] + _digest(key.encode())[: NAME_DIGITS - ASSET_DIGITS]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_there(entry: Entry) -> bool:
    return os.access(entry.path, os.R_OK)


def _right(entry: Entry) -> bytes | None:
    """The bytes of a file that are what its name says."""
    try:
        data = entry.path.read_bytes()
    except FileNotFoundError:
        return None
    return data if _digest(data) == entry.digest else None


def _write(folder: Path, name: str, data: bytes) -> Path:
    """Write the file of a name; nobody else writes one for it now."""
    path = folder / f"{name}-{_digest(data)}"
    fresh = path.with_name(f"{path.name}.new")
    folder.mkdir(exist_ok=True)
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    return path


def _remove(folder: Path, digits: str) -> dict[str, int]:
    """Remove the files whose names begin so; the size of each."""
    removed = {}
    for path in folder.glob(f"{digits}*"):
        with contextlib.suppress(FileNotFoundError):  # evicted just now
            removed[path.name] = path.stat().st_size
            path.unlink()
    return removed

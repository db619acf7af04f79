"""The disk cache: immutable files named by key and content digest, bounded by size, least recently used out first.

A file is written beside its place and renamed into it. After a restart each file's bytes are checked against the digest
in its name before it is served for the first time, so that nothing torn by a crash is ever sent. The first part of a
name is its asset's, so that everything of an asset can be found and removed.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final

import msgspec

MEMORY: Final = 64 * 1024 * 1024
SHARE_OF_MEMORY: Final = 16  # a file larger than this part of it stays on disk
GRACE_S: Final = 10.0  # an evicted file may still be on its way to somebody
ASSET_DIGITS: Final = 16
NAME_DIGITS: Final = 48


class Entry(msgspec.Struct):
    """A cached file: SHA-256 (hex) of its bytes, whether this process has seen them to be right, the bytes if held."""

    path: Path
    size: int
    digest: str
    checked: bool
    data: bytes | None = None


class DiskCache:
    """Files up to `limit` bytes in all, those lately used in memory up to `memory` bytes. Used by one event loop."""

    def __init__(self, folder: Path, limit: int, memory: int = MEMORY) -> None:
        self._folder, self._limit, self._memory = folder, limit, memory
        self._held: OrderedDict[str, Entry] = OrderedDict()
        self._held_size = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._leaving: deque[tuple[float, Path]] = deque()
        self._by_asset: dict[str, set[str]] = {}
        self._writes = itertools.count()
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
        self._by_asset.setdefault(name[:ASSET_DIGITS], set()).add(name)
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
            if data is None:
                if self._entries.get(name) is entry:
                    self._drop(name)
                return None
            self._hold(name, entry, data)
        entry.checked = True
        if name in self._entries:
            self._entries.move_to_end(name)
        return entry

    def _hold(self, name: str, entry: Entry, data: bytes) -> None:
        """Keep the bytes of a file that is still ours in memory, and let go of what was used longest ago."""
        if self._entries.get(name) is not entry or len(data) > self._memory // SHARE_OF_MEMORY or name in self._held:
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
        """Keep the bytes of a key."""
        digest = await asyncio.to_thread(_digest, data)
        name = _name(key)
        path = self._folder / name[:2] / f"{name}-{digest}"
        await asyncio.to_thread(_write, path, data, next(self._writes))
        old = self._entries.get(name)
        if old is not None and old.path == path:
            old.checked = True
            self._hold(name, old, data)
            return old
        self._drop(name)
        entry = Entry(path, len(data), digest, True)
        self._add(name, entry)
        self._hold(name, entry, data)
        self._evict()
        return entry

    def purge(self, asset: str) -> tuple[int, int]:
        """Remove every file of an asset from the disk, now; how many files and bytes that were."""
        digits = _name(f"{asset}/")[:ASSET_DIGITS]
        count = size = 0
        for name in list(self._by_asset.get(digits, ())):
            entry = self._entries[name]
            count, size = count + 1, size + entry.size
            self._drop(name)
        for _, path in self._leaving:
            if path.name.startswith(digits):
                path.unlink(missing_ok=True)
        return count, size

    def drop(self, key: str) -> bool:
        """Forget a key; whether it was there."""
        return self._drop(_name(key))

    def _drop(self, name: str) -> bool:
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        self._release(name)
        names = self._by_asset[name[:ASSET_DIGITS]]
        names.discard(name)
        if not names:
            del self._by_asset[name[:ASSET_DIGITS]]
        self.size -= entry.size
        self._leave(entry.path)
        return True

    def _evict(self) -> None:
        while self.size > self._limit and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def _leave(self, path: Path) -> None:
        now = time.monotonic()
        self._leaving.append((now + GRACE_S, path))
        while self._leaving and self._leaving[0][0] <= now:
            _, gone = self._leaving.popleft()
            back = self._entries.get(gone.name[:NAME_DIGITS])
            if back is None or back.path != gone:
                gone.unlink(missing_ok=True)


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


def _write(path: Path, data: bytes, number: int) -> None:
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{number}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise

"""The disk cache: immutable files named by key and content digest, bounded by size, least recently used out first.

A file is written beside its place and renamed into it. After a restart each file's bytes are checked against the digest
in its name before it is served for the first time, so that nothing torn by a crash is ever sent.
"""

import asyncio
import hashlib
import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final

import msgspec

GRACE_S: Final = 10.0  # an evicted file may still be on its way to somebody


class Entry(msgspec.Struct):
    """A cached file: SHA-256 (hex) of its bytes, and whether this process has seen them to be right."""

    path: Path
    size: int
    digest: str
    checked: bool


class DiskCache:
    """Files up to `limit` bytes in all. Used by one event loop."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._leaving: deque[tuple[float, Path]] = deque()
        self.size = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._scan()

    def _scan(self) -> None:
        found = []
        for path in self._folder.glob("??/*"):
            name, _, digest = path.name.partition("-")
            if len(name) != 32 or len(digest) != 64:
                path.unlink(missing_ok=True)  # a write that a crash cut short
                continue
            status = path.stat()
            found.append((status.st_atime, name, Entry(path, status.st_size, digest, False)))
        for _, name, entry in sorted(found, key=lambda f: f[0]):
            self._entries[name] = entry
            self.size += entry.size
        self._evict()

    async def get(self, key: str) -> Entry | None:
        """The file of a key, marked as used; a file that is not what its name says is dropped."""
        name = _name(key)
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._entries.move_to_end(name)
        if not entry.checked:
            if not await asyncio.to_thread(_is_right, entry):
                self._drop(name)
                return None
            entry.checked = True
        return entry

    async def put(self, key: str, data: bytes) -> Entry:
        """Keep the bytes of a key."""
        name, digest = _name(key), hashlib.sha256(data).hexdigest()
        path = self._folder / name[:2] / f"{name}-{digest}"
        await asyncio.to_thread(_write, path, data)
        old = self._entries.pop(name, None)
        if old is not None:
            self.size -= old.size
            if old.path != path:
                self._leave(old.path)
        entry = self._entries[name] = Entry(path, len(data), digest, True)
        self.size += entry.size
        self._evict()
        return entry

    def drop(self, key: str) -> bool:
        """Forget a key; whether it was there."""
        return self._drop(_name(key))

    def _drop(self, name: str) -> bool:
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
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
            if not any(entry.path == gone for entry in self._entries.values()):
                gone.unlink(missing_ok=True)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _is_right(entry: Entry) -> bool:
    try:
        return hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.digest
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(data)
    fresh.replace(path)

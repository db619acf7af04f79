"""The edge node: verifies a target's raw bytes before any I/O, then serves from memory, disk, the bucket or the origin.

A bare ASGI application that can answer at once what it need not wait for (`edge/node/wire.py` asks so): the signature
covers the bytes as they came.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from prometheus_client import Counter

from base import keys
from base.errors import ServiceUnavailable
from edge.node import headers as http
from edge.node.answers import Reply, Scope, Send, count, lifespan, refusal, start
from edge.node.cache import DiskCache, Entry, NotKept
from edge.node.control import Control
from edge.node.flights import SingleFlight
from edge.node.headers import Headers
from edge.node.sources import Found, Gone, Overloaded, Source
from imagecore.signing import Lifetime, Ring, Verified

PIECE: Final = 256 * 1024
INSIDE: Final = b"/-/"
READS: Final = frozenset({"GET", "HEAD"})
REFUSED_S: Final = 60
MISSES: Final = 512
"""Renditions that are fetched at once. Who wants another is sent away; hits and health are answered all the same."""

USED: Final = Counter("tirage_edge_key_used_total", "Paths accepted, by key id", ("kid",))


class EdgeNode:
    """One node. `denied` holds what must not be served; `sources` are asked in order on a miss.

    Shares are served only while `is_listed` says that the list of revoked ones is whole.
    """

    def __init__(
        self,
        ring: Ring,
        cache: DiskCache,
        sources: Sequence[Source],
        denied: Container[str] = frozenset(),
        control: Control | None = None,
        clock: Callable[[], float] = time.time,
        is_listed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ring, self._cache, self._sources = ring, cache, sources
        self._denied, self._control, self._clock, self._is_listed = denied, control, clock, is_listed
        self._flights = SingleFlight[Found | None]()
        self._kids: dict[str, Counter] = {}

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        method, headers = scope["method"], scope["headers"]
        query: bytes = scope["query_string"]
        target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        if target.startswith(INSIDE) and self._control is not None:
            await self._control({**scope, "raw_path": target}, receive, send, int(self._clock()))
            return
        reply = self.at_once(method, target, headers) or await self._later(method, target, headers)
        if isinstance(reply, FileReply):
            await _send_file(send, reply)
        else:
            await start(send, reply.status, reply.headers)
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})

    def at_once(self, method: str, target: bytes, headers: Headers) -> Reply | None:
        """The answer to every refusal, and of a file in memory; None where something has to be awaited."""
        if target == b"/healthz":
            return Reply(200, [(b"content-length", b"3")], b"ok\n")
        if target.startswith(INSIDE) and self._control is not None:
            return None
        if method not in READS:
            return refusal(405, b"method-not-allowed", [(b"allow", b"GET, HEAD")])
        now = int(self._clock())
        path = self._judge(target, now)
        if isinstance(path, Reply):
            return path
        entry = self._cache.held(_key(path))
        if entry is None:
            return None
        self._used(path)
        reply = _content(method, headers, entry, path, "hit", now)
        return reply if isinstance(reply, Reply) else None

    def _judge(self, target: bytes, now: int) -> Verified | Reply:
        """What a target is worth, from its bytes and from memory alone."""
        path = self._ring.verify(target, now)
        if path is None:
            return refusal(404, b"not-found", _REFUSED)
        code = self._over(path, now)
        if code:
            return refusal(410, code, _REFUSED)
        if path.lifetime is Lifetime.SHARE and not self._is_listed():
            return refusal(503, b"not-listed-yet", _NOT_LISTED)
        return path

    def _used(self, path: Verified) -> None:
        counter = self._kids.get(path.kid)
        if counter is None:
            counter = self._kids[path.kid] = USED.labels(path.kid)
        counter.inc()

    async def _later(self, method: str, target: bytes, headers: Headers) -> "Reply | FileReply":
        path = self._judge(target, int(self._clock()))
        if isinstance(path, Reply):
            return path
        self._used(path)
        try:
            entry, status = await self._find(path, target.decode())
        except Gone as gone:
            return refusal(410, gone.code.encode(), [(b"cache-control", b"no-store")])
        except Overloaded as busy:
            return refusal(503, b"overloaded", [(b"retry-after", b"%d" % busy.retry_after_s)])
        except ServiceUnavailable:
            return refusal(503, b"unavailable", [(b"retry-after", b"1")])
        if entry is None:
            return refusal(404, b"absent", [(b"cache-control", b"no-store")])
        now = int(self._clock())
        code = self._over(path, now)  # what ended or was denied while the bytes were found
        if code:
            return refusal(410, code, _REFUSED)
        return _content(method, headers, entry, path, status, now)

    def _over(self, path: Verified, now: int) -> bytes:
        """Why a good path is worth nothing any more, if so; decided from memory."""
        if path.expires is not None and path.expires <= now:
            return b"expired"
        if path.lifetime is Lifetime.SHARE and path.share in self._denied:
            return b"revoked"
        if path.lifetime is Lifetime.DURABLE and keys.picture(path.asset) in self._denied:
            return b"withdrawn"
        return b"erased" if path.asset in self._denied else b""

    async def _find(self, path: Verified, raw: str) -> tuple[Entry | None, str]:
        """The file and its Cache-Status; the key never holds the signature, so all URLs of a rendition share it."""
        key = _key(path)
        entry = await self._cache.get(key)
        if entry is not None:
            return entry, "hit"
        if len(self._flights) >= MISSES and key not in self._flights:
            raise Overloaded(1)
        found, collapsed = await self._flights.run(key, lambda: self._fetch(key, path, raw))
        if found is None:
            return None, "fwd=uri-miss"
        entry = await self._cache.get(key)
        status = f"fwd=uri-miss; fwd-status=200{'; stored' if entry else ''}; detail={found.source}"
        entry = entry or await asyncio.to_thread(Entry.unkept, found.data)
        return entry, status + ("; collapsed" if collapsed else "")

    async def _fetch(self, key: str, path: Verified, raw: str) -> Found | None:
        for source in self._sources:
            data = await source.get(key, raw)
            if data is None:
                continue
            if path.asset in self._denied:  # erased while it was fetched
                raise Gone("erased")
            with contextlib.suppress(NotKept):
                await self._cache.put(key, data)
            return Found(data, source.name)
        return None


def _key(path: Verified) -> str:
    return keys.derivative(path.asset, path.recipe, path.extension)


class FileReply(msgspec.Struct, frozen=True):
    """An answer whose bytes, from `begin` to before `end`, are read from a file while they are sent."""

    status: int
    headers: Headers
    file: Path
    begin: int
    end: int

    def open(self) -> BinaryIO:
        """The file; evicted meanwhile, it can still be read to its end."""
        return self.file.open("rb", buffering=0)


def _content(method: str, asked: Headers, entry: Entry, path: Verified, status: str, now: int) -> Reply | FileReply:
    """What a client gets of a file: all, a part, that it has it already, or that the part is none."""
    wanted = _conditions(asked)
    headers = http.content_headers(path.extension, entry.digest, status) + http.lifetime_headers(path, now)
    how = "hit" if status == "hit" else "miss"
    if b"if-match" in wanted and not http.is_ours(wanted[b"if-match"], entry.digest):
        return refusal(412, b"precondition-failed", [(b"cache-control", b"no-store")])
    if b"if-none-match" in wanted and http.is_known(wanted[b"if-none-match"], entry.digest):
        count(304, how)
        return Reply(304, [h for h in headers if h[0] != b"content-type"], b"")
    range_ = wanted.get(b"range", "") if method == "GET" else ""
    try:
        part = http.wanted_range(range_, wanted.get(b"if-range", ""), entry.digest, entry.size)
    except ValueError:
        return refusal(416, b"range-not-satisfiable", [(b"content-range", b"bytes */%d" % entry.size)])
    begin, end = part or (0, entry.size)
    if part is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, entry.size)))
    headers.append((b"content-length", b"%d" % (end - begin)))
    count(206 if part else 200, how)
    if entry.data is None and method == "GET":
        return FileReply(206 if part else 200, headers, entry.path, begin, end)
    data = entry.data or b""
    return Reply(206 if part else 200, headers, memoryview(data)[begin:end] if part else data)


def _conditions(asked: Headers) -> dict[bytes, str]:
    """The fields that change the answer; a list in several lines is one list (RFC 9110 section 5.3)."""
    wanted: dict[bytes, str] = {}
    for name, value in asked:
        if name in _CONDITIONS:
            text = value.decode("latin-1")
            wanted[name] = f"{wanted[name]}, {text}" if name in wanted else text
    return wanted


_CONDITIONS: Final = frozenset({b"if-match", b"if-none-match", b"range", b"if-range"})
_REFUSED: Final[Headers] = [(b"cache-control", b"max-age=%d" % REFUSED_S)]
_NOT_LISTED: Final[Headers] = [(b"cache-control", b"no-store"), (b"retry-after", b"5")]


async def _send_file(send: Send, reply: FileReply) -> None:
    with reply.open() as file:  # before anything is awaited: it may be evicted then
        await start(send, reply.status, reply.headers)
        begin = reply.begin
        while begin < reply.end:
            piece = await asyncio.to_thread(os.pread, file.fileno(), min(PIECE, reply.end - begin), begin)
            if not piece:
                raise OSError("a cached file is shorter than it was")
            begin += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": begin < reply.end})

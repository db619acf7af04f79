"""The edge node: verifies a signed path's raw bytes before any I/O, then serves from disk, the bucket or the origin.

A bare ASGI application: the signature covers the bytes as they came, and only `raw_path` has them.
"""

import os
import time
from collections.abc import Callable, Container, Sequence
from typing import Any, Final

from prometheus_client import Counter

from base import keys, telemetry
from base.errors import ServiceUnavailable
from edge.node import headers as http
from edge.node.answers import ANSWERS, Scope, Send, answer, lifespan, refuse, start
from edge.node.cache import DiskCache, Entry
from edge.node.control import Control
from edge.node.sources import Found, Gone, Overloaded, SingleFlight, Source
from imagecore.signing import Lifetime, Ring, Verified

log = telemetry.logger(__name__)

PIECE: Final = 256 * 1024
REFUSED_S: Final = 60
MISSES: Final = 512
"""Requests that may wait for a fetch at once. Beyond it they are sent away, so that hits and health always get in."""

USED: Final = Counter("tirage_edge_key_used_total", "Paths accepted, by key id", ("kid",))


class EdgeNode:
    """One node. `denied` holds revoked shares and erased assets; `sources` are asked in order on a miss."""

    def __init__(
        self,
        ring: Ring,
        cache: DiskCache,
        sources: Sequence[Source],
        denied: Container[str] = frozenset(),
        control: Control | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ring, self._cache, self._sources = ring, cache, sources
        self._denied, self._control, self._clock = denied, control, clock
        self._flights = SingleFlight()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        raw: bytes = scope["raw_path"]
        if raw == b"/healthz":
            await answer(send, 200, b"ok\n", [])
        elif raw.startswith(b"/-/") and self._control is not None and not scope["query_string"]:
            await self._control(scope, receive, send, int(self._clock()))
        elif scope["method"] not in ("GET", "HEAD"):
            await refuse(send, 405, b"method-not-allowed", [(b"allow", b"GET, HEAD")])
        else:
            await self._serve(scope, raw, send)

    async def _serve(self, scope: Scope, raw: bytes, send: Send) -> None:
        now = int(self._clock())
        path = None if scope["query_string"] else self._ring.verify(raw, now)
        if path is None:
            await refuse(send, 404, b"not-found", [(b"cache-control", b"max-age=%d" % REFUSED_S)])
            return
        USED.labels(path.kid).inc()
        code = self._over(path)
        if code:
            await refuse(send, 410, code, [(b"cache-control", b"max-age=%d" % REFUSED_S)])
            return
        try:
            entry, status = await self._find(path, raw.decode())
        except Gone as gone:
            await refuse(send, 410, gone.code.encode(), [(b"cache-control", b"no-store")])
        except Overloaded as busy:
            await refuse(send, 503, b"overloaded", [(b"retry-after", b"%d" % busy.retry_after_s)])
        except ServiceUnavailable:
            await refuse(send, 503, b"unavailable", [(b"retry-after", b"1")])
        else:
            if entry is None:
                await refuse(send, 404, b"absent", [(b"cache-control", b"no-store")])
            else:
                await _send_entry(scope, send, entry, path, status, now)

    def _over(self, path: Verified) -> bytes:
        """Why a good path is worth nothing any more, if so; decided from memory."""
        if path.expired:
            return b"expired"
        if path.lifetime is Lifetime.SHARE and path.share in self._denied:
            return b"revoked"
        return b"erased" if path.asset in self._denied else b""

    async def _find(self, path: Verified, raw: str) -> tuple[Entry | None, str]:
        """The file and its Cache-Status; the key never holds the signature, so all URLs of a rendition share it."""
        key = keys.derivative(path.asset, path.recipe, path.extension)
        entry = await self._cache.get(key)
        if entry is not None:
            return entry, "hit"
        if self._waiting >= MISSES:
            raise Overloaded(1)
        self._waiting += 1
        try:
            found, collapsed = await self._flights.run(key, lambda: self._fetch(key, path, raw))
        finally:
            self._waiting -= 1
        if found is None:
            return None, "fwd=uri-miss"
        entry = await self._cache.get(key) or await self._keep(key, path, found.data)
        status = f"fwd=uri-miss; fwd-status=200; stored; detail={found.source}"
        return entry, status + ("; collapsed" if collapsed else "")

    async def _fetch(self, key: str, path: Verified, raw: str) -> Found | None:
        for source in self._sources:
            data = await source.get(key, raw)
            if data is None:
                continue
            await self._keep(key, path, data)
            return Found(data, source.name)
        return None

    async def _keep(self, key: str, path: Verified, data: bytes) -> Entry:
        """Store what was fetched, unless its asset was erased meanwhile."""
        try:
            entry = await self._cache.put(key, data)
        except OSError as error:
            log.error("cache_does_not_write", error=type(error).__name__)
            raise ServiceUnavailable("the cache's disk does not take it") from error
        if path.asset in self._denied:
            self._cache.purge(path.asset)
            raise Gone("erased")
        return entry


async def _send_entry(scope: Scope, send: Send, entry: Entry, path: Verified, status: str, now: int) -> None:
    asked = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _CONDITIONS}
    headers = http.content_headers(path.extension, entry.digest, status) + http.lifetime_headers(path, now)
    how = "hit" if status == "hit" else "miss"
    if b"if-none-match" in asked and http.is_known(asked[b"if-none-match"], entry.digest):
        ANSWERS.labels("304", how).inc()
        await start(send, 304, [h for h in headers if h[0] != b"content-type"])
        await send({"type": "http.response.body", "body": b""})
        return
    range_ = asked.get(b"range", "") if scope["method"] == "GET" else ""
    try:
        part = http.wanted_range(range_, asked.get(b"if-range", ""), entry.digest, entry.size)
    except ValueError:
        await refuse(send, 416, b"range-not-satisfiable", [(b"content-range", b"bytes */%d" % entry.size)])
        return
    begin, end = part or (0, entry.size)
    if part is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, entry.size)))
    headers.append((b"content-length", b"%d" % (end - begin)))
    ANSWERS.labels("206" if part else "200", how).inc()
    await start(send, 206 if part else 200, headers)
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
    elif part is None and "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": str(entry.path)})
    else:
        await _send_pieces(send, entry, begin, end)


_CONDITIONS: Final = frozenset({b"if-none-match", b"range", b"if-range"})


async def _send_pieces(send: Send, entry: Entry, begin: int, end: int) -> None:
    descriptor = os.open(entry.path, os.O_RDONLY)
    try:
        while begin < end:
            piece = os.pread(descriptor, min(PIECE, end - begin), begin)
            if not piece:
                raise OSError("a cached file is shorter than it was")
            begin += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": begin < end})
    finally:
        os.close(descriptor)

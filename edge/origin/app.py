"""The origin: renders what an edge misses, once a key in the region, from a stored parent. It has no database.

The signed path is the authorisation, verified here once more. Requests inside are bounded by number, renders by their
predicted cost: beyond either the answer is 503 with Retry-After, long before this process suffers.
"""

import asyncio
import base64
import hashlib
import time
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import Counter, Gauge

from base import keys, telemetry
from base.errors import ServiceUnavailable
from base.objects import Buckets, ObjectAbsent, ObjectExists, ObjectStore
from edge.node.answers import Reply, Send, lifespan, refuse, start
from edge.node.flights import SingleFlight
from edge.node.headers import TYPES
from edge.node.sources import Gone, Overloaded
from edge.origin.admission import Admission, predicted_ms
from edge.origin.leases import LEASE_S, Leases
from edge.origin.recent import RecentFacts
from imagecore import recipe as recipes
from imagecore.signing import Ring, Verified

log = telemetry.logger(__name__)

RENDERS: Final = Counter("tirage_origin_renders_total", "Renditions made, by outcome", ("outcome",))
RENDERING: Final = Gauge("tirage_origin_rendering", "Renditions being made or waiting for their turn here")


class Unmakeable(Exception):
    """The engine cannot make it from these bytes, now or ever; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NotHere(Exception):
    """An origin cannot make it, others can: the parent is the original itself."""


class Renderer(Protocol):
    """What makes a rendition, in `edge/origin/rendering.py`."""

    def parent_key(self, asset: str, recipe: recipes.Recipe, facts: bytes) -> str:
        """Where in the ancestors bucket the parent is; raises `Unmakeable`, `NotHere`."""

    async def render(self, recipe: recipes.Recipe, parent: bytes, facts: bytes, deadline_s: int) -> bytes:
        """The rendition within so many seconds; raises `ServiceUnavailable`."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Renders at once, requests inside at once, and seconds for one render (or for waiting to begin it)."""

    renders: int
    waiting: int
    deadline_s: int


class OriginApp:
    """A bare ASGI application."""

    def __init__(
        self,
        ring: Ring,
        store: ObjectStore,
        buckets: Buckets,
        leases: Leases,
        engine: str,
        renderer: Renderer,
        bounds: Bounds,
    ) -> None:
        self._ring, self._store, self._buckets, self._leases = ring, store, buckets, leases
        self._engine, self._renderer, self._bounds = engine, renderer, bounds
        self._slots = asyncio.Semaphore(bounds.renders)
        self._admission = Admission(bounds.renders, 1000 * bounds.deadline_s)
        self._inside = 0
        self._flights = SingleFlight[Reply]()
        self._facts = RecentFacts(self._kept)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        raw: bytes = scope["raw_path"]
        if raw == b"/healthz":
            await refuse(send, 200, b"ok", [])
            return
        path = None if scope["query_string"] else self._ring.verify(raw, int(time.time()))
        if path is None or scope["method"] != "GET":
            await refuse(send, 404, b"not-found", [])
            return
        await self._answer(path, send)

    async def _answer(self, path: Verified, send: Send) -> None:
        try:
            reply = await self._bounded(path)
        except Gone as gone:
            await refuse(send, 410, gone.code.encode(), [(b"tirage-reason", gone.code.encode())])
        except NotHere:
            await refuse(send, 404, b"needs-original", [])
        except Overloaded as busy:
            await refuse(send, 503, b"overloaded", [(b"retry-after", b"%d" % busy.retry_after_s)])
        except ServiceUnavailable:
            await refuse(send, 503, b"unavailable", [(b"retry-after", b"1")])
        else:
            await start(send, reply.status, reply.headers)
            await send({"type": "http.response.body", "body": reply.body})

    async def _bounded(self, path: Verified) -> Reply:
        if self._inside >= self._bounds.waiting:
            raise Overloaded(1)
        key = keys.derivative(path.asset, path.recipe, path.extension)
        self._inside += 1
        try:
            reply, _ = await self._flights.run(key, lambda: self._reply(key, path))
        finally:
            self._inside -= 1
        return reply

    async def _reply(self, key: str, path: Verified) -> Reply:
        """The answer to all who ask for it now: its digest is as dear as a request."""
        return _whole(path.extension, await self._make(key, path))

    async def _make(self, key: str, path: Verified) -> bytes:
        """The rendition: stored already, rendered by another, or rendered here."""
        recipe = recipes.parse(path.recipe)
        if recipe.engine != self._engine:
            raise Gone("engine-retired")
        # A leader waits for its turn and then renders; if it dies, the next one does.
        deadline = time.monotonic() + LEASE_S + 2 * self._bounds.deadline_s
        while time.monotonic() < deadline:
            lease = await self._leases.take(key, deadline - time.monotonic())
            try:
                # With the lease in hand as well: the leader before us may have finished a moment ago.
                stored = await self._stored(key)
                if stored is not None:
                    return stored
                if lease is not None:
                    return await self._lead(key, path, recipe)
            finally:
                if lease is not None:
                    await lease.release()
        raise ServiceUnavailable("another renderer does not finish")

    async def _lead(self, key: str, path: Verified, recipe: recipes.Recipe) -> bytes:
        with self._admission.take(predicted_ms(recipe)), RENDERING.track_inprogress():
            async with self._slots:
                data = await self._rendered(path, recipe)
            try:
                kind = TYPES[path.extension].decode()
                await self._store.put_new(self._buckets.derivatives, key, data, kind)
            except ObjectExists:
                data = await self._stored(key) or data
            return data

    async def _rendered(self, path: Verified, recipe: recipes.Recipe) -> bytes:
        try:
            facts = await self._facts.get(keys.facts(path.asset, recipe.engine))
            parent = await self._kept(self._renderer.parent_key(path.asset, recipe, facts))
            data = await self._renderer.render(recipe, parent, facts, self._bounds.deadline_s)
        except Unmakeable as unmakeable:
            RENDERS.labels("unmakeable").inc()
            raise Gone(unmakeable.code) from unmakeable
        except ServiceUnavailable:
            RENDERS.labels("failed").inc()
            raise
        RENDERS.labels("made").inc()
        return data

    async def _kept(self, key: str) -> bytes:
        try:
            return await self._store.get(self._buckets.ancestors, key)
        except ObjectAbsent as absent:
            raise Gone("original-gone") from absent

    async def _stored(self, key: str) -> bytes | None:
        try:
            return await self._store.get(self._buckets.derivatives, key)
        except ObjectAbsent:
            return None


def _whole(extension: str, data: bytes) -> Reply:
    digest = base64.b64encode(hashlib.sha256(data).digest())
    headers = [
        (b"content-type", TYPES[extension]),
        (b"content-length", b"%d" % len(data)),
        (b"repr-digest", b"sha-256=:" + digest + b":"),
        (b"cache-control", b"no-store"),
    ]
    return Reply(200, headers, data)

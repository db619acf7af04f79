"""Health: is the process alive, and can it serve."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta

from app.kernel.db import Database
from app.web.guards import PublicController
from app.web.wire import WireOut
from base.errors import ServiceUnavailable
from base.objects import ObjectStore

PING: Final = "SELECT 1"
REMEMBERED_S: Final = 1.0
LOOK_S: Final = 2.0


class HealthOut(WireOut, frozen=True, kw_only=True):
    """The process answers."""

    status: Annotated[str, Meta(description="Always `alive`.", examples=["alive"])]


class ReadyOut(WireOut, frozen=True, kw_only=True):
    """Whether the parts a request needs answer."""

    ready: Annotated[bool, Meta(description="Whether requests can be served now.")]
    database: Annotated[bool, Meta(description="Whether Postgres answers.")]
    store: Annotated[bool, Meta(description="Whether the object store answers.")]
    draining: Annotated[bool, Meta(description="Whether the process is about to end.")]


NOT_READY = {503: ResponseSpec(ReadyOut, generate_examples=False, description="Not now; the body says which part.")}


class Readiness:
    """What readiness looks at; `draining` is set once the process was asked to stop.

    Anybody may ask, so what was seen is remembered for `REMEMBERED_S`, and each part is asked one question at a time.
    """

    def __init__(self, db: Database, store: ObjectStore, bucket: str) -> None:
        self._db, self._objects, self._bucket = db, store, bucket
        self._parts: dict[str, Callable[[], Coroutine[Any, Any, bool]]] = {
            "database": self._database,
            "store": self._store,
        }
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._looking = asyncio.Lock()
        self._seen: dict[str, bool] = {}
        self._good_until = 0.0
        self.draining = False

    async def look(self) -> ReadyOut:
        """How each part stood within the last second."""
        async with self._looking:
            if time.monotonic() >= self._good_until:
                answers = await asyncio.gather(*(self._ask(part) for part in self._parts))
                self._seen = dict(zip(self._parts, answers, strict=True))
                self._good_until = time.monotonic() + REMEMBERED_S
            seen = self._seen
        return ReadyOut(ready=all(seen.values()) and not self.draining, draining=self.draining, **seen)

    async def _ask(self, part: str) -> bool:
        """What the part answers in `LOOK_S`; the question of one that does not stays open, and is not asked twice."""
        if part not in self._asking:
            self._asking[part] = asyncio.create_task(self._parts[part]())
        asking = self._asking[part]
        await asyncio.wait({asking}, timeout=LOOK_S)
        if not asking.done():
            return False
        del self._asking[part]
        return asking.result()

    async def _database(self) -> bool:
        try:
            async with self._db.reading() as db:
                return bool(await db.value(PING) == 1)
        except ServiceUnavailable:
            return False

    async def _store(self) -> bool:
        try:
            await self._objects.ping(self._bucket)
        except ServiceUnavailable:
            return False
        return True


class HealthController(PublicController):
    """For load balancers and operators."""

    tags = ("health",)
    opt = {"free": True}  # noqa: RUF012 Litestar's own field
    readiness: Readiness

    @get("/healthz", operation_id="Alive", summary="Is the process alive")
    async def alive(self) -> HealthOut:
        """The process answers; nothing else is looked at."""
        return HealthOut(status="alive")

    @get("/readyz", operation_id="Ready", summary="Can requests be served", responses=NOT_READY)
    async def ready(self) -> Response[ReadyOut]:
        """Postgres and the object store answer, and the process is not draining; else 503 with the same body."""
        found = await self.readiness.look()
        return Response(found, status_code=200 if found.ready else 503)

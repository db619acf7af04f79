"""Health: is the process alive, and can it serve."""

from typing import Annotated

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta

from app.kernel.db import Database
from app.web.guards import PublicController
from app.web.wire import WireOut
from base.errors import ServiceUnavailable
from base.objects import ObjectStore

PING = "SELECT 1"


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
    """What readiness looks at; `draining` is set once the process was asked to stop."""

    def __init__(self, db: Database, store: ObjectStore, bucket: str) -> None:
        self._db, self._objects, self._bucket = db, store, bucket
        self.draining = False

    async def look(self) -> ReadyOut:
        """One look at each part."""
        database, store = await self._database(), await self._store()
        ready = database and store and not self.draining
        return ReadyOut(ready=ready, database=database, store=store, draining=self.draining)

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

"""The event stream over HTTP."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from app.stream.domain import SPELLING
from app.stream.errors import CursorMalformed, EventsGone, StreamsFull, TooManyStreams
from app.stream.schemas import SSE, EventPage, as_sse
from app.stream.service import LATEST, StreamService
from app.web.call import call_of
from app.web.guards import Customer, CustomerController, customer
from app.web.openapi import fails

After = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": f"^({LATEST}|{SPELLING})?$"},
        description="Only events after this cursor; none: from the beginning; `latest`: from now on.",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="At most so many events in one page.")]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        schema_extra={"pattern": f"^({SPELLING})?$"},
        description="The cursor, as browsers send it; goes before `after`.",
    ),
]


class StreamController(CustomerController):
    """What happened to the caller's things."""

    path = "/v1/events"
    tags = ("events",)
    stream: StreamService

    @get(
        "/",
        operation_id="ReadEvents",
        summary="Events: a page, or as they come",
        responses=fails(CursorMalformed, EventsGone, TooManyStreams, StreamsFull),
        opt={"also": SSE},
    )
    async def read(
        self,
        request: Request[Any, Any, Any],
        after: After = None,
        limit: Limit = 100,
        last_event_id: LastEventId = None,
    ) -> Response[EventPage]:
        """A page of events in order. With `Accept: text/event-stream` the same events as they come: each has its cursor
        as `id`, a comment comes every 15 seconds, and `bye` before the server closes (its restart, the token's end)."""
        who = customer()
        cursor = last_event_id or after
        if SSE in request.headers.get("accept", ""):
            return await self._follow(request, who, cursor)
        return Response(EventPage.of(await self.stream.page(who.owner_id, cursor, limit)))

    async def _follow(self, request: Request[Any, Any, Any], who: Customer, cursor: str | None) -> Response[Any]:
        call = call_of(request.scope)
        assert call.principal is not None
        lines = as_sse(self.stream.follow(who.owner_id, cursor, call.principal.expires_at))
        first = await anext(lines)  # refusals come before the answer begins
        call.run_long()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Stream(_chained(first, lines), media_type=SSE, headers=headers)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line

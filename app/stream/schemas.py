"""Events on the wire, as JSON and as server-sent events."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from app.stream.domain import Told
from app.stream.service import Beat, Bye, Page
from app.web.wire import WireOut

SSE: Final = "text/event-stream"


class EventOut(WireOut, frozen=True, kw_only=True):
    """Something that happened to a thing of yours. docs/events.md lists the types and their fields."""

    id: Annotated[str, Meta(description="The event's id; the same event has the same id wherever it is read.")]
    type: Annotated[str, Meta(description="What happened.", examples=["asset.preview_ready"])]
    version: Annotated[int, Meta(description="Version of the type's fields; within one, fields are only added.")]
    occurred_at: Annotated[datetime, Meta(description="When it happened, UTC.")]
    cursor: Annotated[str, Meta(description="Continues after this event: `after`, or `Last-Event-ID`.")]
    data: Annotated[dict[str, Any], Meta(description="The type's fields: ids, codes, amounts and times.")]

    @classmethod
    def of(cls, told: Told) -> Self:
        """From the domain."""
        return cls(
            id=told.id,
            type=told.type,
            version=told.version,
            occurred_at=told.occurred_at,
            cursor=told.cursor,
            data=told.data,
        )


class EventPage(WireOut, frozen=True, kw_only=True):
    """Events in order."""

    events: Annotated[list[EventOut], Meta(description="In the order to be applied.")]
    cursor: Annotated[str, Meta(description="Send as `after` to continue.")]
    more: Annotated[bool, Meta(description="Whether more events are waiting right now.")]

    @classmethod
    def of(cls, page: Page) -> Self:
        """From the domain."""
        return cls(events=[EventOut.of(told) for told in page.events], cursor=page.cursor, more=page.more)


async def as_sse(items: AsyncIterator[Told | Beat | Bye]) -> AsyncIterator[bytes]:
    """The lines of a server-sent event stream (HTML standard, section 9.2)."""
    async for item in items:
        if isinstance(item, Told):
            yield _lines(item)
        elif isinstance(item, Beat):
            yield b": beat\n\n"
        else:
            yield f"retry: {item.retry_ms}\nevent: bye\ndata: {{}}\n\n".encode()


@lru_cache(maxsize=1000)
def _lines(told: Told) -> bytes:
    """Encoded once, however many streams pass it on."""
    data = msgspec.json.encode(EventOut.of(told)).decode()
    return f"id: {told.cursor}\nevent: {told.type}\ndata: {data}\n\n".encode()

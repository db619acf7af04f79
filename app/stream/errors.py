"""What can go wrong with the event stream."""

from base.errors import DomainError, Kind


class CursorMalformed(DomainError):
    """The cursor is not one of ours."""

    code, title, kind = "cursor-malformed", "The cursor is not well-formed", Kind.INVALID
    next_step = "Send a cursor exactly as an earlier answer gave it, or none, or `latest`."
    field = "after"


class EventsGone(DomainError):
    """What came after the cursor is not kept any more."""

    code, title, kind = "events-gone", "The events after this cursor are not kept any more", Kind.GONE
    next_step = "Read what you show anew with plain GETs, then go on with `after=latest`."


class TooManyStreams(DomainError):
    """The owner has as many open streams as one may have."""

    code, title, kind = "too-many-streams", "Too many open event streams", Kind.LIMITED
    next_step = "Close a stream that is not needed, or read with plain GETs; one stream a device is enough."
    retry_after_s = 30


class StreamsFull(DomainError):
    """This process has no room for another stream."""

    code, title, kind = "streams-full", "No room for another event stream now", Kind.UNAVAILABLE
    next_step = "Read with plain GETs and try to open the stream again after Retry-After seconds."
    retry_after_s = 15

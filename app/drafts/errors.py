"""What can be wrong with a draft."""

from base.errors import DomainError, Kind


class DraftNotFound(DomainError):
    """There is no such draft, or it is somebody else's, or it was given up."""

    code, title, kind = "draft-not-found", "There is no such draft", Kind.NOT_FOUND
    next_step = "Create a draft with POST /v1/drafts."


class DraftClosed(DomainError):
    """The draft is part of an order and cannot be changed."""

    code, title, kind = "draft-closed", "This draft has been ordered", Kind.CONFLICT
    next_step = "Cancel the unpaid order, or create a new draft."


class DraftNotReady(DomainError):
    """Something stands against ordering the draft."""

    code, title, kind = "draft-not-ready", "This draft cannot be ordered yet", Kind.CONFLICT
    next_step = "Read its checks; wait for `wait`, change what `reject` names."


class VersionMissing(DomainError):
    """A change must say which version it changes."""

    code, title, kind = "version-missing", "This change needs If-Match", Kind.MALFORMED
    next_step = 'Send `If-Match` with the `ETag` of the draft as you know it, such as `"3"`.'


class VersionMoved(DomainError):
    """The draft was changed meanwhile."""

    code, title, kind = "version-moved", "The draft has been changed meanwhile", Kind.PRECONDITION
    next_step = "Read the draft again, put your change on top of it, and send that with the new `ETag`."


class QuoteStale(DomainError):
    """The draft is another version than the one the quote is for."""

    code, title, kind = "quote-stale", "The price is for an older version of the draft", Kind.CONFLICT
    next_step = "Ask for a new quote and show it before ordering."


class ItemUnknown(DomainError):
    """An item id is not of this draft, or stands twice in the list."""

    code, title, kind = "item-unknown", "An item is not of this draft", Kind.NOT_FOUND
    next_step = "Use each id of the draft's own items at most once, and none for new items."


class TooManyCopies(DomainError):
    """The draft has more copies than one order may have."""

    code, title, kind = "too-many-copies", "This is more than one order may have", Kind.CONFLICT
    next_step = "Divide it into several drafts."

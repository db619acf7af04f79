"""What can be wrong with a quote."""

from base.errors import DomainError, Kind


class QuoteNotFound(DomainError):
    """There is no such quote, or it is somebody else's."""

    code, title, kind = "quote-not-found", "There is no such quote", Kind.NOT_FOUND
    next_step = "Ask for a quote with POST /v1/quotes."


class QuoteOver(DomainError):
    """The quote's time is over."""

    code, title, kind = "quote-expired", "This price is not valid any more", Kind.GONE
    next_step = "Ask for a new quote and show it before ordering."


class QuoteUsed(DomainError):
    """An order was placed at this quote already."""

    code, title, kind = "quote-used", "An order was placed at this price already", Kind.CONFLICT
    next_step = "Look at your orders; for another one ask for a new quote."


class CountryNotServed(DomainError):
    """We do not send there."""

    code, title, kind = "country-not-served", "We do not send to this country", Kind.CONFLICT
    next_step = "Choose one of the countries that GET /v1/products lists."


class NothingToPrice(DomainError):
    """The draft has no items."""

    code, title, kind = "nothing-to-price", "This draft is empty", Kind.CONFLICT
    next_step = "Add an item to the draft first."

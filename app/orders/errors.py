"""What can be wrong with an order."""

from collections.abc import Iterable

from base.errors import DomainError, Kind


class OrderNotFound(DomainError):
    """There is no such order, or it is somebody else's."""

    code, title, kind = "order-not-found", "There is no such order", Kind.NOT_FOUND
    next_step = "List your orders and use an id from there."


class RecipientElsewhere(DomainError):
    """The parcel would go to another place than the price is for."""

    code, title, kind = "recipient-elsewhere", "The price is for another place", Kind.CONFLICT
    next_step = "Ask for a quote to the recipient's country, region and postcode, and show it before ordering."


class RecipientDoubtful(DomainError):
    """The address looks odd for its country; the person may know better."""

    code, title, kind = "recipient-doubtful", "The address looks unusual", Kind.INVALID
    next_step = "Show the address; when the person says that it is right, send the named codes in `acceptedDoubts`."

    def __init__(self, found: Iterable[str]) -> None:
        super().__init__(f"doubtful: {', '.join(found)}")
        self.field = "recipient"


class OrderNotPayable(DomainError):
    """The order is over."""

    code, title, kind = "order-not-payable", "This order cannot be paid any more", Kind.CONFLICT
    next_step = "Ask for a new quote of the draft and place a new order."


class OrderNotCancellable(DomainError):
    """It is too late: everything is made and sent, or the payment has just gone through."""

    code, title, kind = "order-not-cancellable", "This order cannot be cancelled any more", Kind.CONFLICT
    next_step = "Read the order: it says how it stands. A payment that has just gone through can be tried again soon."


class LineNotFound(DomainError):
    """The order has no such line."""

    code, title, kind = "line-not-found", "The order has no such line", Kind.NOT_FOUND
    next_step = "Read the order; its lines are numbered from 1."


class CopiesStillMade(DomainError):
    """Copies that may still be made are not refunded: the printer is asked to stop first."""

    code, title, kind = "copies-still-made", "These copies are still to be made", Kind.CONFLICT
    next_step = "Cancel the order, which gives back what is not made; or give their price back as goodwill."

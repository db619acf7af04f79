"""What can be wrong with an order."""

from base.errors import DomainError, Kind


class OrderNotFound(DomainError):
    """There is no such order, or it is somebody else's."""

    code, title, kind = "order-not-found", "There is no such order", Kind.NOT_FOUND
    next_step = "List your orders and use an id from there."

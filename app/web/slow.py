"""What takes too long."""

from base.errors import DomainError, Kind


class TimeLimit(DomainError):
    """The request took longer than the limit."""

    code, title, kind = "time-limit", "The request took too long", Kind.UNAVAILABLE
    next_step = "Send the same request again, with the same Idempotency-Key if it had one; it may have been done."
    retry_after_s = 5

"""What an error means for a job, once for all kinds: tried again, or final."""

from typing import Final

from base.errors import DomainError, Kind

RETRIED: Final = frozenset({Kind.UNAVAILABLE, Kind.LIMITED, Kind.CONFLICT})


def is_final(error: BaseException) -> bool:
    """Whether trying again cannot help. What we did not foresee is tried again: it may be the machine's fault."""
    return isinstance(error, DomainError) and error.kind not in RETRIED


def reason(error: BaseException) -> str:
    """A code for the row: the error's own, or the class of a crash."""
    return error.code if isinstance(error, DomainError) else f"crash/{type(error).__name__.lower()}"

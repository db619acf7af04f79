"""What an error means for a job, once for all kinds: tried again, or final."""

from typing import Final

from base.errors import DomainError, Kind

RETRIED: Final = frozenset({Kind.UNAVAILABLE, Kind.LIMITED, Kind.CONFLICT})


def is_final(error: BaseException) -> bool:
    """Whether trying again cannot help. What we did not foresee is tried again: it may be the machine's fault."""
    return isinstance(error, DomainError) and error.kind not in RETRIED


def reason(error: BaseException) -> str:
    """A code for the row: the error's own, or the class of a crash."""
    return error.code if isinstance(error, DomainError) else crash(type(error))


def crash(kind: type[BaseException]) -> str:
    """The code of a crash by an error of this class."""
    return f"crash/{kind.__name__.lower()}"

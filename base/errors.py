"""Errors that say what happened, free of any transport.

`Kind` is mapped once to HTTP (`app/web/problems.py`) and once to jobs (`tasks/policy.py`). The text of an error is
safe to show to a customer; what only an operator may see goes to logs.
"""

from enum import StrEnum
from typing import ClassVar, Final


class Kind(StrEnum):
    """What an error means to a caller, whatever the transport."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PRECONDITION = "precondition"
    GONE = "gone"
    TOO_LARGE = "too_large"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"


CATALOGUE: Final[dict[str, "type[DomainError]"]] = {}


class DomainError(Exception):
    """Base of every error with a stable code.

    A subclass sets `code` (kebab-case, for ever), `title`, `kind` and `next_step` (what the caller does now). Two
    classes with one code are refused when the second is defined. `retry_after_s`, where set, is whole seconds.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[Kind]
    next_step: ClassVar[str]
    retry_after_s: int | None = None
    field: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("code") is None:
            return
        for needed in ("title", "kind", "next_step"):
            if not hasattr(cls, needed):
                raise TypeError(f"{cls.__name__} has no {needed}")
        known = CATALOGUE.get(cls.code)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {cls.code!r} is used by {known.__name__} and {cls.__name__}")
        CATALOGUE[cls.code] = cls

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)


class ServiceUnavailable(DomainError):
    """A part we need (database, queue, object store) does not answer now."""

    code, title, kind = "service-unavailable", "A part of the service is not available", Kind.UNAVAILABLE
    next_step = "Send the same request again after Retry-After seconds, with the same Idempotency-Key if it had one."
    retry_after_s = 2


class InvalidInput(DomainError):
    """A value is well-formed JSON but breaks a rule; `field` names it."""

    code, title, kind = "invalid-input", "The request has a value that is not allowed", Kind.INVALID
    next_step = "Correct the named field and send the request again."

    def __init__(self, detail: str = "", field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field

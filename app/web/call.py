"""What is known of one HTTP call while it runs: made by the frame, filled by the gate, read by handlers."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from app.kernel.access import Principal, Scope, Unauthenticated
from app.web.endings import Ending
from app.web.rates import Verdict
from base.errors import DomainError, Kind


class Forbidden(DomainError):
    """The token is good, but not for this."""

    code, title, kind = "forbidden", "This token does not allow that", Kind.FORBIDDEN
    next_step = "Use a token with the scope that the API description names for this call."


class Call:
    """One request in work: its ids, its caller, the limit it ran under, the loop's time when it is `due`.

    `headers` has the last value of each.
    """

    __slots__ = (
        "address",
        "due",
        "ending",
        "headers",
        "is_late",
        "principal",
        "rate",
        "request_id",
        "task",
        "trace_id",
    )

    def __init__(
        self, address: str, headers: Mapping[bytes, bytes], task: "asyncio.Task[Any] | None", due: float
    ) -> None:
        self.request_id = self.trace_id = ""
        self.address = address
        self.headers = headers
        self.task = task
        self.due: float | None = due
        self.is_late = False
        self.principal: Principal | None = None
        self.rate: Verdict | None = None
        self.ending: Ending | None = None

    def run_long(self) -> None:
        """Lift the time limit: this call streams."""
        self.due = None

    def end_late(self) -> None:
        """End it: its time is over."""
        self.due, self.is_late = None, True
        if self.task is not None:
            self.task.cancel()


CURRENT: Final[ContextVar[Call]] = ContextVar("call")
"""The call that this task works for: what asks here needs no request, which Litestar would have to hand over."""


def require(wanted: Scope) -> Principal:
    """The current caller, who has this scope; raises `Unauthenticated` or `Forbidden`."""
    principal = CURRENT.get().principal
    if principal is None:
        raise Unauthenticated()
    if principal.scope is not wanted:
        raise Forbidden()
    return principal


def call_of(scope: Any) -> Call:
    """The call of an ASGI scope; the frame put it there."""
    call = scope["state"]["call"]
    assert isinstance(call, Call)
    return call

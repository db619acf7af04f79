"""What is known of one HTTP call while it runs: made by the frame, filled by the gate, read by dependencies."""

import asyncio
from typing import Any

from app.kernel.access import Principal, Scope, Unauthenticated
from app.web.endings import Ending
from app.web.rates import Verdict
from base.errors import DomainError, Kind


class Forbidden(DomainError):
    """The token is good, but not for this."""

    code, title, kind = "forbidden", "This token does not allow that", Kind.FORBIDDEN
    next_step = "Use a token with the scope that the API description names for this call."


class Call:
    """One request in work: its id, its caller, the limit it ran under, the clock that ends it."""

    __slots__ = ("address", "ending", "principal", "rate", "request_id", "secure", "timer")

    def __init__(self, request_id: str, address: str, secure: bool, timer: asyncio.Timeout | None) -> None:
        self.request_id = request_id
        self.address = address
        self.secure = secure
        self.timer = timer
        self.principal: Principal | None = None
        self.rate: Verdict | None = None
        self.ending: Ending | None = None

    def run_long(self) -> None:
        """Lift the time limit: this call streams."""
        if self.timer is not None:
            self.timer.reschedule(None)


def require(scope: Any, wanted: Scope) -> Principal:
    """The caller with this scope; raises `Unauthenticated` or `Forbidden`."""
    principal = call_of(scope).principal
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

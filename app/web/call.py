"""What is known of one HTTP call while it runs: made by the frame, filled by the gate, read by dependencies."""

import asyncio
from typing import Any

from app.kernel.access import Principal
from app.web.rates import Verdict


class Call:
    """One request in work: its id, its caller, the limit it ran under, the clock that ends it."""

    __slots__ = ("address", "principal", "rate", "request_id", "secure", "timer")

    def __init__(self, request_id: str, address: str, secure: bool, timer: asyncio.Timeout | None) -> None:
        self.request_id = request_id
        self.address = address
        self.secure = secure
        self.timer = timer
        self.principal: Principal | None = None
        self.rate: Verdict | None = None

    def run_long(self) -> None:
        """Lift the time limit: this call streams."""
        if self.timer is not None:
            self.timer.reschedule(None)


def call_of(scope: Any) -> Call:
    """The call of an ASGI scope; the frame put it there."""
    call = scope["state"]["call"]
    assert isinstance(call, Call)
    return call

"""What the supervisor knows of a part, whichever program it is, and how it waits for one."""

import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from devstack.child import Child, StartFailed

POLL_S = 0.05


class Part(Protocol):
    """One program of the stack: a server or one of Tirage's own processes."""

    child: Child

    @property
    def name(self) -> str:
        """Its name in logs and in `tirage status`."""

    @property
    def address(self) -> str | None:
        """Where it listens (`host:port` or a URL), or None."""

    def start(self, *, tied: bool) -> None:
        """Start it without waiting; raises `StartFailed`."""

    def is_ready(self) -> bool:
        """Whether it does its work; may set up what it needs on the way."""

    def is_alive(self) -> bool:
        """Whether a running one still reacts; a part that cannot tell says yes."""


def wait_ready(part: Part, timeout_s: int, cancel: threading.Event) -> None:
    """Wait until the part is ready; raises `StartFailed` when it ends, takes too long, or the start is cancelled."""
    deadline = time.monotonic() + timeout_s
    while True:
        if part.child.returncode is not None:
            raise part.child.failed(f"ended with code {part.child.returncode} while starting")
        if part.is_ready() and part.child.returncode is None:
            return
        if time.monotonic() > deadline:
            raise part.child.failed(f"does not answer after {timeout_s} s")
        if cancel.wait(POLL_S):
            raise StartFailed("the start was cancelled")


def connects(host: str, port: int, timeout_s: float = 1) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def plain_env(more: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment of a child: a path, a locale, UTC, and nothing else of the caller's."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC", **dict(more)}

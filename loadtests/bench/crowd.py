"""A crowd in one thread: everybody asks at once over a connection of their own and waits for the last byte.

Beside large answers a client in Python is soon what is measured. This one does next to nothing: it sends bytes made
beforehand, reads the length off each head, and receives all else into one buffer that nobody looks at.
"""

import itertools
import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

Server = tuple[str, int]

_BUFFER: Final = 1 << 18
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_LOOK_S: Final = 0.002
_PATIENCE_S: Final = 60


class _Person:
    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.left = -1
        """Bytes of the answer still to come; below 0 before its head."""


class Crowd:
    """So many people, divided among servers; their connections are kept from one asking to the next."""

    def __init__(self, servers: Sequence[Server], people: int) -> None:
        self._turn = itertools.cycle(servers)
        self._selector = selectors.DefaultSelector()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._people = [_Person(self._connected()) for _ in range(people)]

    def ask(self, path: str, meanwhile: Callable[[], None] = lambda: None) -> list[float]:
        """Milliseconds from the first request sent to each one's last byte, shortest first.

        Who is cut off asks another server. `meanwhile` is called every few milliseconds.
        """
        request, took = f"GET {path} HTTP/1.1\r\nhost: origin\r\n\r\n".encode(), list[float]()
        begun = time.perf_counter()
        for one in self._people:
            self._send(one, request)
        while len(took) < len(self._people):
            for ready, _ in self._selector.select(_LOOK_S):
                self._receive(ready.data, request)
                if ready.data.left == 0:
                    self._selector.unregister(ready.data.line)
                    took.append(1000 * (time.perf_counter() - begun))
            meanwhile()
            if time.perf_counter() - begun > _PATIENCE_S:
                raise TimeoutError(f"{len(self._people) - len(took)} are not answered")
        return took

    def close(self) -> None:
        """Everybody leaves."""
        for one in self._people:
            one.line.close()
        self._selector.close()

    def _send(self, one: _Person, request: bytes) -> None:
        one.left = -1
        one.line.send(request)
        self._selector.register(one.line, selectors.EVENT_READ, one)

    def _receive(self, one: _Person, request: bytes) -> None:
        try:
            size = one.line.recv_into(self._buffer)
        except ConnectionResetError:
            size = 0
        if size and one.left < 0:
            one.left = _length(bytes(self._buffer[: min(size, 1024)])) - size
        elif size:
            one.left -= size
        else:
            self._selector.unregister(one.line)
            one.line.close()
            one.line = self._connected()
            self._send(one, request)

    def _connected(self) -> socket.socket:
        """A connection to whose turn it is, or to the next that accepts one."""
        while True:
            with suppress(ConnectionRefusedError):
                line = socket.create_connection(next(self._turn))
                line.setblocking(False)
                return line


def _length(begin: bytes) -> int:
    """Bytes of the whole answer by its head, which comes in one piece."""
    head, _, _ = begin.partition(b"\r\n\r\n")
    found = _LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200") or found is None:
        raise RuntimeError(f"an unexpected answer: {head[:200]!r}")
    return len(head) + 4 + int(found[1])

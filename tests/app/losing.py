"""A TCP proxy that loses HTTP answers after the server has given them: what was asked is done, and nobody is told."""

import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 60


class LosingProxy:
    """Forwards HTTP to a port of this machine; what happens to each answer is taken from `faults`, in order.

    `drop` loses an answer that the server has given; `lose` loses the request before the server gets it; `kill-after`
    kills the server once it has answered and loses the answer; `kill-within` kills it a few milliseconds after it got
    the request. `kill` kills the server and starts it again.
    """

    def __init__(self, port: int, kill: Callable[[], None] | None = None) -> None:
        self._target, self._kill_it = ("127.0.0.1", port), kill
        self.faults: deque[str] = deque()
        self.met: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Every request of a connection, until one is lost or somebody closes."""
        with client:
            try:
                client.settimeout(PATIENCE_S)
                request = message(client)
                with socket.create_connection(self._target, timeout=PATIENCE_S) as server:
                    while self._exchange(client, server, request):
                        request = message(client)
            except (OSError, ValueError):
                return

    def _exchange(self, client: socket.socket, server: socket.socket, request: bytes) -> bool:
        """One request; whether the connection goes on."""
        fault = self._next()
        if fault == "lose":
            return False
        server.sendall(request)
        if fault == "kill-within":
            time.sleep(0.004)
            self._kill()
        answer = message(server)
        if fault == "kill-after":
            self._kill()
        if fault not in ("pass", "kill-within"):
            return False
        client.sendall(answer)
        return fault == "pass"

    def _next(self) -> str:
        with self._lock:
            fault = self.faults.popleft() if self.faults else "pass"
            self.met[fault] += 1
            return fault

    def _kill(self) -> None:
        assert self._kill_it is not None
        with self._lock:
            self._kill_it()


def message(source: socket.socket) -> bytes:
    """A whole HTTP message with a Content-Length; raises `ValueError` when it ends before."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(source)
    head, _, rest = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(rest) < int(lengths[0] if lengths else 0):
        rest += _some(source)
    return head + b"\r\n\r\n" + rest


def _some(source: socket.socket) -> bytes:
    if not (chunk := source.recv(65_536)):
        raise ValueError("closed")
    return chunk

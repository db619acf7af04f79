"""Short answers of the bare ASGI applications: what is said when no picture is sent."""

import functools
from collections.abc import Callable
from typing import Any, Final

import msgspec
from prometheus_client import Counter

from edge.node import headers as http
from edge.node.headers import Headers

ANSWERS: Final = Counter(
    "tirage_edge_answers_total", "Answers by status and by how the bytes were found", ("status", "how")
)

_COUNTERS: Final[dict[tuple[int, str], Counter]] = {}

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Any]


class Reply(msgspec.Struct, frozen=True):
    """A whole answer in memory; `headers` with the length of what a GET is sent, `lines` the same ready to be sent."""

    status: int
    headers: Headers
    body: bytes | memoryview
    lines: bytes = b""


def lines_of(headers: Headers) -> bytes:
    """Header fields as HTTP/1.1 sends them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def count(status: int, how: str) -> None:
    """Count an answer."""
    counter = _COUNTERS.get((status, how))
    if counter is None:
        counter = _COUNTERS[status, how] = ANSWERS.labels(str(status), how)
    counter.inc()


async def start(send: Send, status: int, headers: Headers) -> None:
    """Status and headers."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A whole answer with its length."""
    await start(send, status, [(b"content-length", b"%d" % len(body)), *headers])
    await send({"type": "http.response.body", "body": body})


def refusal(status: int, code: bytes, headers: Headers) -> Reply:
    """A short answer: the code as text, nothing of the path."""
    count(status, code.decode())
    return _refusal(status, code, tuple(headers))


@functools.lru_cache(maxsize=64)
def _refusal(status: int, code: bytes, more: tuple[tuple[bytes, bytes], ...]) -> Reply:
    length = (b"content-length", b"%d" % (len(code) + 1))
    headers = [length, (b"content-type", b"text/plain"), *http.ALWAYS, *more]
    return Reply(status, headers, code + b"\n", lines_of(headers))


async def refuse(send: Send, status: int, code: bytes, headers: Headers) -> None:
    """Send a refusal."""
    reply = refusal(status, code, headers)
    await start(send, status, reply.headers)
    await send({"type": "http.response.body", "body": reply.body})


async def lifespan(receive: Any, send: Send) -> None:
    """Answer the server's start and stop: nothing is opened or closed here."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

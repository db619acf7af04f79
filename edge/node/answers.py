"""Short answers of the bare ASGI applications: what is said when no picture is sent."""

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import Counter

from edge.node import headers as http
from edge.node.headers import Headers

ANSWERS: Final = Counter(
    "tirage_edge_answers_total", "Answers by status and by how the bytes were found", ("status", "how")
)

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Any]


async def start(send: Send, status: int, headers: Headers) -> None:
    """Status and headers."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A whole answer with its length."""
    await start(send, status, [(b"content-length", b"%d" % len(body)), *headers])
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, status: int, code: bytes, headers: Headers) -> None:
    """A short answer: the code as text, nothing of the path."""
    ANSWERS.labels(str(status), code.decode()).inc()
    await answer(send, status, code + b"\n", [(b"content-type", b"text/plain"), *http.ALWAYS, *headers])


async def lifespan(receive: Any, send: Send) -> None:
    """Answer the server's start and stop: nothing is opened or closed here."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

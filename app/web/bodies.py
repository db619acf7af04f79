"""Bodies that are read as they come, piece by piece, and never held: uploads through the API."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

GRACE_S: Final = 10
MIN_RATE: Final = 1024
SILENCE_S: Final = 20


class BodyCut(Exception):
    """The client went away before the body's end."""


class BodySlow(Exception):
    """The body stands still, or comes at less than `MIN_RATE` bytes a second."""


async def pieces(receive: Any) -> AsyncGenerator[bytes, None]:
    """A request body from ASGI's `receive`; raises `BodyCut` and `BodySlow`.

    A body may take as long as it keeps its pace, so the caller lifts the request's time limit.
    """
    began, taken = time.monotonic(), 0
    more = True
    while more:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError as silence:
            raise BodySlow() from silence
        if message["type"] == "http.disconnect":
            raise BodyCut()
        body = message.get("body", b"")
        more = message.get("more_body", False)
        taken += len(body)
        if body:
            yield body
        elapsed = time.monotonic() - began
        if more and elapsed > GRACE_S and taken < MIN_RATE * elapsed:
            raise BodySlow()

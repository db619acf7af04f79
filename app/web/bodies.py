"""Bodies that are read as they come, piece by piece, and never held: uploads through the API."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

WINDOW_S: Final = 10
MIN_RATE: Final = 1024
SILENCE_S: Final = 20


class BodyCut(Exception):
    """The client went away before the body's end."""


class BodySlow(Exception):
    """The body stands still, or has come at less than its least rate of late."""


async def pieces(
    receive: Any, least_rate: Callable[[], int] = lambda: MIN_RATE, now: Callable[[], float] = time.monotonic
) -> AsyncGenerator[bytes, None]:
    """A request body from ASGI's `receive`; raises `BodyCut` and `BodySlow`.

    A body may take as long as it keeps its pace, so the caller lifts the request's time limit. The pace is that of each
    `WINDOW_S` seconds of waiting for it, in bytes a second: what came before a window, and the time the caller takes,
    do not count.
    """
    waited, taken = 0.0, 0
    more = True
    while more:
        asked = now()
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError as silence:
            raise BodySlow() from silence
        if message["type"] == "http.disconnect":
            raise BodyCut()
        body = message.get("body", b"")
        more = message.get("more_body", False)
        waited, taken = waited + now() - asked, taken + len(body)
        if body:
            yield body
        if more and waited > WINDOW_S:
            if taken < least_rate() * waited:
                raise BodySlow()
            waited, taken = 0.0, 0

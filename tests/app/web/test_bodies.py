"""Bodies that are read as they come: whose pace is judged by what came of late."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.web import bodies


class Sender:
    """A client whose pieces take seconds to come, on a clock of its own."""

    def __init__(self, *sent: tuple[float, int]) -> None:
        self._sent: Iterator[tuple[float, int]] = iter(sent)
        self.clock = 0.0

    def now(self) -> float:
        return self.clock

    async def receive(self) -> dict[str, Any]:
        seconds, count = next(self._sent)
        self.clock += seconds
        return {"type": "http.request", "body": bytes(count), "more_body": count > 0}


async def came(sender: Sender, pause_s: float = 0, least_rate: int = bodies.MIN_RATE) -> int:
    """How many bytes came, of a caller that takes so long for each piece; `BodySlow` ends it."""
    count = 0
    async for piece in bodies.pieces(sender.receive, lambda: least_rate, sender.now):
        count += len(piece)
        sender.clock += pause_s
    return count


async def test_what_came_fast_excuses_nobody_who_stands_still_afterwards() -> None:
    with pytest.raises(bodies.BodySlow):
        await came(Sender((0.1, 8 << 20), *[(9, 1)] * 5, (0, 0)))


async def test_a_pause_within_a_window_is_no_slowness() -> None:
    assert await came(Sender(*[(9, 16_000)] * 20, (9, 0))) == 320_000


async def test_the_time_the_caller_takes_is_not_the_clients() -> None:
    assert await came(Sender(*[(0.01, 10)] * 20, (0, 0)), pause_s=60) == 200


async def test_the_pace_that_is_enough_is_asked_for_as_it_goes() -> None:
    sent = [(9, 16_000)] * 4
    assert await came(Sender(*sent, (0, 0)), least_rate=1_700) == 64_000
    with pytest.raises(bodies.BodySlow):
        await came(Sender(*sent, (0, 0)), least_rate=1_800)

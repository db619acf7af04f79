"""Many bodies at once: who only holds places keeps nobody else from sending."""

import asyncio
import contextlib
from uuid import uuid4

import httpx
import pytest

from app.uploads.domain import UploadState
from app.uploads.errors import UploadsAtOnce, UploadsHeld
from app.uploads.receive import Receiver
from app.uploads.traffic import CROWDED_RATE, OF_AN_ADDRESS, OF_AN_OWNER, PLACES, Traffic
from app.web.bodies import MIN_RATE
from base.ids import OwnerId
from tests.app.conftest import Guest
from tests.app.uploads.test_memory import PIECE, Sending, session, sha1
from tests.app.uploads.test_sessions import LARGE

HTTPX_USUALLY = 100
"""The connections of a client of httpx that is not told otherwise."""


def owner() -> OwnerId:
    return OwnerId(uuid4())


class TestPlaces:
    def test_of_an_owner(self) -> None:
        traffic, greedy = Traffic(), owner()
        with contextlib.ExitStack() as held:
            for number in range(OF_AN_OWNER):
                held.enter_context(traffic.place(greedy, f"10.0.0.{number}"))
            with pytest.raises(UploadsAtOnce), traffic.place(greedy, "10.0.1.1"):
                pass
            with traffic.place(owner(), "10.0.0.1"):
                pass
        with traffic.place(greedy, "10.0.0.1"):
            pass

    def test_of_an_address_whose_guests_are_many(self) -> None:
        traffic = Traffic()
        with contextlib.ExitStack() as held:
            for _ in range(OF_AN_ADDRESS):
                held.enter_context(traffic.place(owner(), "10.0.0.1"))
            with pytest.raises(UploadsHeld), traffic.place(owner(), "10.0.0.1"):
                pass
            with traffic.place(owner(), "10.0.0.2"):
                pass
        with traffic.place(owner(), "10.0.0.1"):
            pass

    def test_of_the_process(self) -> None:
        traffic = Traffic(places=3)
        with contextlib.ExitStack() as held:
            for number in range(3):
                held.enter_context(traffic.place(owner(), f"10.0.0.{number}"))
            with pytest.raises(UploadsHeld), traffic.place(owner(), "10.0.0.9"):
                pass
        with traffic.place(owner(), "10.0.0.9"):
            pass

    def test_the_more_there_are_the_faster_each_must_come(self) -> None:
        traffic, asked = Traffic(), []
        with contextlib.ExitStack() as held:
            for number in range(PLACES):
                asked.append(traffic.least_rate())
                held.enter_context(traffic.place(owner(), f"10.0.{number}.1"))
            assert traffic.least_rate() == CROWDED_RATE
        assert asked == sorted(asked)
        assert asked[PLACES // 2] == MIN_RATE < asked[PLACES // 2 + 1]
        assert traffic.least_rate() == MIN_RATE


async def test_bodies_that_drip_keep_nobody_from_sending(
    client: httpx.AsyncClient, guest: Guest, receiver: Receiver
) -> None:
    """Guests of two addresses hold all the places they can get, on both faces; another's file comes through."""
    data = LARGE[: 4 * PIECE]
    dripping, running = [], []
    for number in range(2 * OF_AN_ADDRESS // OF_AN_OWNER):
        strangers, upload, _ = await session(client, guest, data)
        for turn in range(OF_AN_OWNER):
            drip = Sending(data, stop_after=2)
            dripping.append(drip)
            if turn:
                taken = receiver.content(upload, len(data), drip.body(), f"10.0.0.{number % 2}")
            else:
                taken = receiver.append(strangers, upload, 0, drip.body(), sha1(data), None, f"10.0.0.{number % 2}")
            running.append(asyncio.ensure_future(taken))
    await asyncio.gather(*(drip.stopped.wait() for drip in dripping))
    assert len(dripping) > HTTPX_USUALLY
    _, upload, _ = await session(client, guest, data)
    try:
        done = await receiver.content(upload, len(data), Sending(data).body(), "10.0.1.1")
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert done.state is UploadState.VERIFYING

"""Signing keys change while everybody works: none is refused before the old key retires; lost answers come again."""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.kernel.db import Database
from app.main import create_app
from base.clock import Clock
from tests.app.conftest import api_settings, register, running
from tests.app.paying import MovedClock

OLD = "t1:" + base64.b64encode(bytes(range(32))).decode()
NEW = "t2:" + base64.b64encode(bytes(range(32, 64))).decode()
STAGES = (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}")
"""What a process is given at each stage of a rotation; each process goes through them, one after the other."""


class Fleet:
    """Two API processes that are replaced one by one; whoever calls gets either."""

    def __init__(self, env: dict[str, str], clock: Clock | None) -> None:
        self._env, self._clock = env, clock
        self._open: list[contextlib.AsyncExitStack] = []
        self.clients: list[httpx.AsyncClient] = []

    async def place(self, number: int, keys: str) -> None:
        """Start the process with `keys`, then let it take the place of the one before."""
        stack = contextlib.AsyncExitStack()
        app = create_app(api_settings(self._env, TIRAGE_TOKEN_KEYS=keys), self._clock)
        client = await stack.enter_async_context(running(app))
        self._open.append(stack)
        self.clients[number : number + 1] = [client]

    async def close(self) -> None:
        for stack in self._open:
            await stack.aclose()

    def any(self) -> httpx.AsyncClient:
        return random.choice(self.clients)


@contextlib.asynccontextmanager
async def fleet(env: dict[str, str], *keys: str, clock: Clock | None = None) -> AsyncIterator[Fleet]:
    """A process for each of `keys`."""
    made = Fleet(env, clock)
    try:
        for number, mine in enumerate(keys):
            await made.place(number, mine)
        yield made
    finally:
        await made.close()


class Phone:
    """Reads all the time and refreshes now and then; every third answer of a refresh gets lost."""

    def __init__(self, grant: dict[str, Any], number: int) -> None:
        self.access, self.refresh_token = grant["accessToken"], grant["refreshToken"]
        self.first, self.answers, self.refreshed, self._number = self.access, [0], 0, number

    async def work(self, fleet: Fleet, stop: asyncio.Event) -> None:
        turn = self._number
        while not stop.is_set():
            turn += 1
            for token in (self.first, self.access):
                answer = await fleet.any().get("/v1/me", headers={"Authorization": f"Bearer {token}"})
                self.answers.append(answer.status_code)
            if turn % 5 == 0:
                await self.refresh(fleet, is_lost=turn % 3 == 0)
            await asyncio.sleep(0)

    async def refresh(self, fleet: Fleet, *, is_lost: bool) -> None:
        body = {"refreshToken": self.refresh_token}
        told = await fleet.any().post("/v1/tokens", json=body)
        if is_lost:
            again = await fleet.any().post("/v1/tokens", json=body)
            assert again.json()["refreshToken"] == told.json()["refreshToken"]
            told = again
        self.answers.append(told.status_code)
        self.access, self.refresh_token = told.json()["accessToken"], told.json()["refreshToken"]
        self.refreshed += 1


async def rotate(processes: Fleet, places: list[tuple[int, str]], answers: int) -> None:
    """Replace processes one after the other while phones work, then retire the old key everywhere.

    Between two replacements at least so many answers come.
    """
    phones = [Phone(await register(processes.any()), number) for number in range(6)]
    stop = asyncio.Event()
    working = [asyncio.create_task(phone.work(processes, stop)) for phone in phones]
    for number, keys in [*places, (0, "")]:
        before = sum(len(phone.answers) for phone in phones)
        async with asyncio.timeout(60):
            while sum(len(phone.answers) for phone in phones) < before + answers:
                await asyncio.sleep(0.01)
        if keys:
            await processes.place(number, keys)
    stop.set()
    await asyncio.gather(*working)
    assert {code for phone in phones for code in phone.answers[1:]} == {200}
    assert all(phone.refreshed for phone in phones)

    del processes.clients[1:]  # the one that signs with the new key goes on alone
    await asyncio.gather(*(phone.refresh(processes, is_lost=False) for phone in phones))
    await processes.place(0, NEW)
    for phone in phones:
        told = []
        for token in (phone.first, phone.access):
            answer = await processes.any().get("/v1/me", headers={"Authorization": f"Bearer {token}"})
            told.append((answer.status_code, answer.json().get("code")))
        assert told == [(401, "unauthenticated"), (200, None)]
        await phone.refresh(processes, is_lost=True)


async def test_nobody_is_refused_while_keys_rotate(env: dict[str, str], db: Database) -> None:
    """The middle of it: one process only verifies with the new key when the next one signs with it."""
    _, both, new_first = STAGES
    async with fleet(env, OLD, both) as processes:
        await rotate(processes, [(0, new_first)], 40)


@pytest.mark.soak
async def test_nobody_is_refused_in_a_whole_rotation(env: dict[str, str], db: Database) -> None:
    async with fleet(env, OLD, OLD) as processes:
        await rotate(processes, [(number, keys) for keys in STAGES[1:] for number in range(2)], 200)


async def test_a_phone_that_was_idle_comes_back_while_the_old_key_is_kept(env: dict[str, str], db: Database) -> None:
    """Its access token has ended long ago; its refresh token has not, nor the one before a lost exchange."""
    clock = MovedClock()
    async with fleet(env, OLD, clock=clock) as processes:
        grant = await register(processes.any())
        clock.added += timedelta(days=89)
        for keys in STAGES[1:]:
            await processes.place(0, keys)
        headers = {"Authorization": f"Bearer {grant['accessToken']}"}
        ended = await processes.any().get("/v1/me", headers=headers)
        assert (ended.status_code, ended.json()["code"]) == (401, "token-expired")
        phone = Phone(grant, 0)
        await phone.refresh(processes, is_lost=True)
        assert phone.answers[1:] == [200]
        await processes.place(0, NEW)  # what it has now is of the new key
        await phone.refresh(processes, is_lost=True)
        assert phone.answers[1:] == [200, 200]


async def test_a_lost_answer_never_comes_again_as_another_one(env: dict[str, str], db: Database) -> None:
    """A process that has not the key of the successor, since steps were left out, refuses rather than make another."""
    async with fleet(env, f"{NEW},{OLD}") as processes:
        grant = await register(processes.any())
        lost = {"refreshToken": grant["refreshToken"]}
        other = "t3:" + base64.b64encode(bytes(range(64, 96))).decode()
        await processes.place(0, f"{other},{NEW}")
        successor = (await processes.any().post("/v1/tokens", json=lost)).json()["refreshToken"]
        await processes.place(0, f"{NEW},{OLD}")
        told = await processes.any().post("/v1/tokens", json=lost)
        assert (told.status_code, told.json()["code"]) == (401, "refresh-refused")
        await processes.place(0, f"{NEW},{other}")
        assert (await processes.any().post("/v1/tokens", json=lost)).json()["refreshToken"] == successor


async def test_a_refresh_token_of_a_retired_key_is_refused(env: dict[str, str], db: Database) -> None:
    async with fleet(env, OLD) as processes:
        grant = await register(processes.any())
        await processes.place(0, NEW)
        told = await processes.any().post("/v1/tokens", json={"refreshToken": grant["refreshToken"]})
        assert (told.status_code, told.json()["code"]) == (401, "refresh-refused")

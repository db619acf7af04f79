"""Health: alive whatever else is down; ready only while every part answers and the process is not ending."""

import asyncio
import socket
from typing import Any

from app.kernel.db import Database
from app.main import create_app
from app.web.health import LOOK_S, REMEMBERED_S, Readiness
from base.errors import ServiceUnavailable
from tests.app.conftest import api_settings, running


async def test_a_draining_process_is_alive_but_not_ready(env: dict[str, str], db: Database) -> None:
    app = create_app(api_settings(env))
    async with running(app) as client:
        before = (await client.get("/readyz")).json()
        app.drain()
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
    assert before == {"ready": True, "database": True, "store": True, "draining": False}
    assert (ready.status_code, ready.json()["draining"], ready.json()["ready"]) == (503, True, False)
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


async def test_a_lost_store_and_a_lost_database_are_told_apart(env: dict[str, str], db: Database) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        app = create_app(api_settings(env, TIRAGE_S3_ENDPOINT=f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        async with running(app) as client:
            no_store = await client.get("/readyz")
            await app.services.db.pool.close()
            await asyncio.sleep(REMEMBERED_S)
            neither, alive = await client.get("/readyz"), await client.get("/healthz")
    assert (no_store.status_code, no_store.json()["database"], no_store.json()["store"]) == (503, True, False)
    assert (neither.status_code, neither.json()["database"], neither.json()["store"]) == (503, False, False)
    assert alive.status_code == 200


class Store:
    """An object store that counts who asks, and answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def ping(self, _: str) -> None:
        self.asked += 1
        await self.may_answer.wait()
        raise ServiceUnavailable()


async def test_many_who_ask_are_one_look(db: Database) -> None:
    store: Any = Store()
    readiness = Readiness(db, store, "originals")
    store.may_answer.set()
    found = await asyncio.gather(*(readiness.look() for _ in range(50)))
    assert {(one.ready, one.database, one.store) for one in found} == {(False, True, False)}
    assert store.asked == 1
    await asyncio.sleep(REMEMBERED_S)
    await readiness.look()
    assert store.asked == 2


async def test_a_part_that_does_not_answer_is_waited_for_once(db: Database) -> None:
    store: Any = Store()
    readiness = Readiness(db, store, "originals")
    async with asyncio.timeout(20 * LOOK_S):
        assert (await readiness.look()).store is False
        await asyncio.sleep(REMEMBERED_S)
        assert (await readiness.look()).store is False
    assert store.asked == 1
    store.may_answer.set()

"""Two actors of one session, by turns: at each call to storage or the database a seeded choice says who goes on.

What is acknowledged is the photo, whoever met. `make test` takes some pairs, `make soak` all, from `TIRAGE_SEED` on.
"""

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.services import Services
from app.settings import load
from app.uploads import store
from app.uploads.domain import UploadState
from app.uploads.receive import Receiver
from app.uploads.traffic import Traffic
from base import ids
from base.errors import DomainError
from tests.app.uploads.conftest import Bench, Make, Phone

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("scorecard")]
ACTOR: ContextVar[str] = ContextVar("actor")
SEED = int(os.environ.get("TIRAGE_SEED", "1"))


class Turns:
    """Lets one actor at a time go on, to its next call to storage or the database."""

    def __init__(self, seed: int) -> None:
        self._random, self._waiting = random.Random(seed), list[tuple[str, asyncio.Future[None]]]()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Wait for a turn; whoever is no actor goes on."""
        if (actor := ACTOR.get("")) == "":
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((actor, turn))
        self._changed.set()
        await turn

    async def run(self, actors: dict[str, Coroutine[Any, Any, None]]) -> None:
        """Run all to their ends."""
        tasks = {name: asyncio.create_task(self._named(name, actor)) for name, actor in actors.items()}
        while running := {name for name, task in tasks.items() if not task.done()}:
            if not running <= {name for name, _ in self._waiting}:
                self._changed.clear()
                await self._changed.wait()
                continue
            _, turn = self._waiting.pop(self._random.randrange(len(self._waiting)))
            turn.set_result(None)
            await asyncio.sleep(0)
        for task in tasks.values():
            task.result()

    async def _named(self, name: str, actor: Coroutine[Any, Any, None]) -> None:
        ACTOR.set(name)
        try:
            await actor
        finally:
            self._changed.set()


class World:
    """The parts of one process, whose calls take turns, and one phone."""

    def __init__(self, bench: Bench, services: Services, phone: Phone) -> None:
        self.bench, self.services, self.phone = bench, services, phone
        self.turns = Turns(0)
        self.receiver = Receiver(services.db, services.uploads, Traffic())

    async def session(self, data: bytes) -> "Session":
        """One whose first block is there, whose note is old, and whose addresses were asked for.

        Of more than one part all but the last are there as parts, the block is of the last.
        """
        made = await self.phone.create(data, sha256=None)
        *sent, part = (await self.phone.parts(made["id"]))["parts"]
        session = Session(self, made["id"], data, part)
        for before in sent:
            assert await self.phone.put(before, data) == 200
        await session.append()
        async with self.services.db.transaction() as tx:
            await tx.execute(
                "UPDATE uploads SET completing_at = now() - interval '2 minutes' WHERE id = $1", session.upload_id
            )
        return session


class Session:
    """What actors do to one session. Of what is refused they try no more; what is acknowledged is noted."""

    def __init__(self, world: World, name: str, data: bytes, part: dict[str, Any]) -> None:
        self.world, self.name, self.data, self.part = world, name, data, part
        self.upload_id: Any = ids.decode("upload", name)
        self.owner_id: Any = ids.decode("owner", world.phone.owner)
        self.middle: int = part["firstByte"] + 256 * 1024
        self.has_first = False

    async def append(self) -> None:
        """The first block; then all the rest."""
        offset, end = (self.middle, len(self.data)) if self.has_first else (self.part["firstByte"], self.middle)
        self.has_first = True

        async def body() -> Any:
            yield self.data[offset:end]

        _, at = await self.world.receiver.append(self.owner_id, self.upload_id, offset, body(), None)
        self._acknowledge(at)

    async def complete(self) -> None:
        await self.world.services.uploads.finish(self.owner_id, self.upload_id)
        self._acknowledge(len(self.data))

    async def send_part(self) -> None:
        """What is missing as a part, then complete."""
        await self.world.turns.wait()
        assert await self.world.phone.put(self.part, self.data) in (200, 404)
        await self.complete()

    async def send_content(self) -> None:
        async def body() -> Any:
            yield self.data

        await self.world.receiver.content(self.upload_id, len(self.data), body())
        self._acknowledge(len(self.data))

    async def late_part(self) -> None:
        """Other bytes to the address, as soon as the session was seen to be complete."""
        for _ in range(100):
            if await self.state() is not UploadState.OPEN:
                break
        await self.world.phone.put(self.part, os.urandom(len(self.data)))

    async def reconcile(self) -> None:
        await self.world.services.sweeper.reconcile()

    async def abort(self) -> None:
        await self.world.services.uploads.abort(self.owner_id, self.upload_id)

    async def assemble(self) -> None:
        async with self.world.services.db.transaction() as tx:
            rows = await jobs.list_jobs(tx, jobs.JobState.QUEUED, "upload.assemble", 10)
        for row in rows:
            made = Attempt(row)
            await HANDLERS[row.kind](self.world.services, made)
            async with self.world.services.db.transaction() as tx:
                await made.finish(tx)

    async def state(self) -> UploadState:
        async with self.world.services.db.reading() as db:
            found = await store.get_any(db, self.upload_id)
        assert found is not None
        return found.state

    async def end(self) -> None:
        """The phone asks where it is, and sends what is missing."""
        if await self.state() is UploadState.OPEN:
            _, at = await self.world.receiver.offset(self.owner_id, self.upload_id)
            assert at >= self.world.phone.acknowledged[self.name], "acknowledged bytes are there"
            if at < len(self.data):
                assert at == self.middle
                await self.append()

    def _acknowledge(self, count: int) -> None:
        known = self.world.phone.acknowledged.get(self.name, 0)
        self.world.phone.acknowledged[self.name] = max(known, count)


@pytest.fixture
async def world(bench: Bench, env: dict[str, str]) -> AsyncIterator[World]:
    services = Services(load(env, "RECORD"))
    await services.start()
    world = World(bench, services, await bench.phone())
    _take_turns(services, world)
    yield world
    await world.receiver.close()
    await services.stop()


def _take_turns(services: Services, world: World) -> None:
    """Before each call to storage and each use of the database, outside any transaction."""
    run, transaction, reading = services.store._run, services.db.transaction, services.db.reading

    async def waited_run(*args: Any, **how: Any) -> Any:
        await world.turns.wait()
        return await run(*args, **how)

    def waited(opened: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.asynccontextmanager
        async def begin(*args: Any, **how: Any) -> AsyncIterator[Any]:
            await world.turns.wait()
            async with opened(*args, **how) as db:
                yield db

        return begin

    parts: Any = services
    parts.store._run, parts.db.transaction, parts.db.reading = waited_run, waited(transaction), waited(reading)


async def quiet(actor: Awaitable[None]) -> None:
    """Refusals are answers."""
    with contextlib.suppress(DomainError):
        await actor


ACTORS = (
    Session.append,
    Session.complete,
    Session.send_part,
    Session.send_content,
    Session.late_part,
    Session.reconcile,
    Session.assemble,
    Session.abort,
)
ENDS = (Session.append, Session.send_part, Session.send_content)
PAIRS = [pair for pair in itertools.combinations_with_replacement(ACTORS, 2) if set(pair) & set(ENDS)]
QUICK = (
    (Session.append, Session.reconcile),
    (Session.append, Session.late_part),
    (Session.append, Session.send_content),
    (Session.send_part, Session.send_content),
)


def named(pair: tuple[Any, Any]) -> str:
    return " and ".join(one.__name__ for one in pair)


ONE_PART, PARTS = 400_000, 8 * 1024 * 1024 + 400_000
CASES = [
    *(pytest.param(pair, ONE_PART, 2, id=named(pair)) for pair in QUICK),
    pytest.param((Session.append, Session.send_part), PARTS, 2, id="append and send_part of more parts"),
    *(pytest.param(pair, ONE_PART, 20, id=f"{named(pair)}, many", marks=pytest.mark.soak) for pair in PAIRS),
    *(pytest.param(pair, PARTS, 10, id=f"{named(pair)} of more parts, many", marks=pytest.mark.soak) for pair in PAIRS),
]


@pytest.mark.parametrize(("pair", "size", "seeds"), CASES)
async def test_any_two(world: World, photo: Make, pair: tuple[Any, Any], size: int, seeds: int) -> None:
    for seed in range(SEED, SEED + seeds):
        session = await world.session(photo(size))
        world.turns = Turns(seed)
        await world.turns.run({f"{n} {one.__name__}": quiet(one(session)) for n, one in enumerate(pair)})
        await session.end()
        await world.bench.work()
    await world.bench.check()

"""Events: a closed set of fields, and readers that miss nothing whatever order transactions begin and commit in."""

import asyncio
from datetime import datetime
from itertools import permutations
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.kernel import events
from app.kernel.db import Database
from app.kernel.events import EVENT_TYPES, START, Code, Cursor, Event, Origin, event
from base.ids import AssetId
from base.money import Money


@event
class Happened(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "test.happened"
    number: int


def tell(number: int) -> Happened:
    return Happened(number=number)


class TestFields:
    def test_ids_codes_amounts_and_times_are_allowed(self) -> None:
        @event
        class Fine(Event, frozen=True, kw_only=True):
            type: ClassVar[str] = "test.fine"
            asset: AssetId
            maybe: UUID | None
            code: Code
            price: Money
            at: datetime
            several: tuple[AssetId, ...]

        assert EVENT_TYPES.pop("test.fine") is Fine

    @pytest.mark.parametrize("kind", [str, bytes, float, dict[str, int], list[str], Any, str | None, tuple[str, ...]])
    def test_anything_that_could_be_personal_is_refused(self, kind: Any) -> None:
        namespace = {"type": "test.leak", "__annotations__": {"type": ClassVar[str], "leak": kind}}
        leaky = type(Event)("Leak", (Event,), namespace, frozen=True, kw_only=True)
        with pytest.raises(TypeError, match="ids, codes"):
            event(leaky)

    def test_a_type_is_defined_once(self) -> None:
        with pytest.raises(TypeError, match="twice"):
            event(Happened)


class TestAppend:
    async def test_numbers_count_an_aggregates_events(self, db: Database) -> None:
        one, other = uuid4(), uuid4()
        async with db.transaction() as tx:
            numbered = [
                (await events.append(tx, tell(n), aggregate_id=a, owner_id=None, origin=Origin(actor="system"))).seq
                for n, a in enumerate((one, other, one, one))
            ]
        assert numbered == [1, 1, 2, 3]

    async def test_this_month_and_the_next_have_partitions(self, db: Database) -> None:
        async with db.transaction() as tx:
            await events.ensure_partitions(tx)
            await events.append(tx, tell(1), aggregate_id=uuid4(), owner_id=None, origin=Origin(actor="system"))
            where = await tx.value("SELECT tableoid::regclass::text FROM events")
            made = await tx.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
        assert where.startswith("events_2")
        assert made >= 4


async def follow(db: Database, after: Cursor, seen: list[int]) -> Cursor:
    """Read as a client does: from the last cursor on."""
    async with db.transaction(readonly=True) as tx:
        for told in await events.read_all(tx, after, 100):
            seen.append(int(told.data.split(b":")[1].rstrip(b"}")))
            after = Cursor(told.tx_id, told.position)
    return after


WRITE = events.APPEND

STEPS = ("begin a", "begin b", "write a", "write b", "commit a", "commit b")


def interleavings() -> list[tuple[str, ...]]:
    """Every order of two transactions' begin, write and commit that keeps each one's own order."""
    own = [(f"begin {t}", f"write {t}", f"commit {t}") for t in "ab"]
    return [p for p in permutations(STEPS) if all(tuple(s for s in p if s in order) == order for order in own)]


class TestReaders:
    @pytest.mark.parametrize("order", interleavings(), ids=lambda o: "-".join(s[0] + s[-1] for s in o))
    async def test_none_is_missed_in_any_interleaving(self, db: Database, order: tuple[str, ...]) -> None:
        """A reader that looks after every single step sees both events, each once."""
        connections = {name: await db.connect() for name in "ab"}
        seen: list[int] = []
        after = START
        for step in order:
            what, name = step.split()
            connection = connections[name]
            if what == "begin":
                await connection.execute("BEGIN")
                await connection.fetchval("SELECT pg_current_xact_id()")
            elif what == "write":
                data = f'{{"number":{ord(name)}}}'
                fields = (uuid4(), uuid4(), "test.happened", 1, None, None, "system", None, None, data)
                await connection.fetchrow(WRITE, *fields)
            else:
                await connection.execute("COMMIT")
            after = await follow(db, after, seen)
        for connection in connections.values():
            await connection.close()
        async with asyncio.timeout(20):  # a transaction anywhere in the cluster holds readers back, never past them
            while len(seen) < 2:
                after = await follow(db, after, seen)
        assert sorted(seen) == [ord("a"), ord("b")]

    async def test_reading_by_position_alone_would_miss_one(self, db: Database) -> None:
        """Why the cursor is a pair: the same story, told by position only, loses the late commit."""
        early, late = await db.connect(), await db.connect()
        fields = ("test.happened", 1, None, None, "system", None, None, "{}")
        for connection in (early, late):
            await connection.execute("BEGIN")
            await connection.fetchrow(WRITE, uuid4(), uuid4(), *fields)
        await late.execute("COMMIT")
        watcher: asyncpg.Connection = await db.connect()
        last = await watcher.fetchval("SELECT max(position) FROM events")
        await early.execute("COMMIT")
        assert await watcher.fetchval("SELECT count(*) FROM events WHERE position > $1", last) == 0
        assert await watcher.fetchval("SELECT count(*) FROM events") == 2
        for connection in (early, late, watcher):
            await connection.close()


async def test_who_waited_for_a_thing_is_read_behind_whom_it_waited_for(db: Database) -> None:
    """The first transaction is numbered first and has its turn last, as one that waits for a row has."""
    thing = uuid4()
    early, late = await db.connect(), await db.connect()
    fields = ("test.happened", 1, None, None, "system", None, None, "{}")
    for connection in (early, late):
        await connection.execute("BEGIN")
        await connection.fetchval("SELECT pg_current_xact_id()")
    for connection in (late, early):
        await connection.fetchrow(WRITE, uuid4(), thing, *fields)
        await connection.execute("COMMIT")
    for connection in (early, late):
        await connection.close()
    seen: list[int] = []
    async with asyncio.timeout(20):  # a transaction anywhere in the cluster holds readers back
        while len(seen) < 2:
            async with db.transaction(readonly=True) as tx:
                seen = [told.seq for told in await events.read_all(tx, START, 10)]
    assert seen == [1, 2]

"""Gathered reads: one statement answers those who wait, each with their own row or their own error."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.kernel.db import Database
from app.kernel.gathered import Gathered, Gathering
from base.errors import ServiceUnavailable
from tests.conftest import database_settings

SQUARES = """
SELECT nth, side, side * side AS area, count(*) OVER () AS found
FROM unnest($1::int[]) WITH ORDINALITY AS wanted (side, nth) WHERE side >= 0
"""
GATE = 4711
GATED = """
SELECT nth, (SELECT count(*) FROM owners) AS marks, side * side AS area, pg_advisory_xact_lock(4711)::text
FROM unnest($1::int[]) WITH ORDINALITY AS wanted (side, nth)
"""
HELD_UP = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
FAULTY = "SELECT nth, 1 / side AS area FROM unnest($1::int[]) WITH ORDINALITY AS wanted (side, nth)"


def area(rows: list[Any]) -> tuple[int, int] | None:
    """The area of the key's row, and of how many rows its statement told."""
    return (rows[0]["area"], rows[0]["found"]) if rows else None


@contextlib.asynccontextmanager
async def gate(db: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """While it is held, a statement of `GATED` stands still after it took its snapshot; what is given awaits that."""

    async def held_up() -> None:
        async with db.reading() as other:
            while await other.value(HELD_UP) == 0:
                await asyncio.sleep(0.01)

    async with db.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1)", GATE)
        yield held_up


async def test_each_gets_its_own_row(db: Database) -> None:
    squares = Gathered(db, SQUARES, area, most=10)
    assert await squares.read(3) == (9, 1)
    found = await asyncio.gather(*(squares.read(side) for side in range(25)))
    assert [square[0] for square in found if square] == [side * side for side in range(25)]
    assert max(square[1] for square in found if square) == 10
    assert await asyncio.gather(squares.read(-1), squares.read(5)) == [None, (25, 1)]


async def test_the_same_key_is_read_once_for_all(db: Database) -> None:
    squares = Gathered(db, SQUARES, area)
    found = await asyncio.gather(*(squares.read(4) for _ in range(20)))
    assert found == [(16, 1)] * 20
    assert len({id(one) for one in found}) == 1


async def test_who_was_answered_joins_those_who_wait() -> None:
    told: list[list[int]] = []

    async def answer(questions: list[int]) -> list[int]:
        told.append(questions)
        await asyncio.sleep(0.01)
        return questions

    numbers = Gathering(answer)

    async def twice() -> None:
        await numbers.ask(1, 1)
        await numbers.ask(2, 2)

    async def between() -> None:
        while not told:
            await asyncio.sleep(0)
        await numbers.ask(3, 3)

    await asyncio.gather(twice(), between())
    assert told == [[1], [3, 2]]


async def test_what_is_asked_during_a_read_is_answered_by_a_later_one(db: Database) -> None:
    """Else a read could miss what its caller wrote before."""
    marks = Gathered(db, GATED, lambda rows: rows[0]["marks"])
    async with gate(db) as held_up:
        first = asyncio.create_task(marks.read(1))
        await held_up()
        await mark(db)
        again = asyncio.create_task(marks.read(1))
        await asyncio.sleep(0)
    assert [await first, await again] == [0, 1]


async def mark(db: Database) -> None:
    async with db.reading() as other:
        await other.fetch("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", UUID(int=1))


async def test_one_who_leaves_harms_nobody(db: Database) -> None:
    squares = Gathered(db, GATED, lambda rows: rows[0]["area"])
    async with gate(db) as held_up:
        waiting = [asyncio.create_task(squares.read(side)) for side in (1, 2, 2, 3)]
        await held_up()
        late = [asyncio.create_task(squares.read(side)) for side in (6, 7)]
        await asyncio.sleep(0)
        for leaving in (waiting[0], waiting[1], late[0]):
            leaving.cancel()
    told = await asyncio.gather(*waiting, *late, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in told] == [True, True, False, False, True, False]
    assert [told[2], told[3], told[5]] == [4, 9, 49]


async def test_an_error_is_told_to_those_it_was_for_and_to_nobody_else(db: Database) -> None:
    inverse = Gathered(db, FAULTY, lambda rows: rows[0]["area"])
    told = await asyncio.gather(*(inverse.read(side) for side in (1, 0, 0, 1)), return_exceptions=True)
    assert [told[0], told[3]] == [1, 1]
    assert [type(one) for one in told[1:3]] == [asyncpg.DivisionByZeroError] * 2
    assert await inverse.read(1) == 1


async def test_a_lost_database(database_url: str) -> None:
    lost = Database(database_settings(database_url))
    await lost.start()
    squares = Gathered(lost, SQUARES, area)
    assert await squares.read(2) == (4, 1)
    await lost.stop()
    for _ in range(2):
        with pytest.raises((ServiceUnavailable, RuntimeError)):
            await squares.read(2)

"""Reads by key, gathered: what is asked while a read is under way goes together in the next.

A round trip costs a process more than the rows it brings. So one statement over arrays answers everybody who waits, and
the same key but once; who asks alone waits for nobody.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final, Generic, TypeVar

from app.kernel.db import Database

MOST: Final = 100
NTH: Final = "nth"

T = TypeVar("T")
Key = tuple[object, ...]
Waiting = list[asyncio.Future[Any]]


class Gathered(Generic[T]):
    """One statement for what belongs to a key, asked from many requests at once.

    `sql` takes one array for each part of the key and gives rows with `nth`, the place of their key in the arrays
    (`unnest(…) WITH ORDINALITY`), in the order that `of` needs; `of` makes a value of a key's rows, which all who asked
    for that key share. Every answer is from a snapshot taken after its question, as of a statement by itself. A
    statement that fails is an error to those it was for; one who stops waiting changes nothing for the others.
    """

    def __init__(self, database: Database, sql: str, of: Callable[[list[Any]], T], most: int = MOST) -> None:
        self._database, self._sql, self._of, self._most = database, sql, of, most
        self._waiting: dict[Key, Waiting] = {}
        self._reader: asyncio.Task[None] | None = None

    async def read(self, *key: object) -> T:
        """What belongs to a key. A lost database is `ServiceUnavailable`."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[T] = loop.create_future()
        self._waiting.setdefault(key, []).append(asked)
        if self._reader is None:
            # In an empty context: the reads of many must not run in the trace or the transaction of the first.
            self._reader = loop.create_task(self._read(), context=Context())
        return await asked

    async def _read(self) -> None:
        try:
            while self._waiting:
                wanted = list(self._waiting)[: self._most]
                await self._answer(wanted, [self._waiting.pop(key) for key in wanted])
        finally:
            self._reader = None

    async def _answer(self, keys: Sequence[Key], asked: Sequence[Waiting]) -> None:
        try:
            values = await self._values(keys)
        except Exception as error:  # noqa: BLE001 told to everybody who asked
            for one in (one for waiting in asked for one in waiting if not one.done()):
                one.set_exception(error)
            return
        for waiting, value in zip(asked, values, strict=True):
            for one in (one for one in waiting if not one.done()):
                one.set_result(value)

    async def _values(self, keys: Sequence[Key]) -> list[T]:
        found: list[list[Any]] = [[] for _ in keys]
        async with self._database.reading() as db:
            for row in await db.fetch(self._sql, *map(list, zip(*keys, strict=True))):
                found[row[NTH] - 1].append(row)
        return [self._of(rows) for rows in found]

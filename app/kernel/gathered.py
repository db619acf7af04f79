"""What many ask at once, gathered: what comes while an answer is under way goes together in the next.

A round trip or a commit costs a process more than the rows in it. So a burst costs as many statements as fit into its
time; who asks alone waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Any, Final, Generic, TypeVar

from app.kernel.db import Database
from base.errors import ServiceUnavailable

MOST: Final = 100
NTH: Final = "nth"

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")
Key = tuple[object, ...]
Waiting = list[asyncio.Future[Any]]


class Gathering(Generic[Q, R]):
    """Many questions, answered together by `answer`: it takes at most `most`, each once, and gives as many answers.

    Everybody who asked by one name shares its answer, which begins after the question. Questions that fail together are
    asked one by one, so that each has its own error; only a lost service (`ServiceUnavailable`) is told to all at once.
    One who stops waiting changes nothing for the others.
    """

    def __init__(self, answer: Callable[[list[Q]], Awaitable[Sequence[R]]], most: int = MOST) -> None:
        self._answer, self._most = answer, most
        self._waiting: dict[Hashable, tuple[Q, Waiting]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ask(self, name: Hashable, question: Q) -> R:
        """The answer; raises what `answer` raises. Questions of one name are the same."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[R] = loop.create_future()
        self._waiting.setdefault(name, (question, []))[1].append(asked)
        if self._task is None:
            # In an empty context: what is for many must not run in the trace or the transaction of the first.
            self._task = loop.create_task(self._work(), context=Context())
        return await asked

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = list(self._waiting.values()), {}
                for first in range(0, len(batch), self._most):
                    await self._settle(batch[first : first + self._most])
                await asyncio.sleep(0)  # who was answered goes on first, and what has come meanwhile joins the next
        finally:
            self._task = None

    async def _settle(self, batch: Sequence[tuple[Q, Waiting]]) -> None:
        try:
            answers = await self._answer([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 told to whoever it is for
            if len(batch) > 1 and not isinstance(error, ServiceUnavailable):
                for one in batch:
                    await self._settle([one])
                return
            for asked in (asked for _, waiting in batch for asked in waiting if not asked.done()):
                asked.set_exception(error)
            return
        for (_, waiting), answer in zip(batch, answers, strict=True):
            for asked in (asked for asked in waiting if not asked.done()):
                asked.set_result(answer)


class Gathered(Generic[T]):
    """One statement for what belongs to a key, asked from many requests at once.

    `sql` takes one array for each part of the key and gives rows with `nth`, the place of their key in the arrays
    (`unnest(…) WITH ORDINALITY`), in the order that `of` needs; `of` makes a value of a key's rows, which all who asked
    for that key share. Every answer is from a snapshot taken after its question, as of a statement by itself.
    """

    def __init__(self, database: Database, sql: str, of: Callable[[list[Any]], T], most: int = MOST) -> None:
        self._database, self._sql, self._of = database, sql, of
        self._reads: Gathering[Key, T] = Gathering(self._values, most)

    async def read(self, *key: object) -> T:
        """What belongs to a key. A lost database is `ServiceUnavailable`."""
        return await self._reads.ask(key, key)

    async def _values(self, keys: Sequence[Key]) -> list[T]:
        found: list[list[Any]] = [[] for _ in keys]
        async with self._database.reading() as db:
            for row in await db.fetch(self._sql, *map(list, zip(*keys, strict=True))):
                found[row[NTH] - 1].append(row)
        return [self._of(rows) for rows in found]

"""Who waits for a lock in Postgres, asked from inside the transaction that holds it."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from app.kernel.db import Readable

T = TypeVar("T")
WAITING: str = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until_waiting(db: Readable, count: int = 1) -> None:
    """Return when so many wait."""
    while await db.value(WAITING) < count:
        await asyncio.sleep(0.01)


def beside(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """The call as a task that knows nothing of the transaction it is begun in."""
    return asyncio.create_task(call, context=Context())


async def without_waiting(db: Readable, call: Coroutine[Any, Any, T]) -> T:
    """What a call gives while the caller holds locks; it may not wait for them."""
    running = beside(call)
    while not running.done():
        assert await db.value(WAITING) == 0, "it waits for a lock"
        await asyncio.sleep(0.005)
    return await running

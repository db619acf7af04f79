"""One flight a key in this process: who wants what is under way already waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Many who want one key wait for one who brings it; a flight goes on when the one who began it leaves."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def run(self, key: str, bring: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What `bring` gives, and whether this caller only waited for another's."""
        task, collapsed = self._flights.get(key), True
        if task is None:
            collapsed = False
            task = self._flights[key] = asyncio.ensure_future(bring())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task), collapsed

    async def land(self, prefix: str) -> None:
        """Wait until the flights under way whose keys begin so have ended, however they end."""
        flying = [task for key, task in self._flights.items() if key.startswith(prefix)]
        if flying:
            await asyncio.wait(flying)

    def _landed(self, key: str, task: asyncio.Task[T]) -> None:
        self._flights.pop(key, None)
        if not task.cancelled():
            task.exception()  # every waiter has it; nobody waiting is no crash

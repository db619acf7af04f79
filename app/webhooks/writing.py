"""Storing deliveries, gathered: what comes while a transaction is under way goes together in the next.

A source that was silent for a while sends everything at once, and a commit costs more than the rows in it. So a burst
costs as many transactions as fit into its time; a delivery that comes alone waits for nobody. Each is answered after
the commit that holds it.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Final
from uuid import UUID

import msgspec

from app.kernel.db import Database
from app.kernel.spine import Spine
from app.webhooks import store
from app.webhooks.domain import Delivery
from base.errors import ServiceUnavailable

MOST: Final = 100


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Look at a stored webhook."""

    webhook_id: UUID


class Writer:
    """One process's deliveries on their way into the database."""

    def __init__(self, db: Database, spine: Spine) -> None:
        self._db, self._spine = db, spine
        self._waiting: list[tuple[Delivery, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def keep(self, delivery: Delivery) -> bool:
        """Store it and plan that it is looked at; whether it is new. Raises `ServiceUnavailable`."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((delivery, asked))
        if self._task is None:
            # In an empty context: the deliveries of many must not run in the trace or the transaction of the first.
            self._task = loop.create_task(self._write(), context=Context())
        return await asked

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._settle(batch)
        finally:
            self._task = None

    async def _settle(self, batch: Sequence[tuple[Delivery, asyncio.Future[bool]]]) -> None:
        """Answer everybody; a delivery that cannot be stored fails by itself."""
        try:
            made = await self._stored([delivery for delivery, _ in batch])
        except Exception as error:  # noqa: BLE001 told to whoever it is for
            if len(batch) > 1 and not isinstance(error, ServiceUnavailable):
                for one in batch:
                    await self._settle([one])
                return
            for _, asked in batch:
                if not asked.done():
                    asked.set_exception(error)
            return
        for delivery, asked in batch:
            if not asked.done():
                asked.set_result(delivery.id in made)

    async def _stored(self, deliveries: Sequence[Delivery]) -> set[UUID]:
        """Two statements and a commit, however many."""
        async with self._db.transaction() as tx:
            made = await store.insert(tx, deliveries)
            wanted = [(Process(webhook_id=one.id), one.traceparent) for one in deliveries if one.id in made]
            if wanted:
                await self._spine.plan_many(tx, "webhook.process", wanted)
            return made

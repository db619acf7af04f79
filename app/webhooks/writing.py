"""Storing deliveries, gathered: a source that was silent for a while sends everything at once.

Each delivery is answered after the commit that holds it.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from app.kernel.db import Database
from app.kernel.gathered import Gathering
from app.kernel.spine import Spine
from app.webhooks import store
from app.webhooks.domain import Delivery


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Look at a stored webhook."""

    webhook_id: UUID


class Writer:
    """One process's deliveries on their way into the database."""

    def __init__(self, db: Database, spine: Spine) -> None:
        self._db, self._spine = db, spine
        self._writes: Gathering[Delivery, bool] = Gathering(self._stored)

    async def keep(self, delivery: Delivery) -> bool:
        """Store it and plan that it is looked at; whether it is new. Raises `ServiceUnavailable`."""
        return await self._writes.ask(delivery.id, delivery)

    async def _stored(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Two statements and a commit, however many."""
        async with self._db.transaction() as tx:
            made = await store.insert(tx, deliveries)
            wanted = [(Process(webhook_id=one.id), one.traceparent) for one in deliveries if one.id in made]
            if wanted:
                await self._spine.plan_many(tx, "webhook.process", wanted)
        return [one.id in made for one in deliveries]

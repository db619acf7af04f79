"""Forgetting where parcels went, and printers' own words; what was made, when and for how much stays."""

from datetime import datetime
from uuid import UUID

from app.fulfilment import facts as merged
from app.fulfilment import store
from app.kernel.db import Transaction
from base.ids import FulfilmentId


async def erase_all(tx: Transaction, owner_id: UUID) -> None:
    """Forget it of everything that was made for an owner."""
    for found in await store.of_owner(tx, owner_id):
        await _forget(tx, found)


async def forget_old(tx: Transaction, ended_before: datetime, limit: int = 200) -> int:
    """Forget it of what ended before; of how many."""
    found = await store.with_old_trackings(tx, ended_before, limit)
    for fulfilment_id in found:
        await _forget(tx, fulfilment_id)
    return len(found)


async def _forget(tx: Transaction, found: FulfilmentId) -> None:
    await store.forget_trackings(tx, found)
    await store.set_facts(tx, found, merged.untracked(await store.facts(tx, found)))
    for digest, seen in await store.seen(tx, found):
        await store.replace_fact(tx, found, digest, merged.without_trackings(seen))

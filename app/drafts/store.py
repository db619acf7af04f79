"""All SQL of drafts."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from app.drafts.domain import MACHINE, Draft, DraftState, Item
from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from base.ids import AssetId, DraftId, ItemId, OwnerId

_ROWS: Final = """
SELECT d.id, d.owner_id, d.state, d.version, d.created_at, d.updated_at, i.id AS item_id, i.asset_id, i.sku, i.copies,
       i.paper, i.orientation, i.fit, i.crop, i.focal, i.border_um, i.gift_note
FROM drafts d LEFT JOIN draft_items i ON i.draft_id = d.id
"""
GET: Final = f"{_ROWS} WHERE d.id = $1 ORDER BY i.number"
LOCK: Final = "SELECT id FROM drafts WHERE id = $1 FOR UPDATE"
LOCK_OWN: Final = "SELECT id FROM drafts WHERE id = $1 AND owner_id = $2 FOR UPDATE"
LOCK_SEEN: Final = f"{_ROWS} WHERE d.id = $1 AND d.owner_id = $2 ORDER BY i.number FOR UPDATE OF d"
INSERT: Final = "INSERT INTO drafts (id, owner_id, state) VALUES ($1, $2, 'editing')"
INSERT_ITEMS: Final = """
INSERT INTO draft_items (id, draft_id, number, asset_id, sku, copies, paper, orientation, fit, crop, focal, border_um,
                         gift_note)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
CLEAR: Final = "DELETE FROM draft_items WHERE draft_id = $1"
FORGET_NOTES: Final = """
UPDATE draft_items i SET gift_note = NULL FROM drafts d
WHERE d.id = i.draft_id AND d.owner_id = $1 AND gift_note IS NOT NULL
"""
BUMP: Final = "UPDATE drafts SET version = version + 1, updated_at = now() WHERE id = $1 RETURNING version"
WITH_ASSET: Final = """
SELECT d.id FROM drafts d
WHERE d.state IN ('editing', 'ready_for_checkout')
  AND EXISTS (SELECT FROM draft_items i WHERE i.draft_id = d.id AND i.asset_id = $1)
ORDER BY d.id
"""
RESOLVE: Final = "UPDATE draft_items SET asset_id = $3 WHERE draft_id = $1 AND asset_id = $2"
OPEN_OF_OWNER: Final = """
SELECT id FROM drafts WHERE owner_id = $1 AND state IN ('editing', 'ready_for_checkout') ORDER BY id
"""


async def insert(tx: Transaction, draft_id: UUID, owner_id: UUID, items: Sequence[Item]) -> None:
    """Write a new draft with its items."""
    await tx.execute(INSERT, draft_id, owner_id)
    await _insert_items(tx, draft_id, items)


async def replace_items(tx: Transaction, draft_id: UUID, items: Sequence[Item]) -> int:
    """Put these items in place of the draft's; its new version."""
    await tx.execute(CLEAR, draft_id)
    await _insert_items(tx, draft_id, items)
    return await _bump(tx, draft_id)


async def resolve(tx: Transaction, draft_id: UUID, firsts: dict[AssetId, AssetId]) -> int:
    """Let items use the first photo in place of its duplicate; the draft's new version."""
    for duplicate, first in firsts.items():
        await tx.execute(RESOLVE, draft_id, duplicate, first)
    return await _bump(tx, draft_id)


async def _bump(tx: Transaction, draft_id: UUID) -> int:
    version: int = await tx.value(BUMP, draft_id)
    return version


async def _insert_items(tx: Transaction, draft_id: UUID, items: Iterable[Item]) -> None:
    rows = [
        (
            *(i.id, draft_id, number, i.asset_id, i.sku, i.copies, i.paper, i.orientation, i.fit, crop),
            *(list(i.focal), i.border_um, i.gift_note),
        )
        for number, i in enumerate(items, 1)
        for crop in [None if i.crop is None else list(i.crop)]
    ]
    if rows:
        await tx.many(INSERT_ITEMS, rows)


async def transition(tx: Transaction, spine: Spine, draft: Draft, new: DraftState, told: Event, origin: Origin) -> None:
    """Move a draft and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, draft.id, draft.state, new)
    await spine.record(tx, told, aggregate_id=draft.id, owner_id=draft.owner_id, origin=origin)


async def get(db: Readable, draft_id: UUID) -> Draft | None:
    """Any draft with its items, in one statement."""
    rows = await db.fetch(GET, draft_id)
    return None if not rows else _draft(rows)


async def lock(tx: Transaction, draft_id: UUID) -> Draft | None:
    """The same, locked until the transaction ends; its items are then what they will stay."""
    await tx.execute(LOCK, draft_id)
    return await get(tx, draft_id)


async def lock_own(tx: Transaction, draft_id: UUID, owner_id: UUID) -> Draft | None:
    """The same of an owner's draft; somebody else's is not waited for."""
    return None if await tx.value(LOCK_OWN, draft_id, owner_id) is None else await get(tx, draft_id)


async def lock_seen(tx: Transaction, draft_id: UUID, owner_id: UUID) -> Draft | None:
    """The same in one statement, for one who knows a version that was committed before: the items are those of the
    draft as it was when the statement began, so they are its own where the version is still that one, and only there.
    """
    rows = await tx.fetch(LOCK_SEEN, draft_id, owner_id)
    return None if not rows else _draft(rows)


async def open_with(tx: Transaction, asset_id: UUID) -> list[UUID]:
    """Drafts that can change and have this photo."""
    return [row["id"] for row in await tx.fetch(WITH_ASSET, asset_id)]


async def forget_notes(tx: Transaction, owner_id: UUID) -> None:
    """Forget what an owner has written in drafts."""
    await tx.execute(FORGET_NOTES, owner_id)


async def open_of_owner(tx: Transaction, owner_id: UUID) -> list[UUID]:
    """An owner's drafts that can change."""
    return [row["id"] for row in await tx.fetch(OPEN_OF_OWNER, owner_id)]


def _draft(rows: list[Any]) -> Draft:
    first = rows[0]
    return Draft(
        id=DraftId(first["id"]),
        owner_id=OwnerId(first["owner_id"]),
        state=DraftState(first["state"]),
        version=first["version"],
        created_at=first["created_at"],
        updated_at=first["updated_at"],
        items=tuple(_item(row) for row in rows if row["item_id"] is not None),
    )


def _item(row: Any) -> Item:
    x_y = row["focal"]
    return Item(
        id=ItemId(row["item_id"]),
        asset_id=AssetId(row["asset_id"]),
        sku=row["sku"],
        copies=row["copies"],
        paper=row["paper"],
        orientation=row["orientation"],
        fit=row["fit"],
        crop=None if row["crop"] is None else tuple(row["crop"]),
        focal=(x_y[0], x_y[1]),
        border_um=row["border_um"],
        gift_note=row["gift_note"],
    )

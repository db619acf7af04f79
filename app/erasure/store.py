"""All SQL of erasure."""

from typing import Any, Final
from uuid import UUID

import msgspec

from app.erasure.domain import Receipt
from app.erasure.tables import KEPT
from app.kernel.db import Transaction
from app.kernel.erasers import Kept

LOCK: Final = "SELECT id FROM owners WHERE id = $1 FOR NO KEY UPDATE"
MARK: Final = "UPDATE owners SET erased_at = now() WHERE id = $1"
STORE: Final = """
INSERT INTO erasures (owner_id, assets, kept) VALUES ($1, $2, $3::jsonb)
RETURNING erased_at, assets, kept::text AS kept
"""
NAMED: Final = tuple(Kept(what=one.what, reason=one.reason, until=one.until) for one in KEPT)
REMAINS: Final = "SELECT " + ", ".join(f"({one.where}) AS is_{n}" for n, one in enumerate(KEPT))
READ: Final = "SELECT erased_at, assets, kept::text AS kept FROM erasures WHERE owner_id = $1"


async def lock(tx: Transaction, owner_id: UUID) -> bool:
    """Lock the owner's row; whether there is one."""
    return await tx.value(LOCK, owner_id) is not None


async def read(tx: Transaction, owner_id: UUID) -> Receipt | None:
    """The receipt of an erasure that was done."""
    row = await tx.one(READ, owner_id)
    return None if row is None else _receipt(row)


async def remains(tx: Transaction, owner_id: UUID) -> tuple[Kept, ...]:
    """What is left of an owner, as the database has it."""
    found = await tx.one(REMAINS, owner_id)
    assert found is not None
    return tuple(kept for kept, is_there in zip(NAMED, found.values(), strict=True) if is_there)


async def record(tx: Transaction, owner_id: UUID, assets: int, kept: tuple[Kept, ...]) -> Receipt:
    """Mark the owner and keep the receipt."""
    await tx.execute(MARK, owner_id)
    row = await tx.one(STORE, owner_id, assets, msgspec.json.encode(kept).decode())
    assert row is not None
    return _receipt(row)


def _receipt(row: Any) -> Receipt:
    kept = msgspec.json.decode(row["kept"], type=tuple[Kept, ...])
    return Receipt(erased_at=row["erased_at"], assets=row["assets"], kept=kept)

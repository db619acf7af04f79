"""All SQL of shares and public pictures."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from app.kernel.db import Readable, Transaction
from app.shares.domain import Picture, Share
from base.ids import AssetId, OwnerId, ShareId

_FIELDS: Final = """s.id, s.owner_id, s.created_at, s.revoked_at,
    ARRAY(SELECT asset_id FROM share_photos p WHERE p.share_id = s.id ORDER BY number) AS photos"""
INSERT: Final = "INSERT INTO shares (id, owner_id) VALUES ($1, $2)"
INSERT_PHOTOS: Final = """
INSERT INTO share_photos (share_id, number, asset_id) SELECT $1, o, a FROM unnest($2::uuid[]) WITH ORDINALITY u (a, o)
"""
GET: Final = f"SELECT {_FIELDS} FROM shares s WHERE s.id = $1 AND s.owner_id = $2"  # noqa: S608
PAGE: Final = f"""
SELECT {_FIELDS} FROM shares s WHERE s.owner_id = $1 AND ($2::uuid IS NULL OR s.id < $2) ORDER BY s.id DESC LIMIT $3
"""  # noqa: S608
REVOKE: Final = "UPDATE shares SET revoked_at = now() WHERE id = $1 AND owner_id = $2 AND revoked_at IS NULL"
OPEN: Final = "SELECT id FROM shares WHERE owner_id = $1 AND revoked_at IS NULL FOR UPDATE"
FORGET: Final = "DELETE FROM shares WHERE owner_id = $1"
PUBLISH: Final = "INSERT INTO pictures (asset_id, published_by) VALUES ($1, $2) ON CONFLICT DO NOTHING"
PICTURE: Final = "SELECT asset_id, published_by, published_at, withdrawn_at FROM pictures WHERE asset_id = $1"
PICTURES: Final = """
SELECT asset_id, published_by, published_at, withdrawn_at FROM pictures
WHERE $1::uuid IS NULL OR asset_id < $1 ORDER BY asset_id DESC LIMIT $2
"""
WITHDRAW: Final = "UPDATE pictures SET withdrawn_at = now() WHERE asset_id = $1 AND withdrawn_at IS NULL"


async def insert(tx: Transaction, share_id: ShareId, owner_id: OwnerId, photos: Sequence[UUID]) -> None:
    """Write a new share."""
    await tx.execute(INSERT, share_id, owner_id)
    await tx.execute(INSERT_PHOTOS, share_id, list(photos))


async def get(db: Readable, share_id: UUID, owner_id: UUID) -> Share | None:
    """An owner's share."""
    row = await db.one(GET, share_id, owner_id)
    return None if row is None else _share(row)


async def page(db: Readable, owner_id: UUID, before: UUID | None, limit: int) -> list[Share]:
    """An owner's shares, newest first."""
    return [_share(row) for row in await db.fetch(PAGE, owner_id, before, limit)]


async def revoke(tx: Transaction, share_id: UUID, owner_id: UUID) -> bool:
    """End a share; False when it had ended before."""
    return await tx.execute(REVOKE, share_id, owner_id) == 1


async def open_of_owner(tx: Transaction, owner_id: UUID) -> list[UUID]:
    """An owner's shares that have not ended, locked."""
    return [row["id"] for row in await tx.fetch(OPEN, owner_id)]


async def forget(tx: Transaction, owner_id: UUID) -> None:
    """Remove an owner's shares."""
    await tx.execute(FORGET, owner_id)


async def publish(tx: Transaction, asset_id: UUID, by: str) -> bool:
    """Write a public picture; False when it was one before."""
    return await tx.execute(PUBLISH, asset_id, by) == 1


async def picture(db: Readable, asset_id: UUID) -> Picture | None:
    """One public picture, or what was one."""
    row = await db.one(PICTURE, asset_id)
    return None if row is None else Picture(**dict(row))


async def pictures(db: Readable, before: UUID | None, limit: int) -> list[Picture]:
    """Public pictures, newest photo first."""
    return [Picture(**dict(row)) for row in await db.fetch(PICTURES, before, limit)]


async def withdraw(tx: Transaction, asset_id: UUID) -> bool:
    """End a public picture; False when it had ended before."""
    return await tx.execute(WITHDRAW, asset_id) == 1


def _share(row: Any) -> Share:
    return Share(
        id=ShareId(row["id"]),
        owner_id=OwnerId(row["owner_id"]),
        photos=tuple(AssetId(photo) for photo in row["photos"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )

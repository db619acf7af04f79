"""All SQL of uploads."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.uploads.domain import MACHINE, Declared, Upload, UploadState
from base.ids import AssetId, OwnerId, UploadId

_FIELDS: Final = """id, owner_id, asset_id, state, bytes, content_type, sha256, client_reference, reason, created_at,
    expires_at"""
INSERT: Final = """
INSERT INTO uploads (id, owner_id, asset_id, state, bytes, content_type, sha256, client_reference, expires_at)
VALUES ($1, $2, $3, 'open', $4, $5, $6, $7, $8)
ON CONFLICT (owner_id, client_reference) WHERE client_reference IS NOT NULL AND state IN ('open', 'verifying')
DO NOTHING
RETURNING id
"""
GET: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 AND owner_id = $2"  # noqa: S608
LOCK: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 AND owner_id = $2 FOR UPDATE"  # noqa: S608
LOCK_BY_ASSET: Final = f"SELECT {_FIELDS} FROM uploads WHERE asset_id = $1 FOR UPDATE"  # noqa: S608
GET_ANY: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 OR asset_id = $1"  # noqa: S608
BY_REFERENCE: Final = f"""
SELECT {_FIELDS} FROM uploads WHERE owner_id = $1 AND client_reference = $2 AND state IN ('open', 'verifying')
"""  # noqa: S608
REASON: Final = "UPDATE uploads SET reason = $2 WHERE id = $1"
EXPIRES: Final = "UPDATE uploads SET expires_at = $2 WHERE id = $1"
OVERDUE: Final = f"""
SELECT {_FIELDS} FROM uploads WHERE state = 'open' AND expires_at < $1 ORDER BY expires_at LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608
OPEN_OF_OWNER: Final = f"SELECT {_FIELDS} FROM uploads WHERE owner_id = $1 AND state = 'open' FOR UPDATE"  # noqa: S608
FORGET: Final = "UPDATE uploads SET client_reference = NULL, sha256 = NULL WHERE owner_id = $1"


async def insert(
    tx: Transaction,
    upload_id: UploadId,
    owner_id: OwnerId,
    asset_id: AssetId,
    declared: Declared,
    expires_at: datetime,
) -> bool:
    """Write a new session; False when a living one has the same client reference."""
    made = await tx.value(
        INSERT,
        upload_id,
        owner_id,
        asset_id,
        declared.bytes,
        declared.content_type,
        declared.sha256,
        declared.client_reference,
        expires_at,
    )
    return made is not None


async def transition(
    tx: Transaction, spine: Spine, upload: Upload, new: UploadState, told: Event, origin: Origin
) -> None:
    """Move a session and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, upload.id, upload.state, new)
    await spine.record(tx, told, aggregate_id=upload.id, owner_id=upload.owner_id, origin=origin)


async def get(tx: Readable, upload_id: UUID, owner_id: UUID) -> Upload | None:
    """An owner's session."""
    return _upload(await tx.one(GET, upload_id, owner_id))


async def lock(tx: Transaction, upload_id: UUID, owner_id: UUID) -> Upload | None:
    """An owner's session, locked until the transaction ends."""
    return _upload(await tx.one(LOCK, upload_id, owner_id))


async def lock_by_asset(tx: Transaction, asset_id: UUID) -> Upload | None:
    """The session that brought an asset, locked."""
    return _upload(await tx.one(LOCK_BY_ASSET, asset_id))


async def get_any(tx: Transaction, upload_or_asset_id: UUID) -> Upload | None:
    """The session with this id, or the one that brought the asset with this id."""
    return _upload(await tx.one(GET_ANY, upload_or_asset_id))


async def by_reference(tx: Transaction, owner_id: UUID, reference: str) -> Upload | None:
    """The living session with a client reference."""
    return _upload(await tx.one(BY_REFERENCE, owner_id, reference))


async def save_reason(tx: Transaction, upload_id: UploadId, reason: str) -> None:
    """Say why a session was rejected."""
    await tx.execute(REASON, upload_id, reason)


async def set_expiry(tx: Transaction, upload_id: UploadId, when: datetime) -> None:
    """Move the end of a session."""
    await tx.execute(EXPIRES, upload_id, when)


async def overdue(tx: Transaction, now: datetime, limit: int) -> list[Upload]:
    """Open sessions whose time is over, locked."""
    return [u for r in await tx.fetch(OVERDUE, now, limit) if (u := _upload(r)) is not None]


async def open_of_owner(tx: Transaction, owner_id: UUID) -> list[Upload]:
    """An owner's open sessions, locked."""
    return [u for r in await tx.fetch(OPEN_OF_OWNER, owner_id) if (u := _upload(r)) is not None]


async def forget(tx: Transaction, owner_id: UUID) -> None:
    """Empty what an owner's device said of their photos."""
    await tx.execute(FORGET, owner_id)


def _upload(row: Any | None) -> Upload | None:
    if row is None:
        return None
    fields = dict(row)
    return Upload(**{**fields, "state": UploadState(fields["state"])})

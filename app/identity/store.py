"""All SQL of identity."""

from typing import Final

from app.identity.domain import Owner, Platform, Session
from app.kernel.db import Readable, Transaction
from base.ids import DeviceId, OwnerId, SessionId

REGISTER: Final = """
WITH owner AS (INSERT INTO owners (id, kind) VALUES ($1, 'guest') RETURNING id)
INSERT INTO devices (id, owner_id, platform) SELECT $2, owner.id, $3 FROM owner
"""
OPEN_SESSION: Final = """
INSERT INTO sessions (id, owner_id, device_id, generation, key_id, expires_at)
VALUES ($1, $2, $3, 1, $4, now() + make_interval(secs => $5))
"""
LOCK_SESSION: Final = """
SELECT s.id, s.owner_id, s.device_id, s.generation, s.key_id,
       s.revoked_at IS NULL AND s.expires_at > now() AND o.erased_at IS NULL AS usable
FROM sessions s JOIN owners o ON o.id = s.owner_id WHERE s.id = $1 FOR UPDATE OF s
"""
ADVANCE: Final = """
UPDATE sessions SET generation = generation + 1, key_id = $2, expires_at = now() + make_interval(secs => $3)
WHERE id = $1
"""
REVOKE: Final = "UPDATE sessions SET revoked_at = now(), revoked_reason = $2 WHERE id = $1 AND revoked_at IS NULL"
READ_OWNER: Final = "SELECT id, kind, created_at FROM owners WHERE id = $1 AND erased_at IS NULL"
ERASE: Final = (
    "DELETE FROM idempotency_keys WHERE owner_id = $1",
    "DELETE FROM quotas WHERE owner_id = $1",
    "DELETE FROM sessions WHERE owner_id = $1",
    "DELETE FROM devices WHERE owner_id = $1",
)


async def register(tx: Transaction, owner_id: OwnerId, device_id: DeviceId, platform: Platform) -> None:
    """A new guest and its first device."""
    await tx.execute(REGISTER, owner_id, device_id, platform.value)


async def open_session(
    tx: Transaction, session_id: SessionId, owner_id: OwnerId, device_id: DeviceId, key_id: str, ttl_s: int
) -> None:
    """A session at generation 1."""
    await tx.execute(OPEN_SESSION, session_id, owner_id, device_id, key_id, float(ttl_s))


async def lock_session(tx: Transaction, session_id: SessionId) -> Session | None:
    """The session, locked until the transaction ends."""
    row = await tx.one(LOCK_SESSION, session_id)
    return None if row is None else Session(**dict(row))


async def advance(tx: Transaction, session_id: SessionId, key_id: str, ttl_s: int) -> None:
    """Hand out the next generation and begin its lifetime."""
    await tx.execute(ADVANCE, session_id, key_id, float(ttl_s))


async def revoke(tx: Transaction, session_id: SessionId, reason: str) -> bool:
    """End a session; False when it had ended."""
    return await tx.execute(REVOKE, session_id, reason) == 1


async def read_owner(db: Readable, owner_id: OwnerId) -> Owner | None:
    """An owner who is not erased."""
    row = await db.one(READ_OWNER, owner_id)
    return None if row is None else Owner(**dict(row))


async def erase(tx: Transaction, owner_id: OwnerId) -> None:
    """Sessions, devices, stored answers and quotas go; the owner's row stays, marked, since events name its id."""
    for statement in ERASE:
        await tx.execute(statement, owner_id)

"""All SQL of webhooks."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel.db import Readable, Transaction
from app.webhooks.domain import Heard, Kept, Listed, Received

INSERT: Final = """
INSERT INTO webhooks (id, source, account, dedupe_key, type, key_name, headers, kek_id, wrapped, sealed, told_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, $10, $11)
ON CONFLICT (source, account, dedupe_key) DO NOTHING
RETURNING id
"""
LOCK: Final = """
SELECT id, source, type, owner_id, kek_id, wrapped, sealed, handled_at FROM webhooks WHERE id = $1 FOR UPDATE
"""
HANDLED: Final = """
UPDATE webhooks SET handled_at = $2, outcome = $3, owner_id = $4, order_id = $5, kek_id = $6, wrapped = $7, sealed = $8
WHERE id = $1
"""
FORGET: Final = """
UPDATE webhooks SET kek_id = NULL, wrapped = NULL, sealed = NULL
WHERE received_at < $1 AND sealed IS NOT NULL
"""
_LISTED: Final = """
SELECT w.id, w.source, w.type, w.received_at, w.handled_at, w.outcome, j.state, j.attempt, j.last_reason AS cause
FROM jobs j JOIN webhooks w ON w.id = (j.payload ->> 'webhook_id')::uuid
WHERE j.kind = 'webhook.process'
"""
LIST: Final = f"{_LISTED} ORDER BY j.position DESC LIMIT $1"
LIST_DEAD: Final = f"{_LISTED} AND j.state = 'parked' ORDER BY j.position DESC LIMIT $1"
JOB: Final = """
SELECT id FROM jobs WHERE kind = 'webhook.process' AND state = 'parked' AND payload ->> 'webhook_id' = $1::uuid::text
"""


async def insert(
    tx: Transaction, webhook_id: UUID, received: Received, kek_id: str, wrapped: bytes, sealed: bytes
) -> bool:
    """Write a delivery; False when it was here before."""
    made = await tx.value(
        INSERT,
        webhook_id,
        received.source,
        received.account,
        received.dedupe_key,
        received.type,
        received.key_name,
        msgspec.json.encode(received.headers).decode(),
        kek_id,
        wrapped,
        sealed,
        received.told_at,
    )
    return made is not None


async def lock(tx: Transaction, webhook_id: UUID) -> Kept | None:
    """A webhook, locked."""
    row = await tx.one(LOCK, webhook_id)
    return None if row is None else Kept(**dict(row))


async def handled(tx: Transaction, kept: Kept, at: datetime, heard: Heard) -> None:
    """Note what became of it; `kept` says how its body is sealed from now on."""
    await tx.execute(
        HANDLED, kept.id, at, heard.outcome, heard.owner_id, heard.order_id, kept.kek_id, kept.wrapped, kept.sealed
    )


async def forget(tx: Transaction, before: datetime) -> int:
    """Drop bodies that were received before a moment."""
    return await tx.execute(FORGET, before)


async def listed(db: Readable, *, dead: bool, limit: int) -> list[Listed]:
    """The newest webhooks, or the dead letters."""
    return [_listed(row) for row in await db.fetch(LIST_DEAD if dead else LIST, limit)]


async def dead_job(tx: Transaction, webhook_id: UUID) -> UUID | None:
    """The parked job of a dead letter."""
    found: UUID | None = await tx.value(JOB, webhook_id)
    return found


def _listed(row: Any) -> Listed:
    return Listed(**dict(row))

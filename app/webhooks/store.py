"""All SQL of webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel.db import Readable, Transaction
from app.webhooks.domain import Delivery, Heard, Kept, Listed

INSERT: Final = """
INSERT INTO webhooks (id, source, account, dedupe_key, type, key_name, headers, kek_id, wrapped, sealed, told_at)
SELECT id, source, account, dedupe_key, type, key_name, headers::jsonb, kek_id, wrapped, sealed, told_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bytea[], $10::bytea[], $11::timestamptz[])
    AS w (id, source, account, dedupe_key, type, key_name, headers, kek_id, wrapped, sealed, told_at)
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


async def insert(tx: Transaction, deliveries: Sequence[Delivery]) -> set[UUID]:
    """Write deliveries; the ids of those that were not here before. Of two of the same in one call, one is."""
    rows = [_columns(one) for one in deliveries]
    return {row["id"] for row in await tx.fetch(INSERT, *map(list, zip(*rows, strict=True)))}


def _columns(one: Delivery) -> tuple[object, ...]:
    told, headers = one.received, msgspec.json.encode(one.received.headers).decode()
    who = (told.source, told.account, told.dedupe_key, told.type, told.key_name)
    return (one.id, *who, headers, one.kek_id, one.wrapped, one.sealed, told.told_at)


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

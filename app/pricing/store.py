"""All SQL of quotes."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.pricing.domain import MACHINE, Inputs, Quote, QuoteState, Result
from base.ids import DraftId, OwnerId, QuoteId

_FIELDS: Final = """id, owner_id, state, draft_id, draft_version, postcode, inputs::text AS inputs,
    result::text AS result, created_at, expires_at"""
INSERT: Final = """
INSERT INTO quotes (id, owner_id, state, draft_id, draft_version, catalogue_version, postcode, inputs, result, currency,
                    total, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb, $10, $11, $12, $13)
"""
GET: Final = f"SELECT {_FIELDS} FROM quotes WHERE id = $1 AND owner_id = $2"  # noqa: S608
LOCK: Final = f"{GET} FOR UPDATE"
OVERDUE: Final = f"""
SELECT {_FIELDS} FROM quotes WHERE state = 'priced' AND expires_at <= $1 ORDER BY expires_at LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608
FORGET: Final = "UPDATE quotes SET postcode = NULL WHERE owner_id = $1"


async def insert(tx: Transaction, quote: Quote) -> None:
    """Write a new quote."""
    await tx.execute(
        INSERT,
        quote.id,
        quote.owner_id,
        quote.state.value,
        quote.draft_id,
        quote.draft_version,
        quote.inputs.catalogue_version,
        quote.postcode,
        msgspec.json.encode(quote.inputs).decode(),
        msgspec.json.encode(quote.result).decode(),
        quote.inputs.currency,
        quote.result.total,
        quote.created_at,
        quote.expires_at,
    )


async def transition(tx: Transaction, spine: Spine, quote: Quote, new: QuoteState, told: Event, origin: Origin) -> None:
    """Move a quote and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, quote.id, quote.state, new)
    await spine.record(tx, told, aggregate_id=quote.id, owner_id=quote.owner_id, origin=origin)


async def get(db: Readable, quote_id: UUID, owner_id: UUID) -> Quote | None:
    """An owner's quote."""
    row = await db.one(GET, quote_id, owner_id)
    return None if row is None else _quote(row)


async def lock(tx: Transaction, quote_id: UUID, owner_id: UUID) -> Quote | None:
    """The same, locked until the transaction ends."""
    row = await tx.one(LOCK, quote_id, owner_id)
    return None if row is None else _quote(row)


async def overdue(tx: Transaction, now: datetime, limit: int) -> list[Quote]:
    """Quotes whose time is over, locked."""
    return [_quote(row) for row in await tx.fetch(OVERDUE, now, limit)]


async def forget(tx: Transaction, owner_id: UUID) -> None:
    """Empty what tells where somebody lives."""
    await tx.execute(FORGET, owner_id)


def _quote(row: Any) -> Quote:
    return Quote(
        id=QuoteId(row["id"]),
        owner_id=OwnerId(row["owner_id"]),
        state=QuoteState(row["state"]),
        draft_id=DraftId(row["draft_id"]),
        draft_version=row["draft_version"],
        postcode=row["postcode"],
        inputs=msgspec.json.decode(row["inputs"], type=Inputs),
        result=msgspec.json.decode(row["result"], type=Result),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )

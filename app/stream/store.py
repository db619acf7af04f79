"""SQL of the event stream, beside what `app/kernel/events.py` has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from app.kernel.db import Readable
from app.kernel.events import Cursor
from base.ids import OwnerId

LATEST: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS tx_id, now() AS now"
NEWS: Final = """
SELECT owner_id, max(tx_id)::text::bigint AS tx_id FROM events
WHERE tx_id >= $1::text::xid8 AND tx_id < $2::text::xid8 AND owner_id = ANY ($3::uuid[]) GROUP BY owner_id
"""


async def latest(db: Readable) -> tuple[Cursor, datetime]:
    """The cursor before which everything is settled, and the database's time."""
    row = await db.one(LATEST)
    assert row is not None
    return Cursor(row["tx_id"], 0), row["now"]


async def owners_with_news(db: Readable, since: Cursor, until: Cursor, owners: Sequence[OwnerId]) -> list[OwnerId]:
    """Which of `owners` have settled events from transactions in [since, until)."""
    rows = await db.fetch(NEWS, str(since.tx_id), str(until.tx_id), owners)
    return [OwnerId(row["owner_id"]) for row in rows]

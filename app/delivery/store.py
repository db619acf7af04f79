"""All SQL of delivery: what is denied, and who said so."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from app.kernel.db import Readable, Transaction
from base.edges import Receipt

DENY: Final = "INSERT INTO edge_denials (subject) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
COUNT: Final = "SELECT count(*) FROM edge_denials"
UNTOLD: Final = """
SELECT subject FROM edge_denials d
WHERE NOT EXISTS (SELECT FROM edge_receipts r WHERE r.edge = $1 AND r.subject = d.subject)
ORDER BY position LIMIT $2
"""
TOLD: Final = """
INSERT INTO edge_receipts (subject, edge, node, files, bytes, told_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""
RECEIPTS: Final = "SELECT node, told_at AS at FROM edge_receipts WHERE subject = $1 ORDER BY told_at, node"
FORGET: Final = "DELETE FROM edge_receipts WHERE edge = $1"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One edge's word that it serves a subject no more."""

    node: str
    at: datetime


async def deny(tx: Transaction, subjects: Sequence[str]) -> None:
    """Deny assets, shares and public pictures (TypeIDs) for good; denied again, nothing changes."""
    await tx.execute(DENY, list(subjects))


async def count(tx: Readable) -> int:
    """How much is denied."""
    return int(await tx.value(COUNT))


async def untold(tx: Readable, edge: str, limit: int) -> list[str]:
    """What an edge has given no receipt for, oldest first."""
    return [row["subject"] for row in await tx.fetch(UNTOLD, edge, limit)]


async def keep(tx: Transaction, edge: str, receipt: Receipt) -> None:
    """Keep an edge's word."""
    at = datetime.fromtimestamp(receipt.at, UTC)
    rows = [(one.asset, edge, receipt.node, one.files, one.bytes, at) for one in receipt.assets]
    others = ((subject, edge, receipt.node, 0, 0, at) for subject in (*receipt.shares, *receipt.pictures))
    await tx.many(TOLD, [*rows, *others])


async def receipts(db: Readable, subject: str) -> list[Told]:
    """Which edges gave their word on a subject, first come first."""
    return [Told(**dict(row)) for row in await db.fetch(RECEIPTS, subject)]


async def forget(tx: Transaction, edge: str) -> None:
    """Ask an edge for everything again: its own list is shorter than its receipts."""
    await tx.execute(FORGET, edge)

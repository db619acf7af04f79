"""All SQL of reconciliation."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.reconcile.domain import MACHINE, Drift, Finding, FindingState, Kept, Repair
from base.ids import CaseId, OrderId

_FIELDS: Final = "id, drift, what, subject, order_id, state, detail, repair::text AS repair, found_at, changed_at"
INSERT: Final = """
INSERT INTO findings (id, drift, what, subject, order_id, state, detail, repair, found_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $9) ON CONFLICT (drift, what, subject) DO NOTHING RETURNING id
"""
KNOWN: Final = f"""
SELECT {_FIELDS} FROM findings WHERE drift = $1 AND what = $2 AND subject = $3 FOR UPDATE
"""  # noqa: S608
GET: Final = f"SELECT {_FIELDS} FROM findings WHERE id = $1"  # noqa: S608
LOCK: Final = f"{GET} FOR UPDATE"
CHANGED: Final = "UPDATE findings SET changed_at = $2 WHERE id = $1"
CASES: Final = f"SELECT {_FIELDS} FROM findings WHERE state = 'case' ORDER BY found_at LIMIT $1"  # noqa: S608
_REPAIR: Final[msgspec.json.Decoder[Repair]] = msgspec.json.Decoder(Repair)


async def insert(tx: Transaction, finding_id: UUID, finding: Finding, state: FindingState, now: datetime) -> bool:
    """Keep a finding; False when it is known."""
    repair = None if finding.repair is None else msgspec.json.encode(finding.repair).decode()
    made = await tx.value(
        INSERT,
        finding_id,
        finding.drift.value,
        finding.what,
        finding.subject,
        finding.order_id,
        state.value,
        finding.detail,
        repair,
        now,
    )
    return made is not None


async def known(tx: Transaction, finding: Finding) -> Kept:
    """The row of a finding that is known, locked."""
    return _kept(await tx.one(KNOWN, finding.drift.value, finding.what, finding.subject))


async def get(db: Readable, finding_id: UUID) -> Kept | None:
    """A finding."""
    row = await db.one(GET, finding_id)
    return None if row is None else _kept(row)


async def lock(tx: Transaction, finding_id: UUID) -> Kept | None:
    """A finding, locked."""
    row = await tx.one(LOCK, finding_id)
    return None if row is None else _kept(row)


async def transition(
    tx: Transaction, spine: Spine, kept: Kept, new: FindingState, now: datetime, told: Event, origin: Origin
) -> None:
    """Move a finding and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, kept.id, kept.state, new)
    await tx.execute(CHANGED, kept.id, now)
    await spine.record(tx, told, aggregate_id=kept.id, owner_id=None, origin=origin)


async def cases(db: Readable, limit: int) -> list[Kept]:
    """Open cases, oldest first."""
    return [_kept(row) for row in await db.fetch(CASES, limit)]


def _kept(row: Any) -> Kept:
    repair = None if row["repair"] is None else _REPAIR.decode(row["repair"])
    return Kept(
        id=CaseId(row["id"]),
        state=FindingState(row["state"]),
        finding=Finding(
            drift=Drift(row["drift"]),
            what=row["what"],
            subject=row["subject"],
            order_id=None if row["order_id"] is None else OrderId(row["order_id"]),
            detail=row["detail"],
            repair=repair,
        ),
        found_at=row["found_at"],
        changed_at=row["changed_at"],
    )

"""How long what is kept, as data: one literal table by class, and the sweeper that forgets what is over.

Photos and orders have lifecycles of their own; here is what is left behind. Local span files are forgotten by the
process that writes them (`base/tracing.py`).
"""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from app.erasure.domain import EVENT_MONTHS
from app.erasure.tables import OWNED
from app.kernel.db import Database, Transaction
from app.kernel.idempotency import LIFETIME_DAYS
from app.kernel.quotas import KEEP_DAYS
from base import telemetry
from base.clock import Clock

log = telemetry.logger(__name__)

BATCH: Final = 5_000
ROUNDS: Final = 20


class Class(msgspec.Struct, frozen=True, kw_only=True):
    """One class of rows: they go `days` after `since`, a column or expression that is null while they are needed."""

    name: str
    table: str
    since: str
    days: int
    why: str


_ENDED: Final = "LEAST(expires_at, COALESCE(revoked_at, expires_at))"
_FINISHED: Final = "CASE WHEN state IN ('done', 'cancelled') THEN finished_at END"

RETENTION: Final = (
    Class(
        name="ended sessions and their refresh tokens",
        table="sessions",
        since=_ENDED,
        days=30,
        why="a late reuse of a refresh token is still told apart from an unknown one",
    ),
    Class(
        name="idempotency keys",
        table="idempotency_keys",
        since="created_at",
        days=LIFETIME_DAYS,
        why="published: an answer is given again for seven days",
    ),
    Class(
        name="daily quotas",
        table="quotas",
        since="(day + 1)::timestamp AT TIME ZONE 'UTC'",
        days=KEEP_DAYS,
        why="only today counts; the days before are for questions",
    ),
    Class(
        name="finished jobs and their steps",
        table="jobs",
        since=_FINISHED,
        days=30,
        why="support looks back a month; parked jobs stay until somebody decides",
    ),
    Class(
        name="revoked shares",
        table="shares",
        since="revoked_at",
        days=90,
        why="a person can see when a link ended; edges deny it for good",
    ),
    Class(
        name="closed alerts",
        table="alerts",
        since="closed_at",
        days=365,
        why="a year of them shows what comes back",
    ),
)

GUEST_DAYS: Final = 30
GUEST_HAS: Final = ("devices", "sessions", "idempotency_keys", "quotas", "person_keys")
"""What a guest who did nothing has: it goes with them. Whoever has a row in any other table stays."""
NO_HINDRANCE: Final = ("events",)

OTHERS: Final = (
    (
        "empty guests",
        f"{GUEST_DAYS} days after their last session ended",
        "nobody can come back as them, and they own nothing",
    ),
    (
        "events",
        f"{EVENT_MONTHS} months, dropped by whole months",
        "the audit trail of money; ids, codes and amounts only",
    ),
    ("local span files", "7 days after the last line", "traces are for what went wrong lately"),
)

_HOLDINGS: Final = tuple(sorted(OWNED - {*GUEST_HAS, *NO_HINDRANCE}))
_OWNS: Final = " ".join(f"AND NOT EXISTS (SELECT FROM {table} x WHERE x.owner_id = o.id)" for table in _HOLDINGS)
EMPTY_GUESTS: Final = f"""
SELECT o.id FROM owners o
WHERE o.kind = 'guest' AND o.erased_at IS NULL AND o.created_at < $1::timestamptz - make_interval(days => $2)
  AND NOT EXISTS (SELECT FROM sessions s WHERE s.owner_id = o.id) {_OWNS}
ORDER BY o.created_at LIMIT $3 FOR UPDATE SKIP LOCKED
"""  # noqa: S608
PARTITIONS: Final = r"SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'events'::regclass"
_PARTITION: Final = re.compile(r"events_(\d{4})_(\d{2})")


class Retention:
    """Forgets what is over, in batches, each in a transaction of its own."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def sweep(self) -> dict[str, int]:
        """Everything; how many rows (for events: months) of each class went."""
        gone = {one.name: await self._batches(one) for one in RETENTION}
        async with self._db.transaction() as tx:
            gone["empty guests"] = await self._guests(tx)
        async with self._db.transaction() as tx:
            gone["events"] = await self._events(tx)
        log.info("retention_swept", **{name.replace(" ", "_"): count for name, count in gone.items() if count})
        return gone

    async def _batches(self, one: Class) -> int:
        sql = f"""DELETE FROM {one.table} WHERE ctid = ANY (ARRAY(
                  SELECT ctid FROM {one.table} WHERE {one.since} < $1::timestamptz - make_interval(days => $2)
                  LIMIT {BATCH} FOR UPDATE SKIP LOCKED))"""  # noqa: S608
        gone = 0
        for _ in range(ROUNDS):
            async with self._db.transaction() as tx:
                went = await tx.execute(sql, self._clock.now(), one.days)
            gone += went
            if went < BATCH:
                break
        return gone

    async def _guests(self, tx: Transaction) -> int:
        """Their last session went by its own class: it ended a while ago."""
        rows = await tx.fetch(EMPTY_GUESTS, self._clock.now(), GUEST_DAYS, BATCH)
        found = [row["id"] for row in rows]
        for table in GUEST_HAS[::-1]:
            await tx.execute(f"DELETE FROM {table} WHERE owner_id = ANY($1)", found)  # noqa: S608
        await tx.execute("DELETE FROM owners WHERE id = ANY($1)", found)
        return len(found)

    async def _events(self, tx: Transaction) -> int:
        """Months that are over; who holds the table for long makes us come again another day."""
        await tx.execute("SET LOCAL lock_timeout = '2s'")
        rows = await tx.fetch(PARTITIONS)
        over = [row["name"] for row in rows if is_over(row["name"], self._clock.now())]
        for name in over:
            await tx.execute(f"DROP TABLE {name}")
        return len(over)


def is_over(partition: str, now: datetime) -> bool:
    """Whether every event of a month's partition is older than the promised time."""
    named = _PARTITION.fullmatch(partition)
    if named is None:
        return False
    months = int(named[1]) * 12 + int(named[2])  # the number of the month after, counted from month 0
    end = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    kept_from = now.year * 12 + now.month - 1 - EVENT_MONTHS
    return end <= datetime(kept_from // 12, kept_from % 12 + 1, 1, tzinfo=UTC)

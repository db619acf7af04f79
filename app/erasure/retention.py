"""How long what is kept, as data: one literal table by class, and the sweeper that forgets what is over.

Photos and orders have lifecycles of their own; here is what is left behind. Local span files are forgotten by the
process that writes them (`base/tracing.py`).
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from app.assets.domain import TRASH_LIFETIME
from app.erasure.domain import EVENT_MONTHS
from app.erasure.tables import OWNED
from app.fulfilment import forgetting
from app.kernel.db import Database, Transaction
from app.kernel.idempotency import LIFETIME_DAYS
from app.kernel.quotas import KEEP_DAYS
from app.orders.printfiles import NEEDED
from app.webhooks.service import BODIES_KEPT
from base import telemetry
from base.clock import Clock
from base.errors import ServiceUnavailable

log = telemetry.logger(__name__)

BATCH: Final = 5_000
ROUNDS: Final = 20


class Class(msgspec.Struct, frozen=True, kw_only=True):
    """One class of rows: they go `days` after `since`, a column or expression that is null while they are needed.

    With `clears`, which is SQL for what is set, the rows stay and are emptied, as long as `unless` is not so.
    """

    name: str
    table: str
    since: str
    days: int
    why: str
    clears: str | None = None
    unless: str = "false"


_ENDED: Final = "LEAST(expires_at, COALESCE(revoked_at, expires_at))"
AFTER_PARCELS: Final = 210
"""A parcel is on its way for a month at most; then somebody may complain for 180 days."""
_OVER: Final = """(SELECT CASE WHEN o.state IN ('cancelled', 'expired') THEN greatest(o.expires_at, max(f.ended_at))
    WHEN bool_and(f.ended_at IS NOT NULL) THEN max(f.ended_at) END
    FROM orders o LEFT JOIN fulfilments f ON f.order_id = o.id WHERE o.id = {}.order_id GROUP BY o.id)"""
_GIVEN_UP: Final = "(SELECT updated_at FROM drafts d WHERE d.id = draft_items.draft_id AND d.state = 'abandoned')"
_EMPTY_DRAFT: Final = """CASE WHEN state = 'abandoned'
    AND NOT EXISTS (SELECT FROM draft_items i WHERE i.draft_id = drafts.id)
    AND NOT EXISTS (SELECT FROM quotes q WHERE q.draft_id = drafts.id) THEN updated_at END"""
_UPLOAD: Final = (
    "client_reference, sha256, received_sha256, source_id, source_modified_at, pixel_width, pixel_height, metadata"
)
_UPLOAD_ENDED: Final = "CASE WHEN state IN ('rejected', 'aborted', 'expired') THEN expires_at END"
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
    Class(
        name="expired quotes",
        table="quotes",
        since="CASE WHEN state = 'expired' THEN expires_at END",
        days=30,
        why="somebody may ask why it was so dear",
    ),
    Class(
        name="postcodes of quotes",
        table="quotes",
        since="expires_at",
        days=30,
        why="the price is explained without it",
        clears="postcode = NULL",
        unless="postcode IS NULL",
    ),
    Class(
        name="items of drafts given up",
        table="draft_items",
        since=_GIVEN_UP,
        days=30,
        why="support looks back a month",
    ),
    Class(
        name="drafts given up and never priced",
        table="drafts",
        since=_EMPTY_DRAFT,
        days=30,
        why="support looks back a month",
    ),
    Class(
        name="recipients of orders",
        table="order_recipients",
        since=_OVER.format("order_recipients"),
        days=AFTER_PARCELS,
        why="a print may be lost or damaged, and made again",
    ),
    Class(
        name="what a device said of files that did not come",
        table="uploads",
        since=_UPLOAD_ENDED,
        days=30,
        why="a session can be opened again for a while",
        clears=", ".join(f"{column} = NULL" for column in _UPLOAD.split(", ")),
        unless=f"num_nonnulls({_UPLOAD}) = 0",
    ),
    Class(
        name="webhooks",
        table="webhooks",
        since="handled_at",
        days=365,
        why="one that comes again is known; a year of them shows what comes back",
    ),
    Class(
        name="findings",
        table="findings",
        since="CASE WHEN state IN ('repaired', 'closed') THEN changed_at END",
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
    (
        "tracking numbers and printers' words",
        f"{AFTER_PARCELS} days after the fulfilment's end",
        "a parcel may be lost",
    ),
    (
        "print files",
        f"{NEEDED.days} days after the fulfilment's end, but never while they are locked",
        "a print may be made again; an erased person's go as soon as their lock ends",
    ),
    ("webhooks' bodies", f"{BODIES_KEPT.days} days", "what was sent can be looked at again"),
    ("photos in the trash", f"{TRASH_LIFETIME.days} days", "a person may want them back"),
    ("process logs", "as their collector says", "they go to standard output, without addresses, tokens or places"),
    ("local span files", "7 days after the last line", "traces are for what went wrong lately"),
)

_HOLDINGS: Final = tuple(sorted(set(OWNED) - {*GUEST_HAS, *NO_HINDRANCE}))
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
            before = self._clock.now() - timedelta(days=AFTER_PARCELS)
            gone["trackings"] = await forgetting.forget_old(tx, before)
        try:
            async with self._db.transaction() as tx:
                gone["events"] = await self._events(tx)
        except ServiceUnavailable as error:
            log.warning("events_wait", error=str(error))
        log.info("retention_swept", **{name.replace(" ", "_"): count for name, count in gone.items() if count})
        return gone

    async def _batches(self, one: Class) -> int:
        verb = "DELETE FROM {}" if one.clears is None else f"UPDATE {{}} SET {one.clears}"  # noqa: S608
        sql = f"""{verb.format(one.table)} WHERE ctid = ANY (ARRAY(
                  SELECT ctid FROM {one.table}
                  WHERE {one.since} < $1::timestamptz - make_interval(days => $2) AND NOT ({one.unless})
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
        """Months that are over; who holds the table for long makes us come again with the next sweep."""
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

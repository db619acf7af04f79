"""All SQL of orders."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.orders.domain import MACHINE, Line, Order, OrderState, PrintFile, Quantities
from app.orders.timeline import Entry
from base import ids
from base.ids import OrderId
from base.printing import KIND, LOCK_DAYS, MasterMade

_FIELDS: Final = """id, owner_id, state, draft_id, draft_version, draft_digest, quote_id, catalogue_version, currency,
    total, shipping, tax, shipping_option, country, promised_by, expires_at, cancellable_until, created_at"""
_COUNTS: Final = "ordered, in_production, shipped, delivered, cancelled, refunded, returned"
INSERT: Final = """
WITH placed AS (
    INSERT INTO orders (id, owner_id, state, draft_id, draft_version, draft_digest, quote_id, catalogue_version,
        currency, total, shipping, tax, shipping_option, country, promised_by, expires_at)
    VALUES ($1, $2, 'placed', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    RETURNING id
)
INSERT INTO order_lines (order_id, id, number, item_id, asset_id, sku, print, unit, total, tax, ordered)
SELECT placed.id, line.id, number, item_id, asset_id, sku, print::jsonb, unit, total, tax, ordered
FROM placed, unnest($16::uuid[], $17::int[], $18::uuid[], $19::uuid[], $20::text[], $21::text[], $22::bigint[],
    $23::bigint[], $24::bigint[], $25::int[])
    AS line (id, number, item_id, asset_id, sku, print, unit, total, tax, ordered)
"""
GET: Final = f"SELECT {_FIELDS} FROM orders WHERE id = $1 AND owner_id = $2"  # noqa: S608
FIND: Final = f"""
SELECT {_FIELDS} FROM orders
WHERE id = coalesce((SELECT order_id FROM events WHERE aggregate_id = $1 AND order_id IS NOT NULL LIMIT 1), $1)
"""  # noqa: S608
# NO KEY: what points at an order may be written meanwhile, which the second update of a row in a transaction asks for.
LOCK: Final = f"SELECT {_FIELDS} FROM orders WHERE id = $1 FOR NO KEY UPDATE"  # noqa: S608
LIVING_OF: Final = """
SELECT id FROM orders WHERE owner_id = $1 AND state IN ('placed', 'awaiting_payment', 'paid') ORDER BY id
FOR NO KEY UPDATE
"""
PAGE: Final = f"""
SELECT {_FIELDS} FROM orders WHERE owner_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""  # noqa: S608
LEDGER: Final = f"""
SELECT {_FIELDS} FROM orders WHERE id = ANY ($1) OR (state = 'paid' AND created_at >= $2) ORDER BY id
"""  # noqa: S608
LINES: Final = f"""
SELECT id, order_id, number, item_id, asset_id, sku, print::text AS print, unit, total, tax, {_COUNTS} FROM order_lines
WHERE order_id = ANY ($1) ORDER BY order_id, number
"""  # noqa: S608
HOLDS: Final = "SELECT order_id, reason FROM order_holds WHERE order_id = ANY ($1)"
TIMELINE: Final = """
WITH told AS (
    SELECT id, type, seq, aggregate_id, actor, cause, trace_id, occurred_at, data::text AS data, tx_id, position
    FROM events WHERE order_id = $1
), caused AS (
    SELECT * FROM jobs WHERE cause IN (SELECT id FROM told)
)
SELECT occurred_at AS at, 'event' AS source, type AS name, '' AS state, actor, id, cause, trace_id, data,
       NULL::timestamptz AS due, NULL::int AS ms, tx_id::text::bigint AS major, position AS minor
FROM told
UNION ALL
SELECT created_at, 'job', kind, state || coalesce(' ' || outcome, '') || coalesce(': ' || last_reason, ''), 'system',
       id, cause, split_part(traceparent, '-', 2), NULL,
       CASE WHEN state = 'queued' AND not_before > now() THEN not_before END,
       (extract(epoch FROM finished_at - created_at) * 1000)::int, NULL, position
FROM caused
UNION ALL
SELECT s.recorded_at, 'step', caused.kind || ' ' || s.step, s.outcome || coalesce(': ' || s.reason, ''), 'system',
       caused.id, NULL, s.trace_id, NULL, NULL, s.ms, NULL, s.attempt
FROM caused JOIN step_runs s ON s.job_id = caused.id
ORDER BY at, source, major NULLS LAST, minor
"""

INSERT_RECIPIENT: Final = """
INSERT INTO order_recipients (order_id, owner_id, sealed, overridden) VALUES ($1, $2, $3, $4)
"""
RECIPIENT: Final = "SELECT sealed FROM order_recipients WHERE order_id = $1"
MAILED: Final = "SELECT EXISTS (SELECT FROM order_mails WHERE order_id = $1 AND kind = $2)"
RECORD_MAIL: Final = "INSERT INTO order_mails (order_id, kind) VALUES ($1, $2) ON CONFLICT DO NOTHING"

BY_QUOTE: Final = f"""
SELECT {_FIELDS} FROM orders WHERE owner_id = $1 AND quote_id = $2 AND state NOT IN ('cancelled', 'expired')
"""  # noqa: S608
LOCK_BY_LINE: Final = f"""
SELECT {_FIELDS} FROM orders WHERE id = (SELECT order_id FROM order_lines WHERE id = $1) FOR NO KEY UPDATE
"""  # noqa: S608
OVERDUE: Final = f"""
SELECT {_FIELDS} FROM orders WHERE state IN ('placed', 'awaiting_payment') AND expires_at < $1
ORDER BY expires_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608
WINDOW: Final = "UPDATE orders SET cancellable_until = $2 WHERE id = $1"
COUNTED: Final = """
WITH told AS (
    SELECT DISTINCT ON (id) type, data FROM events
    WHERE order_id = $1 AND type IN ('fulfilment.in_production', 'fulfilment.shipped', 'fulfilment.lines_cancelled',
        'fulfilment.cancelled')
), counted AS (
    SELECT (told.data->'lines'->>at)::uuid AS line, told.type, (told.data->'quantities'->>at)::int AS copies
    FROM told, generate_series(0, jsonb_array_length(told.data->'lines') - 1) AS at
)
SELECT line, coalesce(sum(copies) FILTER (WHERE type = 'fulfilment.in_production'), 0)::int AS in_production,
    coalesce(sum(copies) FILTER (WHERE type = 'fulfilment.shipped'), 0)::int AS shipped,
    coalesce(sum(copies) FILTER (WHERE type IN ('fulfilment.lines_cancelled', 'fulfilment.cancelled')), 0)::int
        AS cancelled
FROM counted GROUP BY line
"""
SAVE_COUNTS: Final = """
UPDATE order_lines SET in_production = greatest(in_production, least(ordered, $2)),
    shipped = greatest(shipped, least(ordered, $3)), cancelled = greatest(cancelled, least(ordered, $4))
WHERE id = $1
"""
SAVE_REFUNDED: Final = "UPDATE order_lines SET refunded = greatest(refunded, least(ordered, $2)) WHERE id = $1"
SAVE_MANIFEST: Final = """
INSERT INTO order_manifests (line_id, sha256, manifest) VALUES ($1, $2, $3::jsonb) ON CONFLICT (line_id) DO NOTHING
"""
KEEP_FILE: Final = """
INSERT INTO print_files (key, version, line_id, region, locked_until)
VALUES ($1, $2, $3, $4, now() + make_interval(days => $5)) ON CONFLICT DO NOTHING
"""
FILES_OF: Final = """
SELECT f.line_id, max(f.locked_until) AS locked_until FROM print_files f
JOIN order_lines l ON l.id = f.line_id JOIN orders o ON o.id = l.order_id
WHERE o.owner_id = $1 GROUP BY f.line_id ORDER BY f.line_id
"""
BEING_MADE: Final = (
    "SELECT payload->>'line' AS line FROM jobs WHERE owner_id = $1 AND kind = $2 AND state = 'published'"
)
REMOVABLE: Final = """
SELECT f.key, f.version, f.region FROM print_files f
JOIN order_lines l ON l.id = f.line_id JOIN orders o ON o.id = l.order_id JOIN owners w ON w.id = o.owner_id
WHERE f.locked_until < $1 AND (w.erased_at IS NOT NULL OR NOT EXISTS (
    SELECT FROM fulfilments n WHERE n.order_id = o.id AND (n.ended_at IS NULL OR n.ended_at >= $2)))
ORDER BY f.locked_until LIMIT $3
"""
RELOCK: Final = "UPDATE print_files SET locked_until = $3 WHERE key = $1 AND version = $2"
REMOVED: Final = "DELETE FROM print_files WHERE key = $1 AND version = $2"
FORGET_RECIPIENTS: Final = "DELETE FROM order_recipients WHERE owner_id = $1"
HOLD: Final = "INSERT INTO order_holds (order_id, reason) VALUES ($1, $2) ON CONFLICT DO NOTHING"
RELEASE_HOLD: Final = "DELETE FROM order_holds WHERE order_id = $1 AND reason = $2"


async def insert(tx: Transaction, order: Order, lines: Sequence[Line]) -> None:
    """Write a new order in its first state with its lines."""
    await tx.execute(
        INSERT,
        order.id,
        order.owner_id,
        order.draft_id,
        order.draft_version,
        order.draft_digest,
        order.quote_id,
        order.catalogue_version,
        order.currency,
        order.total,
        order.shipping,
        order.tax,
        order.shipping_option,
        order.country,
        order.promised_by,
        order.expires_at,
        [line.id for line in lines],
        [line.number for line in lines],
        [line.item_id for line in lines],
        [line.asset_id for line in lines],
        [line.sku for line in lines],
        [line.print.decode() for line in lines],
        [line.unit for line in lines],
        [line.total for line in lines],
        [line.tax for line in lines],
        [line.quantities.ordered for line in lines],
    )


async def transition(tx: Transaction, spine: Spine, order: Order, new: OrderState, told: Event, origin: Origin) -> None:
    """Move an order and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, order.id, order.state, new)
    await spine.record(tx, told, aggregate_id=order.id, owner_id=order.owner_id, origin=origin)


async def get(db: Readable, order_id: UUID, owner_id: UUID) -> Order | None:
    """An owner's order."""
    return _order(await db.one(GET, order_id, owner_id))


async def find(db: Readable, order_id: UUID) -> Order | None:
    """Anybody's order, by its own id or by that of anything in its story, for operators."""
    return _order(await db.one(FIND, order_id))


async def lock(tx: Transaction, order_id: UUID) -> Order | None:
    """An order, locked until the transaction ends."""
    return _order(await tx.one(LOCK, order_id))


async def living_of(tx: Transaction, owner_id: UUID) -> list[OrderId]:
    """An owner's orders that are not over, locked."""
    return [row["id"] for row in await tx.fetch(LIVING_OF, owner_id)]


async def page(db: Readable, owner_id: UUID, before: UUID | None, limit: int) -> list[Order]:
    """An owner's orders, newest first."""
    return [
        Order(**{**dict(row), "state": OrderState(row["state"])})
        for row in await db.fetch(PAGE, owner_id, before, limit)
    ]


async def ledger(db: Readable, since: datetime, orders: Sequence[UUID]) -> list[Order]:
    """Orders by id, and the paid ones that were placed since."""
    return [
        Order(**{**dict(row), "state": OrderState(row["state"])}) for row in await db.fetch(LEDGER, list(orders), since)
    ]


async def lines(db: Readable, orders: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """The lines of each order, by number."""
    found: dict[UUID, list[Line]] = {order: [] for order in orders}
    for row in await db.fetch(LINES, list(orders)):
        found[row["order_id"]].append(_line(row))
    return found


async def holds(db: Readable, orders: Sequence[UUID]) -> dict[UUID, frozenset[str]]:
    """Why each order is held."""
    found: dict[UUID, set[str]] = {order: set() for order in orders}
    for row in await db.fetch(HOLDS, list(orders)):
        found[row["order_id"]].add(row["reason"])
    return {order: frozenset(reasons) for order, reasons in found.items()}


async def timeline(db: Readable, order_id: UUID) -> list[Entry]:
    """Events, jobs and their steps of one order by time; events of one moment in the order of their writing."""
    return [
        Entry(**{name: row[name] for name in Entry.__struct_fields__}) for row in await db.fetch(TIMELINE, order_id)
    ]


async def by_quote(tx: Transaction, owner_id: UUID, quote_id: UUID) -> Order | None:
    """The living order that was placed at a quote."""
    return _order(await tx.one(BY_QUOTE, owner_id, quote_id))


async def lock_by_line(tx: Transaction, line_id: UUID) -> Order | None:
    """The order of a line, locked."""
    return _order(await tx.one(LOCK_BY_LINE, line_id))


async def overdue(tx: Transaction, now: datetime, limit: int) -> list[Order]:
    """Unpaid orders whose time is over, locked; those that somebody else has locked are left to the next look."""
    found = [_order(row) for row in await tx.fetch(OVERDUE, now, limit)]
    return [order for order in found if order is not None]


async def set_window(tx: Transaction, order_id: UUID, until: datetime) -> None:
    """Until when the order can be cancelled without asking anybody."""
    await tx.execute(WINDOW, order_id, until)


async def counted(tx: Transaction, order_id: UUID) -> list[tuple[UUID, int, int, int]]:
    """(line, in production, shipped, cancelled) as all events of the order's fulfilments tell."""
    return [tuple(row) for row in await tx.fetch(COUNTED, order_id)]


async def save_counts(tx: Transaction, counts: Sequence[tuple[UUID, int, int, int]]) -> None:
    """Counts only grow."""
    await tx.many(SAVE_COUNTS, counts)


async def save_refunded(tx: Transaction, copies: Mapping[UUID, int]) -> None:
    """Copies of each line whose price went back; counts only grow."""
    await tx.many(SAVE_REFUNDED, list(copies.items()))


async def save_manifest(tx: Transaction, line_id: UUID, made: MasterMade) -> None:
    """Keep the proof of a line's master for ever; a second attempt made the same bytes."""
    await tx.execute(SAVE_MANIFEST, line_id, made.sha256, bytes(made.manifest).decode())


async def keep_file(tx: Transaction, line_id: UUID, region: str, made: MasterMade) -> None:
    """Keep where a print file is, and until when it is locked: its store began to count before us."""
    await tx.execute(KEEP_FILE, made.key, made.version, line_id, region, LOCK_DAYS)


async def print_files_of(db: Readable, owner_id: UUID) -> list[tuple[UUID, datetime]]:
    """(line, locked until) of an owner's stored print files."""
    return [(row["line_id"], row["locked_until"]) for row in await db.fetch(FILES_OF, owner_id)]


async def files_being_made(db: Readable, owner_id: UUID) -> list[UUID]:
    """Lines of an owner whose print file a worker makes just now."""
    rows = await db.fetch(BEING_MADE, owner_id, KIND)
    return [ids.decode("order_line", row["line"]) for row in rows]


async def removable(db: Readable, now: datetime, ended_before: datetime, limit: int) -> list[PrintFile]:
    """Print files that are locked no more, of orders that are over since then or of erased persons."""
    return [PrintFile(**dict(row)) for row in await db.fetch(REMOVABLE, now, ended_before, limit)]


async def relock(tx: Transaction, file: PrintFile, until: datetime) -> None:
    """A print file is locked for longer than we knew."""
    await tx.execute(RELOCK, file.key, file.version, until)


async def removed(tx: Transaction, file: PrintFile) -> None:
    """A print file is not stored any more."""
    await tx.execute(REMOVED, file.key, file.version)


async def forget_recipients(tx: Transaction, owner_id: UUID) -> None:
    """Forget to whom an owner had things sent."""
    await tx.execute(FORGET_RECIPIENTS, owner_id)


async def hold(tx: Transaction, order_id: UUID, reason: str) -> None:
    """Hold an order; held for the same reason twice is held once."""
    await tx.execute(HOLD, order_id, reason)


async def release_hold(tx: Transaction, order_id: UUID, reason: str) -> None:
    """One reason less to hold it."""
    await tx.execute(RELEASE_HOLD, order_id, reason)


async def insert_recipient(tx: Transaction, order: Order, sealed: bytes, overridden: Sequence[str]) -> None:
    """Keep a sealed recipient, with the doubts about the address that the person put aside."""
    await tx.execute(INSERT_RECIPIENT, order.id, order.owner_id, sealed, list(overridden))


async def recipient(db: Readable, order_id: UUID) -> bytes | None:
    """The sealed recipient of an order."""
    sealed: bytes | None = await db.value(RECIPIENT, order_id)
    return sealed


async def was_mailed(db: Readable, order_id: UUID, kind: str) -> bool:
    """Whether a mail of this kind was sent."""
    return bool(await db.value(MAILED, order_id, kind))


async def record_mail(tx: Transaction, order_id: UUID, kind: str) -> None:
    """A mail of this kind was sent."""
    await tx.execute(RECORD_MAIL, order_id, kind)


def _order(row: Any | None) -> Order | None:
    return None if row is None else Order(**{**dict(row), "state": OrderState(row["state"])})


def _line(row: Any) -> Line:
    counts = Quantities(**{name: row[name] for name in Quantities.__struct_fields__})
    return Line(
        id=row["id"],
        number=row["number"],
        item_id=row["item_id"],
        asset_id=row["asset_id"],
        sku=row["sku"],
        print=row["print"].encode(),
        unit=row["unit"],
        total=row["total"],
        tax=row["tax"],
        quantities=counts,
    )

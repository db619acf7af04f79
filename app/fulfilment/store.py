"""All SQL of fulfilment."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.fulfilment.domain import (
    MACHINE,
    Fulfilment,
    FulfilmentItem,
    FulfilmentState,
    Line,
    Master,
    Shipment,
)
from app.fulfilment.facts import Facts, Parcel
from app.fulfilment.vendor import Observation
from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from base.ids import FulfilmentId, OrderId, OrderLineId, OwnerId, ShipmentId, new_id
from base.money import Money

_FIELDS: Final = ", ".join(Fulfilment.__struct_fields__)
INSERT: Final = """
INSERT INTO fulfilments (id, order_id, owner_id, state, vendor, shipping_option, not_before)
VALUES ($1, $2, $3, 'planned', $4, $5, $6)
"""
INSERT_LINE: Final = """
INSERT INTO fulfilment_lines (fulfilment_id, line_id, number, asset_id, sku, copies, draft_digest, paper, print)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
"""
LOCK: Final = f"SELECT {_FIELDS} FROM fulfilments WHERE id = $1 FOR NO KEY UPDATE"  # noqa: S608
GET: Final = f"SELECT {_FIELDS} FROM fulfilments WHERE id = $1"  # noqa: S608
LOCK_LIVING: Final = f"""
SELECT {_FIELDS} FROM fulfilments WHERE order_id = $1 ORDER BY state IN ('cancelled', 'failed'), id DESC LIMIT 1
FOR NO KEY UPDATE
"""  # noqa: S608
OF_ORDER: Final = f"SELECT {_FIELDS} FROM fulfilments WHERE order_id = $1 ORDER BY id"  # noqa: S608
BY_VENDOR: Final = "SELECT id FROM fulfilments WHERE vendor = $1 AND vendor_order_id = $2"
LINES: Final = """
SELECT line_id AS id, number, asset_id, sku, copies, draft_digest, paper, print::text AS print, master::text AS master
FROM fulfilment_lines WHERE fulfilment_id = $1 ORDER BY number
"""
SET_MASTER: Final = """
UPDATE fulfilment_lines SET master = $3::jsonb WHERE fulfilment_id = $1 AND line_id = $2 AND master IS NULL
"""
BEGIN: Final = """
UPDATE fulfilments SET begun_at = $2, links_until = $3, quoted_cost = $4, quoted_currency = $5 WHERE id = $1
"""
SENT: Final = "UPDATE fulfilments SET vendor_order_id = $2 WHERE id = $1 AND vendor_order_id IS NULL"
REASON: Final = "UPDATE fulfilments SET cancel_reason = $2 WHERE id = $1"
REOPENED: Final = "UPDATE fulfilments SET ended_at = NULL WHERE id = $1"
ENDED: Final = "UPDATE fulfilments SET ended_at = coalesce(ended_at, now()) WHERE id = $1"
LOOKED: Final = "UPDATE fulfilments SET looked_at = now() WHERE id = $1"
FACTS: Final = "SELECT facts::text FROM fulfilments WHERE id = $1"
SET_FACTS: Final = "UPDATE fulfilments SET facts = $2::jsonb, changed_at = now() WHERE id = $1"
ADD_FACT: Final = """
INSERT INTO vendor_facts (fulfilment_id, digest, via, seen, sealed) VALUES ($1, $2, $3, $4::jsonb, $5)
ON CONFLICT DO NOTHING
"""
OF_OWNER: Final = "SELECT id FROM fulfilments WHERE owner_id = $1 ORDER BY id FOR NO KEY UPDATE"
OLD: Final = """
SELECT id FROM fulfilments f WHERE ended_at < $1 AND (
    EXISTS (SELECT FROM shipments s JOIN shipment_trackings t ON t.shipment_id = s.id WHERE s.fulfilment_id = f.id)
    OR EXISTS (SELECT FROM vendor_facts v WHERE v.fulfilment_id = f.id AND v.sealed IS NOT NULL))
ORDER BY ended_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""
FORGET_TRACKINGS: Final = """
DELETE FROM shipment_trackings t USING shipments s WHERE s.id = t.shipment_id AND s.fulfilment_id = $1
"""
SEEN: Final = "SELECT digest, seen::text AS seen FROM vendor_facts WHERE fulfilment_id = $1"
REPLACE_FACT: Final = """
WITH old AS (DELETE FROM vendor_facts WHERE fulfilment_id = $1 AND digest = $2 RETURNING seen_at, via)
INSERT INTO vendor_facts (fulfilment_id, digest, seen_at, via, seen) SELECT $1, $3, seen_at, via, $4::jsonb FROM old
ON CONFLICT DO NOTHING
"""
FORGET_SAID: Final = "UPDATE vendor_facts SET sealed = NULL WHERE fulfilment_id = $1 AND sealed IS NOT NULL"
UPSERT_SHIPMENT: Final = """
INSERT INTO shipments AS s (id, fulfilment_id, order_id, vendor_shipment_id, status, carrier, service, dispatched_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (fulfilment_id, vendor_shipment_id) DO UPDATE SET status = excluded.status, carrier = excluded.carrier,
    service = excluded.service, dispatched_at = excluded.dispatched_at
RETURNING id
"""
ADD_SHIPMENT_LINE: Final = "INSERT INTO shipment_lines (shipment_id, line_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
ADD_TRACKING: Final = """
INSERT INTO shipment_trackings (shipment_id, number, url) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
SHIPMENTS: Final = """
SELECT s.id, s.vendor_shipment_id, s.status AS state, s.carrier, s.service, s.dispatched_at,
       ARRAY(SELECT line_id FROM shipment_lines l WHERE l.shipment_id = s.id ORDER BY line_id) AS lines,
       ARRAY(SELECT number FROM shipment_trackings t WHERE t.shipment_id = s.id ORDER BY number) AS trackings,
       ARRAY(SELECT url FROM shipment_trackings t WHERE t.shipment_id = s.id ORDER BY number) AS urls
FROM shipments s WHERE s.order_id = $1 ORDER BY s.vendor_shipment_id
"""
LEDGER: Final = f"""
SELECT {_FIELDS}, facts::text AS facts FROM fulfilments
WHERE id = ANY ($1) OR order_id = ANY ($2) OR (created_at >= $3 AND vendor_order_id IS NOT NULL) ORDER BY id
"""  # noqa: S608
FORGOTTEN: Final = """
SELECT f.id, f.state FROM fulfilments f
WHERE (f.state IN ('submitted', 'cancelling') OR (f.state = 'submitting' AND f.not_before < now() - interval '1 hour'))
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.state IN ('queued', 'published', 'parked') AND j.dedupe_key IN
      ('fulfilment.submit@' || f.id, 'fulfilment.cancel@' || f.id, 'fulfilment.poll@' || f.id))
ORDER BY f.changed_at LIMIT 500
"""


async def insert(
    tx: Transaction,
    fulfilment_id: FulfilmentId,
    order_id: OrderId,
    owner_id: OwnerId,
    *,
    vendor: str,
    shipping_option: str,
    not_before: datetime,
    items: Sequence[FulfilmentItem],
) -> None:
    """Write a new fulfilment with its lines."""
    await tx.execute(INSERT, fulfilment_id, order_id, owner_id, vendor, shipping_option, not_before)
    rows = [
        (fulfilment_id, i.line_id, n, i.asset_id, i.sku, i.copies, i.draft_digest, i.paper, i.print.decode())
        for n, i in enumerate(items, 1)
    ]
    await tx.many(INSERT_LINE, rows)


async def tell(tx: Transaction, spine: Spine, fulfilment: Fulfilment, told: Event, origin: Origin) -> None:
    """Record an event of a fulfilment."""
    await spine.record(tx, told, aggregate_id=fulfilment.id, owner_id=fulfilment.owner_id, origin=origin)


async def transition(
    tx: Transaction, spine: Spine, fulfilment: Fulfilment, new: FulfilmentState, told: Event, origin: Origin
) -> Fulfilment:
    """Move a fulfilment and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, fulfilment.id, fulfilment.state, new)
    if new in (FulfilmentState.CANCELLED, FulfilmentState.CLOSED, FulfilmentState.FAILED):
        await tx.execute(ENDED, fulfilment.id)
    elif fulfilment.state is FulfilmentState.FAILED:
        await tx.execute(REOPENED, fulfilment.id)
    await tell(tx, spine, fulfilment, told, origin)
    return msgspec.structs.replace(fulfilment, state=new)


async def lock(tx: Transaction, fulfilment_id: UUID) -> Fulfilment | None:
    """A fulfilment, locked until the transaction ends."""
    row = await tx.one(LOCK, fulfilment_id)
    return None if row is None else _fulfilment(row)


async def get(db: Readable, fulfilment_id: UUID) -> Fulfilment | None:
    """A fulfilment as it is."""
    row = await db.one(GET, fulfilment_id)
    return None if row is None else _fulfilment(row)


async def lock_living(tx: Transaction, order_id: UUID) -> Fulfilment | None:
    """The order's fulfilment that is not given up, else its latest; locked."""
    row = await tx.one(LOCK_LIVING, order_id)
    return None if row is None else _fulfilment(row)


async def of_order(db: Readable, order_id: UUID) -> list[Fulfilment]:
    """Every fulfilment of an order, oldest first."""
    return [_fulfilment(r) for r in await db.fetch(OF_ORDER, order_id)]


async def by_vendor_order(db: Readable, vendor: str, vendor_order_id: str) -> FulfilmentId | None:
    """Whose order at a vendor that is."""
    found: FulfilmentId | None = await db.value(BY_VENDOR, vendor, vendor_order_id)
    return found


async def lines(db: Readable, fulfilment_id: UUID) -> list[Line]:
    """A fulfilment's lines by number."""
    return [_line(r) for r in await db.fetch(LINES, fulfilment_id)]


async def set_master(tx: Transaction, fulfilment_id: UUID, master: Master) -> bool:
    """Note a line's print file, once; False when it has one or there is no such line."""
    encoded = msgspec.json.encode(master).decode()
    return await tx.execute(SET_MASTER, fulfilment_id, master.line_id, encoded) == 1


async def begin(tx: Transaction, fulfilment_id: UUID, now: datetime, links_until: datetime, cost: Money | None) -> None:
    """From now on the vendor may have the order, for what it said that it costs."""
    quoted = (None, None) if cost is None else (cost.amount, cost.currency)
    await tx.execute(BEGIN, fulfilment_id, now, links_until, *quoted)


async def sent(tx: Transaction, fulfilment_id: UUID, vendor_order_id: str) -> bool:
    """Note the vendor's name for the order, once."""
    return await tx.execute(SENT, fulfilment_id, vendor_order_id) == 1


async def set_reason(tx: Transaction, fulfilment_id: UUID, reason: str) -> None:
    """Why it is to be cancelled."""
    await tx.execute(REASON, fulfilment_id, reason)


async def looked(tx: Transaction, fulfilment_id: UUID) -> None:
    """The vendor was asked just now."""
    await tx.execute(LOOKED, fulfilment_id)


async def facts(db: Readable, fulfilment_id: UUID) -> Facts:
    """The merged facts."""
    return msgspec.json.decode(str(await db.value(FACTS, fulfilment_id)), type=Facts)


async def set_facts(tx: Transaction, fulfilment_id: UUID, merged: Facts) -> None:
    """Store merged facts."""
    await tx.execute(SET_FACTS, fulfilment_id, msgspec.json.encode(merged).decode())


async def add_fact(tx: Transaction, fulfilment_id: UUID, via: str, seen: Observation, sealed: bytes | None) -> bool:
    """Keep what a vendor said, as it came; False when it said the same before."""
    digest, normal = _normal(seen)
    return await tx.execute(ADD_FACT, fulfilment_id, digest, via, normal, sealed) == 1


def _normal(seen: Observation) -> tuple[str, str]:
    normal = msgspec.json.encode(seen)
    return hashlib.sha256(normal).hexdigest(), normal.decode()


async def of_owner(tx: Transaction, owner_id: UUID) -> list[FulfilmentId]:
    """An owner's fulfilments, locked."""
    return [row["id"] for row in await tx.fetch(OF_OWNER, owner_id)]


async def with_old_trackings(tx: Transaction, ended_before: datetime, limit: int) -> list[FulfilmentId]:
    """Fulfilments that ended before and still tell where parcels went, locked."""
    return [row["id"] for row in await tx.fetch(OLD, ended_before, limit)]


async def forget_trackings(tx: Transaction, fulfilment_id: UUID) -> None:
    """Forget the carriers' numbers of a fulfilment's parcels, and its vendor's sealed words."""
    await tx.execute(FORGET_TRACKINGS, fulfilment_id)
    await tx.execute(FORGET_SAID, fulfilment_id)


async def seen(db: Readable, fulfilment_id: UUID) -> list[tuple[str, Observation]]:
    """(digest, observation) of everything a vendor said of a fulfilment."""
    rows = await db.fetch(SEEN, fulfilment_id)
    return [(row["digest"], msgspec.json.decode(row["seen"], type=Observation)) for row in rows]


async def replace_fact(tx: Transaction, fulfilment_id: UUID, digest: str, now: Observation) -> None:
    """Have an observation say this from now on; of two that then say the same, one stays."""
    fresh, normal = _normal(now)
    if fresh != digest:
        await tx.execute(REPLACE_FACT, fulfilment_id, digest, fresh, normal)


async def set_shipment(
    tx: Transaction, fulfilment: Fulfilment, parcel: Parcel, line_ids: Sequence[OrderLineId]
) -> ShipmentId:
    """Make a parcel's rows say what its merged facts say; numbers and lines are only added."""
    status = "shipped" if parcel.shipped else "cancelled" if parcel.cancelled else "processing"
    carrier, service = parcel.carriers[-1] if parcel.carriers else (None, None)
    dispatched = datetime.fromisoformat(parcel.dispatched_at[0]) if parcel.dispatched_at else None
    row = (new_id(), fulfilment.id, fulfilment.order_id, parcel.id, status, carrier, service, dispatched)
    shipment_id: ShipmentId = await tx.value(UPSERT_SHIPMENT, *row)
    await tx.many(ADD_SHIPMENT_LINE, [(shipment_id, line) for line in line_ids])
    await tx.many(ADD_TRACKING, [(shipment_id, t.number, t.url) for t in parcel.trackings])
    return shipment_id


async def shipments(db: Readable, order_id: UUID) -> list[Shipment]:
    """An order's parcels."""
    return [_shipment(r) for r in await db.fetch(SHIPMENTS, order_id)]


async def ledger(
    db: Readable, since: datetime, fulfilments: Sequence[UUID], orders: Sequence[UUID]
) -> list[tuple[Fulfilment, Facts]]:
    """Fulfilments by id or order, and those that a vendor got since, each with its merged facts."""
    rows = [dict(row) for row in await db.fetch(LEDGER, list(fulfilments), list(orders), since)]
    told = [msgspec.json.decode(row.pop("facts"), type=Facts) for row in rows]
    return list(zip(map(_fulfilment, rows), told, strict=True))


async def forgotten(tx: Transaction) -> list[tuple[FulfilmentId, FulfilmentState]]:
    """Living fulfilments that no job looks after."""
    return [(r["id"], FulfilmentState(r["state"])) for r in await tx.fetch(FORGOTTEN)]


def _fulfilment(row: Any) -> Fulfilment:
    return Fulfilment(**{**dict(row), "state": FulfilmentState(row["state"])})


def _line(row: Any) -> Line:
    master = None if row["master"] is None else msgspec.json.decode(row["master"], type=Master)
    return Line(**{**dict(row), "print": row["print"].encode(), "master": master})


def _shipment(row: Any) -> Shipment:
    tuples = {name: tuple(row[name]) for name in ("lines", "trackings", "urls")}
    return Shipment(**{**dict(row), **tuples})

"""Events: what happened, append-only, written in the transaction of the fact they tell.

Data holds ids, codes, amounts and times only, by a closed set of field types: nothing personal, so nothing to erase.
Readers page by (tx_id, position) below the oldest running transaction; any other order loses late commits. `tx_id` is
the writing transaction's number, or that of the aggregate's event before where that one is higher: so each thing's
events are read in their order, and a reader who has passed a number has still seen all that was written under it.
"""

import types
import typing
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from app.kernel.db import Database, Transaction
from app.kernel.gathered import NTH, Gathered
from base import telemetry
from base.ids import OrderId, new_id
from base.money import Money

Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._/-]{0,63}$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]

EVENT_TYPES: Final[dict[str, type["Event"]]] = {}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every event: `type` is `aggregate.past_participle`, fields are of the closed set."""

    type: ClassVar[str]
    version: ClassVar[int] = 1


class OrderEvent(Event, frozen=True, kw_only=True):
    """Base of what belongs to an order's story, whichever slice tells it."""

    order_id: OrderId


E = TypeVar("E", bound=type[Event])
T = TypeVar("T")


def event(cls: E) -> E:
    """Register an event type; raises `TypeError` for a field that could carry something personal."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in cls.__struct_fields__:
        if not _is_harmless(hints[field]):
            raise TypeError(f"{cls.__name__}.{field}: events hold ids, codes, amounts and times only")
    if cls.type in EVENT_TYPES:
        raise TypeError(f"event type {cls.type!r} is defined twice")
    EVENT_TYPES[cls.type] = cls
    return cls


def _is_harmless(hint: Any) -> bool:
    if hint in (Code, Digest, int, bool, datetime, UUID, Money, type(None)):
        return True
    hint = getattr(hint, "__supertype__", hint)
    if isinstance(hint, type):
        return issubclass(hint, (UUID, StrEnum))
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return all(_is_harmless(arg) for arg in args)
    return origin is tuple and all(arg is ... or _is_harmless(arg) for arg in args)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an event: `actor` a code (`owner`, `system`, `operator`, `partner`), `cause` what it answers to."""

    actor: str
    cause: UUID | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored."""

    tx_id: int
    position: int
    id: UUID
    aggregate_id: UUID
    seq: int
    type: str
    version: int
    owner_id: UUID | None
    order_id: UUID | None
    actor: str
    cause: UUID | None
    trace_id: str | None
    occurred_at: datetime
    data: bytes


APPEND: Final = """
WITH head AS (
    INSERT INTO event_heads AS h (aggregate_id, seq, tx_id) VALUES ($2, 1, pg_current_xact_id())
    ON CONFLICT (aggregate_id) DO UPDATE SET seq = h.seq + 1, tx_id = greatest(h.tx_id, pg_current_xact_id())
    RETURNING seq, tx_id
)
INSERT INTO events
    (id, aggregate_id, seq, tx_id, type, schema_version, owner_id, order_id, actor, cause, trace_id, data)
SELECT $1, $2, head.seq, head.tx_id, $3, $4, $5, $6, $7, $8, $9, $10::jsonb FROM head
RETURNING tx_id::text::bigint AS tx_id, position, seq, occurred_at
"""


async def append(
    tx: Transaction,
    told: Event,
    *,
    aggregate_id: UUID,
    owner_id: UUID | None,
    origin: Origin,
) -> Recorded:
    """Write one event; called by `Spine.record` only, which also plans what the event causes."""
    event_id, trace_id = new_id(), telemetry.trace_id()
    order_id = getattr(told, "order_id", None)
    data = msgspec.json.encode(told)
    row = await tx.one(
        APPEND,
        event_id,
        aggregate_id,
        told.type,
        told.version,
        owner_id,
        order_id,
        origin.actor,
        origin.cause,
        trace_id,
        data.decode(),
    )
    assert row is not None
    return Recorded(
        tx_id=row["tx_id"],
        position=row["position"],
        id=event_id,
        aggregate_id=aggregate_id,
        seq=row["seq"],
        type=told.type,
        version=told.version,
        owner_id=owner_id,
        order_id=order_id,
        actor=origin.actor,
        cause=origin.cause,
        trace_id=trace_id,
        occurred_at=row["occurred_at"],
        data=data,
    )


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A place in the stream; readers continue after it."""

    tx_id: int
    position: int


START: Final = Cursor(0, 0)

_COLUMNS: Final = """tx_id::text::bigint AS tx_id, position, id, aggregate_id, seq, type, schema_version, owner_id,
    order_id, actor, cause, trace_id, occurred_at, data::text AS data"""
READ_OWNERS: Final = f"""
SELECT wanted.{NTH}, found.*
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[]) WITH ORDINALITY
    AS wanted (owner, after_tx, after_position, most, {NTH})
CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM events
    WHERE owner_id = wanted.owner AND (tx_id, position) > (wanted.after_tx::xid8, wanted.after_position)
        AND tx_id < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY events.tx_id, events.position LIMIT wanted.most
) AS found
ORDER BY wanted.{NTH}, found.tx_id, found.position
"""  # noqa: S608
READ_ALL: Final = f"""
SELECT {_COLUMNS} FROM events
WHERE (tx_id, position) > ($1::text::xid8, $2) AND tx_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY tx_id, position LIMIT $3
"""  # noqa: S608


class OwnersEvents(Generic[T]):
    """Owners' settled events, read for many streams at once and made into `of` once for all of them."""

    def __init__(self, db: Database, of: Callable[[list[Recorded]], T]) -> None:
        self._each = Gathered(db, READ_OWNERS, lambda rows: of([_recorded(row) for row in rows]))

    async def read(self, owner_id: UUID, after: Cursor, limit: int) -> T:
        """An owner's events after a cursor, in cursor order."""
        return await self._each.read(owner_id, str(after.tx_id), after.position, limit)


async def read_all(tx: Transaction, after: Cursor, limit: int) -> list[Recorded]:
    """Everybody's settled events after a cursor, in cursor order."""
    return [_recorded(r) for r in await tx.fetch(READ_ALL, str(after.tx_id), after.position, limit)]


def _recorded(row: Any) -> Recorded:
    return Recorded(
        tx_id=row["tx_id"],
        position=row["position"],
        id=row["id"],
        aggregate_id=row["aggregate_id"],
        seq=row["seq"],
        type=row["type"],
        version=row["schema_version"],
        owner_id=row["owner_id"],
        order_id=row["order_id"],
        actor=row["actor"],
        cause=row["cause"],
        trace_id=row["trace_id"],
        occurred_at=row["occurred_at"],
        data=row["data"].encode(),
    )


ENSURE_PARTITION: Final = "SELECT ensure_event_partitions($1)"


async def ensure_partitions(tx: Transaction, months_ahead: int = 3) -> None:
    """Make this month's partition and those of the next months, so that none is missing at midnight."""
    await tx.execute(ENSURE_PARTITION, months_ahead)

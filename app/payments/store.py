"""All SQL of payments."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.payments.domain import (
    MACHINE,
    REFUNDS,
    DisputeFacts,
    IntentFacts,
    Ledger,
    Payment,
    PaymentState,
    Refund,
    RefundLine,
    RefundState,
)
from base.ids import OrderId, OwnerId, PaymentId, RefundId
from base.money import Money

_P: Final = """id, order_id, owner_id, state, attempt, amount, currency, intent_id, key_number, asked_at, spoiled_at,
    polls, cancel_reason"""
_R: Final = """id, payment_id, order_id, owner_id, state, amount, currency, reason, lines::text AS lines, stripe_id,
    stray_intent, key_number, asked_at, spoiled_at, polls, created_at"""
_LIVE: Final = f"SELECT {_P} FROM payments WHERE order_id = $1 AND state <> 'cancelled'"  # noqa: S608

INSERT: Final = f"""
INSERT INTO payments (id, order_id, owner_id, state, attempt, amount, currency)
SELECT $1, $2, $3, 'created', 1 + count(*), $4, $5 FROM payments WHERE order_id = $2
ON CONFLICT (order_id) WHERE state <> 'cancelled' DO NOTHING
RETURNING {_P}
"""  # noqa: S608
GET: Final = f"SELECT {_P} FROM payments WHERE id = $1"  # noqa: S608
LOCK: Final = f"{GET} FOR NO KEY UPDATE"
LOCK_LIVE: Final = f"{_LIVE} FOR NO KEY UPDATE"
LATEST: Final = f"SELECT {_P} FROM payments WHERE order_id = $1 ORDER BY attempt DESC LIMIT 1"  # noqa: S608
BY_INTENT: Final = "SELECT id FROM payments WHERE intent_id = $1"
ASK: Final = "UPDATE payments SET asked_at = coalesce(asked_at, $2) WHERE id = $1 AND state <> 'cancelled'"
SPOILED: Final = "UPDATE payments SET spoiled_at = coalesce(spoiled_at, $2) WHERE id = $1"
NEXT_KEY: Final = """
UPDATE payments SET key_number = key_number + 1, asked_at = $3, spoiled_at = NULL WHERE id = $1 AND key_number = $2
"""
ADOPT: Final = "UPDATE payments SET intent_id = $2 WHERE id = $1 AND intent_id IS NULL"
POLLED: Final = "UPDATE payments SET polls = polls + 1 WHERE id = $1"
POLL_AFRESH: Final = "UPDATE payments SET polls = 0 WHERE id = $1"
WANT_CANCEL: Final = "UPDATE payments SET cancel_reason = $2 WHERE id = $1"
KNOWN: Final = (
    "SELECT status, failed_charge, mismatch, read_at, refunded, received FROM payment_facts WHERE intent_id = $1"
)
KEEP_FACTS: Final = """
INSERT INTO payment_facts AS f (intent_id, payment_id, order_ref, status, amount, currency, received, refunded,
                                failed_charge, failure, mismatch, read_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (intent_id) DO UPDATE
SET payment_id = coalesce(f.payment_id, excluded.payment_id), status = excluded.status, amount = excluded.amount,
    received = greatest(f.received, excluded.received), refunded = excluded.refunded,
    failed_charge = coalesce(excluded.failed_charge, f.failed_charge), failure = coalesce(excluded.failure, f.failure),
    mismatch = coalesce(excluded.mismatch, f.mismatch), read_at = greatest(f.read_at, excluded.read_at)
"""
FAILURE: Final = """
INSERT INTO payment_failures (payment_id, charge, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING charge
"""
INSERT_REFUND: Final = """
INSERT INTO refunds (id, payment_id, order_id, owner_id, state, amount, currency, reason, lines, stray_intent)
VALUES ($1, $2, $3, $4, 'requested', $5, $6, $7, $8::jsonb, $9)
"""
REFUND: Final = f"SELECT {_R} FROM refunds WHERE id = $1"  # noqa: S608
LOCK_REFUND: Final = f"{REFUND} FOR NO KEY UPDATE"
REFUNDS_OF: Final = f"SELECT {_R} FROM refunds WHERE payment_id = $1 ORDER BY id"  # noqa: S608
GIVEN: Final = f"""
SELECT {_R} FROM refunds WHERE order_id = $1 AND state <> 'failed' AND stray_intent IS NULL
"""  # noqa: S608
REFUND_ASKED: Final = "UPDATE refunds SET asked_at = $2 WHERE id = $1 AND asked_at IS NULL"
REFUND_SPOILED: Final = "UPDATE refunds SET spoiled_at = coalesce(spoiled_at, $2) WHERE id = $1"
REFUND_NEXT_KEY: Final = """
UPDATE refunds SET key_number = key_number + 1, asked_at = NULL, spoiled_at = NULL WHERE id = $1
"""
REFUND_KNOWN: Final = "UPDATE refunds SET stripe_id = $2, failure = coalesce($3, failure) WHERE id = $1"
REFUND_POLLED: Final = "UPDATE refunds SET polls = polls + 1 WHERE id = $1"
SUMS: Final = """
SELECT coalesce(sum(amount) FILTER (WHERE state = 'succeeded'), 0)::bigint AS refunded,
       coalesce(sum(amount) FILTER (WHERE state = 'requested'), 0)::bigint AS refunding
FROM refunds WHERE payment_id = $1 AND stray_intent IS NULL
"""
LEDGER: Final = f"""
SELECT {_P} FROM payments WHERE intent_id = ANY ($1) OR id = ANY ($2) OR order_id = ANY ($3)
"""  # noqa: S608
LEDGER_REFUNDS: Final = f"SELECT {_R} FROM refunds WHERE created_at >= $1 OR payment_id = ANY ($2)"  # noqa: S608
DISPUTED: Final = "SELECT DISTINCT payment_id FROM payment_disputes WHERE payment_id = ANY ($1)"
DISPUTE_STATUS: Final = "SELECT status FROM payment_disputes WHERE id = $1"
LOST_TO_BANK: Final = """
SELECT coalesce(sum(amount), 0)::bigint FROM payment_disputes WHERE payment_id = $1 AND status = 'lost'
"""
DISPUTES_OF: Final = """
SELECT p.order_id, d.status FROM payments p JOIN payment_disputes d ON d.payment_id = p.id WHERE p.order_id = ANY ($1)
"""
KEEP_DISPUTE: Final = """
INSERT INTO payment_disputes (id, payment_id, amount, currency, reason, status, due_by)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE
SET amount = excluded.amount, reason = excluded.reason, status = excluded.status, due_by = excluded.due_by,
    changed_at = now()
"""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier reading of an intent said."""

    status: str
    failed_charge: str | None
    mismatch: str | None
    read_at: datetime
    refunded: int
    received: int


REFUNDED_COPIES: Final = """
SELECT (part->>'line_id')::uuid AS line, sum((part->>'copies')::int)::int AS copies
FROM refunds, jsonb_array_elements(lines) AS part WHERE order_id = $1 AND state = 'succeeded' GROUP BY 1
"""


async def insert(tx: Transaction, payment_id: UUID, order_id: UUID, owner_id: UUID, amount: Money) -> Payment | None:
    """Write a new payment; None when the order has one that lives."""
    return _payment(await tx.one(INSERT, payment_id, order_id, owner_id, amount.amount, amount.currency))


async def get(db: Readable, payment_id: UUID) -> Payment | None:
    """A payment."""
    return _payment(await db.one(GET, payment_id))


async def lock(tx: Transaction, payment_id: UUID) -> Payment | None:
    """A payment, locked."""
    return _payment(await tx.one(LOCK, payment_id))


async def lock_live(tx: Transaction, order_id: UUID) -> Payment | None:
    """The order's payment that is not cancelled, locked."""
    return _payment(await tx.one(LOCK_LIVE, order_id))


async def latest(db: Readable, order_id: UUID) -> Payment | None:
    """The order's last payment."""
    return _payment(await db.one(LATEST, order_id))


async def by_intent(db: Readable, intent_id: str) -> UUID | None:
    """The payment that has this intent."""
    found: UUID | None = await db.value(BY_INTENT, intent_id)
    return found


async def note(tx: Transaction, sql: str, row: UUID, *values: object) -> None:
    """One of this module's small updates by id."""
    await tx.execute(sql, row, *values)


async def ask(tx: Transaction, payment_id: UUID, now: datetime) -> bool:
    """Note that Stripe is asked from now on; False when the payment was cancelled meanwhile."""
    return await tx.execute(ASK, payment_id, now) == 1


async def known(db: Readable, intent_id: str) -> Known | None:
    """What is known of an intent."""
    row = await db.one(KNOWN, intent_id)
    return None if row is None else Known(**dict(row))


async def keep_facts(tx: Transaction, payment_id: UUID | None, facts: IntentFacts, mismatch: str | None) -> None:
    """Merge what Stripe said; the caller has checked that it is not older than what is known."""
    await tx.execute(
        KEEP_FACTS,
        facts.id,
        payment_id,
        facts.order_ref,
        facts.status,
        facts.amount,
        facts.currency.upper(),
        facts.received,
        facts.refunded,
        facts.failed_charge,
        facts.failure,
        mismatch,
        facts.read_at,
    )


async def transition(
    tx: Transaction, spine: Spine, payment: Payment, new: PaymentState, told: Event, origin: Origin
) -> None:
    """Move a payment and tell of it."""
    await states.compare_and_set(tx, MACHINE, payment.id, payment.state, new)
    await record(tx, spine, payment, told, origin)


async def record(tx: Transaction, spine: Spine, payment: Payment, told: Event, origin: Origin) -> None:
    """Tell something of a payment."""
    await spine.record(tx, told, aggregate_id=payment.id, owner_id=payment.owner_id, origin=origin)


async def add_failure(tx: Transaction, payment_id: UUID, charge: str, reason: str) -> bool:
    """Note a declined try; False when it was heard of before."""
    return await tx.value(FAILURE, payment_id, charge, reason) is not None


async def insert_refund(
    tx: Transaction,
    refund_id: UUID,
    payment: Payment,
    amount: int,
    reason: str,
    lines: Sequence[RefundLine],
    *,
    stray_intent: str | None = None,
) -> None:
    """Write a new refund."""
    await tx.execute(
        INSERT_REFUND,
        refund_id,
        payment.id,
        payment.order_id,
        payment.owner_id,
        amount,
        payment.amount.currency,
        reason,
        msgspec.json.encode(lines).decode(),
        stray_intent,
    )


async def refund(db: Readable, refund_id: UUID) -> Refund | None:
    """A refund."""
    return _refund(await db.one(REFUND, refund_id))


async def lock_refund(tx: Transaction, refund_id: UUID) -> Refund | None:
    """A refund, locked."""
    return _refund(await tx.one(LOCK_REFUND, refund_id))


async def refunds_of(db: Readable, payment_id: UUID) -> list[Refund]:
    """Every refund of a payment."""
    found = (_refund(row) for row in await db.fetch(REFUNDS_OF, payment_id))
    return [one for one in found if one is not None]


async def given(db: Readable, order_id: UUID) -> list[Refund]:
    """Every refund of an order's own payment that has not failed."""
    found = (_refund(row) for row in await db.fetch(GIVEN, order_id))
    return [one for one in found if one is not None]


async def move_refund(
    tx: Transaction, spine: Spine, refund: Refund, new: RefundState, told: Event, origin: Origin
) -> None:
    """Move a refund and tell of it."""
    await states.compare_and_set(tx, REFUNDS, refund.id, refund.state, new)
    await spine.record(tx, told, aggregate_id=refund.id, owner_id=refund.owner_id, origin=origin)


async def tell_refund(
    tx: Transaction, spine: Spine, payment: Payment, refund_id: UUID, told: Event, origin: Origin
) -> None:
    """Tell something of a refund."""
    await spine.record(tx, told, aggregate_id=refund_id, owner_id=payment.owner_id, origin=origin)


async def sums(db: Readable, payment_id: UUID) -> tuple[int, int]:
    """What is refunded and what is being refunded, in minor units."""
    row = await db.one(SUMS, payment_id)
    assert row is not None
    return row["refunded"], row["refunding"]


def _payment(row: Any) -> Payment | None:
    if row is None:
        return None
    return Payment(
        id=PaymentId(row["id"]),
        order_id=OrderId(row["order_id"]),
        owner_id=OwnerId(row["owner_id"]),
        state=PaymentState(row["state"]),
        attempt=row["attempt"],
        amount=Money(row["amount"], row["currency"]),
        intent_id=row["intent_id"],
        key_number=row["key_number"],
        asked_at=row["asked_at"],
        spoiled_at=row["spoiled_at"],
        polls=row["polls"],
        cancel_reason=row["cancel_reason"],
    )


def _refund(row: Any) -> Refund | None:
    if row is None:
        return None
    return Refund(
        id=RefundId(row["id"]),
        payment_id=PaymentId(row["payment_id"]),
        order_id=OrderId(row["order_id"]),
        owner_id=OwnerId(row["owner_id"]),
        state=RefundState(row["state"]),
        amount=Money(row["amount"], row["currency"]),
        reason=row["reason"],
        lines=msgspec.json.decode(row["lines"], type=tuple[RefundLine, ...]),
        stripe_id=row["stripe_id"],
        stray_intent=row["stray_intent"],
        key_number=row["key_number"],
        asked_at=row["asked_at"],
        spoiled_at=row["spoiled_at"],
        polls=row["polls"],
        created_at=row["created_at"],
    )


async def refunded_copies(tx: Readable, order_id: UUID) -> dict[UUID, int]:
    """Copies given back by succeeded refunds, by line."""
    return {row["line"]: row["copies"] for row in await tx.fetch(REFUNDED_COPIES, order_id)}


async def ledger(
    db: Readable, since: datetime, intents: Sequence[str], payments: Sequence[UUID], orders: Sequence[UUID]
) -> Ledger:
    """Payments by intent, id or order, with their refunds and all refunds made since."""
    rows = await db.fetch(LEDGER, list(intents), list(payments), list(orders))
    found = [one for one in map(_payment, rows) if one is not None]
    names = [one.id for one in found]
    refunds = [one for one in map(_refund, await db.fetch(LEDGER_REFUNDS, since, names)) if one is not None]
    disputed = frozenset(PaymentId(row["payment_id"]) for row in await db.fetch(DISPUTED, names))
    return Ledger(payments=found, refunds=refunds, disputed=disputed)


async def dispute_status(db: Readable, name: str) -> str | None:
    """Where a dispute was when it was last read; None for a new one."""
    found: str | None = await db.value(DISPUTE_STATUS, name)
    return found


async def lost_to_bank(db: Readable, payment_id: UUID) -> int:
    """What banks took back of a payment, in minor units."""
    return int(await db.value(LOST_TO_BANK, payment_id))


async def disputes_of(db: Readable, orders: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """(order, status) of every dispute about the payment of one of the orders."""
    return [(row["order_id"], row["status"]) for row in await db.fetch(DISPUTES_OF, list(orders))]


async def keep_dispute(tx: Transaction, payment_id: UUID, facts: DisputeFacts) -> None:
    """Merge what Stripe said of a dispute; the caller has checked that it is not over already."""
    currency = facts.currency.upper()
    told = (facts.id, payment_id, facts.amount, currency, facts.reason, facts.status, facts.due_by)
    await tx.execute(KEEP_DISPUTE, *told)

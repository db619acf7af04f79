"""Every rule is broken in each of its ways, in a transaction that is rolled back, and must see it.

The rows are those of a whole stack with real orders (`tests/line/test_order_line.py` runs this): only there does
everything exist that a rule compares.
"""

from typing import Any, Final

from app.kernel.db import Reading
from tirage.audit import books
from tirage.audit.rows import RULES

ONE_ASSET = "id = (SELECT asset_id FROM uploads ORDER BY id LIMIT 1)"
ONE_ORDER = "id = (SELECT id FROM orders WHERE state = 'paid' ORDER BY id LIMIT 1)"
OF_ORDER = "order_id = (SELECT id FROM orders WHERE state = 'paid' ORDER BY id LIMIT 1)"
COPY = "INSERT INTO {0} SELECT (jsonb_populate_record(r, '{1}'::jsonb)).* FROM {0} r LIMIT 1"
OTHER = '{"id": "01900000-0000-7000-8000-000000000001"%s}'

BREAKS: Final[dict[str, tuple[str, ...]]] = {
    "uploads-kept": (
        "UPDATE uploads SET asset_id = gen_random_uuid()",
        f"UPDATE assets SET state = 'processing' WHERE {ONE_ASSET}",
        f"UPDATE assets SET state = 'rejected' WHERE {ONE_ASSET}",
        "UPDATE uploads SET state = 'verifying'",
        "UPDATE uploads SET state = 'rejected'",
    ),
    "duplicates-resolved": (
        f"UPDATE assets SET state = 'duplicate' WHERE {ONE_ASSET}",
        f"UPDATE assets SET state = 'duplicate', duplicate_of = gen_random_uuid() WHERE {ONE_ASSET}",
    ),
    "one-order-a-draft": (
        "DROP INDEX orders_once_a_draft; DROP INDEX orders_once_a_quote; " + COPY.format("orders", OTHER % ""),
        "UPDATE drafts SET state = 'ready_for_checkout' WHERE state = 'ordered'",
        f"DELETE FROM orders WHERE {ONE_ORDER}",
    ),
    "totals-equal": (
        f"UPDATE orders SET total = total + 1 WHERE {ONE_ORDER}",
        f"UPDATE orders SET tax = tax - 1 WHERE {ONE_ORDER}",
        f"UPDATE orders SET currency = 'EUR' WHERE {ONE_ORDER}",
        f"UPDATE orders SET draft_version = draft_version + 1 WHERE {ONE_ORDER}",
        f"UPDATE order_lines SET total = total + 1 WHERE {OF_ORDER}",
        f"DELETE FROM order_lines WHERE {OF_ORDER}",
        "UPDATE quotes SET state = 'priced'",
        "DELETE FROM quotes",
    ),
    "paid-once": (
        f"UPDATE payments SET amount = amount - 1 WHERE {OF_ORDER}",
        f"UPDATE payments SET currency = 'EUR' WHERE {OF_ORDER}",
        f"DELETE FROM payments WHERE {OF_ORDER}",
        "DROP INDEX payments_one_live; " + COPY.format("payments", OTHER % ', "attempt": 2, "intent_id": null'),
        f"UPDATE orders SET state = 'awaiting_payment' WHERE {ONE_ORDER}",
        f"UPDATE orders SET state = 'cancelled' WHERE {ONE_ORDER}",
    ),
    "refunds-bounded": (
        """INSERT INTO refunds (id, payment_id, order_id, owner_id, state, amount, currency, reason, lines)
           SELECT gen_random_uuid(), id, order_id, owner_id, 'requested', amount + 1, currency, 'x', '[]'
           FROM payments LIMIT 1""",
        """INSERT INTO refunds (id, payment_id, order_id, owner_id, state, amount, currency, reason, lines)
           SELECT gen_random_uuid(), id, order_id, owner_id, 'succeeded', 1, 'XXX', 'x', '[]'
           FROM payments LIMIT 1""",
    ),
    "made-once": (
        f"DELETE FROM fulfilment_lines WHERE fulfilment_id = (SELECT id FROM fulfilments WHERE {OF_ORDER})",
        f"UPDATE fulfilments SET state = 'failed' WHERE {OF_ORDER}",
        f"UPDATE fulfilments SET vendor_order_id = NULL WHERE {OF_ORDER}",
        """UPDATE fulfilments SET facts = facts || '{"vendor_orders": ["a", "b"]}'""",
        "UPDATE fulfilment_lines SET copies = copies + 1",
        "DROP INDEX fulfilments_once; " + COPY.format("fulfilments", OTHER % ', "vendor_order_id": "another"'),
    ),
    "unpaid-not-made": (f"UPDATE orders SET state = 'expired' WHERE {ONE_ORDER}",),
    "masters-proved": (
        "UPDATE order_manifests SET sha256 = repeat('0', 64)",
        "UPDATE order_manifests SET manifest = '{}'",
        "DELETE FROM order_manifests",
        "UPDATE fulfilment_lines SET master = NULL",
        "UPDATE fulfilment_lines SET draft_digest = repeat('0', 64)",
    ),
    "copies-counted": (
        f"UPDATE order_lines SET shipped = 0 WHERE {OF_ORDER}",
        f"UPDATE order_lines SET cancelled = ordered WHERE {OF_ORDER}",
    ),
    "mails-sent": (
        "DELETE FROM order_mails WHERE kind = 'confirmed'",
        "DELETE FROM order_mails WHERE kind = 'shipped'",
    ),
    "jobs-ended": (
        """UPDATE jobs SET state = 'published', published_at = now() - interval '1 hour',
           not_before = now() - interval '1 hour' WHERE kind = 'order.mail'""",
        """UPDATE jobs SET state = 'queued', published_at = NULL, not_before = now() - interval '1 hour'
           WHERE kind = 'order.mail'""",
        "UPDATE jobs SET state = 'parked' WHERE kind = 'order.mail'",
    ),
    "causes-known": ("UPDATE jobs SET cause = gen_random_uuid() WHERE kind = 'order.mail'",),
    "webhooks-heard": ("UPDATE webhooks SET handled_at = NULL",),
    "events-in-order": (
        "DELETE FROM events WHERE type = 'order.placed'",
        "UPDATE events SET seq = seq + 1 WHERE type = 'order.paid'",
        "DELETE FROM event_heads",
        "UPDATE event_heads SET seq = seq + 1",
    ),
    "stream-in-order": ("UPDATE events SET tx_id = '1' WHERE type = 'order.paid'",),
    "books-agree": (
        """INSERT INTO findings (id, drift, what, subject, state, detail, found_at, changed_at)
           VALUES (gen_random_uuid(), 'amount', 'captured', 'x', 'case', '', now(), now())""",
    ),
    "states-told": ("DELETE FROM events WHERE type = 'order.paid'",),
}


async def unseen_breaks(connection: Any) -> list[tuple[str, str]]:
    """The breaks that their rule did not see; raises `AssertionError` where a rule finds something before.

    What is under way just now is left alone before, and counts as broken after a break: a rule must not wait for it.
    """
    unseen = []
    for name, breaks in BREAKS.items():
        assert await books.broken(Reading(connection), name, 60) == []
        for sql in breaks:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute("SET LOCAL session_replication_role = replica; " + sql)
                if not await books.broken(Reading(connection), name, 0):
                    unseen.append((name, sql))
            finally:
                await transaction.rollback()
    return unseen


def test_every_rule_is_broken_somewhere() -> None:
    assert set(BREAKS) == {rule.name for rule in RULES}

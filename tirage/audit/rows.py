"""What must hold between rows: one statement a rule, each giving the rows that break it.

Rules are about what was promised to people and about money, so they look at rows and not at the code that wrote them.
`$1` is how many seconds a thing may be under way before it counts as left behind.
"""

from typing import Final

import msgspec


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`sql` gives `subject` (a UUID of the kind `of` in `base/ids.py`) and `detail` of every row that breaks it."""

    name: str
    says: str
    of: str
    sql: str


RULES: Final = (
    Rule(
        name="uploads-kept",
        says="every upload that was acknowledged has its asset, and is looked at to the end",
        of="upload",
        sql="""
SELECT u.id AS subject, 'upload ' || u.state || ', asset ' || coalesce(a.state, 'absent') AS detail
FROM uploads u LEFT JOIN assets a ON a.id = u.asset_id AND a.owner_id = u.owner_id
WHERE u.state IN ('verifying', 'completed', 'rejected') AND (
    a.id IS NULL
    OR (u.state = 'completed' AND a.state IN ('processing', 'rejected'))
    OR (u.state = 'rejected' AND a.state NOT IN ('rejected', 'erased'))
    OR (u.state = 'verifying' AND NOT EXISTS (
        SELECT FROM jobs j JOIN events e ON e.id = j.cause
        WHERE e.aggregate_id = a.id AND j.kind IN ('asset.ingest', 'upload.assemble')
          AND j.state IN ('queued', 'published', 'parked'))))
""",
    ),
    Rule(
        name="duplicates-resolved",
        says="every duplicate names a photo of the same person with the same bytes",
        of="asset",
        sql="""
SELECT a.id AS subject, 'first one: ' || coalesce(f.state, 'absent') AS detail
FROM assets a LEFT JOIN assets f ON f.id = a.duplicate_of AND f.owner_id = a.owner_id AND f.bytes = a.bytes
WHERE a.state = 'duplicate' AND f.id IS NULL
""",
    ),
    Rule(
        name="one-order-a-draft",
        says="one intent gives one order: a draft and a price have at most one that lives, an ordered draft has one",
        of="draft",
        sql="""
SELECT d.id AS subject, 'draft ' || d.state || ', living orders: ' || count(o.id) AS detail
FROM drafts d LEFT JOIN orders o ON o.draft_id = d.id AND o.state NOT IN ('cancelled', 'expired')
GROUP BY d.id
HAVING count(o.id) > 1 OR (d.state = 'ordered' AND count(o.id) <> 1
    AND NOT EXISTS (SELECT FROM orders x WHERE x.draft_id = d.id AND x.state = 'cancelled'))
    OR (count(o.id) = 1 AND d.state <> 'ordered')
UNION ALL
SELECT draft_id, 'living orders of one price: ' || count(*) FROM orders WHERE state NOT IN ('cancelled', 'expired')
GROUP BY quote_id, draft_id HAVING count(*) > 1
""",
    ),
    Rule(
        name="totals-equal",
        says="an order's total is its lines and its shipping, and the price that was quoted",
        of="order",
        sql="""
SELECT o.id AS subject, format('total %s %s, lines %s, shipping %s, quoted %s %s, tax %s, of lines %s',
    o.total, o.currency, l.total, o.shipping, q.total, q.currency, o.tax, l.tax) AS detail
FROM orders o LEFT JOIN quotes q ON q.id = o.quote_id AND q.draft_id = o.draft_id AND q.owner_id = o.owner_id
CROSS JOIN LATERAL (SELECT coalesce(sum(total), 0) AS total, coalesce(sum(tax), 0) AS tax, count(*) AS many
                    FROM order_lines WHERE order_id = o.id) l
WHERE q.id IS NULL OR l.many = 0 OR o.total <> l.total + o.shipping OR o.total <> q.total OR o.currency <> q.currency
   OR q.state <> 'accepted' OR o.tax < l.tax OR o.tax <> (q.result ->> 'tax')::bigint
   OR o.draft_version <> q.draft_version
""",
    ),
    Rule(
        name="paid-once",
        says="a paid order has one captured payment of exactly its total; an order that is not paid has none",
        of="order",
        sql="""
SELECT o.id AS subject, format('%s, total %s %s, captures %s, captured %s', o.state, o.total, o.currency,
    count(p.id), coalesce(sum(p.amount), 0)) AS detail
FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.state = 'captured'
GROUP BY o.id
HAVING (o.state IN ('paid', 'closed') AND (count(p.id) <> 1 OR sum(p.amount) <> o.total
                                           OR bool_or(p.currency <> o.currency)))
    OR (o.state IN ('placed', 'awaiting_payment') AND count(p.id) > 0)
    OR (o.state IN ('cancelled', 'expired') AND count(p.id) > 0 AND sum(p.amount) <> (
        SELECT coalesce(sum(r.amount), 0) FROM refunds r
        WHERE r.order_id = o.id AND r.state <> 'failed' AND r.stray_intent IS NULL) + (
        SELECT coalesce(sum(d.amount), 0) FROM payment_disputes d JOIN payments q ON q.id = d.payment_id
        WHERE q.order_id = o.id AND d.status = 'lost'))
""",
    ),
    Rule(
        name="refunds-bounded",
        says="no more is given back than was captured",
        of="payment",
        sql="""
SELECT p.id AS subject, format('captured %s, refunds %s', p.amount, sum(r.amount)) AS detail
FROM payments p JOIN refunds r ON r.payment_id = p.id AND r.state <> 'failed' AND r.stray_intent IS NULL
GROUP BY p.id HAVING p.state <> 'captured' OR sum(r.amount) > p.amount OR bool_or(r.currency <> p.currency)
""",
    ),
    Rule(
        name="made-once",
        says="a paid order is made once: one fulfilment with every line and copy, one order at the vendor",
        of="order",
        sql="""
SELECT o.id AS subject, format('fulfilments %s, copies %s of %s, vendor orders %s', coalesce(f.many, 0),
    coalesce(f.copies, 0), l.copies, coalesce(f.orders, 0)) AS detail
FROM orders o
CROSS JOIN LATERAL (SELECT sum(ordered) AS copies, count(*) AS lines FROM order_lines WHERE order_id = o.id) l
LEFT JOIN LATERAL (
    SELECT count(DISTINCT x.id) AS many, sum(n.copies) AS copies, count(n.line_id) AS lines,
           max(jsonb_array_length(coalesce(x.facts -> 'vendor_orders', '[]'))) AS orders,
           bool_or(x.state IN ('submitted', 'closed') AND x.vendor_order_id IS NULL) AS unnamed
    FROM fulfilments x LEFT JOIN fulfilment_lines n ON n.fulfilment_id = x.id
    WHERE x.order_id = o.id AND x.state NOT IN ('cancelled', 'failed')) f ON true
WHERE o.state IN ('paid', 'closed')
  AND (coalesce(f.many, 0) <> 1 OR f.copies <> l.copies OR f.lines <> l.lines OR f.orders > 1 OR f.unnamed)
  AND NOT (coalesce(f.many, 0) = 0 AND (EXISTS (
                                            SELECT FROM refunds r WHERE r.order_id = o.id AND r.stray_intent IS NULL)
                                        OR EXISTS (SELECT FROM order_holds h WHERE h.order_id = o.id)))
""",
    ),
    Rule(
        name="unpaid-not-made",
        says="nothing is made of an order that is not paid",
        of="fulfilment",
        sql="""
SELECT f.id AS subject, 'order ' || o.state AS detail FROM fulfilments f JOIN orders o ON o.id = f.order_id
WHERE o.state IN ('placed', 'awaiting_payment', 'expired')
""",
    ),
    Rule(
        name="masters-proved",
        says="what was sent to print is, by hash, what was rendered from the draft as it was ordered",
        of="order_line",
        sql="""
SELECT n.line_id AS subject, format('master %s, proof %s', coalesce(n.master ->> 'sha256', 'absent'),
    coalesce(m.sha256, 'absent')) AS detail
FROM fulfilments f JOIN fulfilment_lines n ON n.fulfilment_id = f.id JOIN orders o ON o.id = f.order_id
LEFT JOIN order_manifests m ON m.line_id = n.line_id
WHERE f.state IN ('submitted', 'closed', 'cancelling')
  AND (n.master IS NULL OR m.sha256 IS DISTINCT FROM n.master ->> 'sha256' OR n.draft_digest <> o.draft_digest
       OR m.manifest -> 'output' ->> 'sha256' IS DISTINCT FROM m.sha256)
""",
    ),
    Rule(
        name="copies-counted",
        says="no copy is both sent and cancelled, and of what is finished every copy is one of them",
        of="order_line",
        sql="""
SELECT l.id AS subject, format('ordered %s, shipped %s, cancelled %s, refunded %s', l.ordered, l.shipped,
    l.cancelled, l.refunded) AS detail
FROM order_lines l LEFT JOIN fulfilments f ON f.order_id = l.order_id AND f.state = 'closed'
WHERE l.shipped + l.cancelled > l.ordered OR l.refunded > l.ordered
   OR (f.id IS NOT NULL AND l.shipped + l.cancelled <> l.ordered
       AND f.ended_at < now() - make_interval(secs => $1))
""",
    ),
    Rule(
        name="mails-sent",
        says="who paid was told so, and who was sent a parcel as well",
        of="order",
        sql="""
SELECT o.id AS subject, 'no mail: ' || wanted.kind AS detail
FROM orders o
JOIN order_recipients r ON r.order_id = o.id AND r.sealed IS NOT NULL
JOIN (SELECT order_id, 'confirmed' AS kind, occurred_at FROM events WHERE type = 'order.paid'
      UNION ALL SELECT order_id, 'shipped', occurred_at FROM events WHERE type = 'fulfilment.shipped') wanted
  ON wanted.order_id = o.id
WHERE wanted.occurred_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM order_mails m WHERE m.order_id = o.id AND m.kind = wanted.kind)
  AND NOT EXISTS (SELECT FROM alerts a WHERE a.rule = 'mail-address-refused')
""",
    ),
    Rule(
        name="jobs-ended",
        says="every job is done, or not yet due, or parked with an open alert",
        of="job",
        sql="""
SELECT j.id AS subject, format('%s %s, attempt %s: %s', j.kind, j.state, j.attempt,
    coalesce(j.last_reason, '-')) AS detail
FROM jobs j
WHERE (j.state IN ('queued', 'published') AND j.not_before < now() - make_interval(secs => $1)
       AND coalesce(j.published_at, j.not_before) < now() - make_interval(secs => $1))
   OR (j.state = 'parked' AND NOT EXISTS (
        SELECT FROM alerts a WHERE a.rule = 'job-parked' AND a.subject = j.kind || ':' || j.id))
""",
    ),
    Rule(
        name="causes-known",
        says="every job that answers an event or another job answers one that is there",
        of="job",
        sql="""
SELECT j.id AS subject, j.kind AS detail FROM jobs j
WHERE j.cause IS NOT NULL AND NOT EXISTS (SELECT FROM events e WHERE e.id = j.cause)
  AND NOT EXISTS (SELECT FROM jobs o WHERE o.id = j.cause)
""",
    ),
    Rule(
        name="webhooks-heard",
        says="every webhook that was answered was looked at, or still will be",
        of="webhook",
        sql="""
SELECT w.id AS subject, w.source || ' ' || w.type AS detail FROM webhooks w
WHERE w.handled_at IS NULL AND w.received_at < now() - make_interval(secs => $1) AND NOT EXISTS (
    SELECT FROM jobs j WHERE j.kind = 'webhook.process' AND j.state IN ('queued', 'published', 'parked')
      AND j.payload ->> 'webhook_id' = w.id::text)
""",
    ),
    Rule(
        name="events-in-order",
        says="the events of each thing are numbered without a gap, in the order of their positions",
        of="event",
        sql="""
WITH told AS (
    SELECT id, aggregate_id, seq, row_number() OVER (PARTITION BY aggregate_id ORDER BY position) AS place,
           count(*) OVER (PARTITION BY aggregate_id) AS many
    FROM events)
SELECT t.id AS subject, format('number %s at place %s of %s', t.seq, t.place, t.many) AS detail
FROM told t LEFT JOIN event_heads h ON h.aggregate_id = t.aggregate_id
WHERE t.seq <> t.place OR (t.place = t.many AND h.seq IS DISTINCT FROM t.seq)
""",
    ),
    Rule(
        name="stream-in-order",
        says="who reads the stream by its cursor sees the events of each thing in their order",
        of="event",
        sql="""
WITH read AS (
    SELECT id, seq, lag(seq) OVER (PARTITION BY aggregate_id ORDER BY tx_id, position) AS before FROM events)
SELECT id AS subject, format('number %s is read after %s', seq, before) AS detail FROM read WHERE before > seq
""",
    ),
    Rule(
        name="books-agree",
        says="reconciliation knows of no difference that a person has to decide",
        of="case",
        sql="""
SELECT id AS subject, format('%s, %s: %s %s', drift, what, subject, detail) AS detail FROM findings WHERE state = 'case'
""",
    ),
    Rule(
        name="states-told",
        says="the state a thing is in was told by an event",
        of="order",
        sql="""
SELECT o.id AS subject, o.state AS detail FROM orders o
JOIN transitions t ON t.machine = 'order' AND t.to_state = o.state
GROUP BY o.id HAVING NOT EXISTS (
    SELECT FROM events e WHERE e.aggregate_id = o.id AND e.type = ANY(array_agg(t.event_type)))
""",
    ),
)

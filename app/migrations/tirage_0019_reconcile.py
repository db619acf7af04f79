"""What reconciliation finds, each once; disputes, refunds of stray intents, and what a vendor said it would charge."""

from app.kernel.migrate import sql_migration

ID = "0019"
VERSION = "1.38.0"
DESCRIPTION = "reconciliation"

UP = """
CREATE TABLE payment_disputes (
    id text PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments ON DELETE RESTRICT ON UPDATE RESTRICT,
    amount bigint NOT NULL,
    currency text NOT NULL,
    reason text NOT NULL,
    status text NOT NULL,
    due_by timestamptz,
    first_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payment_disputes_payment ON payment_disputes (payment_id);
ALTER TABLE refunds ADD COLUMN stray_intent text;
CREATE INDEX refunds_created ON refunds (created_at);
ALTER TABLE fulfilments ADD COLUMN quoted_cost bigint, ADD COLUMN quoted_currency text;
CREATE INDEX fulfilments_created ON fulfilments (created_at);
CREATE INDEX orders_paid ON orders (created_at) WHERE state = 'paid';

CREATE TABLE findings (
    id uuid PRIMARY KEY,
    drift text NOT NULL,
    what text NOT NULL,
    subject text NOT NULL,
    order_id uuid REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL CHECK (state IN ('repairing', 'repaired', 'case', 'closed')),
    detail text NOT NULL,
    repair jsonb,
    found_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    UNIQUE (drift, what, subject)
);
CREATE INDEX findings_order ON findings (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX findings_open ON findings (found_at) WHERE state IN ('repairing', 'case');
SELECT guard_states('findings', 'finding');
"""

DOWN = """
DROP TABLE findings, payment_disputes;
DROP INDEX orders_paid, fulfilments_created, refunds_created;
ALTER TABLE refunds DROP COLUMN stray_intent;
ALTER TABLE fulfilments DROP COLUMN quoted_cost, DROP COLUMN quoted_currency;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

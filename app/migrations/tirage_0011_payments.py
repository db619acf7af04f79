"""Payments, what Stripe said of them, and refunds."""

from app.kernel.migrate import sql_migration

ID = "0011"
VERSION = "1.38.0"
DESCRIPTION = "payments"

UP = """
CREATE TABLE payments (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL
        CHECK (state IN ('created', 'requires_payment_method', 'requires_action', 'processing', 'authorised',
                         'captured', 'cancelled')),
    attempt int NOT NULL CHECK (attempt > 0),
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    intent_id text UNIQUE,
    key_number int NOT NULL DEFAULT 1,
    asked_at timestamptz,
    spoiled_at timestamptz,
    polls int NOT NULL DEFAULT 0,
    cancel_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, attempt)
);
CREATE INDEX payments_owner ON payments (owner_id);
CREATE UNIQUE INDEX payments_one_live ON payments (order_id) WHERE state <> 'cancelled';
SELECT guard_states('payments', 'payment');

CREATE TABLE payment_facts (
    intent_id text PRIMARY KEY,
    payment_id uuid REFERENCES payments ON DELETE RESTRICT ON UPDATE RESTRICT,
    order_ref text NOT NULL,
    status text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    received bigint NOT NULL,
    refunded bigint NOT NULL,
    failed_charge text,
    failure text,
    mismatch text,
    read_at timestamptz NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payment_facts_payment ON payment_facts (payment_id);

CREATE TABLE refunds (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments ON DELETE RESTRICT ON UPDATE RESTRICT,
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL CHECK (state IN ('requested', 'succeeded', 'failed')),
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason text NOT NULL,
    lines jsonb NOT NULL,
    stripe_id text UNIQUE,
    key_number int NOT NULL DEFAULT 1,
    asked_at timestamptz,
    spoiled_at timestamptz,
    failure text,
    polls int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refunds_payment ON refunds (payment_id);
CREATE INDEX refunds_order ON refunds (order_id);
CREATE INDEX refunds_owner ON refunds (owner_id);
SELECT guard_states('refunds', 'refund');
"""

DOWN = "DROP TABLE refunds, payment_facts, payments;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

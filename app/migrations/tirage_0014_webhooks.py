"""Webhooks in: what was delivered, sealed; unique by source, account and the source's own key."""

from app.kernel.migrate import sql_migration

ID = "0014"
VERSION = "1.38.0"
DESCRIPTION = "webhooks"

UP = """
CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    source text NOT NULL,
    account text NOT NULL,
    dedupe_key text NOT NULL,
    type text NOT NULL,
    key_name text,
    headers jsonb NOT NULL,
    owner_id uuid REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    order_id uuid REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    kek_id text,
    wrapped bytea,
    sealed bytea,
    told_at timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    handled_at timestamptz,
    outcome text,
    UNIQUE (source, account, dedupe_key)
);
CREATE INDEX webhooks_owner ON webhooks (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX webhooks_order ON webhooks (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX webhooks_bodies ON webhooks (received_at) WHERE sealed IS NOT NULL;
"""

DOWN = "DROP TABLE webhooks;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

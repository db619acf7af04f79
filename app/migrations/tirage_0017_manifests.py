"""Proofs of print masters, and one living order a quote."""

from app.kernel.migrate import sql_migration

ID = "0017"
VERSION = "1.38.0"
DESCRIPTION = "manifests"

UP = """
CREATE TABLE order_manifests (
    line_id uuid PRIMARY KEY REFERENCES order_lines ON DELETE RESTRICT ON UPDATE RESTRICT,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    manifest jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX orders_once_a_quote ON orders (quote_id) WHERE state NOT IN ('cancelled', 'expired');
"""

DOWN = "DROP INDEX orders_once_a_quote; DROP TABLE order_manifests;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

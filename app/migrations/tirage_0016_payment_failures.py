"""Tries to pay that were declined, each once, however it was heard of."""

from app.kernel.migrate import sql_migration

ID = "0016"
VERSION = "1.38.0"
DESCRIPTION = "payment failures"

UP = """
CREATE TABLE payment_failures (
    payment_id uuid NOT NULL REFERENCES payments ON DELETE RESTRICT ON UPDATE RESTRICT,
    charge text NOT NULL,
    reason text NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, charge)
);
"""

DOWN = "DROP TABLE payment_failures;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

"""Which mails of an order were sent."""

from app.kernel.migrate import sql_migration

ID = "0009"
VERSION = "1.38.0"
DESCRIPTION = "mails"

UP = """
CREATE TABLE order_mails (
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    kind text NOT NULL CHECK (kind IN ('confirmed', 'shipped')),
    sent_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, kind)
);
"""

DOWN = "DROP TABLE order_mails;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

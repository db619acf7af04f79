"""Receipts of erasures."""

from app.kernel.migrate import sql_migration

ID = "0004"
VERSION = "1.38.0"
DESCRIPTION = "erasure"

UP = """
CREATE TABLE erasures (
    owner_id uuid PRIMARY KEY REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    erased_at timestamptz NOT NULL DEFAULT now(),
    assets int NOT NULL,
    kept jsonb NOT NULL
);
"""

DOWN = "DROP TABLE erasures;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

"""What edges must not serve any more, and each edge's word that it does not."""

from app.kernel.migrate import sql_migration

ID = "0012"
VERSION = "1.38.0"
DESCRIPTION = "edge denials"

UP = """
CREATE TABLE edge_denials (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL UNIQUE CHECK (subject ~ '^(ast|shr)_[a-z0-9]{26}$'),
    denied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE edge_receipts (
    subject text NOT NULL REFERENCES edge_denials (subject) ON DELETE CASCADE ON UPDATE RESTRICT,
    edge text NOT NULL,
    node text NOT NULL,
    files int NOT NULL,
    bytes bigint NOT NULL,
    told_at timestamptz NOT NULL,
    PRIMARY KEY (edge, subject)
);
"""

DOWN = "DROP TABLE edge_receipts, edge_denials;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

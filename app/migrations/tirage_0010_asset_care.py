"""What is known of assets beyond their bytes (analysis, fingerprint); what holds them: trash, an operator's flag."""

from app.kernel.migrate import sql_migration

ID = "0010"
VERSION = "1.38.0"
DESCRIPTION = "asset care"

UP = """
ALTER TABLE assets
    ADD COLUMN analysis jsonb,
    ADD COLUMN fingerprint bigint,
    ADD COLUMN fingerprint_quality smallint CHECK (fingerprint_quality BETWEEN 0 AND 100);

CREATE TABLE asset_holds (
    asset_id uuid NOT NULL REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    kind text NOT NULL CHECK (kind IN ('trash', 'flagged')),
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    until timestamptz,
    PRIMARY KEY (asset_id, kind)
);
CREATE INDEX asset_holds_until ON asset_holds (until) WHERE kind = 'trash';
"""

DOWN = """
DROP TABLE asset_holds;
ALTER TABLE assets DROP COLUMN analysis, DROP COLUMN fingerprint, DROP COLUMN fingerprint_quality;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

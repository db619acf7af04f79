"""Shares of photos that can be revoked, and public pictures that can be withdrawn."""

from app.kernel.migrate import sql_migration

ID = "0018"
VERSION = "1.38.0"
DESCRIPTION = "shares"

UP = """
CREATE TABLE shares (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX shares_of_owner ON shares (owner_id, id DESC);
CREATE TABLE share_photos (
    share_id uuid NOT NULL REFERENCES shares ON DELETE CASCADE ON UPDATE RESTRICT,
    number int NOT NULL CHECK (number > 0),
    asset_id uuid NOT NULL REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    PRIMARY KEY (share_id, number)
);
CREATE TABLE pictures (
    asset_id uuid PRIMARY KEY REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    published_by text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz
);
ALTER TABLE edge_denials DROP CONSTRAINT edge_denials_subject_check,
    ADD CONSTRAINT edge_denials_subject_check CHECK (subject ~ '^(ast|shr|pic)_[a-z0-9]{26}$');
"""

DOWN = """
DROP TABLE share_photos, shares, pictures;
DELETE FROM edge_denials WHERE subject LIKE 'pic%';
ALTER TABLE edge_denials DROP CONSTRAINT edge_denials_subject_check,
    ADD CONSTRAINT edge_denials_subject_check CHECK (subject ~ '^(ast|shr)_[a-z0-9]{26}$');
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

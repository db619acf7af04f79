"""Assets, their renditions, and upload sessions."""

from app.kernel.migrate import sql_migration

ID = "0003"
VERSION = "1.38.0"
DESCRIPTION = "assets and uploads"

UP = """
CREATE TABLE assets (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL
        CHECK (state IN ('processing', 'preview_ready', 'ready', 'duplicate', 'rejected', 'erased')),
    bytes bigint NOT NULL CHECK (bytes > 0),
    declared_type text NOT NULL,
    sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    format text,
    width int CHECK (width > 0),
    height int CHECK (height > 0),
    notes text[] NOT NULL DEFAULT '{}',
    facts jsonb,
    thumbhash text,
    engine text,
    duplicate_of uuid REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX assets_owner ON assets (owner_id, id);
CREATE UNIQUE INDEX assets_once ON assets (owner_id, sha256)
    WHERE sha256 IS NOT NULL AND state IN ('processing', 'preview_ready', 'ready');
SELECT guard_states('assets', 'asset');

CREATE TABLE renditions (
    asset_id uuid NOT NULL REFERENCES assets ON DELETE CASCADE ON UPDATE RESTRICT,
    recipe text NOT NULL,
    extension text NOT NULL,
    width int NOT NULL,
    height int NOT NULL,
    bytes int NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asset_id, recipe, extension)
);

CREATE TABLE uploads (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    asset_id uuid NOT NULL UNIQUE,
    state text NOT NULL
        CHECK (state IN ('open', 'verifying', 'completed', 'rejected', 'aborted', 'expired')),
    bytes bigint NOT NULL CHECK (bytes > 0),
    content_type text NOT NULL,
    sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    client_reference text,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX uploads_owner ON uploads (owner_id, id);
CREATE UNIQUE INDEX uploads_reference ON uploads (owner_id, client_reference)
    WHERE client_reference IS NOT NULL AND state IN ('open', 'verifying');
CREATE INDEX uploads_expiry ON uploads (expires_at) WHERE state = 'open';
SELECT guard_states('uploads', 'upload');
"""

DOWN = "DROP TABLE uploads, renditions, assets;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

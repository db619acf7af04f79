"""Uploads: parts, blocks, the journal of completion, and what is needed to ask before sending."""

from app.kernel.migrate import sql_migration

ID = "0006"
VERSION = "1.38.0"
DESCRIPTION = "upload sessions whole"

UP = """
ALTER TABLE uploads
    ADD COLUMN source_id text,
    ADD COLUMN source_modified_at timestamptz,
    ADD COLUMN pixel_width int CHECK (pixel_width > 0),
    ADD COLUMN pixel_height int CHECK (pixel_height > 0),
    ADD COLUMN warning text,
    ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN storage_id text,
    ADD COLUMN part_bytes int NOT NULL DEFAULT 8388608 CHECK (part_bytes >= 5242880),
    ADD COLUMN appended boolean NOT NULL DEFAULT false,
    ADD COLUMN assemble boolean NOT NULL DEFAULT false,
    ADD COLUMN received_sha256 text CHECK (received_sha256 ~ '^[0-9a-f]{64}$'),
    ADD COLUMN rate bigint CHECK (rate >= 0),
    ADD COLUMN addressed_at timestamptz,
    ADD COLUMN completing_at timestamptz;
CREATE INDEX uploads_source ON uploads (owner_id, source_id) WHERE source_id IS NOT NULL;
CREATE INDEX uploads_digest ON uploads (owner_id, sha256)
    WHERE sha256 IS NOT NULL AND state IN ('open', 'verifying');
CREATE INDEX uploads_completing ON uploads (completing_at) WHERE state = 'open' AND completing_at IS NOT NULL;
CREATE INDEX assets_size ON assets (owner_id, bytes) WHERE state IN ('processing', 'preview_ready', 'ready');

CREATE TABLE sweeps (
    name text PRIMARY KEY,
    cursor text NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
"""

DOWN = """
DROP TABLE sweeps;
DROP INDEX assets_size, uploads_source, uploads_digest, uploads_completing;
ALTER TABLE uploads DROP COLUMN source_id, DROP COLUMN source_modified_at, DROP COLUMN pixel_width,
    DROP COLUMN pixel_height, DROP COLUMN warning, DROP COLUMN token, DROP COLUMN storage_id, DROP COLUMN part_bytes,
    DROP COLUMN appended, DROP COLUMN assemble, DROP COLUMN received_sha256, DROP COLUMN rate,
    DROP COLUMN addressed_at, DROP COLUMN completing_at;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

"""Identity and idempotency: sessions that refresh tokens continue, stored answers, daily quotas."""

from app.kernel.migrate import sql_migration

ID = "0002"
VERSION = "1.38.0"
DESCRIPTION = "identity"

UP = """
ALTER TABLE devices ADD COLUMN platform text NOT NULL DEFAULT 'other'
    CHECK (platform IN ('ios', 'android', 'web', 'other'));

-- One row a family of refresh tokens: the tokens themselves are derived, never stored.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    device_id uuid NOT NULL REFERENCES devices ON DELETE RESTRICT ON UPDATE RESTRICT,
    generation int NOT NULL,
    key_id text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    revoked_reason text
);
CREATE INDEX sessions_owner ON sessions (owner_id);
CREATE INDEX sessions_device ON sessions (device_id);

-- One row a keyed call that took effect; `answer` is sealed under the owner's key.
CREATE TABLE idempotency_keys (
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    operation text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, operation, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE quotas (
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    name text NOT NULL,
    day date NOT NULL,
    used bigint NOT NULL,
    PRIMARY KEY (owner_id, name, day)
);
CREATE INDEX quotas_day ON quotas (day);
"""

DOWN = """
DROP TABLE quotas, idempotency_keys, sessions;
ALTER TABLE devices DROP COLUMN platform;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

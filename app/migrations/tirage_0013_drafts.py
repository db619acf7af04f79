"""Drafts and their items, and quotes."""

from app.kernel.migrate import sql_migration

ID = "0013"
VERSION = "1.38.0"
DESCRIPTION = "drafts and quotes"

UP = """
CREATE TABLE drafts (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL CHECK (state IN ('editing', 'ready_for_checkout', 'ordered', 'abandoned')),
    version int NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX drafts_owner ON drafts (owner_id, id);
SELECT guard_states('drafts', 'draft');

CREATE TABLE draft_items (
    id uuid NOT NULL,
    draft_id uuid NOT NULL REFERENCES drafts ON DELETE RESTRICT ON UPDATE RESTRICT,
    number int NOT NULL CHECK (number > 0),
    asset_id uuid NOT NULL REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    sku text NOT NULL,
    copies int NOT NULL CHECK (copies > 0),
    paper text NOT NULL,
    orientation text NOT NULL CHECK (orientation IN ('auto', 'portrait', 'landscape')),
    fit text NOT NULL CHECK (fit IN ('cover', 'whole')),
    crop int[] CHECK (array_length(crop, 1) = 4),
    focal int[] NOT NULL CHECK (array_length(focal, 1) = 2),
    border_um int NOT NULL CHECK (border_um >= 0),
    gift_note bytea,
    PRIMARY KEY (draft_id, id),
    UNIQUE (draft_id, number)
);
CREATE INDEX draft_items_asset ON draft_items (asset_id);

CREATE TABLE quotes (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL CHECK (state IN ('priced', 'accepted', 'expired')),
    draft_id uuid NOT NULL REFERENCES drafts ON DELETE RESTRICT ON UPDATE RESTRICT,
    draft_version int NOT NULL CHECK (draft_version > 0),
    catalogue_version text NOT NULL REFERENCES catalogues ON DELETE RESTRICT ON UPDATE RESTRICT,
    postcode text,
    inputs jsonb NOT NULL,
    result jsonb NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total bigint NOT NULL CHECK (total > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX quotes_owner ON quotes (owner_id, id);
CREATE INDEX quotes_draft ON quotes (draft_id);
CREATE INDEX quotes_open ON quotes (expires_at) WHERE state = 'priced';
SELECT guard_states('quotes', 'quote');
"""

DOWN = "DROP TABLE quotes, draft_items, drafts;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

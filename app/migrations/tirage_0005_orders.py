"""Orders: what was bought, by line and quantity; who receives it is sealed under the person's key."""

from app.kernel.migrate import sql_migration

ID = "0005"
VERSION = "1.38.0"
DESCRIPTION = "orders"

UP = """
CREATE TABLE orders (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL
        CHECK (state IN ('placed', 'awaiting_payment', 'paid', 'closed', 'cancelled', 'expired')),
    draft_id uuid NOT NULL,
    draft_version int NOT NULL CHECK (draft_version > 0),
    draft_digest text NOT NULL CHECK (draft_digest ~ '^[0-9a-f]{64}$'),
    quote_id uuid NOT NULL,
    catalogue_version text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total bigint NOT NULL CHECK (total >= 0),
    shipping bigint NOT NULL CHECK (shipping >= 0),
    tax bigint NOT NULL CHECK (tax >= 0),
    shipping_option text NOT NULL,
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    promised_by date,
    expires_at timestamptz NOT NULL,
    cancellable_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_owner ON orders (owner_id, id);
CREATE UNIQUE INDEX orders_once_a_draft ON orders (draft_id) WHERE state NOT IN ('cancelled', 'expired');
CREATE INDEX orders_unpaid ON orders (expires_at) WHERE state IN ('placed', 'awaiting_payment');
SELECT guard_states('orders', 'order');

CREATE TABLE order_lines (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    number int NOT NULL CHECK (number > 0),
    item_id uuid NOT NULL,
    asset_id uuid NOT NULL REFERENCES assets ON DELETE RESTRICT ON UPDATE RESTRICT,
    sku text NOT NULL,
    print jsonb NOT NULL,
    unit bigint NOT NULL CHECK (unit >= 0),
    total bigint NOT NULL CHECK (total >= 0),
    tax bigint NOT NULL CHECK (tax >= 0),
    ordered int NOT NULL CHECK (ordered > 0),
    in_production int NOT NULL DEFAULT 0 CHECK (in_production BETWEEN 0 AND ordered),
    shipped int NOT NULL DEFAULT 0 CHECK (shipped BETWEEN 0 AND ordered),
    delivered int NOT NULL DEFAULT 0 CHECK (delivered BETWEEN 0 AND ordered),
    cancelled int NOT NULL DEFAULT 0 CHECK (cancelled BETWEEN 0 AND ordered),
    refunded int NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND ordered),
    returned int NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND ordered),
    UNIQUE (order_id, number)
);
CREATE INDEX order_lines_asset ON order_lines (asset_id);

CREATE TABLE order_recipients (
    order_id uuid PRIMARY KEY REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    sealed bytea,
    overridden text[] NOT NULL DEFAULT '{}'
);
CREATE INDEX order_recipients_owner ON order_recipients (owner_id);

CREATE TABLE order_holds (
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    until timestamptz,
    PRIMARY KEY (order_id, reason)
);
"""

DOWN = "DROP TABLE order_holds, order_recipients, order_lines, orders;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

"""Fulfilments at vendors: lines, the vendor's facts as they came and merged, parcels."""

from app.kernel.migrate import sql_migration

ID = "0015"
VERSION = "1.38.0"
DESCRIPTION = "fulfilment"

UP = """
CREATE TABLE fulfilments (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    state text NOT NULL CHECK (state IN
        ('planned', 'rendering', 'submitting', 'submitted', 'closed', 'cancelling', 'cancelled', 'failed')),
    vendor text NOT NULL,
    shipping_option text NOT NULL,
    not_before timestamptz NOT NULL,
    attempt int NOT NULL DEFAULT 1 CHECK (attempt > 0),
    begun_at timestamptz,
    links_until timestamptz,
    vendor_order_id text,
    cancel_reason text,
    facts jsonb NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT now(),
    looked_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX fulfilments_order ON fulfilments (order_id);
CREATE INDEX fulfilments_owner ON fulfilments (owner_id);
CREATE UNIQUE INDEX fulfilments_once ON fulfilments (order_id) WHERE state NOT IN ('cancelled', 'failed');
CREATE UNIQUE INDEX fulfilments_vendor ON fulfilments (vendor, vendor_order_id) WHERE vendor_order_id IS NOT NULL;
CREATE INDEX fulfilments_living ON fulfilments (changed_at) WHERE state IN ('submitting', 'submitted', 'cancelling');
SELECT guard_states('fulfilments', 'fulfilment');

CREATE TABLE fulfilment_lines (
    fulfilment_id uuid NOT NULL REFERENCES fulfilments ON DELETE RESTRICT ON UPDATE RESTRICT,
    line_id uuid NOT NULL REFERENCES order_lines ON DELETE RESTRICT ON UPDATE RESTRICT,
    number int NOT NULL CHECK (number > 0),
    asset_id uuid NOT NULL,
    sku text NOT NULL,
    copies int NOT NULL CHECK (copies > 0),
    draft_digest text NOT NULL CHECK (draft_digest ~ '^[0-9a-f]{64}$'),
    paper text,
    print jsonb NOT NULL,
    master jsonb,
    PRIMARY KEY (fulfilment_id, line_id)
);

CREATE TABLE vendor_facts (
    fulfilment_id uuid NOT NULL REFERENCES fulfilments ON DELETE RESTRICT ON UPDATE RESTRICT,
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    seen_at timestamptz NOT NULL DEFAULT now(),
    via text NOT NULL CHECK (via IN ('create', 'find', 'poll', 'cancel')),
    seen jsonb NOT NULL,
    sealed bytea,
    PRIMARY KEY (fulfilment_id, digest)
);

CREATE TABLE shipments (
    id uuid PRIMARY KEY,
    fulfilment_id uuid NOT NULL REFERENCES fulfilments ON DELETE RESTRICT ON UPDATE RESTRICT,
    order_id uuid NOT NULL REFERENCES orders ON DELETE RESTRICT ON UPDATE RESTRICT,
    vendor_shipment_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('processing', 'shipped', 'cancelled')),
    carrier text,
    service text,
    dispatched_at timestamptz,
    UNIQUE (fulfilment_id, vendor_shipment_id)
);
CREATE INDEX shipments_order ON shipments (order_id);

CREATE TABLE shipment_lines (
    shipment_id uuid NOT NULL REFERENCES shipments ON DELETE RESTRICT ON UPDATE RESTRICT,
    line_id uuid NOT NULL REFERENCES order_lines ON DELETE RESTRICT ON UPDATE RESTRICT,
    PRIMARY KEY (shipment_id, line_id)
);

CREATE TABLE shipment_trackings (
    shipment_id uuid NOT NULL REFERENCES shipments ON DELETE RESTRICT ON UPDATE RESTRICT,
    number text NOT NULL,
    url text NOT NULL,
    PRIMARY KEY (shipment_id, number)
);
"""

DOWN = "DROP TABLE shipment_trackings, shipment_lines, shipments, vendor_facts, fulfilment_lines, fulfilments;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

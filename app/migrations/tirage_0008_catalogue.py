"""What is sold: whole versions, each variant with its output class, and what vendors call them."""

from app.kernel.migrate import sql_migration

ID = "0008"
VERSION = "1.38.0"
DESCRIPTION = "catalogue"

UP = """
CREATE TABLE catalogues (
    version text PRIMARY KEY,
    document jsonb NOT NULL,
    is_current boolean NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX catalogues_current ON catalogues (is_current) WHERE is_current;

CREATE TABLE catalog_variants (
    version text NOT NULL REFERENCES catalogues ON DELETE RESTRICT ON UPDATE RESTRICT,
    sku text NOT NULL,
    number int NOT NULL,
    product text NOT NULL,
    size text NOT NULL,
    label text NOT NULL,
    output_class text NOT NULL CHECK (output_class IN ('standard', 'matte', 'poster', 'square')),
    trim_width_um int NOT NULL CHECK (trim_width_um > 0),
    trim_height_um int NOT NULL CHECK (trim_height_um >= trim_width_um),
    bleed_um int NOT NULL CHECK (bleed_um >= 0),
    weight_g int NOT NULL CHECK (weight_g > 0),
    papers text[] NOT NULL,
    source text NOT NULL,
    PRIMARY KEY (version, sku)
);

CREATE TABLE vendor_skus (
    version text NOT NULL REFERENCES catalogues ON DELETE RESTRICT ON UPDATE RESTRICT,
    vendor text NOT NULL,
    sku text NOT NULL,
    vendor_sku text NOT NULL,
    attributes jsonb NOT NULL,
    print_width_px int NOT NULL CHECK (print_width_px > 0),
    print_height_px int NOT NULL CHECK (print_height_px > 0),
    source text NOT NULL,
    PRIMARY KEY (version, vendor, sku),
    FOREIGN KEY (version, sku) REFERENCES catalog_variants ON DELETE RESTRICT ON UPDATE RESTRICT
);
"""

DOWN = "DROP TABLE vendor_skus, catalog_variants, catalogues;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)

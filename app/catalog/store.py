"""All SQL of the catalogue."""

from typing import Final

import msgspec

from app.catalog.domain import Catalogue, Files, VariantRow, VendorSku
from app.kernel.db import Readable, Transaction

LOCK: Final = "SELECT pg_advisory_xact_lock(7106)"
CURRENT: Final = "SELECT version FROM catalogues WHERE is_current"
DOCUMENT: Final = "SELECT document::text FROM catalogues WHERE version = $1"
VARIANTS: Final = """
SELECT sku, product, size, label, output_class, trim_width_um, trim_height_um, bleed_um, weight_g, papers, source
FROM catalog_variants WHERE version = $1 ORDER BY number
"""
VENDOR: Final = """
SELECT v.vendor, v.vendor_sku, v.attributes::text AS attributes, v.print_width_px, v.print_height_px FROM vendor_skus v
WHERE v.version = coalesce($3, (SELECT version FROM catalogues WHERE is_current)) AND v.vendor = $2 AND v.sku = $1
"""
RETIRE: Final = "UPDATE catalogues SET is_current = false WHERE is_current"
INSERT: Final = """
INSERT INTO catalogues (version, document, is_current) VALUES ($1, $2::jsonb, true)
ON CONFLICT (version) DO UPDATE SET is_current = true
RETURNING (xmax = 0) AS is_new
"""
INSERT_VARIANT: Final = """
INSERT INTO catalog_variants (version, number, sku, product, size, label, output_class, trim_width_um, trim_height_um,
                              bleed_um, weight_g, papers, source)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
INSERT_VENDOR: Final = """
INSERT INTO vendor_skus (version, vendor, sku, vendor_sku, attributes, print_width_px, print_height_px, source)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8)
"""


async def current_version(db: Readable) -> str | None:
    """The version that is sold from."""
    found: str | None = await db.value(CURRENT)
    return found


async def catalogue(db: Readable, version: str) -> Catalogue | None:
    """One version, whole."""
    document = await db.value(DOCUMENT, version)
    if document is None:
        return None
    rows = await db.fetch(VARIANTS, version)
    variants = tuple(
        VariantRow(
            sku=row["sku"],
            product=row["product"],
            size=row["size"],
            label=row["label"],
            output_class=row["output_class"],
            trim_um=(row["trim_width_um"], row["trim_height_um"]),
            bleed_um=row["bleed_um"],
            weight_g=row["weight_g"],
            papers=tuple(row["papers"]),
            source=row["source"],
        )
        for row in rows
    )
    return msgspec.structs.replace(msgspec.json.decode(document, type=Catalogue), variants=variants)


async def vendor_sku(db: Readable, sku: str, vendor: str, version: str | None, paper: str | None) -> VendorSku | None:
    """What a vendor calls a variant, on this paper or on any."""
    row = await db.one(VENDOR, sku, vendor, version)
    if row is None:
        return None
    attributes = msgspec.json.decode(row["attributes"], type=dict[str, dict[str, str]])
    wanted = next(iter(attributes)) if paper is None else paper
    if wanted not in attributes:
        return None
    return VendorSku(
        vendor=row["vendor"],
        sku=row["vendor_sku"],
        attributes=attributes[wanted],
        print_width_px=row["print_width_px"],
        print_height_px=row["print_height_px"],
    )


async def load(tx: Transaction, version: str, files: Files) -> bool:
    """Make these files what is sold; False when this very version was current already."""
    await tx.execute(LOCK)
    if await current_version(tx) == version:
        return False
    await tx.execute(RETIRE)
    document = msgspec.json.encode(msgspec.structs.replace(files.catalogue, variants=())).decode()
    if await tx.value(INSERT, version, document):
        await tx.many(INSERT_VARIANT, _variants(version, files))
        await tx.many(INSERT_VENDOR, _vendors(version, files))
    return True


def _variants(version: str, files: Files) -> list[tuple[object, ...]]:
    return [
        (
            version,
            n,
            v.sku,
            v.product,
            v.size,
            v.label,
            v.output_class,
            *v.trim_um,
            v.bleed_um,
            v.weight_g,
            papers,
            v.source,
        )
        for n, v in enumerate(files.catalogue.variants, 1)
        for papers in [list(v.papers)]
    ]


def _vendors(version: str, files: Files) -> list[tuple[object, ...]]:
    return [
        (version, v.vendor, v.sku, v.vendor_sku, msgspec.json.encode(v.attributes).decode(), *v.print_px, v.source)
        for v in files.vendors
    ]

"""The catalogue: what is sold now, what was sold under an older version, and what vendors call it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from app.catalog import store
from app.catalog.domain import (
    Catalogue,
    Files,
    Offer,
    Product,
    Variant,
    VendorRow,
    VendorSku,
    faults,
    offer,
    version_of,
)
from app.catalog.errors import CatalogueMissing, CatalogueRefused, NotMadeThere, ProductNotFound, VariantUnknown
from app.kernel.db import Database, Readable

FRESH_S: Final = 2
"""For so long a process sells from the version it last saw; quotes say which one they used."""


class Catalog:
    """The use cases. A loaded version never changes, so each is read once a process."""

    def __init__(self, db: Database, now: Callable[[], float] = time.monotonic) -> None:
        self._db, self._now = db, now
        self._offers: dict[str, Offer] = {}
        self._current: tuple[str, float] | None = None

    async def current(self, db: Readable) -> Offer:
        """What is sold now; raises `CatalogueMissing`. Mostly without a statement."""
        now = self._now()
        if self._current is None or now - self._current[1] > FRESH_S:
            version = await store.current_version(db)
            if version is None:
                raise CatalogueMissing()
            self._current = (version, now)
        return await self.at(db, self._current[0])

    async def at(self, db: Readable, version: str) -> Offer:
        """One version; raises `CatalogueMissing`."""
        found = self._offers.get(version)
        if found is None:
            catalogue = await store.catalogue(db, version)
            if catalogue is None:
                raise CatalogueMissing()
            found = self._offers[version] = offer(version, catalogue)
        return found

    async def read(self) -> Offer:
        """What is sold now; raises `CatalogueMissing`."""
        async with self._db.reading() as db:
            return await self.current(db)

    async def product(self, product_id: UUID) -> tuple[str, Product, list[Variant]]:
        """One product: the catalogue's version, the product, its variants; raises `ProductNotFound`."""
        every = await self.read()
        for product, variants in every.products():
            if product.id == product_id:
                return every.version, product, variants
        raise ProductNotFound()

    async def variant(self, db: Readable, sku: str, version: str | None = None) -> Variant:
        """A variant as sold now, or under an older version; raises `VariantUnknown`, `CatalogueMissing`."""
        every = await (self.current(db) if version is None else self.at(db, version))
        found = every.variants.get(sku)
        if found is None:
            raise VariantUnknown(f"{sku} is not sold")
        return found

    async def vendor_sku(
        self, db: Readable, sku: str, vendor: str, *, paper: str | None = None, version: str | None = None
    ) -> VendorSku:
        """What a vendor calls a variant, on a paper or on any: the only place that knows. Raises `NotMadeThere`."""
        found = await store.vendor_sku(db, sku, vendor, version, paper)
        if found is None:
            raise NotMadeThere(f"{vendor} has no {sku}" + (f" on {paper}" if paper else ""))
        return found

    async def load(self, files: Files, *, production: bool) -> tuple[str, bool]:
        """Sell from these files from now on: (version, whether anything changed). Raises `CatalogueRefused`."""
        found = faults(files, production=production)
        if found:
            raise CatalogueRefused("\n".join(found))
        version = version_of(files)
        async with self._db.transaction() as tx:
            changed = await store.load(tx, version, files)
        self._current = None
        return version, changed


def read_files(folder: Path) -> Files:
    """The catalogue in a folder; raises `CatalogueRefused` for a file that is missing or does not fit the schema."""
    try:
        return Files(
            catalogue=msgspec.json.decode((folder / "catalogue.json").read_bytes(), type=Catalogue),
            vendors=msgspec.json.decode((folder / "vendors.json").read_bytes(), type=tuple[VendorRow, ...]),
        )
    except (OSError, msgspec.DecodeError) as error:
        raise CatalogueRefused(f"{folder}: {error}") from error

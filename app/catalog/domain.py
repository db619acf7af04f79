"""What is sold: products, their variants, prices, shipping and tax, as data with a version and a source in every row.

Amounts are minor units, lengths micrometres (portrait), weights grams, rates hundredths of a per cent. A catalogue is
loaded whole and never changed: its version is a hash of what it says.
"""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, Literal
from uuid import UUID, uuid5

import msgspec

from base.ids import ProductId

CURRENCIES: Final = ("GBP", "EUR", "USD", "JPY")
_PRODUCTS: Final = UUID("6f1c6a0e-5a0d-5b61-9a52-0d7b7f3f1a11")

Kind = Literal["own", "vendor", "public", "sample"]
Mode = Literal["inclusive", "exclusive"]
Rounding = Literal["half-up", "half-even", "down"]
ClassName = Literal["standard", "matte", "poster", "square"]
Condition = Literal["srgb", "adobe", "fogra39"]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the data files."""


class Source(Row, frozen=True, kw_only=True):
    """Where rows come from; `sample` is invented or unchecked, and no production price list."""

    code: str
    kind: Kind
    what: str


class Product(Row, frozen=True, kw_only=True):
    """A kind of thing; `tax_class` decides its tax."""

    code: str
    name: str
    summary: str
    tax_class: str
    source: str

    @property
    def id(self) -> ProductId:
        """The same code has the same id everywhere and for ever."""
        return ProductId(uuid5(_PRODUCTS, self.code))


class VariantRow(Row, frozen=True, kw_only=True):
    """One size of a product on one kind of paper; `papers` are finishes, the default first."""

    sku: str
    product: str
    size: str
    label: str
    output_class: ClassName
    trim_um: tuple[int, int]
    bleed_um: int
    weight_g: int
    papers: tuple[str, ...]
    source: str


class Price(Row, frozen=True, kw_only=True):
    """A part of a unit price: `base`, `size`, `class` or `paper`, for one key (product, size, class, paper)."""

    part: Literal["base", "size", "class", "paper"]
    key: str
    currency: str
    amount: int
    source: str


class Discount(Row, frozen=True, kw_only=True):
    """Off every line, in thousandths, from so many copies of one product class in the order."""

    output_class: ClassName
    from_copies: int
    off: int
    source: str


class CurrencyRow(Row, frozen=True, kw_only=True):
    """How amounts of a currency are written and rounded: to multiples of `step` minor units."""

    code: str
    digits: int
    rounding: Rounding
    step: int
    source: str


class Zone(Row, frozen=True, kw_only=True):
    """Countries that cost the same to send to, and the currency offered first there."""

    code: str
    countries: tuple[str, ...]
    currency: str
    source: str


class Band(Row, frozen=True, kw_only=True):
    """What a parcel of at most so many grams costs."""

    up_to_g: int
    amount: int


class Shipping(Row, frozen=True, kw_only=True):
    """One way to send to one zone. Days are working days: making first, then the way."""

    code: Literal["budget", "standard", "express"]
    zone: str
    currency: str
    bands: tuple[Band, ...]
    making_days: int
    way_days: tuple[int, int]
    source: str


class Tax(Row, frozen=True, kw_only=True):
    """A rate, for a country or one region of it; `inclusive` prices contain it, to `exclusive` ones it is added."""

    country: str
    region: str | None
    tax_class: str
    rate: int
    mode: Mode
    source: str


class Printing(Row, frozen=True, kw_only=True):
    """What a vendor says that it prints a class with, on one paper or on every other: what a soft proof shows. Without
    a row it is not known."""

    output_class: ClassName
    paper: str | None = None
    condition: Condition
    source: str


class VendorRow(Row, frozen=True, kw_only=True):
    """What a vendor calls a variant; `attributes` by paper. The print area in pixels is portrait."""

    vendor: str
    sku: str
    vendor_sku: str
    attributes: dict[str, dict[str, str]]
    print_px: tuple[int, int]
    source: str


class Catalogue(Row, frozen=True, kw_only=True):
    """Everything that is sold, without what vendors call it. `parcel_g` is the empty parcel's weight."""

    name: str
    parcel_g: int
    quote_valid_s: int
    sources: tuple[Source, ...]
    products: tuple[Product, ...]
    variants: tuple[VariantRow, ...]
    prices: tuple[Price, ...]
    discounts: tuple[Discount, ...]
    currencies: tuple[CurrencyRow, ...]
    zones: tuple[Zone, ...]
    shipping: tuple[Shipping, ...]
    taxes: tuple[Tax, ...]
    printing: tuple[Printing, ...] = ()


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue as it lies in a folder: what is sold, and what each vendor calls it."""

    catalogue: Catalogue
    vendors: tuple[VendorRow, ...]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be bought. Lengths are micrometres of the portrait print."""

    sku: str
    product_id: ProductId
    product: str
    size: str
    label: str
    output_class: ClassName
    trim_um: tuple[int, int]
    bleed_um: int
    weight_g: int
    papers: tuple[str, ...]
    tax_class: str
    catalogue_version: str

    @property
    def print_area_um(self) -> tuple[int, int]:
        """Trim and bleed."""
        return self.trim_um[0] + 2 * self.bleed_um, self.trim_um[1] + 2 * self.bleed_um

    def standing(self, *, landscape: bool) -> tuple[int, int]:
        """The trim as the picture stands on it."""
        return (self.trim_um[1], self.trim_um[0]) if landscape else self.trim_um


class VendorSku(msgspec.Struct, frozen=True, kw_only=True):
    """A variant at a vendor; the print area in pixels is portrait."""

    vendor: str
    sku: str
    attributes: dict[str, str]
    print_width_px: int
    print_height_px: int


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue with its version, ready to be asked: `variants` by SKU, `amounts` of prices by (currency, part, key),
    `zones` by country, `shipping` by (zone, currency), `taxes` by (country, region, tax class)."""

    version: str
    catalogue: Catalogue
    variants: dict[str, Variant]
    amounts: dict[tuple[str, str, str], int]
    zones: dict[str, Zone]
    shipping: dict[tuple[str, str], tuple[Shipping, ...]]
    taxes: dict[tuple[str, str | None, str], Tax]

    def products(self) -> Iterator[tuple[Product, list[Variant]]]:
        """Every product with its variants, in the catalogue's order."""
        for product in self.catalogue.products:
            yield product, [v for v in self.variants.values() if v.product == product.code]

    def printed_with(self, variant: Variant, paper: str | None) -> Condition | None:
        """The printing condition that is declared for a variant on a paper; None when nobody has said."""
        found = {
            row.paper: row.condition for row in self.catalogue.printing if row.output_class == variant.output_class
        }
        return found.get(paper, found.get(None))


def offer(version: str, catalogue: Catalogue) -> Offer:
    """Index a catalogue that has no faults."""
    products = {product.code: product for product in catalogue.products}
    variants = {
        row.sku: Variant(
            sku=row.sku,
            product_id=products[row.product].id,
            product=row.product,
            size=row.size,
            label=row.label,
            output_class=row.output_class,
            trim_um=row.trim_um,
            bleed_um=row.bleed_um,
            weight_g=row.weight_g,
            papers=row.papers,
            tax_class=products[row.product].tax_class,
            catalogue_version=version,
        )
        for row in catalogue.variants
    }
    ways: defaultdict[tuple[str, str], tuple[Shipping, ...]] = defaultdict(tuple)
    for way in catalogue.shipping:
        ways[way.zone, way.currency] += (way,)
    return Offer(
        version=version,
        catalogue=catalogue,
        variants=variants,
        amounts={(p.currency, p.part, p.key): p.amount for p in catalogue.prices},
        zones={country: zone for zone in catalogue.zones for country in zone.countries},
        shipping=dict(ways),
        taxes={(t.country, t.region, t.tax_class): t for t in catalogue.taxes},
    )


def version_of(files: Files) -> str:
    """A name for exactly these rows: the hash of their canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(files, order="sorted")).hexdigest()[:16]


# --- what may not be loaded ---


def faults(files: Files, *, production: bool) -> list[str]:
    """Everything that is wrong with a catalogue, in words; empty when it can be sold from."""
    checks = (_sources, _keys, _variants, _prices, _shipping, _taxes, _vendors)
    found = [fault for check in checks for fault in check(files)]
    if production:
        found += _samples(files)
    return found


def _rows(files: Files) -> Iterator[tuple[str, str]]:
    """(what row, its source) of every row that has one."""
    every = files.catalogue
    for name in ("products", "variants", "prices", "discounts", "currencies", "zones", "shipping", "taxes", "printing"):
        for number, row in enumerate(getattr(every, name)):
            yield f"{name}[{number}]", row.source
    for number, vendor in enumerate(files.vendors):
        yield f"vendors[{number}]", vendor.source


def _sources(files: Files) -> Iterator[str]:
    known = {source.code for source in files.catalogue.sources}
    for row, source in _rows(files):
        if source not in known:
            yield f"{row}: the source {source!r} is not listed"


def _samples(files: Files) -> Iterator[str]:
    """A production price list has no invented or unchecked row."""
    sample = {source.code for source in files.catalogue.sources if source.kind == "sample"}
    found = [row for row, source in _rows(files) if source in sample]
    if found:
        yield f"{len(found)} rows are samples, which production refuses: {', '.join(found[:5])}, …"


def _keys(files: Files) -> Iterator[str]:
    every = files.catalogue
    yield from _doubled("product", (p.code for p in every.products))
    yield from _doubled("sku", (v.sku for v in every.variants))
    yield from _doubled("price", ((p.part, p.key, p.currency) for p in every.prices))
    yield from _doubled("country", (c for zone in every.zones for c in zone.countries))
    yield from _doubled("tax", ((t.country, t.region, t.tax_class) for t in every.taxes))
    yield from _doubled("printing", ((p.output_class, p.paper) for p in every.printing))
    yield from _doubled("shipping", ((s.zone, s.code, s.currency) for s in every.shipping))
    yield from _doubled("vendor sku", ((v.vendor, v.sku) for v in files.vendors))
    if {c.code for c in every.currencies} != set(CURRENCIES):
        yield f"currencies are not exactly {', '.join(CURRENCIES)}"
    if any(c.step < 1 or not 0 <= c.digits <= 3 for c in every.currencies):
        yield "a currency has no positive step, or more than three digits"


def _doubled(what: str, keys: Iterable[object]) -> Iterator[str]:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            yield f"{what} {key!r} is listed twice"
        seen.add(key)


def _variants(files: Files) -> Iterator[str]:
    products = {product.code for product in files.catalogue.products}
    for row in files.catalogue.variants:
        if row.product not in products:
            yield f"{row.sku}: there is no product {row.product!r}"
        if not 0 < row.trim_um[0] <= row.trim_um[1]:
            yield f"{row.sku}: the trim is not portrait"
        if row.output_class == "square" and row.trim_um[0] != row.trim_um[1]:
            yield f"{row.sku}: a square class has square prints"
        if not row.papers or row.weight_g < 1 or row.bleed_um < 0:
            yield f"{row.sku}: no paper, no weight or no bleed"


@functools.cache
def _needed(row: VariantRow) -> tuple[tuple[str, str], ...]:
    parts = (("base", row.product), ("size", row.size), ("class", row.output_class))
    return parts + tuple(("paper", paper) for paper in row.papers)


def _prices(files: Files) -> Iterator[str]:
    known: dict[tuple[str, str, str], int] = {(p.part, p.key, p.currency): p.amount for p in files.catalogue.prices}
    for row in files.catalogue.variants:
        for currency in CURRENCIES:
            amounts = [known.get((part, key, currency)) for part, key in _needed(row)]
            if None in amounts:
                yield f"{row.sku}: no complete price in {currency}"
            elif sum(a for a in amounts if a) < 1:
                yield f"{row.sku}: costs nothing in {currency}"
    if any(amount < 0 for amount in known.values()):
        yield "a price is negative"
    if any(not (0 < d.off < 1000 and d.from_copies > 1) for d in files.catalogue.discounts):
        yield "a discount is not between nothing and everything"


def _shipping(files: Files) -> Iterator[str]:
    every = files.catalogue
    ways = {(s.zone, s.currency) for s in every.shipping}
    for zone in every.zones:
        for currency in CURRENCIES:
            if (zone.code, currency) not in ways:
                yield f"nothing can be sent to {zone.code} in {currency}"
    for way in every.shipping:
        limits = [band.up_to_g for band in way.bands]
        amounts = [band.amount for band in way.bands]
        if not limits or limits != sorted(set(limits)) or amounts != sorted(amounts) or amounts[0] < 0:
            yield f"{way.zone} {way.code} {way.currency}: the weight bands do not rise"
        if not 0 <= way.way_days[0] <= way.way_days[1]:
            yield f"{way.zone} {way.code} {way.currency}: the days do not rise"


def _taxes(files: Files) -> Iterator[str]:
    every = files.catalogue
    known = {(t.country, t.tax_class) for t in every.taxes if t.region is None}
    for zone in every.zones:
        for country in zone.countries:
            for tax_class in sorted({p.tax_class for p in every.products}):
                if (country, tax_class) not in known:
                    yield f"no tax rate for {tax_class} in {country}"
    if any(not 0 <= t.rate < 10_000 for t in every.taxes):
        yield "a tax rate is not between 0 and 100 per cent"


def _vendors(files: Files) -> Iterator[str]:
    variants = {row.sku: row for row in files.catalogue.variants}
    for row in files.vendors:
        variant = variants.get(row.sku)
        if variant is None:
            yield f"{row.vendor}: there is no variant {row.sku!r}"
            continue
        if set(row.attributes) != set(variant.papers):
            yield f"{row.vendor} {row.sku}: attributes are not for exactly the papers"
        yield from _shape(row, variant)
    missing = sorted(set(variants) - {row.sku for row in files.vendors})
    if missing:
        yield f"no vendor makes {', '.join(missing)}"


def _shape(row: VendorRow, variant: VariantRow) -> Iterator[str]:
    """Within a pixel, the print area has the shape of trim or of trim and bleed: the vendor's crop is the identity."""
    width, height = row.print_px
    for bleed in (0, variant.bleed_um):
        across, down = (side + 2 * bleed for side in variant.trim_um)
        if abs(width * down - height * across) <= max(across, down):
            return
    yield f"{row.vendor} {row.sku}: {width} x {height} px is not the print's shape"

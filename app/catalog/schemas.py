"""The catalogue on the wire."""

from typing import Annotated, Self

from msgspec import Meta

from app.catalog.domain import Offer, Product, Variant
from app.web.wire import WireOut
from base import ids


class VariantOut(WireOut, frozen=True, kw_only=True):
    """One size on one kind of paper."""

    sku: Annotated[str, Meta(description="Its stable code; drafts name it.", examples=["photo-10x15-standard"])]
    label: Annotated[str, Meta(description="Its size in words.", examples=["10 × 15 cm"])]
    output_class: Annotated[
        str, Meta(description="How it is printed: `standard`, `matte`, `poster` or `square`.", examples=["standard"])
    ]
    trim_width_um: Annotated[int, Meta(description="The shorter side after cutting, micrometres.")]
    trim_height_um: Annotated[int, Meta(description="The longer side after cutting, micrometres.")]
    bleed_um: Annotated[int, Meta(description="What is cut off each edge, micrometres.")]
    papers: Annotated[list[str], Meta(description="The finishes to choose from, the default first.")]

    @classmethod
    def of(cls, variant: Variant) -> Self:
        """From the domain."""
        return cls(
            sku=variant.sku,
            label=variant.label,
            output_class=variant.output_class,
            trim_width_um=variant.trim_um[0],
            trim_height_um=variant.trim_um[1],
            bleed_um=variant.bleed_um,
            papers=list(variant.papers),
        )


class ProductOut(WireOut, frozen=True, kw_only=True):
    """A product with its variants."""

    id: Annotated[str, Meta(description="The product's id.")]
    code: Annotated[str, Meta(description="Its stable code.", examples=["photo-print"])]
    name: Annotated[str, Meta(description="Its name.")]
    summary: Annotated[str, Meta(description="What it is.")]
    variants: Annotated[list[VariantOut], Meta(description="What can be bought of it.")]

    @classmethod
    def of(cls, product: Product, variants: list[Variant]) -> Self:
        """From the domain."""
        return cls(
            id=ids.encode("product", product.id),
            code=product.code,
            name=product.name,
            summary=product.summary,
            variants=[VariantOut.of(variant) for variant in variants],
        )


class ProductsOut(WireOut, frozen=True, kw_only=True):
    """Everything that is sold."""

    version: Annotated[str, Meta(description="The catalogue's version; a change of price makes a new one.")]
    currencies: Annotated[list[str], Meta(description="The currencies that quotes come in.")]
    countries: Annotated[list[str], Meta(description="Where we send to (ISO 3166).")]
    products: Annotated[list[ProductOut], Meta(description="The products.")]

    @classmethod
    def of(cls, offer: Offer) -> Self:
        """From the domain."""
        return cls(
            version=offer.version,
            currencies=[currency.code for currency in offer.catalogue.currencies],
            countries=sorted(country for zone in offer.catalogue.zones for country in zone.countries),
            products=[ProductOut.of(product, variants) for product, variants in offer.products()],
        )

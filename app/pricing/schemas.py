"""Quotes on the wire."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from msgspec import Meta

from app.pricing.domain import Line, Quote, Sent, Way
from app.pricing.service import Ask
from app.web.wire import WireIn, WireOut
from base import ids

Amount = Annotated[int, Meta(description="Minor units of the quote's currency.")]


class AskQuote(WireIn, frozen=True, kw_only=True):
    """Which draft, and where to."""

    draft_id: Annotated[str, Meta(description="The draft.", max_length=40, examples=["drf_01h455vb4pex5vsknk084sn02q"])]
    country: Annotated[
        str, Meta(description="Where to (ISO 3166, two letters).", pattern="^[A-Z]{2}$", examples=["GB"])
    ]
    region: Annotated[
        Annotated[str, Meta(pattern="^[A-Z0-9]{1,3}$")] | None,
        Meta(description="State or province, where it decides the tax (ISO 3166-2, without the country)."),
    ] = None
    postcode: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9 -]{0,11}$")] | None, Meta(description="The postcode.")
    ] = None
    currency: Annotated[Literal["GBP", "EUR", "USD", "JPY"] | None, Meta(description="None is the country's own.")] = (
        None
    )
    shipping: Annotated[Way, Meta(description="How to send it.")] = "standard"

    def ask(self) -> Ask:
        """To the domain; raises `MalformedId`."""
        return Ask(
            draft_id=ids.decode("draft", self.draft_id),
            country=self.country,
            region=self.region,
            postcode=self.postcode,
            currency=self.currency,
            way=self.shipping,
        )


class PricePartOut(WireOut, frozen=True, kw_only=True):
    """One part of a unit price."""

    part: Annotated[str, Meta(description="`base`, `size`, `class` or `paper`.")]
    key: Annotated[str, Meta(description="Which product, size, class or paper.")]
    amount: Amount


class QuoteLineOut(WireOut, frozen=True, kw_only=True):
    """What one item costs: parts make the unit; copies times it, less the discount, make the amount."""

    item_id: Annotated[str, Meta(description="The draft's item.")]
    sku: Annotated[str, Meta(description="The variant's code.")]
    copies: Annotated[int, Meta(description="How many.")]
    parts: Annotated[list[PricePartOut], Meta(description="What the unit price is made of.")]
    unit: Annotated[int, Meta(description="One of them, minor units.")]
    discount_per_mille: Annotated[int, Meta(description="Off for many copies, thousandths.")]
    discount: Annotated[int, Meta(description="What that is, minor units.")]
    amount: Annotated[int, Meta(description="Copies times the unit, less the discount.")]
    tax_rate: Annotated[int, Meta(description="Hundredths of a per cent.")]
    tax_mode: Annotated[str, Meta(description="`inclusive`: the amount holds the tax; `exclusive`: it is added.")]
    tax: Annotated[int, Meta(description="The part of the total that is tax.")]
    total: Annotated[int, Meta(description="What is paid for it.")]

    @classmethod
    def of(cls, line: Line) -> Self:
        """From the domain."""
        return cls(
            item_id=ids.encode("item", line.item_id),
            sku=line.sku,
            copies=line.copies,
            parts=[PricePartOut(part=p.part, key=p.key, amount=p.amount) for p in line.parts],
            unit=line.unit,
            discount_per_mille=line.off,
            discount=line.discount,
            amount=line.amount,
            tax_rate=line.rate,
            tax_mode=line.mode,
            tax=line.tax,
            total=line.total,
        )


class ShippingOut(WireOut, frozen=True, kw_only=True):
    """One way to send it."""

    option: Annotated[str, Meta(description="`budget`, `standard` or `express`.")]
    amount: Annotated[int, Meta(description="What it costs, minor units; before tax where tax is added.")]
    earliest: Annotated[date, Meta(description="It should not arrive before.")]
    latest: Annotated[date, Meta(description="It should arrive by.")]

    @classmethod
    def of(cls, sent: Sent) -> Self:
        """From the domain."""
        return cls(option=sent.way, amount=sent.amount, earliest=sent.earliest, latest=sent.latest)


class QuoteOut(WireOut, frozen=True, kw_only=True):
    """A price for one version of a draft; `total` is the sum of the lines' totals and `shippingTotal`."""

    id: Annotated[str, Meta(description="The quote's id.")]
    state: Annotated[str, Meta(description="`priced`, `accepted` or `expired`.", examples=["priced"])]
    draft_id: Annotated[str, Meta(description="The draft.")]
    draft_version: Annotated[int, Meta(description="The draft's version; another one needs a new quote.")]
    catalogue_version: Annotated[str, Meta(description="The catalogue it was made from.")]
    currency: Annotated[str, Meta(description="ISO 4217.")]
    country: Annotated[str, Meta(description="Where to.")]
    lines: Annotated[list[QuoteLineOut], Meta(description="By item.")]
    shipping: Annotated[ShippingOut, Meta(description="How it is sent.")]
    other_shipping: Annotated[list[ShippingOut], Meta(description="The other ways; choosing one needs a new quote.")]
    weight_g: Annotated[int, Meta(description="With packing, grams.")]
    parcels: Annotated[int, Meta(description="In how many parcels.")]
    shipping_tax: Annotated[int, Meta(description="The part of shipping that is tax.")]
    shipping_total: Annotated[int, Meta(description="What is paid for shipping.")]
    tax: Annotated[int, Meta(description="The part of the total that is tax.")]
    total: Annotated[int, Meta(description="What is paid.")]
    expires_at: Annotated[datetime, Meta(description="Until when it holds, UTC.")]
    valid_for_s: Annotated[int, Meta(description="How long it holds from when it was made, seconds.")]

    @classmethod
    def of(cls, quote: Quote) -> Self:
        """From the domain."""
        made = quote.result
        return cls(
            id=ids.encode("quote", quote.id),
            state=quote.state.value,
            draft_id=ids.encode("draft", quote.draft_id),
            draft_version=quote.draft_version,
            catalogue_version=quote.inputs.catalogue_version,
            currency=quote.inputs.currency,
            country=quote.inputs.country,
            lines=[QuoteLineOut.of(line) for line in made.lines],
            shipping=ShippingOut.of(made.sent),
            other_shipping=[ShippingOut.of(way) for way in made.others],
            weight_g=made.weight_g,
            parcels=made.parcels,
            shipping_tax=made.shipping_tax,
            shipping_total=made.shipping_total,
            tax=made.tax,
            total=made.total,
            expires_at=quote.expires_at,
            valid_for_s=int((quote.expires_at - quote.created_at).total_seconds()),
        )

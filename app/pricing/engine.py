"""From a catalogue and a wish to a price: pure functions on integers, each rounding declared, nothing lost.

Money is rounded in three places only, each time by the currency's own rule: a line's discount, a rate group's tax, and
nothing else; what belongs to several lines is shared out by largest remainder, so that parts sum to the whole.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import msgspec

from app.catalog.domain import CurrencyRow, Offer, Shipping, Variant
from app.catalog.errors import VariantUnknown
from app.pricing.domain import Inputs, Line, Part, Result, Sent, Wanted
from app.pricing.errors import CountryNotServed, NothingToPrice
from app.pricing.taxes import Rate, TaxProvider

PER_MILLE: Final = 1_000
WHOLE_RATE: Final = 10_000
SATURDAY: Final = 5


def rounded(numerator: int, denominator: int, currency: CurrencyRow) -> int:
    """A fraction of minor units as a multiple of the currency's step, by its rule; the numerator is not negative."""
    steps, rest = divmod(numerator, denominator * currency.step)
    twice, whole = 2 * rest, denominator * currency.step
    is_up = twice > whole or (
        twice == whole and (currency.rounding == "half-up" or (currency.rounding == "half-even" and steps % 2 == 1))
    )
    return (steps + (is_up and currency.rounding != "down")) * currency.step


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """A whole in parts proportional to weights, by largest remainder, first come first served; they sum to it."""
    whole = sum(weights)
    if whole == 0:
        return [total, *(0 for _ in weights[1:])]
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda n: (-(total * weights[n] % whole), n))
    for n in order[: total - sum(parts)]:
        parts[n] += 1
    return parts


def working_day(day: date, after: int) -> date:
    """So many working days later (Monday to Friday; holidays are not known)."""
    if after < 1:
        return day
    weekday = day.weekday()
    weeks, rest = divmod(min(weekday, SATURDAY - 1) + after, SATURDAY)  # a weekend counts from its Friday
    return day + timedelta(days=7 * weeks + rest - weekday)


def priced(offer: Offer, taxes: TaxProvider, wish: Inputs) -> Result:
    """The price of a wish; raises `NothingToPrice`, `VariantUnknown`, `CountryNotServed`."""
    if not wish.items:
        raise NothingToPrice()
    book = _Book(offer, wish)
    lines = [book.line(item) for item in wish.items]
    weight = offer.catalogue.parcel_g + sum(book.variant(i.sku).weight_g * i.copies for i in wish.items)
    ways = {way.code: _sent(way, weight, wish.day) for way in book.ways()}
    sent = ways[wish.way]
    rates = [taxes.rate(wish.country, wish.region, book.variant(i.sku).tax_class) for i in wish.items]
    lines, shipping_tax, shipping_total = _taxed(lines, rates, sent.amount, book.currency)
    return Result(
        lines=tuple(lines),
        weight_g=weight,
        parcels=_parcels(weight, book.limit(wish.way)),
        sent=sent,
        others=tuple(way for code, way in ways.items() if code != wish.way),
        shipping_tax=shipping_tax,
        shipping_total=shipping_total,
        tax=shipping_tax + sum(line.tax for line in lines),
        total=shipping_total + sum(line.total for line in lines),
    )


class _Book:
    """The catalogue's rows that one wish needs."""

    def __init__(self, offer: Offer, wish: Inputs) -> None:
        every = offer.catalogue
        self._variants, self._amounts, self._wish = offer.variants, offer.amounts, wish
        self.currency = next(row for row in every.currencies if row.code == wish.currency)
        zone = offer.zones.get(wish.country)
        if zone is None:
            raise CountryNotServed(f"we do not send to {wish.country}")
        self._ways = offer.shipping.get((zone.code, wish.currency), ())
        copies: Counter[str] = Counter()
        for item in wish.items:
            copies[self.variant(item.sku).output_class] += item.copies
        self._off = {
            class_: max((d.off for d in every.discounts if d.output_class == class_ and d.from_copies <= n), default=0)
            for class_, n in copies.items()
        }

    def variant(self, sku: str) -> Variant:
        """Raises `VariantUnknown`."""
        if sku not in self._variants:
            raise VariantUnknown(f"{sku} is not sold any more")
        return self._variants[sku]

    def ways(self) -> tuple[Shipping, ...]:
        """Every way to send it there; raises `CountryNotServed` when the one asked for is none."""
        if self._wish.way not in {way.code for way in self._ways}:
            raise CountryNotServed(f"{self._wish.way} is not offered in {self._wish.country}")
        return self._ways

    def limit(self, way: str) -> int:
        """What the heaviest parcel of a way may weigh."""
        return next(row.bands[-1].up_to_g for row in self._ways if row.code == way)

    def line(self, item: Wanted) -> Line:
        """One item before tax."""
        variant = self.variant(item.sku)
        keys = (
            ("base", variant.product),
            ("size", variant.size),
            ("class", variant.output_class),
            ("paper", item.paper if item.paper in variant.papers else variant.papers[0]),
        )
        parts = tuple(
            Part(part=part, key=key, amount=self._amounts[self._wish.currency, part, key]) for part, key in keys
        )
        unit, off = sum(part.amount for part in parts), self._off[variant.output_class]
        discount = rounded(unit * item.copies * off, PER_MILLE, self.currency)
        amount = unit * item.copies - discount
        return Line(
            item_id=item.item_id,
            sku=item.sku,
            copies=item.copies,
            parts=parts,
            unit=unit,
            off=off,
            discount=discount,
            amount=amount,
            rate=0,
            mode="inclusive",
            tax=0,
            total=amount,
        )


def _taxed(
    lines: Sequence[Line], rates: Sequence[Rate], shipping: int, currency: CurrencyRow
) -> tuple[list[Line], int, int]:
    """The lines with their tax, shipping's tax and shipping's total.

    Shipping is taxed like the goods it carries: its shares go by the lines' amounts. Tax is rounded once for each rate.
    """
    carried = shared(shipping, [line.amount for line in lines])
    groups: dict[Rate, list[int]] = defaultdict(list)
    for n, rate in enumerate(rates):
        groups[rate].append(n)
    line_tax, shipping_tax, added = [0] * len(lines), 0, 0
    for rate, members in groups.items():
        amounts = [lines[n].amount for n in members] + [carried[n] for n in members]
        parts = shared(_tax_on(sum(amounts), rate, currency), amounts)
        for n, part in zip(members, parts, strict=False):
            line_tax[n] = part
        on_shipping = sum(parts[len(members) :])
        shipping_tax += on_shipping
        added += on_shipping if rate.mode == "exclusive" else 0
    done = [_with_tax(line, rate, tax) for line, rate, tax in zip(lines, rates, line_tax, strict=True)]
    return done, shipping_tax, shipping + added


def _tax_on(amount: int, rate: Rate, currency: CurrencyRow) -> int:
    whole = WHOLE_RATE + rate.rate if rate.mode == "inclusive" else WHOLE_RATE
    return rounded(amount * rate.rate, whole, currency)


def _with_tax(line: Line, rate: Rate, tax: int) -> Line:
    total = line.amount + (tax if rate.mode == "exclusive" else 0)
    return msgspec.structs.replace(line, rate=rate.rate, mode=rate.mode, tax=tax, total=total)


def _sent(way: Shipping, weight: int, day: date) -> Sent:
    """What a way costs for this weight, and when it arrives: as many full parcels as needed, and one for the rest."""
    limit = way.bands[-1].up_to_g
    full = _parcels(weight, limit) - 1
    rest = weight - full * limit
    amount = full * way.bands[-1].amount + next(band.amount for band in way.bands if rest <= band.up_to_g)
    earliest, latest = (working_day(day, way.making_days + days) for days in way.way_days)
    return Sent(way=way.code, amount=amount, earliest=earliest, latest=latest)


def _parcels(weight: int, limit: int) -> int:
    return -(-weight // limit)

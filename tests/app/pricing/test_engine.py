"""Prices are exact: property tests over every currency, tax mode and rounding rule."""

import math
from datetime import date, timedelta
from fractions import Fraction
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.domain import CURRENCIES, CurrencyRow, offer
from app.catalog.errors import VariantUnknown
from app.catalog.service import read_files
from app.pricing.domain import Inputs, Result, Wanted
from app.pricing.engine import priced, rounded, shared, working_day
from app.pricing.errors import CountryNotServed, NothingToPrice
from app.pricing.taxes import Rate, TaxTable
from base.ids import ItemId
from tirage.catalog import FOLDER

CATALOGUE = read_files(FOLDER).catalogue
OFFER = offer("v", CATALOGUE)
TABLE = TaxTable(OFFER)
MONDAY = date(2026, 11, 23)
SKUS = sorted(OFFER.variants)


def item(number: int, sku: str, copies: int, paper: str | None = None) -> Wanted:
    return Wanted(
        item_id=ItemId(UUID(int=number)), sku=sku, copies=copies, paper=paper or OFFER.variants[sku].papers[0]
    )


def inputs(*items: Wanted, **more: object) -> Inputs:
    given = {"currency": "GBP", "country": "GB", "region": None, "way": "standard", "day": MONDAY, **more}
    return Inputs(catalogue_version="v", items=items, **given)  # type: ignore[arg-type]


ITEMS = st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 500)), min_size=1, max_size=12).map(
    lambda chosen: tuple(item(n, sku, copies) for n, (sku, copies) in enumerate(chosen))
)
PLACES = st.sampled_from(
    [("GB", None), ("DE", None), ("FI", None), ("JP", None), ("US", None), ("US", "CA"), ("US", "TX")]
)
WAYS = st.sampled_from(["budget", "standard", "express"])


class Mixed:
    """Rates that differ from product to product, in one mode or both."""

    def __init__(self, *rates: Rate) -> None:
        self.rates = rates
        self.asked = 0

    def rate(self, country: str, region: str | None, tax_class: str) -> Rate:
        self.asked += 1
        return self.rates[self.asked % len(self.rates)]


def sums_up(result: Result) -> None:
    """What must hold of every price."""
    assert result.total == sum(line.total for line in result.lines) + result.shipping_total
    assert result.tax == sum(line.tax for line in result.lines) + result.shipping_tax
    for line in result.lines:
        assert line.unit == sum(part.amount for part in line.parts)
        assert line.amount == line.unit * line.copies - line.discount
        assert line.total == line.amount + (line.tax if line.mode == "exclusive" else 0)
        assert 0 <= line.tax <= line.total
        assert 0 <= line.discount < line.unit * line.copies
    assert 0 <= result.shipping_tax <= result.shipping_total


class TestSums:
    @given(ITEMS, PLACES, st.sampled_from(CURRENCIES), WAYS)
    def test_total_is_lines_and_shipping_and_the_same_again(
        self, items: tuple[Wanted, ...], place: tuple[str, str | None], currency: str, way: str
    ) -> None:
        wish = inputs(*items, country=place[0], region=place[1], currency=currency, way=way)
        result = priced(OFFER, TABLE, wish)
        sums_up(result)
        again = msgspec.json.decode(msgspec.json.encode(wish), type=Inputs)
        assert msgspec.json.encode(priced(OFFER, TABLE, again)) == msgspec.json.encode(result)

    @given(
        ITEMS,
        st.sampled_from(CURRENCIES),
        st.lists(
            st.builds(Rate, st.integers(0, 3000), st.sampled_from(["inclusive", "exclusive"])), min_size=1, max_size=4
        ),
        st.sampled_from(["half-up", "half-even", "down"]),
        st.sampled_from([1, 5, 10]),
    )
    def test_with_any_rates_and_rounding(
        self, items: tuple[Wanted, ...], currency: str, rates: list[Rate], rule: str, step: int
    ) -> None:
        rows = tuple(msgspec.structs.replace(c, rounding=rule, step=step) for c in CATALOGUE.currencies)
        other = offer("v", msgspec.structs.replace(CATALOGUE, currencies=rows))
        result = priced(other, Mixed(*rates), inputs(*items, currency=currency))
        sums_up(result)
        # A rate group's tax is off the exact one by less than a step, however it was shared out.
        for rate in {(line.rate, line.mode) for line in result.lines} if len(set(rates)) == 1 else ():
            whole = 10_000 + rate[0] if rate[1] == "inclusive" else 10_000
            exact = Fraction((sum(line.amount for line in result.lines) + result.sent.amount) * rate[0], whole)
            assert abs(result.tax - exact) < step

    def test_vat_is_what_a_receipt_would_say(self) -> None:
        """Ten small prints to Britain: 35 each, 399 for sending; a sixth of the whole is VAT."""
        result = priced(OFFER, TABLE, inputs(item(1, "photo-10x15-standard", 10)))
        assert (result.lines[0].unit, result.lines[0].total, result.shipping_total) == (35, 350, 399)
        assert result.total == 749
        assert result.tax == 125  # 749 / 6 = 124.83…
        # 350 / 749 and 399 / 749 of it are 58.41… and 66.58…: the one left over goes to the larger remainder.
        assert (result.lines[0].tax, result.shipping_tax) == (58, 67)

    def test_added_tax_is_added(self) -> None:
        wish = inputs(item(1, "photo-10x15-standard", 10), country="US", region="CA", currency="USD")
        result = priced(OFFER, TABLE, wish)
        assert result.total == sum(line.amount for line in result.lines) + result.sent.amount + result.tax
        assert result.tax == round(Fraction((result.lines[0].amount + result.sent.amount) * 725, 10_000))

    def test_a_discount_begins_at_its_number(self) -> None:
        few, many = (priced(OFFER, TABLE, inputs(item(1, SKUS[-1], n))).lines[0] for n in (1, 2))
        assert (few.discount, many.discount) == (0, 0)
        before = priced(OFFER, TABLE, inputs(item(1, "photo-10x15-standard", 49))).lines[0]
        split = priced(OFFER, TABLE, inputs(*(item(n, "photo-10x15-standard", 25) for n in range(2)))).lines
        assert before.off == 0
        assert [line.off for line in split] == [100, 100]

    @given(ITEMS, st.sampled_from(CURRENCIES))
    def test_more_copies_never_weigh_or_ship_for_less(self, items: tuple[Wanted, ...], currency: str) -> None:
        more = tuple(msgspec.structs.replace(i, copies=i.copies + 1) for i in items)
        small, large = (priced(OFFER, TABLE, inputs(*each, currency=currency)) for each in (items, more))
        assert small.weight_g < large.weight_g
        assert small.sent.amount <= large.sent.amount
        assert small.parcels == math.ceil(small.weight_g / 5000)


class TestParts:
    @given(st.integers(0, 10**9), st.lists(st.integers(0, 10**7), min_size=1, max_size=40))
    def test_shares_sum_to_the_whole_and_are_fair(self, total: int, weights: list[int]) -> None:
        parts, whole = shared(total, weights), sum(weights)
        assert sum(parts) == total
        if whole:
            assert all(abs(Fraction(total * w, whole) - p) < 1 for w, p in zip(weights, parts, strict=True))

    @given(st.integers(0, 10**9), st.integers(1, 10**5), st.sampled_from([1, 5, 100]))
    def test_rounding_is_as_declared(self, numerator: int, denominator: int, step: int) -> None:
        exact = Fraction(numerator, denominator * step)
        expected = {"down": math.floor(exact), "half-up": math.floor(exact + Fraction(1, 2)), "half-even": round(exact)}
        for rule, steps in expected.items():
            row = CurrencyRow(code="GBP", digits=2, rounding=rule, step=step, source="own")  # type: ignore[arg-type]
            assert rounded(numerator, denominator, row) == steps * step

    def test_ties(self) -> None:
        rows = [
            CurrencyRow(code="X", digits=2, rounding=r, step=1, source="own") for r in ("half-up", "half-even", "down")
        ]
        assert [[rounded(n, 2, row) for n in (1, 3, 5)] for row in rows] == [[1, 2, 3], [0, 2, 2], [0, 1, 2]]
        assert shared(2, [1, 1, 1]) == [1, 1, 0]
        assert shared(7, [0, 0]) == [7, 0]

    @pytest.mark.parametrize(
        ("day", "after", "then"),
        [
            (MONDAY, 0, MONDAY),
            (MONDAY, 4, date(2026, 11, 27)),
            (MONDAY, 5, date(2026, 11, 30)),
            (date(2026, 11, 28), 1, date(2026, 11, 30)),
            (date(2026, 11, 29), 1, date(2026, 11, 30)),
            (date(2026, 11, 29), 0, date(2026, 11, 29)),
            (date(2026, 11, 27), 11, date(2026, 12, 14)),
            (date(2026, 12, 31), 1, date(2027, 1, 1)),
        ],
    )
    def test_weekends_do_not_count(self, day: date, after: int, then: date) -> None:
        assert working_day(day, after) == then

    @given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 60))
    def test_a_working_day_later_is_one_more(self, day: date, after: int) -> None:
        later = working_day(day, after + 1)
        between = [working_day(day, after) + timedelta(days=n) for n in range(1, 4)]
        assert later == next(one for one in between if one.weekday() < 5)


class TestRefusals:
    def test_nothing_unknown_or_unreachable_has_a_price(self) -> None:
        with pytest.raises(NothingToPrice):
            priced(OFFER, TABLE, inputs())
        with pytest.raises(CountryNotServed):
            priced(OFFER, TABLE, inputs(item(1, SKUS[0], 1), country="AQ"))
        unknown = msgspec.structs.replace(item(1, SKUS[0], 1), sku="x")
        with pytest.raises(VariantUnknown):
            priced(OFFER, TABLE, inputs(unknown))
        untaxed = offer("v", msgspec.structs.replace(CATALOGUE, taxes=()))
        with pytest.raises(CountryNotServed, match="tax"):
            priced(OFFER, TaxTable(untaxed), inputs(item(1, SKUS[0], 1)))

"""Quotes: what a draft costs, where to, by when. Amounts are minor units of the quote's currency."""

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar, Final, Literal

import msgspec

from app.catalog.domain import Mode
from app.kernel.events import Event, event
from app.kernel.states import Machine
from base.ids import DraftId, ItemId, OwnerId, QuoteId
from base.money import Money

Way = Literal["budget", "standard", "express"]


class QuoteState(StrEnum):
    """Where a quote is."""

    PRICED = "priced"
    ACCEPTED = "accepted"
    EXPIRED = "expired"


@event
class QuotePriced(Event, frozen=True, kw_only=True):
    """A draft has a price for a while."""

    type: ClassVar[str] = "quote.priced"
    quote_id: QuoteId
    draft_id: DraftId
    draft_version: int
    total: Money


@event
class QuoteAccepted(Event, frozen=True, kw_only=True):
    """An order was placed at this price."""

    type: ClassVar[str] = "quote.accepted"
    quote_id: QuoteId
    draft_id: DraftId


@event
class QuoteExpired(Event, frozen=True, kw_only=True):
    """The price holds no longer."""

    type: ClassVar[str] = "quote.expired"
    quote_id: QuoteId


_S = QuoteState
MACHINE: Final[Machine[QuoteState]] = Machine(
    "quote",
    "quotes",
    {_S.PRICED: QuotePriced.type},
    {(_S.PRICED, _S.ACCEPTED): QuoteAccepted.type, (_S.PRICED, _S.EXPIRED): QuoteExpired.type},
)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One item to be priced."""

    item_id: ItemId
    sku: str
    copies: int
    paper: str


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a price is made from, beside the catalogue's version: the same inputs, the same price."""

    catalogue_version: str
    currency: str
    country: str
    region: str | None
    way: Way
    day: date
    items: tuple[Wanted, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a unit price: `base`, `size`, `class` or `paper`."""

    part: str
    key: str
    amount: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One item's price, explained: parts make the unit, copies times it less the discount make the amount.

    `off` is the discount in thousandths. `rate` is hundredths of a per cent; with `inclusive` the amount holds the tax
    and is the total, with `exclusive` the total is amount and tax.
    """

    item_id: ItemId
    sku: str
    copies: int
    parts: tuple[Part, ...]
    unit: int
    off: int
    discount: int
    amount: int
    rate: int
    mode: Mode
    tax: int
    total: int


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One way to send it: `amount` before tax where tax is added, and the days between which it should arrive."""

    way: Way
    amount: int
    earliest: date
    latest: date


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A price: `total` is the sum of the lines' totals and `shipping_total`; `tax` is the part of it that is tax."""

    lines: tuple[Line, ...]
    weight_g: int
    parcels: int
    sent: Sent
    others: tuple[Sent, ...]
    shipping_tax: int
    shipping_total: int
    tax: int
    total: int


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A price as stored, with what it was made from."""

    id: QuoteId
    owner_id: OwnerId
    state: QuoteState
    draft_id: DraftId
    draft_version: int
    postcode: str | None
    inputs: Inputs
    result: Result
    created_at: datetime
    expires_at: datetime

    def state_at(self, now: datetime) -> QuoteState:
        """A price that nobody took in time has expired, whether that was written down yet or not."""
        overdue = self.state is QuoteState.PRICED and self.expires_at <= now
        return QuoteState.EXPIRED if overdue else self.state


class QuotedLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one item of the draft costs; `total` is paid (tax included), `tax` is the part of it that is tax."""

    item_id: ItemId
    sku: str
    copies: int
    unit: Money
    total: Money
    tax: Money


class AcceptedQuote(msgspec.Struct, frozen=True, kw_only=True):
    """A quote that an order is placed at: `total` is the sum of the lines' totals and `shipping`, tax included."""

    quote_id: QuoteId
    draft_id: DraftId
    draft_version: int
    catalogue_version: str
    currency: str
    lines: tuple[QuotedLine, ...]
    shipping: Money
    shipping_tax: Money
    total: Money
    tax: Money
    shipping_option: str
    promised_from: date
    promised_by: date
    country: str
    region: str | None
    postcode: str | None


def accepted(quote: Quote) -> AcceptedQuote:
    """What an order needs of a quote."""
    made, currency = quote.result, quote.inputs.currency
    return AcceptedQuote(
        quote_id=quote.id,
        draft_id=quote.draft_id,
        draft_version=quote.draft_version,
        catalogue_version=quote.inputs.catalogue_version,
        currency=currency,
        lines=tuple(
            QuotedLine(
                item_id=line.item_id,
                sku=line.sku,
                copies=line.copies,
                unit=Money(line.unit, currency),
                total=Money(line.total, currency),
                tax=Money(line.tax, currency),
            )
            for line in made.lines
        ),
        shipping=Money(made.shipping_total, currency),
        shipping_tax=Money(made.shipping_tax, currency),
        total=Money(made.total, currency),
        tax=Money(made.tax, currency),
        shipping_option=made.sent.way,
        promised_from=made.sent.earliest,
        promised_by=made.sent.latest,
        country=quote.inputs.country,
        region=quote.inputs.region,
        postcode=quote.postcode,
    )

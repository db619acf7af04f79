"""Quotes: what a draft costs, where to, by when."""

from datetime import date

import msgspec

from base.ids import DraftId, ItemId, QuoteId
from base.money import Money


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

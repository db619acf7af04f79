"""What goes over the wire: JSON in camelCase, unknown fields refused on the way in, nothing left out on the way out."""

from typing import Annotated, Self

import msgspec
from msgspec import Meta

from base.money import Money


class WireIn(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of request bodies. Every field carries `Meta` with a description and its bounds."""


class WireOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of answers. No defaults: a field is always there, `null` where there is nothing to say."""


class MoneyOut(WireOut, frozen=True, kw_only=True):
    """An amount of money."""

    amount: Annotated[int, Meta(description="Minor units of the currency: cents, yen.", examples=[1299])]
    currency: Annotated[str, Meta(description="ISO 4217.", examples=["EUR"])]

    @classmethod
    def of(cls, money: Money) -> Self:
        """From the domain."""
        return cls(amount=money.amount, currency=money.currency)

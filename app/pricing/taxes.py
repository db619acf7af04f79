"""Tax rates by a port: today a table in the catalogue, one day somebody's service."""

from typing import Protocol

import msgspec

from app.catalog.domain import Mode, Offer
from app.pricing.errors import CountryNotServed


class Rate(msgspec.Struct, frozen=True, order=True):
    """Hundredths of a per cent; whether prices contain the tax or it is added to them."""

    rate: int
    mode: Mode


class TaxProvider(Protocol):
    """What pricing asks for each line."""

    def rate(self, country: str, region: str | None, tax_class: str) -> Rate:
        """The rate for a kind of goods sent there; raises `CountryNotServed` where none is known."""
        ...


class TaxTable:
    """The catalogue's own rates; a region's before its country's."""

    def __init__(self, offer: Offer) -> None:
        self._taxes = offer.taxes

    def rate(self, country: str, region: str | None, tax_class: str) -> Rate:
        """From the table."""
        found = self._taxes.get((country, region, tax_class)) or self._taxes.get((country, None, tax_class))
        if found is None:
            raise CountryNotServed(f"no tax rate is known for {country}")
        return Rate(found.rate, found.mode)

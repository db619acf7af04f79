"""Address formats as data: what a country's post expects. A deviation is a doubt that the person may override.

Postcode formats after the Universal Postal Union's addressing systems pages (upu.int, postal addressing systems) and
the national posts' own descriptions; a country that is not listed is not judged.
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from base.recipients import Recipient


class Doubt(StrEnum):
    """What may be wrong with an address; an interface."""

    POSTCODE_MISSING = "postcode_missing"
    POSTCODE_UNUSUAL = "postcode_unusual"
    REGION_MISSING = "region_missing"
    HOUSE_NUMBER_MISSING = "house_number_missing"


class Format(msgspec.Struct, frozen=True):
    """A country's rules: how a postcode looks (empty: there are none), and whether a region belongs to an address."""

    postcode: str
    region: bool = False
    house_number: bool = True


_FIVE: Final = r"\d{5}"
_FOUR: Final = r"\d{4}"

FORMATS: Final[dict[str, Format]] = {
    "AT": Format(_FOUR),
    "AU": Format(_FOUR, region=True),
    "BE": Format(_FOUR),
    "BG": Format(_FOUR),
    "CA": Format(r"[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d", region=True),
    "CH": Format(_FOUR),
    "CY": Format(_FOUR),
    "CZ": Format(r"\d{3} ?\d{2}"),
    "DE": Format(_FIVE),
    "DK": Format(_FOUR),
    "EE": Format(_FIVE),
    "ES": Format(_FIVE),
    "FI": Format(_FIVE),
    "FR": Format(_FIVE),
    "GB": Format(r"(GIR ?0AA|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})", house_number=False),
    "GR": Format(r"\d{3} ?\d{2}"),
    "HR": Format(_FIVE),
    "HU": Format(_FOUR),
    "IE": Format(r"[AC-FHKNPRTV-Y]\d[\dW] ?[AC-FHKNPRTV-Y\d]{4}", house_number=False),
    "IT": Format(_FIVE, region=True),
    "JP": Format(r"\d{3}-?\d{4}", region=True),
    "LT": Format(r"(LT-)?\d{5}"),
    "LU": Format(r"(L-)?\d{4}"),
    "LV": Format(r"(LV-)?\d{4}"),
    "MT": Format(r"[A-Z]{3} ?\d{4}", house_number=False),
    "NL": Format(r"\d{4} ?[A-Z]{2}"),
    "NO": Format(_FOUR),
    "PL": Format(r"\d{2}-\d{3}"),
    "PT": Format(r"\d{4}-\d{3}"),
    "RO": Format(r"\d{6}"),
    "SE": Format(r"\d{3} ?\d{2}"),
    "SI": Format(_FOUR),
    "SK": Format(r"\d{3} ?\d{2}"),
    "US": Format(r"\d{5}(-\d{4})?", region=True),
}


def doubts(recipient: Recipient) -> tuple[Doubt, ...]:
    """What a country's format table finds odd; empty when nothing is, or the country is not listed."""
    rules = FORMATS.get(recipient.country)
    if rules is None:
        return ()
    found = []
    postcode = (recipient.postcode or "").strip().upper()
    if not postcode:
        found.append(Doubt.POSTCODE_MISSING)
    elif not re.fullmatch(rules.postcode, postcode, re.ASCII):
        found.append(Doubt.POSTCODE_UNUSUAL)
    if rules.region and not recipient.region:
        found.append(Doubt.REGION_MISSING)
    if rules.house_number and not re.search(r"\d", recipient.line1 + (recipient.line2 or "")):
        found.append(Doubt.HOUSE_NUMBER_MISSING)
    return tuple(found)

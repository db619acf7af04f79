"""Address doubts: real addresses pass, odd ones are told, and nothing is ever refused for its country."""

import pytest
from msgspec.structs import replace

from app.orders.addresses import FORMATS, Doubt, doubts
from base.recipients import Recipient

HOME = Recipient(name="A. Person", line1="12 High Street", town="Leeds", postcode="LS1 4AP", country="GB")


@pytest.mark.parametrize(
    ("country", "postcode", "region"),
    [
        ("GB", "SW1A 1AA", None),
        ("GB", "ls14ap", None),
        ("IE", "D02 AF30", None),
        ("DE", "10115", None),
        ("NL", "1012 JS", None),
        ("US", "94103-1234", "CA"),
        ("JP", "100-8111", "Tokyo"),
        ("CA", "K1A 0B1", "ON"),
        ("PL", "00-950", None),
        ("PT", "1000-001", None),
    ],
)
def test_usual_addresses_raise_no_doubt(country: str, postcode: str, region: str | None) -> None:
    assert doubts(replace(HOME, country=country, postcode=postcode, region=region)) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"postcode": None}, (Doubt.POSTCODE_MISSING,)),
        ({"postcode": "12345"}, (Doubt.POSTCODE_UNUSUAL,)),
        ({"country": "DE", "postcode": "1011"}, (Doubt.POSTCODE_UNUSUAL,)),
        ({"country": "US", "postcode": "94103"}, (Doubt.REGION_MISSING,)),
        ({"country": "DE", "postcode": "10115", "line1": "Unter den Linden"}, (Doubt.HOUSE_NUMBER_MISSING,)),
    ],
)
def test_odd_addresses_are_told(changes: dict[str, str], expected: tuple[Doubt, ...]) -> None:
    assert doubts(replace(HOME, **changes)) == expected


def test_a_country_without_a_table_is_not_judged() -> None:
    assert "KE" not in FORMATS
    assert doubts(replace(HOME, country="KE", postcode="anything")) == ()


def test_a_recipient_never_shows_itself() -> None:
    assert "Person" not in repr(HOME)
    assert "High Street" not in f"{HOME}"

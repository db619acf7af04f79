"""Reading what a vendor sends without trusting its shape: every reader gives something, the unknown is named."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import msgspec

from app.fulfilment.errors import VendorUnavailable
from base.money import Money

T = TypeVar("T")
EXPONENTS: Final = {"JPY": 0}


def document(content: bytes) -> dict[str, Any]:
    """A JSON object; raises `VendorUnavailable` for anything else, since what was asked may have been done."""
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VendorUnavailable("the vendor's answer cannot be read") from error
    if not isinstance(told, dict):
        raise VendorUnavailable("the vendor's answer is no object")
    return told


def mapping(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, or none."""
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A text that is not empty, of at most 200 characters, or None."""
    return value if isinstance(value, str) and 0 < len(value) <= 200 else None


def word(value: Any) -> str:
    """A word for comparing: lower case, without blanks; empty for anything else."""
    return value.replace(" ", "").lower() if isinstance(value, str) else ""


def code(value: str) -> str:
    """A word as a code that events and alerts may carry."""
    return re.sub(r"[^a-z0-9._/-]", "", value.lower()).lstrip("._/-")[:64] or "unnamed"


def moment(value: Any) -> datetime | None:
    """A moment in UTC, or None."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if found is None else found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def money(value: Any) -> Money | None:
    """An amount that is a decimal text, exact in the currency's minor units, or None."""
    told = mapping(value)
    currency = str(told.get("currency"))
    try:
        minor = Decimal(str(told.get("amount"))).scaleb(EXPONENTS.get(currency, 2))
        return Money(int(minor), currency) if minor == minor.to_integral_value() else None
    except (InvalidOperation, ValueError, OverflowError):
        return None


class Unknown:
    """Collects names of fields and values that are not known, never what stands in a field."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Sorted, at most fifty."""
        return tuple(sorted(self._names)[:50])

    def add(self, name: str) -> None:
        """Note a name."""
        self._names.add(code(name))

    def fields(self, where: str, told: Mapping[str, Any], known: frozenset[str]) -> None:
        """Note every field of `told` that is not known."""
        for name in told:
            if name not in known:
                self.add(f"{where}.{name}")

    def known(self, where: str, value: Any, words: Mapping[str, T], otherwise: T) -> T:
        """What a word means; an unknown one is noted."""
        found = words.get(word(value))
        if found is None:
            self.add(f"{where}/{word(value)}")
            return otherwise
        return found

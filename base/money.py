"""Money: integer minor units with a currency (ISO 4217); never a float."""

from typing import Self

import msgspec


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies were put together: a programming error, never a customer's."""


class Money(msgspec.Struct, frozen=True, order=False):
    """`amount` minor units (cents, yen) of `currency` (three capital letters)."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount) is not int:
            raise TypeError("an amount is an integer of minor units")
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise ValueError(f"not an ISO 4217 code: {self.currency!r}")

    def _same(self, other: Self) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency}")

    def __add__(self, other: Self) -> Self:
        self._same(other)
        return type(self)(self.amount + other.amount, self.currency)

    def __sub__(self, other: Self) -> Self:
        self._same(other)
        return type(self)(self.amount - other.amount, self.currency)

    def __mul__(self, count: int) -> Self:
        if type(count) is not int:
            raise TypeError("money is multiplied by whole counts only")
        return type(self)(self.amount * count, self.currency)

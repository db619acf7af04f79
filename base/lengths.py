"""Lengths are integer micrometres; conversions are exact or rounded by one rule: nearest, ties up."""

from typing import Final, NewType

Micrometres = NewType("Micrometres", int)

PER_INCH: Final = 25_400
PER_MILLIMETRE: Final = 1_000


def millimetres(value: int) -> Micrometres:
    """`value` whole millimetres as micrometres."""
    return Micrometres(value * PER_MILLIMETRE)


def to_pixels(length: Micrometres, ppi: int) -> int:
    """Pixels that cover `length` at `ppi`, nearest, ties up."""
    return (2 * length * ppi + PER_INCH) // (2 * PER_INCH)

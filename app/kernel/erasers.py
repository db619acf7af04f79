"""Erasers: every slice that keeps something of an owner says how it goes. A test requires one of every such slice."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import msgspec

from app.kernel.db import Transaction


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """What an eraser leaves to be removed outside the transaction, and what it must keep and until when.

    `objects` are (bucket use, key) pairs; `kept` are (what, code of the reason, ISO date) for the receipt.
    """

    objects: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[str, str, str], ...] = ()


Eraser = Callable[[Transaction, UUID], Awaitable[Doomed]]

ERASERS: Final[dict[str, Eraser]] = {}


def eraser(slice_name: str) -> Callable[[Eraser], Eraser]:
    """Register the eraser of a slice; a second one for the same slice is a programming error."""

    def register(function: Eraser) -> Eraser:
        if slice_name in ERASERS:
            raise TypeError(f"slice {slice_name!r} has two erasers")
        ERASERS[slice_name] = function
        return function

    return register

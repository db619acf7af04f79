"""The story of an order: for operators everything with its cause, for customers the few things that matter to them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.orders.fold import Next, Shown


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened: `source` is `event`, `job` or `step`.

    `cause` is the id of what led to it, `data` an event's JSON, `due` when a waiting job may begin, `ms` what a
    finished one took.
    """

    at: datetime
    source: str
    name: str
    state: str
    actor: str
    id: UUID
    cause: UUID | None
    trace_id: str | None
    data: str | None
    due: datetime | None
    ms: int | None


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer is told: a code, a moment, and an event's public numbers."""

    at: datetime
    code: str
    data: dict[str, Any]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected next, by when, and until when the order can still be changed."""

    next: Next
    by: str | None
    change_until: datetime | None


CUSTOMERS: Final[dict[str, str]] = {
    "order.placed": "placed",
    "order.paid": "paid",
    "order.cancelled": "cancelled",
    "order.expired": "expired",
    "order.closed": "closed",
    "fulfilment.in_production": "in_production",
    "fulfilment.shipped": "shipped",
    "refund.succeeded": "refunded",
}
"""Which events are milestones, by the word the customer reads."""


def milestones(entries: Sequence[Entry]) -> list[Milestone]:
    """The customer's shorter story; what a word repeats without new numbers is told once."""
    found: list[Milestone] = []
    for entry in entries:
        code = CUSTOMERS.get(entry.name) if entry.source == "event" else None
        if code is None:
            continue
        told = Milestone(at=entry.at, code=code, data=msgspec.json.decode(entry.data or "{}"))
        if not any((known.code, known.data) == (told.code, told.data) for known in found):
            found.append(told)
    return found


def waiting(shown: Shown) -> Waiting:
    """The line under the story."""
    by = None if shown.by is None else shown.by.isoformat().replace("+00:00", "Z")
    return Waiting(next=shown.next, by=by, change_until=shown.change_until)

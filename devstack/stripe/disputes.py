"""Disputes: a bank takes a charge back; opened and decided by `POST /_sim/disputes`, since no merchant makes them."""

from typing import Any, Final

from devstack.stripe import shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.errors import invalid, missing
from devstack.stripe.intents import Ask, Intents

STATUSES: Final = ("needs_response", "under_review", "won", "lost")
OVER: Final = frozenset({"won", "lost"})


class Disputes:
    """Everything that changes a dispute."""

    def __init__(self, book: Book, intents: Intents) -> None:
        self._book, self._intents = book, intents

    def turn(self, given: dict[str, Any]) -> Object:
        """Open a dispute about an intent's charge, or give it another `status`."""
        charge = self._intents.get(given["payment_intent"])["latest_charge"]
        of = self._book.kinds["charge"].get(charge or "")
        if of is None:
            raise missing("charge", str(charge))
        status = given.get("status", STATUSES[0])
        if status not in STATUSES:
            raise invalid(f"Invalid status: {status}", "status")
        every = self._book.kinds["dispute"].values()
        known = next((one for one in every if one["charge"] == of["id"]), None)
        return self._open(of, given, status) if known is None else self._move(known, status)

    def _open(self, of: Object, given: dict[str, Any], status: str) -> Object:
        reason = given.get("reason", "fraudulent")
        made = shapes.dispute(self._book.new_id("dp"), of, self._book.now(), reason, status)
        self._book.put("dispute", made["id"], made)
        of["disputed"] = True
        self._book.touch("charge", of["id"])
        self._intents.tell("charge.dispute.created", made, Ask())
        return made

    def _move(self, known: Object, status: str) -> Object:
        known["status"] = status
        self._intents.tell(f"charge.dispute.{'closed' if status in OVER else 'updated'}", known, Ask())
        return known

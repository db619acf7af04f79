"""What Stripe's events are about: hints that an intent has changed. What is true is read from Stripe afterwards."""

from typing import Any, Final

import msgspec
import stripe

from app.kernel.db import Transaction
from app.payments.service import Payments
from app.webhooks.domain import Heard
from app.webhooks.errors import WebhookMalformed

KNOWN: Final[dict[str, type[Any]]] = {
    "payment_intent": stripe.PaymentIntent,
    "charge": stripe.Charge,
    "refund": stripe.Refund,
    "dispute": stripe.Dispute,
}
"""Objects we know, with the library's own list of their fields."""

PREFIXES: Final = ("payment_intent.", "charge.", "refund.")


class _Data(msgspec.Struct, frozen=True):
    object: dict[str, Any]


class _Event(msgspec.Struct, frozen=True):
    type: str
    data: _Data


class StripeListener:
    """Tells payments which intent an event is about, and of declined tries, which a later reading no longer shows."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def __call__(self, tx: Transaction, body: bytes) -> Heard | None:
        """Plan a look at the intent; an unknown type or field is kept and told to an operator."""
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise WebhookMalformed() from error
        told = event.data.object
        known = KNOWN.get(str(told.get("object")))
        if known is None or not event.type.startswith(PREFIXES):
            return Heard(outcome="unknown-type", alert=("webhook-type-unknown", event.type))
        intent = told.get("id") if told["object"] == "payment_intent" else told.get("payment_intent")
        if not isinstance(intent, str):
            return Heard(outcome="no-intent", alert=("webhook-without-intent", event.type))
        payment = await self._payments.hint(tx, intent, _metadata(told).get("payment_id"))
        if payment is None:
            return None
        if event.type == "charge.failed":
            await self._payments.facts.add_failure(tx, payment, str(told["id"]), _failure(told))
        return Heard(
            outcome="hinted", owner_id=payment.owner_id, order_id=payment.order_id, alert=_surprise(event, known)
        )


def _failure(charge: dict[str, Any]) -> str | None:
    """Why a charge was declined: the bank's code where it gave one."""
    outcome = charge.get("outcome")
    reason = outcome.get("reason") if isinstance(outcome, dict) else None
    return reason or charge.get("failure_code")


def _metadata(told: dict[str, Any]) -> dict[str, Any]:
    found = told.get("metadata")
    return found if isinstance(found, dict) else {}


def _surprise(event: _Event, known: type[Any]) -> tuple[str, str] | None:
    """Fields that the pinned version does not have."""
    fields: set[str] = set().union(*(vars(base).get("__annotations__", {}) for base in known.__mro__))
    unknown = sorted(set(event.data.object) - fields)
    return ("webhook-fields-unknown", f"{event.type}: {', '.join(unknown)[:200]}") if unknown else None

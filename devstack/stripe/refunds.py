"""Refunds: whole and in part, pending first, or failed later."""

from typing import Any, Final

from devstack.stripe import shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.errors import ApiError, invalid, missing
from devstack.stripe.intents import Ask, Intents

REASONS: Final = frozenset({"duplicate", "fraudulent", "requested_by_customer"})


class Refunds:
    """Everything that changes a refund."""

    def __init__(self, book: Book, intents: Intents) -> None:
        self._book, self._intents = book, intents
        self.later_s = 5

    def get(self, name: str) -> Object:
        """The refund; 404."""
        found = self._book.kinds["refund"].get(name)
        if found is None:
            raise missing("refund", name)
        return found

    def create(self, params: dict[str, Any], ask: Ask) -> Object:
        """`POST /v1/refunds`."""
        if params.get("reason") is not None and params["reason"] not in REASONS:
            raise invalid("Invalid reason", "reason")
        of = self._charge(params)
        left = of["amount_captured"] - of["amount_refunded"]
        if left == 0:
            message = f"Charge {of['id']} has already been refunded."
            raise ApiError(400, "invalid_request_error", message, stored=True, code="charge_already_refunded")
        amount = params.get("amount", str(left))
        if not amount.isdigit() or int(amount) < 1:
            raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
        if int(amount) > left:
            message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            raise ApiError(400, "invalid_request_error", message, stored=True, param="amount")
        status = "pending" if of["_refund"] == "pending" else "succeeded"
        made = shapes.refund(self._book.new_id("re"), of, int(amount), self._book.now(), params, status)
        self._book.put("refund", made["id"], made)
        self._count(of, int(amount))
        self._intents.tell("refund.created", made, ask)
        self._intents.tell("charge.refunded", of, ask)
        if of["_refund"] != "ok":
            self._intents.later(self.later_s, "refund", made["id"])
        return made

    def _charge(self, params: dict[str, Any]) -> Object:
        name = params.get("charge")
        if params.get("payment_intent"):
            intent = self._intents.get(params["payment_intent"])
            if intent["status"] != "succeeded":
                message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
                raise ApiError(400, "invalid_request_error", message, stored=True, code="charge_not_refundable")
            name = intent["latest_charge"]
        found = self._book.kinds["charge"].get(name or "")
        if found is None:
            raise missing("charge", str(name))
        return found

    def _count(self, of: Object, amount: int) -> None:
        of["amount_refunded"] += amount
        of["refunded"] = of["amount_refunded"] == of["amount"]
        self._book.touch("charge", of["id"])

    def end(self, name: str) -> None:
        """What was pending succeeds; what is made to fail, fails and the money is the merchant's again."""
        made, ask = self.get(name), Ask()
        of = self._book.kinds["charge"][made["charge"]]
        if of["_refund"] == "pending":
            made["status"] = "succeeded"
            self._intents.tell("refund.updated", made, ask)
            self._intents.tell("charge.refund.updated", made, ask)
            return
        made.update(status="failed", failure_reason="unknown", failure_balance_transaction=self._book.new_id("txn"))
        self._count(of, -made["amount"])
        self._intents.tell("refund.failed", made, ask)
        self._intents.tell("charge.refund.updated", made, ask)

"""PaymentIntents: made, confirmed, authenticated, settled, captured, cancelled."""

from typing import Any, Final

import msgspec

from devstack.stripe import shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.errors import ApiError, invalid, missing, unexpected
from devstack.stripe.methods import METHODS, Behaviour, Failure

CANCELLABLE: Final = frozenset(
    {"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"}
)
REASONS: Final = frozenset({"abandoned", "duplicate", "fraudulent", "requested_by_customer"})
CAPTURES: Final = frozenset({"automatic", "automatic_async", "manual"})


class Ask(msgspec.Struct, frozen=True):
    """Who asked: the request's id and key for the events it causes, and where the simulator is reached."""

    request_id: str | None = None
    key: str | None = None
    base: str = ""


class Intents:
    """Everything that changes a PaymentIntent."""

    def __init__(self, book: Book) -> None:
        self._book, self._all = book, book.kinds["payment_intent"]
        self.settle_s = 5

    def get(self, name: str) -> Object:
        """The intent; 404."""
        found = self._all.get(name)
        if found is None:
            raise missing("payment_intent", name)
        return found

    def create(self, params: dict[str, Any], ask: Ask) -> Object:
        """`POST /v1/payment_intents`."""
        amount, currency = params.get("amount", ""), params.get("currency", "")
        if not amount.isdigit() or not 0 < int(amount) <= 99_999_999:
            raise invalid(
                "Invalid integer: amount must be between 1 and 99999999", "amount", "parameter_invalid_integer"
            )
        if not (len(currency) == 3 and currency.isalpha()):
            raise invalid(f"Invalid currency: {currency}", "currency")
        if params.get("capture_method", "automatic") not in CAPTURES:
            raise invalid("Invalid capture_method", "capture_method")
        made = shapes.payment_intent(self._book.new_id("pi"), self._book.new_id("x", 25)[2:], self._book.now(), params)
        self._book.put("payment_intent", made["id"], made)
        self.tell("payment_intent.created", made, ask)
        if params.get("payment_method"):
            self._attach(made, params["payment_method"])
        if params.get("confirm") == "true":
            return self.confirm(made, params, ask)
        return made

    def update(self, intent: Object, params: dict[str, Any]) -> Object:
        """`POST /v1/payment_intents/{id}`: metadata and description; the amount while nothing is paid."""
        if "amount" in params:
            if intent["status"] not in CANCELLABLE - {"requires_capture"}:
                raise unexpected(shapes.wire(intent), "update the amount of")
            intent["amount"] = int(params["amount"])
        intent["metadata"].update(params.get("metadata", {}))
        intent["description"] = params.get("description", intent["description"])
        self._touch(intent)
        return intent

    def _attach(self, intent: Object, method: str) -> None:
        if method not in METHODS:
            raise missing("PaymentMethod", method)
        behaviour = METHODS[method]
        intent["payment_method"] = self._book.new_id("pm")
        intent["payment_method_types"] = sorted({*intent["payment_method_types"], behaviour.kind})
        intent["_behaviour"] = method
        intent["status"] = "requires_confirmation"
        self._touch(intent)

    def confirm(self, intent: Object, params: dict[str, Any], ask: Ask) -> Object:
        """`POST /v1/payment_intents/{id}/confirm`; a declined card is 402 and the intent waits for another."""
        if intent["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
            raise unexpected(shapes.wire(intent), "confirm")
        if params.get("payment_method"):
            self._attach(intent, params["payment_method"])
        if intent["payment_method"] is None:
            raise invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method.", code=NO_METHOD
            )
        behaviour = METHODS[intent["_behaviour"]]
        intent["last_payment_error"] = intent["next_action"] = None
        if behaviour.authenticate:
            return self._ask_bank(intent, params, ask)
        return self._pay(intent, behaviour, ask)

    def _ask_bank(self, intent: Object, params: dict[str, Any], ask: Ask) -> Object:
        intent["status"] = "requires_action"
        if params.get("return_url"):
            redirect = {"return_url": params["return_url"], "url": f"{ask.base}/_sim/bank/{intent['id']}"}
            intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": redirect}
        else:
            intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "stripe_3ds2_fingerprint"}}
        self.tell("payment_intent.requires_action", intent, ask)
        return intent

    def authenticate(self, intent: Object, *, passed: bool, ask: Ask) -> Object:
        """The person answered the bank's question (3-D Secure)."""
        if intent["status"] != "requires_action":
            raise unexpected(shapes.wire(intent), "authenticate")
        intent["next_action"] = None
        if passed:
            return self._pay(intent, METHODS[intent["_behaviour"]], ask)
        self._fail(intent, ("payment_intent_authentication_failure", None), "card", ask)
        return intent

    def _pay(self, intent: Object, behaviour: Behaviour, ask: Ask) -> Object:
        if behaviour.settles is not None:
            intent["status"], intent["processing"] = "processing", None
            self.tell("payment_intent.processing", intent, ask)
            self.later(self.settle_s, "settle", intent["id"])
            return intent
        if behaviour.decline is not None:
            error = self._fail(intent, behaviour.decline, behaviour.kind, ask)
            told = {**error, "payment_intent": shapes.wire(intent)}
            raise ApiError(402, told.pop("type"), told.pop("message"), stored=True, **told)
        if intent["capture_method"] == "manual":
            intent["status"], intent["amount_capturable"] = "requires_capture", intent["amount"]
            self.tell("payment_intent.amount_capturable_updated", intent, ask)
            return intent
        return self._succeed(intent, behaviour, ask)

    def _succeed(self, intent: Object, behaviour: Behaviour, ask: Ask) -> Object:
        paid = shapes.charge(self._book.new_id("ch"), intent, self._book.now(), behaviour.kind, None)
        paid["_refund"] = behaviour.refund
        self._book.put("charge", paid["id"], paid)
        intent.update(status="succeeded", amount_received=intent["amount"], amount_capturable=0)
        intent.update(latest_charge=paid["id"], processing=None)
        self.tell("charge.succeeded", paid, ask)
        self.tell("payment_intent.succeeded", intent, ask)
        return intent

    def _fail(self, intent: Object, failure: Failure, kind: str, ask: Ask) -> Object:
        failed = shapes.charge(self._book.new_id("ch"), intent, self._book.now(), kind, failure)
        self._book.put("charge", failed["id"], failed)
        error = shapes.payment_error(intent, failed, failure)
        intent.update(status="requires_payment_method", last_payment_error=error, latest_charge=failed["id"])
        intent.update(payment_method=None, processing=None)
        self.tell("charge.failed", failed, ask)
        self.tell("payment_intent.payment_failed", intent, ask)
        return error

    def settle(self, name: str) -> None:
        """The bank answered, some time after a confirmation that began `processing`."""
        intent = self.get(name)
        if intent["status"] != "processing":
            return
        behaviour, ask = METHODS[intent["_behaviour"]], Ask()
        if behaviour.settles:
            self._succeed(intent, behaviour, ask)
        else:
            assert behaviour.decline is not None
            self._fail(intent, behaviour.decline, behaviour.kind, ask)

    def capture(self, intent: Object, ask: Ask) -> Object:
        """`POST /v1/payment_intents/{id}/capture`, whole."""
        if intent["status"] != "requires_capture":
            raise unexpected(shapes.wire(intent), "capture")
        return self._succeed(intent, METHODS[intent["_behaviour"]], ask)

    def cancel(self, intent: Object, params: dict[str, Any], ask: Ask) -> Object:
        """`POST /v1/payment_intents/{id}/cancel`."""
        reason = params.get("cancellation_reason")
        if reason is not None and reason not in REASONS:
            raise invalid("Invalid cancellation_reason", "cancellation_reason")
        if intent["status"] not in CANCELLABLE:
            raise unexpected(shapes.wire(intent), "cancel")
        intent.update(status="canceled", canceled_at=self._book.now(), cancellation_reason=reason)
        intent.update(next_action=None, amount_capturable=0)
        self.tell("payment_intent.canceled", intent, ask)
        return intent

    def tell(self, kind: str, subject: Object, ask: Ask) -> None:
        """Record an event, with a delivery to the endpoint."""
        self._book.touch(subject["object"], subject["id"])
        told = shapes.event(self._book.new_id("evt"), kind, subject, self._book.now(), (ask.request_id, ask.key))
        told["pending_webhooks"] = 1
        self._book.put("event", told["id"], told)

    def later(self, seconds: int, what: str, name: str) -> None:
        """Have `what` done to `name` when the virtual clock is `seconds` on."""
        timer = self._book.new_id("tm")
        self._book.put("timer", timer, {"due": self._book.now() + seconds, "what": what, "name": name})

    def _touch(self, intent: Object) -> None:
        self._book.touch("payment_intent", intent["id"])


NO_METHOD: Final = "payment_intent_unexpected_state"

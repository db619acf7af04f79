"""The simulator's parts together: what a request of the API does, and what time brings."""

from collections.abc import Callable
from typing import Any, Final

from devstack.stripe import knobs as settings
from devstack.stripe import lists, shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.delivery import Deliveries
from devstack.stripe.disputes import Disputes
from devstack.stripe.errors import ApiError, invalid, missing
from devstack.stripe.intents import Ask, Intents
from devstack.stripe.refunds import Refunds

PARAMETERS: Final[dict[str, frozenset[str]]] = {
    "POST payment_intents": frozenset(
        {
            *(
                "amount",
                "currency",
                "automatic_payment_methods",
                "capture_method",
                "confirm",
                "description",
                "metadata",
            ),
            *("payment_method", "receipt_email", "return_url", "statement_descriptor_suffix", "expand"),
        }
    ),
    "POST payment_intents/*": frozenset({"amount", "description", "metadata", "expand"}),
    "POST payment_intents/*/confirm": frozenset({"payment_method", "return_url", "expand", "client_secret", "key"}),
    "POST payment_intents/*/cancel": frozenset({"cancellation_reason", "expand"}),
    "POST payment_intents/*/capture": frozenset({"expand"}),
    "GET payment_intents": frozenset({"limit", "created", "starting_after", "ending_before", "expand"}),
    "GET payment_intents/search": frozenset({"query", "limit", "page", "expand"}),
    "GET payment_intents/*": frozenset({"expand", "client_secret", "key"}),
    "POST refunds": frozenset({"amount", "charge", "payment_intent", "reason", "metadata", "expand"}),
    "GET refunds": frozenset(
        {"payment_intent", "charge", "limit", "created", "starting_after", "ending_before", "expand"}
    ),
    "GET refunds/*": frozenset({"expand"}),
    "GET disputes": frozenset(
        {"payment_intent", "charge", "limit", "created", "starting_after", "ending_before", "expand"}
    ),
    "GET charges": frozenset({"payment_intent", "limit", "created", "starting_after", "ending_before", "expand"}),
    "GET charges/*": frozenset({"expand"}),
    "GET events": frozenset(
        {"type", "types", "limit", "created", "starting_after", "ending_before", "delivery_success"}
    ),
    "GET events/*": frozenset(),
}
"""What each call may carry: what Stripe knows and the simulator does; anything else is refused, never ignored."""

PUBLISHABLE: Final = frozenset({"GET payment_intents/*", "POST payment_intents/*/confirm"})
"""Calls an app may make with the publishable key and the intent's client secret."""

_HIDDEN: Final = ("metadata", "latest_charge", "application", "customer", "transfer_data")


class Simulator:
    """One Stripe account in test mode."""

    def __init__(self, book: Book, deliveries: Deliveries) -> None:
        self.book, self.deliveries = book, deliveries
        self.intents = Intents(book)
        self.refunds = Refunds(book, self.intents)
        self.disputes = Disputes(book, self.intents)
        self.knobs = settings.load(book)
        self.turn(self.knobs)

    def turn(self, knobs: settings.Knobs) -> None:
        """Use these knobs from now on."""
        self.knobs = knobs
        self.intents.settle_s, self.refunds.later_s = knobs.settle_s, knobs.refund_s
        settings.save(self.book, knobs)

    def route(self, method: str, path: str) -> tuple[str, str]:
        """The call's name in `PARAMETERS` and the id in its path; 404 for what is not simulated."""
        parts = path.removeprefix("/v1/").strip("/").split("/")
        for shape in (parts, [parts[0], "*", *parts[2:]]):
            name = f"{method} {'/'.join(shape)}"
            if name in PARAMETERS:
                return name, parts[1] if "*" in shape else ""
        raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).")

    def check(self, call: str, params: dict[str, Any]) -> None:
        """400 for a parameter that the call does not have here."""
        unknown = sorted(set(params) - PARAMETERS[call])
        if unknown:
            raise invalid(f"Received unknown parameter: {unknown[0]}", unknown[0], "parameter_unknown")

    def run(self, call: str, name: str, params: dict[str, Any], ask: Ask) -> Object:
        """Do it; the object to answer with. Raises `ApiError`."""
        doing: dict[str, Callable[[], Object]] = {
            "POST payment_intents": lambda: self.intents.create(params, ask),
            "POST payment_intents/*": lambda: self.intents.update(self._intent(name), params),
            "POST payment_intents/*/confirm": lambda: self.intents.confirm(self._intent(name), params, ask),
            "POST payment_intents/*/cancel": lambda: self.intents.cancel(self._intent(name), params, ask),
            "POST payment_intents/*/capture": lambda: self.intents.capture(self._intent(name), ask),
            "GET payment_intents": lambda: lists.page("/v1/payment_intents", self._every("payment_intent"), params),
            "GET payment_intents/search": lambda: lists.search(self.book, params, self.knobs.search_lag_s),
            "GET payment_intents/*": lambda: self._intent(name),
            "POST refunds": lambda: self.refunds.create(params, ask),
            "GET refunds": lambda: lists.page("/v1/refunds", self._of("refund", params), params),
            "GET refunds/*": lambda: self.refunds.get(name),
            "GET disputes": lambda: lists.page("/v1/disputes", self._of("dispute", params), params),
            "GET charges": lambda: lists.page("/v1/charges", self._of("charge", params), params),
            "GET charges/*": lambda: self._known("charge", name),
            "GET events": lambda: lists.events(self.book, params),
            "GET events/*": lambda: self._known("event", name),
        }
        return self._expanded(shapes.wire(doing[call]()), params)

    def _intent(self, name: str) -> Object:
        intent = self.intents.get(name)
        if self.book.now() < intent["created"] + self.knobs.stale_s:
            raise missing("payment_intent", name)
        return intent

    def _every(self, kind: str) -> list[Object]:
        return list(self.book.kinds[kind].values())

    def _of(self, kind: str, params: dict[str, Any]) -> list[Object]:
        wanted = {name: params[name] for name in ("payment_intent", "charge") if name in params}
        return [one for one in self._every(kind) if all(one.get(name) == value for name, value in wanted.items())]

    def _known(self, kind: str, name: str) -> Object:
        if name not in self.book.kinds[kind]:
            raise missing(kind, name)
        return self.book.kinds[kind][name]

    def _expanded(self, answer: Object, params: dict[str, Any]) -> Object:
        for field in params.get("expand", {}).values():
            if field != "latest_charge":
                raise invalid(f"This property cannot be expanded ({field}).", "expand")
            if answer.get(field) is not None:
                answer = {**answer, field: shapes.wire(self.book.kinds["charge"][answer[field]])}
        return answer

    def public(self, answer: Object) -> Object:
        """What a publishable key gets to see."""
        return {name: value for name, value in answer.items() if name not in _HIDDEN}

    def pass_time(self) -> None:
        """Do what is due at the virtual time, in its order."""
        now = self.book.now()
        due = sorted((t["due"], name) for name, t in self.book.kinds["timer"].items() if t["due"] <= now)
        for _, name in due:
            timer = self.book.kinds["timer"][name]
            {"settle": self.intents.settle, "refund": self.refunds.end}[timer["what"]](timer["name"])
            self.book.drop("timer", name)

    def next_due(self) -> int | None:
        """The virtual moment at which something is to be done, or None."""
        moments = [t["due"] for t in self.book.kinds["timer"].values()]
        delivery = self.deliveries.next_due() if self.knobs.webhooks.automatic else None
        return min([*moments, *([] if delivery is None else [delivery])], default=None)

    def counts(self) -> Object:
        """What an audit compares: intents, captures, refunds by state, amounts by currency, and all of it by order."""
        by_order: dict[str, Object] = {}
        for intent in self._every("payment_intent"):
            order = by_order.setdefault(
                intent["metadata"].get("order_id", ""),
                {"payment_intents": 0, "captures": 0, "captured": 0, "refunded": 0},
            )
            order["payment_intents"] += 1
            for one in self._of("charge", {"payment_intent": intent["id"]}):
                order["captures"] += one["captured"]
                order["captured"] += one["amount_captured"]
                order["refunded"] += one["amount_refunded"]
        deliveries = self._every("delivery")
        return {
            "payment_intents": _tally(one["status"] for one in self._every("payment_intent")),
            "charges": _tally(one["status"] for one in self._every("charge")),
            "disputes": _tally(one["status"] for one in self._every("dispute")),
            "refunds": _tally(one["status"] for one in self._every("refund")),
            "events": _tally(one["type"] for one in self._every("event")),
            "deliveries": _tally(one["state"] for one in deliveries),
            "delivery_attempts": sum(len(one["answers"]) for one in deliveries),
            "requests": self.book.meta.get("requests", {}),
            "by_order": by_order,
        }


def _tally(values: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found

"""The simulator's objects and parameters against stripe-python's own typed resources: an oracle made by Stripe."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from stripe import params as stripe_params

from devstack.stripe import shapes
from devstack.stripe.book import Book
from devstack.stripe.delivery import Deliveries
from devstack.stripe.intents import Ask, Intents
from devstack.stripe.refunds import Refunds
from devstack.stripe.simulator import PARAMETERS, Simulator

ORACLES = {
    "payment_intent": stripe.PaymentIntent,
    "charge": stripe.Charge,
    "refund": stripe.Refund,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
}


@functools.cache
def declared(resource: type[Any]) -> dict[str, str]:
    """A resource's fields and their types as the library spells them; nested classes are not the resource's own."""
    tree = ast.parse(inspect.getsource(resource)).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id != "OBJECT_NAME"
    }


@pytest.fixture
def life() -> Book:
    """Every kind of object in every state the simulator has."""
    book = Book(None)
    intents = Intents(book)
    refunds = Refunds(book, intents)
    simulator = Simulator(book, Deliveries(book, None, []))

    def made(**more: str) -> Any:
        return intents.create({"amount": "1000", "currency": "gbp", "metadata": {"order_id": "o"}, **more}, Ask())

    paid = intents.confirm(made(), {"payment_method": "pm_card_visa"}, Ask())
    refunds.create({"payment_intent": paid["id"], "amount": "300"}, Ask())
    simulator.disputes.turn({"payment_intent": paid["id"]})
    simulator.disputes.turn({"payment_intent": paid["id"], "status": "lost"})
    fails = intents.confirm(made(), {"payment_method": "pm_card_refundFail"}, Ask())
    refunds.create({"payment_intent": fails["id"]}, Ask())
    for method in ("pm_card_chargeDeclined", "pm_card_chargeDeclinedExpiredCard"):
        with pytest.raises(Exception, match="declined"):
            intents.confirm(made(), {"payment_method": method}, Ask())
    intents.confirm(made(), {"payment_method": "pm_card_authenticationRequired"}, Ask())
    intents.confirm(made(), {"payment_method": "pm_usBankAccount_success"}, Ask())
    intents.confirm(made(capture_method="manual"), {"payment_method": "pm_card_visa"}, Ask())
    intents.cancel(made(), {"cancellation_reason": "abandoned"}, Ask())
    book.advance(60)
    simulator.pass_time()
    return book


def objects(book: Book) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ORACLES:
        for stored in book.kinds[kind].values():
            yield kind, shapes.wire(stored)


def test_every_field_is_one_of_stripes(life: Book) -> None:
    seen = set()
    for kind, found in objects(life):
        seen.add(kind)
        assert set(found) - set(declared(ORACLES[kind])) == set(), kind
    assert seen == set(ORACLES)


def test_fields_that_stripe_always_sends_are_there(life: Book) -> None:
    """Optional fields may be null; the others must be there and not null."""
    for kind, found in objects(life):
        wanted = {name for name, kind_ in declared(ORACLES[kind]).items() if not kind_.startswith("Optional[")}
        assert {name for name in wanted if found.get(name) is None} == set(), kind


def test_values_have_stripes_plain_types(life: Book) -> None:
    plain = {"int": int, "str": str, "bool": bool}
    checked = 0
    for kind, found in objects(life):
        for name, hint in declared(ORACLES[kind]).items():
            match = re.fullmatch(r"(?:Optional\[)?(int|str|bool)\]?", hint)
            if match and found.get(name) is not None:
                assert type(found[name]) is plain[match.group(1)], (kind, name, found[name])
                checked += 1
    assert checked > 200


def test_words_are_stripes(life: Book) -> None:
    """Literals such as an intent's status: only words that the library lists."""
    for field, kind in (("status", "payment_intent"), ("status", "charge"), ("status", "dispute"), ("type", "event")):
        listed = set(re.findall(r"'([^']+)'", declared(ORACLES[kind])[field]))
        used = {one[field] for name, one in objects(life) if name == kind}
        assert used
        assert used <= listed
    states = {one["status"] for name, one in objects(life) if name == "payment_intent"}
    assert states == {"succeeded", "requires_payment_method", "requires_action", "requires_capture", "canceled"}


def test_the_library_reads_them(life: Book) -> None:
    client = stripe.StripeClient("sk_test_x")
    for kind, found in objects(life):
        read = ORACLES[kind].construct_from(found, "sk_test_x")
        assert read.id == found["id"], client


def test_the_pinned_version_is_the_librarys() -> None:
    assert stripe.api_version == shapes.API_VERSION


NAMES = {
    "POST payment_intents": "PaymentIntentCreateParams",
    "POST payment_intents/*": "PaymentIntentUpdateParams",
    "POST payment_intents/*/confirm": "PaymentIntentConfirmParams",
    "POST payment_intents/*/cancel": "PaymentIntentCancelParams",
    "POST payment_intents/*/capture": "PaymentIntentCaptureParams",
    "GET payment_intents": "PaymentIntentListParams",
    "GET payment_intents/search": "PaymentIntentSearchParams",
    "GET payment_intents/*": "PaymentIntentRetrieveParams",
    "POST refunds": "RefundCreateParams",
    "GET refunds": "RefundListParams",
    "GET refunds/*": "RefundRetrieveParams",
    "GET disputes": "DisputeListParams",
    "GET charges": "ChargeListParams",
    "GET charges/*": "ChargeRetrieveParams",
    "GET events": "EventListParams",
    "GET events/*": "EventRetrieveParams",
}


@pytest.mark.parametrize("call", sorted(PARAMETERS))
def test_every_parameter_is_one_of_stripes(call: str) -> None:
    of_apps = {"key", "client_secret"} if call.endswith(("/confirm", "payment_intents/*")) else set()
    stripes = set(getattr(stripe_params, NAMES[call]).__annotations__)
    assert PARAMETERS[call] - of_apps - stripes == set()

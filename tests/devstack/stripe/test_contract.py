"""Stripe through its own library: against the simulator, and the same against test mode when a key is there.

`TIRAGE_TEST_STRIPE_KEY` (sk_test_…) runs the contract against the real service; without it these are skipped, counted.
"""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

KEY = "TIRAGE_TEST_STRIPE_KEY"


def client_of(url: str | None, key: str, http: stripe.HTTPXClient) -> stripe.StripeClient:
    addresses: Any = {"api": url} if url else {}
    return stripe.StripeClient(key, base_addresses=addresses, http_client=http, max_network_retries=0)


@pytest.fixture(params=["simulator", "test-mode"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "test-mode" and KEY not in os.environ:
        pytest.skip(f"{KEY} is not set: Stripe's test mode is not asked")
    return str(request.param)


@pytest.fixture
async def client(mode: str, stripe_sim: Any) -> AsyncIterator[stripe.StripeClient]:
    http = stripe.HTTPXClient(timeout=20)
    is_real = mode == "test-mode"
    yield client_of(None if is_real else stripe_sim.url, os.environ[KEY] if is_real else stripe_sim.KEY, http)
    await http.close_async()


def wanted(**more: Any) -> Any:
    return {
        "amount": 1999,
        "currency": "gbp",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "metadata": {"order_id": str(uuid.uuid4())},
        **more,
    }


def key() -> Any:
    return {"idempotency_key": str(uuid.uuid4())}


async def test_created_confirmed_read_and_listed(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    made = await intents.create_async(wanted(), key())
    assert (made.status, made.amount_received, made.latest_charge) == ("requires_payment_method", 0, None)
    assert made.client_secret is not None
    assert made.client_secret.startswith(f"{made.id}_secret_")
    paid = await intents.confirm_async(made.id, {"payment_method": "pm_card_visa"}, key())
    assert (paid.status, paid.amount_received, paid.amount_capturable) == ("succeeded", 1999, 0)
    read = await intents.retrieve_async(made.id, {"expand": ["latest_charge"]})
    charge = read.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.status, charge.captured, charge.amount_refunded) == ("succeeded", True, 0)
    listed = await intents.list_async({"created": {"gte": made.created - 60}, "limit": 100})
    assert made.id in [one.id for one in listed.data]


async def test_a_declined_card_then_another_on_the_same_intent(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    made = await intents.create_async(wanted(), key())
    with pytest.raises(stripe.CardError) as declined:
        await intents.confirm_async(made.id, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds"}, key())
    error = declined.value.error
    assert error is not None
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert error.decline_code == "insufficient_funds"
    after = await intents.retrieve_async(made.id)
    assert after.status == "requires_payment_method"
    assert after.last_payment_error is not None
    assert (after.last_payment_error.code, after.last_payment_error.charge) == ("card_declined", after.latest_charge)
    paid = await intents.confirm_async(made.id, {"payment_method": "pm_card_visa"}, key())
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)


async def test_three_d_secure_asks_the_person(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    made = await intents.create_async(wanted(), key())
    asked = await intents.confirm_async(made.id, {"payment_method": "pm_card_authenticationRequired"}, key())
    assert asked.status == "requires_action"
    assert asked.next_action is not None
    assert asked.next_action.type == "use_stripe_sdk"
    assert (await intents.cancel_async(made.id, {"cancellation_reason": "abandoned"}, key())).status == "canceled"


async def test_cancelled_once_and_never_confirmed(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    made = await intents.create_async(wanted(), key())
    ended = await intents.cancel_async(made.id, {}, key())
    assert (ended.status, ended.canceled_at is None) == ("canceled", False)
    for again in (intents.cancel_async(made.id, {}, key()), intents.confirm_async(made.id, CARD, key())):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await again
        assert (refused.value.http_status, refused.value.code) == (400, "payment_intent_unexpected_state")


CARD: Any = {"payment_method": "pm_card_visa"}


async def test_refunds_in_part_then_the_rest_never_more(client: stripe.StripeClient) -> None:
    intents, refunds = client.v1.payment_intents, client.v1.refunds
    made = await intents.create_async(wanted(), key())
    await intents.confirm_async(made.id, CARD, key())
    part: Any = {"payment_intent": made.id, "amount": 700, "metadata": {"refund_id": "a"}}
    first = await refunds.create_async(part, key())
    assert (first.status, first.amount, first.payment_intent) == ("succeeded", 700, made.id)
    with pytest.raises(stripe.InvalidRequestError):
        await refunds.create_async({"payment_intent": made.id, "amount": 1300}, key())
    rest = await refunds.create_async({"payment_intent": made.id}, key())
    assert rest.amount == 1299
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refunds.create_async({"payment_intent": made.id}, key())
    assert refused.value.code == "charge_already_refunded"
    listed = await refunds.list_async({"payment_intent": made.id})
    assert [one.id for one in listed.data] == [rest.id, first.id]


async def test_a_charge_tells_what_its_intent_was_made_for(client: stripe.StripeClient) -> None:
    """Reconciliation reads the list of charges, whatever became of the intents."""
    body = wanted()
    made = await client.v1.payment_intents.create_async(body, key())
    await client.v1.payment_intents.confirm_async(made.id, CARD, key())
    page = await client.v1.charges.list_async({"created": {"gte": made.created}, "limit": 100})
    (charge,) = (one for one in page.data if one.payment_intent == made.id)
    assert (charge.status, charge.captured, charge.amount_captured, charge.amount_refunded) == (
        "succeeded", True, 1999, 0,
    )  # fmt: skip
    assert (charge.currency, charge.disputed) == ("gbp", False)
    assert charge.metadata is not None
    assert charge.metadata.to_dict() == body["metadata"]
    assert (await client.v1.disputes.list_async({"payment_intent": made.id})).data == []


async def test_one_key_is_one_intent_and_other_parameters_are_refused(client: stripe.StripeClient) -> None:
    intents, body, once = client.v1.payment_intents, wanted(), key()
    first, again = await intents.create_async(body, once), await intents.create_async(body, once)
    assert first.id == again.id
    with pytest.raises(stripe.IdempotencyError) as refused:
        await intents.create_async({**body, "amount": 2000}, once)
    assert refused.value.http_status == 400


async def test_a_stored_decline_is_given_again(client: stripe.StripeClient) -> None:
    intents, once = client.v1.payment_intents, key()
    made = await intents.create_async(wanted(), key())
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            await intents.confirm_async(made.id, {"payment_method": "pm_card_chargeDeclined"}, once)


async def test_what_is_wrong_is_refused(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    for body, code in (
        (wanted(amount=0), "parameter_invalid_integer"),
        (wanted(never_heard_of=1), "parameter_unknown"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await intents.create_async(body, key())
        assert refused.value.code == code
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await intents.retrieve_async("pi_000000000000000000000000")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")


async def test_what_happened_is_in_the_events(client: stripe.StripeClient) -> None:
    intents = client.v1.payment_intents
    made = await intents.create_async(wanted(), key())
    await intents.confirm_async(made.id, CARD, key())
    page = await client.v1.events.list_async({"created": {"gte": made.created}, "limit": 100})
    told = {one.type for one in page.data if made.id in str(one.data.object)}
    assert {"payment_intent.created", "charge.succeeded", "payment_intent.succeeded"} <= told


async def test_nobody_is_let_in_without_a_key(stripe_sim: Any) -> None:
    http = stripe.HTTPXClient(timeout=20)
    stranger = client_of(stripe_sim.url, "sk_test_of_somebody", http)
    with pytest.raises(stripe.AuthenticationError):
        await stranger.v1.payment_intents.list_async()
    await http.close_async()

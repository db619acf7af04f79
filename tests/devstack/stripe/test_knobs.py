"""The simulator's misbehaviour, each kind shown to do what it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

Intent = dict[str, Any]
BODY = {"amount": "500", "currency": "eur", "metadata[order_id]": "ord_1"}


async def create(sim: Any, key: str = "k1", **more: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {sim.KEY}", "Idempotency-Key": key}
    answer: httpx.Response = await sim.http.post(
        "/v1/payment_intents", data={**BODY, **more}, headers=headers, timeout=1
    )
    return answer


def fault(what: str, times: int = 1, **more: int) -> dict[str, Any]:
    return {"on": "POST /v1/payment_intents", "what": what, "times": times, **more}


async def test_a_lost_answer_was_done_and_the_key_gives_it(stripe_sim: Any) -> None:
    await stripe_sim.turn(faults=[fault("lost")])
    with pytest.raises(httpx.ReadTimeout):
        await create(stripe_sim)
    again = await create(stripe_sim)
    assert again.headers["idempotent-replayed"] == "true"
    assert (await stripe_sim.counts())["payment_intents"] == {"requires_payment_method": 1}


async def test_a_request_that_never_arrived_did_nothing(stripe_sim: Any) -> None:
    await stripe_sim.turn(faults=[fault("never_done"), fault("error_before")])
    with pytest.raises(httpx.ReadTimeout):
        await create(stripe_sim)
    assert (await create(stripe_sim)).status_code == 200
    assert (await stripe_sim.counts())["payment_intents"] == {"requires_payment_method": 1}


@pytest.mark.parametrize(("what", "made"), [("error_after", 1), ("error_stored", 0)])
async def test_a_stored_500_is_given_again_for_a_day(stripe_sim: Any, what: str, made: int) -> None:
    await stripe_sim.turn(faults=[fault(what)])
    answers = [(await create(stripe_sim)).status_code for _ in range(3)]
    assert answers == [500, 500, 500]
    assert sum((await stripe_sim.counts())["payment_intents"].values()) == made
    await stripe_sim.advance(86_401)
    assert (await create(stripe_sim)).status_code == 200  # pruned: the same key makes another
    assert sum((await stripe_sim.counts())["payment_intents"].values()) == made + 1


async def test_a_concurrent_twin_is_409_and_a_limit_429(stripe_sim: Any) -> None:
    await stripe_sim.turn(faults=[fault("latency", 2, value=200)])
    answers = await asyncio.gather(create(stripe_sim), create(stripe_sim))
    assert sorted(one.status_code for one in answers) == [200, 409]
    await stripe_sim.turn(faults=[fault("rate_limit", value=3)])
    limited = await create(stripe_sim, "k2")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")


async def test_asynchronous_payments_and_failing_refunds_take_virtual_time(stripe_sim: Any) -> None:
    headers = {"Authorization": f"Bearer {stripe_sim.KEY}"}
    first, second = (await create(stripe_sim)).json(), (await create(stripe_sim, "k2")).json()
    await stripe_sim.turn(settle_s=3600, refund_s=3600)
    settling = await stripe_sim.confirm(first["client_secret"], "pm_usBankAccount_success")
    assert settling.json()["status"] == "processing"
    await stripe_sim.confirm(second["client_secret"], "pm_card_refundFail")
    made = await stripe_sim.http.post("/v1/refunds", data={"payment_intent": second["id"]}, headers=headers)
    assert made.json()["status"] == "succeeded"
    await stripe_sim.advance(3601)
    counts = await stripe_sim.counts()
    assert counts["payment_intents"] == {"succeeded": 2}
    assert counts["refunds"] == {"failed": 1}
    assert counts["by_order"]["ord_1"] == {"payment_intents": 2, "captures": 2, "captured": 1000, "refunded": 0}


async def test_a_phone_may_confirm_and_nothing_else(stripe_sim: Any) -> None:
    made = (await create(stripe_sim)).json()
    wrong = await stripe_sim.confirm(made["client_secret"] + "x")
    assert wrong.status_code == 401
    headers = {"Authorization": f"Bearer {stripe_sim.PUBLISHABLE}"}
    assert (await stripe_sim.http.get("/v1/payment_intents", headers=headers)).status_code == 401
    asked = (
        await stripe_sim.confirm(made["client_secret"], "pm_card_authenticationRequired", return_url="app://x")
    ).json()
    assert "metadata" not in asked
    bank = asked["next_action"]["redirect_to_url"]["url"]
    failed = (await stripe_sim.http.post(bank, json={"passed": False})).json()
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    await stripe_sim.confirm(made["client_secret"], "pm_card_authenticationRequired", return_url="app://x")
    assert (await stripe_sim.http.post(bank, json={})).json()["status"] == "succeeded"


async def test_search_may_lag_and_new_objects_be_hidden(stripe_sim: Any) -> None:
    await stripe_sim.turn(search_lag_s=60, stale_s=5)
    headers, made = {"Authorization": f"Bearer {stripe_sim.KEY}"}, (await create(stripe_sim)).json()
    query = {"query": "metadata['order_id']:'ord_1' AND status:'requires_payment_method'"}

    async def look() -> tuple[int, int]:
        found = await stripe_sim.http.get("/v1/payment_intents/search", params=query, headers=headers)
        read = await stripe_sim.http.get(f"/v1/payment_intents/{made['id']}", headers=headers)
        return len(found.json()["data"]), read.status_code

    assert await look() == (0, 404)
    await stripe_sim.advance(61)
    assert await look() == (1, 200)


class Endpoint:
    """A webhook endpoint that checks signatures with Stripe's library and may refuse."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.refused: list[str] = []
        self.status = 200
        self.secret = "whsec_of_the_tests"
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        header = dict(scope["headers"])[b"stripe-signature"].decode()
        try:
            stripe.Webhook.construct_event(body, header, self.secret)
            self.got.append(json.loads(body)["type"])
        except stripe.SignatureVerificationError as error:
            self.refused.append(str(error))
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def endpoint(unused_tcp_port: int) -> AsyncIterator[Endpoint]:
    made = Endpoint()
    made.url = f"http://127.0.0.1:{unused_tcp_port}/"
    server = Server(made, address="127.0.0.1", port=unused_tcp_port, interface=Interfaces.ASGI, http=HTTPModes.auto)
    task = asyncio.create_task(server.serve())
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.02)
    yield made
    server.stop()
    await task


async def flush(sim: Any) -> int:
    return int((await sim.http.post("/_sim/webhooks/flush")).json()["sent"])


async def test_webhooks_are_signed_repeated_dropped_and_tried_again(start_stripe: Any, endpoint: Endpoint) -> None:
    sim = await start_stripe(endpoint=endpoint.url)
    by_hand = {"automatic": False}
    await sim.turn(webhooks={**by_hand, "duplicate": 1000})
    await create(sim)
    assert (await flush(sim), endpoint.got) == (2, ["payment_intent.created"] * 2)
    await sim.turn(webhooks={"duplicate": 0, "drop": 1000})
    await create(sim, "k2")
    assert await flush(sim) == 0
    await sim.turn(webhooks={"drop": 0, "delay_s": 30})
    endpoint.status = 503
    await create(sim, "k3")
    assert await flush(sim) == 0
    await sim.advance(31)
    assert await flush(sim) == 1
    assert await flush(sim) == 0  # the next try is due later
    endpoint.status = 200
    await sim.advance(6)
    assert await flush(sim) == 1
    assert (await sim.counts())["deliveries"] == {"sent": 3, "dropped": 1}


async def test_bad_signatures_and_the_roll(start_stripe: Any, endpoint: Endpoint) -> None:
    sim = await start_stripe(endpoint=endpoint.url)
    for number, how in enumerate(("wrong", "old")):
        await sim.turn(webhooks={"automatic": False, "signature": how})
        await create(sim, f"bad{number}")
        await flush(sim)
    assert (endpoint.got, len(endpoint.refused)) == ([], 2)
    await sim.turn(webhooks={"signature": "good"})
    await sim.http.post("/_sim/webhooks/roll", json={"secret": "whsec_new", "overlap_s": 60})
    await create(sim, "overlap")
    await flush(sim)
    assert len(endpoint.got) == 1  # the old secret still fits
    await sim.advance(61)
    await create(sim, "after")
    await flush(sim)
    assert (len(endpoint.got), len(endpoint.refused)) == (1, 3)
    endpoint.secret = "whsec_new"
    await create(sim, "new")
    await flush(sim)
    assert len(endpoint.got) == 2


async def test_a_webhook_may_come_before_the_answer(start_stripe: Any, endpoint: Endpoint) -> None:
    sim = await start_stripe(endpoint=endpoint.url)
    await sim.turn(webhooks={"automatic": False, "before_response": True})
    await create(sim)
    assert endpoint.got == ["payment_intent.created"]


async def test_a_restart_forgets_nothing(start_stripe: Any, tmp_path: Path) -> None:
    first = await start_stripe(path=tmp_path / "book.db")
    await first.turn(settle_s=100, faults=[fault("rate_limit", 0)])
    made = (await create(first)).json()
    await first.confirm(made["client_secret"], "pm_usBankAccount_success")
    await first.advance(50)
    before = await first.counts()
    second = await start_stripe(path=tmp_path / "book.db")  # the first one is as if killed
    assert await second.counts() == before
    assert (await create(second)).headers["idempotent-replayed"] == "true"
    await second.advance(51)
    assert (await second.counts())["payment_intents"] == {"succeeded": 1}
    assert (await second.http.get("/_sim/knobs")).json()["settle_s"] == 100


async def test_the_same_seed_makes_the_same_ids(start_stripe: Any) -> None:
    one, other = await start_stripe(), await start_stripe()
    assert (await create(one)).json()["id"] == (await create(other)).json()["id"]

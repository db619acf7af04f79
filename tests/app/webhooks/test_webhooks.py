"""Webhooks in: the whole way from Stripe's deliveries through the API to the payment; what is refused leaves no row."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from stripe import WebhookSignature

from app.kernel.db import Database
from app.main import create_app
from app.payments.domain import PaymentState
from app.services import Services
from app.webhooks import service
from app.webhooks.domain import Delivery, Received
from app.webhooks.errors import SubjectMissing
from app.webhooks.writing import Writer
from base import ids
from tests.app.conftest import api_settings, running

SECRET = "whsec_of_the_tests"
OTHER = "whsec_of_the_tests_as_rolled"
PATH = "/webhooks/stripe"
SECURED = "payment.secured"


@pytest.fixture
async def api(env: dict[str, str], db: Database) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(api_settings(env, TIRAGE_STRIPE_WEBHOOK_SECRETS=f"{OTHER},{SECRET}"))
    async with running(app) as client:
        yield client


def event(number: int = 1, kind: str = "payment_intent.succeeded", **told: Any) -> bytes:
    found = {"id": "pi_1", "object": "payment_intent", "metadata": {}, **told}
    body = {"id": f"evt_{number}", "object": "event", "created": 1_800_000_000, "type": kind, "data": {"object": found}}
    return json.dumps(body).encode()


def sign(body: bytes, secret: str = SECRET, shift: int = 0) -> dict[str, str]:
    header = WebhookSignature.generate_signature_header(body.decode("latin-1"), secret, int(time.time()) + shift)
    return {"Stripe-Signature": header}


async def send(api: httpx.AsyncClient, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return await api.post(PATH, content=body, headers=sign(body) if headers is None else headers)


async def rows(db: Database) -> dict[str, int]:
    async with db.transaction() as tx:
        return {name: int(await tx.value(f"SELECT count(*) FROM {name}")) for name in ("webhooks", "jobs")}


def delivery(key: str) -> Delivery:
    received = Received(
        source="stripe", account="", dedupe_key=key, type="t", body=b"", key_name=None, headers={}, told_at=None
    )
    return Delivery(id=ids.new_id(), received=received, kek_id="k", wrapped=b"w", sealed=b"s", traceparent=None)


REFUSED: list[tuple[bytes, Callable[[], dict[str, str]]]] = [
    (event(), dict),
    (event(), lambda: {"Stripe-Signature": ""}),
    (event(), lambda: {"Stripe-Signature": "t=,v1="}),
    (event(), lambda: {"Stripe-Signature": "t=99999999999999999999,v1=00"}),
    (event(), lambda: {"Stripe-Signature": f"t={int(time.time())},v1=" + "0" * 64}),
    (event(), lambda: {"Stripe-Signature": "t=1,t=2,v1=" + "é"}),
    (event(), lambda: {"Stripe-Signature": "v1=" + "0" * 5000}),
    (event(), lambda: sign(event(), "whsec_of_somebody_else")),
    (event(2), lambda: sign(event(1))),
    (event(), lambda: sign(event(), shift=-400)),
    (event(), lambda: sign(event(), shift=400)),
    (b"", lambda: sign(b"")),
    (b"not JSON", lambda: sign(b"not JSON")),
    (b"[]", lambda: sign(b"[]")),
    (b"\xff\xfe", lambda: {"Stripe-Signature": "t=1,v1=00"}),
    (b'{"id":"evt_1"}', lambda: sign(b'{"id":"evt_1"}')),
    (event().replace(b"evt_1", b"evt\\u0000"), lambda: sign(event().replace(b"evt_1", b"evt\\u0000"))),
    (b"[" * 100_000, lambda: sign(b"[" * 100_000)),
]


class TestTheDoor:
    async def test_a_delivery_that_comes_again_is_one_row(self, api: httpx.AsyncClient, db: Database) -> None:
        answers = await asyncio.gather(*(send(api, event()) for _ in range(5)))
        assert [one.status_code for one in answers] == [200] * 5
        assert sorted(one.json()["new"] for one in answers) == [False] * 4 + [True]
        assert await rows(db) == {"webhooks": 1, "jobs": 1}

    async def test_a_burst_is_kept_whole_each_once_and_its_repetitions_are_told_apart(
        self, api: httpx.AsyncClient, db: Database
    ) -> None:
        """Many go into one transaction; the same event twice within it is still one row."""
        sent = [event(number % 60) for number in range(90)]
        answers = await asyncio.gather(*(send(api, body) for body in sent))
        assert {answer.status_code for answer in answers} == {200}
        assert sum(answer.json()["new"] for answer in answers) == 60
        assert await rows(db) == {"webhooks": 60, "jobs": 60}

    async def test_one_that_cannot_be_stored_takes_no_other_with_it(self, services: Services, db: Database) -> None:
        """The database refuses a NUL in text, whatever the door lets through."""
        writer = Writer(db, services.spine)
        kept = await asyncio.gather(*(writer.keep(delivery(n)) for n in ("a", "b\0", "c")), return_exceptions=True)
        assert [one if isinstance(one, bool) else "refused" for one in kept] == [True, "refused", True]
        assert await rows(db) == {"webhooks": 2, "jobs": 2}

    async def test_one_who_stops_waiting_changes_nothing_for_the_others(self, services: Services, db: Database) -> None:
        writer = Writer(db, services.spine)
        first, second = [asyncio.create_task(writer.keep(delivery(n))) for n in ("a", "b")]
        await asyncio.sleep(0)
        first.cancel()
        assert await second is True
        assert await rows(db) == {"webhooks": 2, "jobs": 2}

    async def test_the_body_is_not_readable_in_the_database(self, api: httpx.AsyncClient, db: Database) -> None:
        await send(api, event(receipt_email="somebody@example.org"))
        async with db.transaction() as tx:
            row = await tx.one("SELECT row_to_json(w)::text AS told, sealed FROM webhooks w")
        assert row is not None
        assert b"example.org" not in row["sealed"]
        assert "example.org" not in row["told"]

    async def test_both_secrets_of_a_roll_are_taken(self, api: httpx.AsyncClient, db: Database) -> None:
        for number, secret in enumerate((SECRET, OTHER)):
            body = event(number)
            assert (await send(api, body, sign(body, secret))).status_code == 200
        assert (await rows(db))["webhooks"] == 2

    async def test_what_does_not_fit_leaves_no_row(self, api: httpx.AsyncClient, db: Database) -> None:
        """Forged, replayed, from the future, malformed: always 400, never a crash, never a row."""
        for body, headers in REFUSED:
            raw = [(name.encode(), value.encode()) for name, value in headers().items()]
            answer = await api.post(PATH, content=body, headers=raw)
            assert answer.status_code == 400, (body[:40], raw)
            assert answer.json()["code"] in ("webhook-signature-refused", "webhook-malformed")
        assert await rows(db) == {"webhooks": 0, "jobs": 0}

    async def test_a_large_body_is_refused(self, api: httpx.AsyncClient, db: Database) -> None:
        body = event(padding="x" * 300_000)
        assert (await send(api, body)).status_code == 413
        assert (await rows(db))["webhooks"] == 0

    async def test_a_vendors_callback_is_kept_as_a_hint(
        self, api: httpx.AsyncClient, db: Database, env: dict[str, str]
    ) -> None:
        token = env["TIRAGE_PRODIGI_CALLBACK_TOKENS"].split(",")[0]
        told = {"specversion": "1.0", "id": "evt_1", "subject": "ord_1", "data": {"order": {"id": "ord_1"}}}
        for address, body, status in (
            (f"prodigi/{token}", told, 200),
            (f"prodigi/{token}", told, 200),  # it comes again
            (f"prodigi/{token}", [], 400),
            (f"prodigi/{token}x", told, 404),
            (f"nobody/{token}", told, 404),
        ):
            assert (await api.post(f"/webhooks/vendors/{address}", json=body)).status_code == status
        assert await rows(db) == {"webhooks": 1, "jobs": 1}


async def stories(shop: Any, api: httpx.AsyncClient) -> tuple[Any, list[bytes]]:
    """An order that was declined, then paid, and the events that Stripe has for it."""
    owner, order = await shop.order()
    secret = (await shop.payments.start(owner, order)).client_secret
    await shop.sim.confirm(secret, "pm_card_chargeDeclined")
    await shop.sim.confirm(secret)
    intent = secret.partition("_secret_")[0]
    told = [e for e in shop.sim.app.simulator.book.kinds["event"].values() if intent in json.dumps(e["data"])]
    return order, [json.dumps(e).encode() for e in told]


class TestAnyOrder:
    @pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.soak)], ids=["ten", "all"])
    async def test_five_events_in_any_order_end_in_one_state(
        self, shop: Any, api: httpx.AsyncClient, every: int
    ) -> None:
        ends, turns = set(), list(itertools.permutations(range(5)))[::every]
        for turn in turns:
            order, told = await stories(shop, api)
            assert len(told) == 5
            for place in turn:
                assert (await send(api, told[place])).status_code == 200
            await shop.work(rounds=2)
            ends.add(((await shop.view(order)).state, tuple(sorted(await shop.told(order)))))
        told_of = ("payment.failed", "payment.opened", "payment.requires_payment_method", SECURED)
        assert ends == {(PaymentState.CAPTURED, told_of)}
        assert (await shop.sim.counts())["payment_intents"] == {"succeeded": len(turns)}

    async def test_an_event_before_its_subject_waits(self, shop: Any, api: httpx.AsyncClient) -> None:
        payment = ids.encode("payment", ids.new_id())
        await send(api, event(metadata={"payment_id": payment}))
        with pytest.raises(SubjectMissing):
            await shop.work()
        _, order = await shop.order()
        async with shop.services.db.transaction() as tx:  # the payment that the event is about comes to be
            row = await tx.one("SELECT id, state, attempt FROM jobs WHERE kind = 'webhook.process'")
            assert (row["state"], row["attempt"]) == ("queued", 2)
            await tx.execute("UPDATE payments SET id = $1 WHERE order_id = $2", ids.decode("payment", payment), order)
        assert "webhook.process" in await shop.work()
        async with shop.services.db.transaction() as tx:
            assert await tx.value("SELECT order_id FROM webhooks") == order

    async def test_with_every_webhook_lost_the_order_still_ends(self, shop: Any) -> None:
        owner, order = await shop.order()
        await shop.sim.confirm((await shop.payments.start(owner, order)).client_secret)
        async with shop.services.db.transaction() as tx:
            sql = "SELECT extract(epoch FROM not_before - now())::int FROM jobs WHERE kind = 'payment.read'"
            due = await tx.value(sql)
        assert due <= 10
        await shop.work()
        assert (await shop.view(order)).state is PaymentState.CAPTURED


class TestAfterwards:
    async def test_unknown_types_and_fields_are_kept_and_told(self, shop: Any, api: httpx.AsyncClient) -> None:
        owner, order = await shop.order()
        intent = (await shop.payments.start(owner, order)).client_secret.partition("_secret_")[0]
        await send(api, event(1, "invoice.paid", object="invoice"))
        await send(api, event(2, id=intent, never_seen_before=1))
        await shop.work()
        assert await shop.alerts() >= {"webhook-type-unknown", "webhook-fields-unknown"}
        async with shop.services.db.transaction() as tx:
            kept = await tx.fetch("SELECT outcome FROM webhooks WHERE sealed IS NOT NULL ORDER BY dedupe_key")
        assert [row["outcome"] for row in kept] == ["unknown-type", "hinted"]

    async def test_dead_letters_have_a_cause_and_can_be_replayed(self, shop: Any, api: httpx.AsyncClient) -> None:
        await send(api, event())
        async with shop.services.db.transaction() as tx:
            await tx.execute("UPDATE jobs SET attempt = max_attempts")
        with pytest.raises(SubjectMissing):
            await shop.work()
        async with shop.services.db.transaction() as tx:
            dead = await service.listed(tx, dead=True, limit=10)
            assert [(one.type, one.state, one.cause) for one in dead] == [
                ("payment_intent.succeeded", "parked", "failed")
            ]
            assert await service.replay(tx, dead[0].id) == 1
            assert await service.replay(tx, dead[0].id) == 0
        assert "job-parked" in await shop.alerts()

    async def test_a_handled_webhook_is_never_handled_twice(self, shop: Any, api: httpx.AsyncClient) -> None:
        await send(api, event(1, "invoice.paid", object="invoice"))
        await shop.work()
        async with shop.services.db.transaction() as tx:
            before = await tx.one("SELECT id, handled_at FROM webhooks")
            await shop.services.inbox.process(tx, before["id"])
            assert await tx.value("SELECT handled_at FROM webhooks") == before["handled_at"]

    async def test_the_body_goes_with_the_person(self, shop: Any, api: httpx.AsyncClient) -> None:
        owner, order = await shop.order()
        intent = (await shop.payments.start(owner, order)).client_secret.partition("_secret_")[0]
        await send(api, event(1, id=intent))
        await shop.work()
        async with shop.services.db.transaction() as tx:
            row = await tx.one("SELECT id, owner_id, wrapped FROM webhooks")
            assert (row["owner_id"], row["wrapped"]) == (owner, None)
            await shop.services.persons.destroy(tx, owner)
        await send(api, event(2, id=intent))
        await shop.work()
        async with shop.services.db.transaction() as tx:
            kept = {r["dedupe_key"]: r["sealed"] for r in await tx.fetch("SELECT dedupe_key, sealed FROM webhooks")}
        assert kept["evt_1"] is not None  # unreadable: its key is gone
        assert kept["evt_2"] is None

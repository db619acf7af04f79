"""Real deaths at the suspensions of every use case that touches money: whatever was done, it ends right, once.

`make test` takes the first, the last and some seeded suspensions of two of them; `make soak` every one of all.
"""

import json
import time
from typing import Any
from uuid import UUID

import pytest

from app.payments.domain import PaymentState, RefundLine
from app.settings import load_api
from app.webhooks.service import Intake
from base import ids
from base.ids import RefundId
from base.money import Money
from devstack.stripe.delivery import sign
from tests.app.crashes import Case, Crashes
from tests.app.paying import payment_env


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.soak)], ids=["some", "all"])
def crashes(request: pytest.FixtureRequest, shop: Any, env: dict[str, str]) -> Crashes:
    return Crashes(payment_env(env, shop.sim), every=request.param)


async def started(shop: Any, method: str | None = None) -> tuple[Any, Any, str]:
    """An order whose payment was begun, and perhaps confirmed; its payment's id."""
    owner, order = await shop.order()
    secret = (await shop.payments.start(owner, order)).client_secret
    if method is not None:
        await shop.sim.confirm(secret, method)
    return owner, order, str((await shop.view(order)).payment_id)


async def ends(shop: Any, sql: str) -> set[Any]:
    async with shop.services.db.transaction() as tx:
        return {tuple(row) for row in await tx.fetch(sql)}


async def test_starting_a_payment(shop: Any, crashes: Crashes) -> None:
    async def prepare() -> Case:
        owner, order = await shop.order()
        return {"owner": str(owner), "order": str(order)}

    for case in await crashes.happen("start", prepare):  # the phone asks again
        owner, order = UUID(case["owner"]), UUID(case["order"])
        secret = (await shop.payments.start(owner, order)).client_secret
        await shop.sim.confirm(secret)
    await shop.work()
    assert await ends(shop, "SELECT DISTINCT state FROM payments") == {("captured",)}
    by_order = (await shop.sim.counts())["by_order"].values()
    assert {(one["payment_intents"], one["captures"]) for one in by_order} == {(1, 1)}


@pytest.mark.soak
async def test_reading_a_payment(shop: Any, crashes: Crashes) -> None:
    async def prepare() -> Case:
        _, _, payment = await started(shop, "pm_card_visa")
        return {"payment": payment}

    cases = await crashes.happen("read", prepare)
    await shop.work()
    assert await ends(shop, "SELECT DISTINCT state FROM payments") == {("captured",)}
    sql = "SELECT count(*), count(DISTINCT aggregate_id) FROM events WHERE type = 'payment.secured'"
    assert await ends(shop, sql) == {(len(cases), len(cases))}


async def test_refunding(shop: Any, crashes: Crashes) -> None:
    async def prepare() -> Case:
        _, order, payment = await started(shop, "pm_card_visa")
        while (await shop.view(order)).state is not PaymentState.CAPTURED:  # by itself: no waiting refund is run
            await shop.payments.read(UUID(payment))
        wanted, lines = RefundId(ids.new_id()), (RefundLine(line_id=ids.new_id(), copies=1, amount=700),)
        async with shop.services.db.transaction() as tx:
            await shop.payments.refund(tx, order, wanted, Money(700, "GBP"), lines, "line-cancelled")
        return {"refund": str(wanted)}

    await crashes.happen("refund", prepare)
    await shop.work()
    assert await ends(shop, "SELECT DISTINCT state FROM refunds") == {("succeeded",)}
    assert {one["refunded"] for one in (await shop.sim.counts())["by_order"].values()} == {700}


@pytest.mark.soak
async def test_cancelling(shop: Any, crashes: Crashes) -> None:
    async def prepare() -> Case:
        _, order, payment = await started(shop)
        async with shop.services.db.transaction() as tx:
            await shop.payments.cancel(tx, order, "expired")
        return {"payment": payment}

    await crashes.happen("cancel", prepare)
    await shop.work(rounds=2)
    assert await ends(shop, "SELECT DISTINCT state FROM payments") == {(PaymentState.CANCELLED.value,)}
    assert set((await shop.sim.counts())["payment_intents"]) == {"canceled"}


def event(number: int, intent: str) -> str:
    told = {"id": intent, "object": "payment_intent", "metadata": {}}
    kind = "payment_intent.succeeded"
    return json.dumps({"id": f"evt_{number}", "created": 1_800_000_000, "type": kind, "data": {"object": told}})


@pytest.mark.soak
async def test_taking_a_webhook(shop: Any, crashes: Crashes, env: dict[str, str]) -> None:
    numbers = iter(range(1_000))

    async def prepare() -> Case:
        return {"body": event(next(numbers), "pi_1")}

    settings, services = load_api(env), shop.services
    door = Intake(services.db, services.spine, settings.app.keks, services.clock, settings.webhooks)
    cases = await crashes.happen("take", prepare)
    for case in cases:  # it was not answered: Stripe sends it again
        body = case["body"].encode()
        await door.stripe(body, sign(body, [settings.webhooks.stripe[0].reveal()], int(time.time())))
    rows = "SELECT (SELECT count(*) FROM webhooks), (SELECT count(*) FROM jobs WHERE kind = 'webhook.process')"
    assert await ends(shop, rows) == {(len(cases), len(cases))}


@pytest.mark.soak
async def test_looking_at_a_webhook(shop: Any, crashes: Crashes, env: dict[str, str]) -> None:
    settings, services = load_api(env), shop.services
    door = Intake(services.db, services.spine, settings.app.keks, services.clock, settings.webhooks)
    numbers = iter(range(1_000))

    async def prepare() -> Case:
        number = next(numbers)
        _, order, _ = await started(shop, "pm_card_visa")
        body = event(number, (await shop.view(order)).intent_id).encode()
        await door.stripe(body, sign(body, [settings.webhooks.stripe[0].reveal()], int(time.time())))
        async with services.db.transaction() as tx:
            return {"webhook": str(await tx.value("SELECT id FROM webhooks WHERE dedupe_key = $1", f"evt_{number}"))}

    await crashes.happen("process", prepare)
    await shop.work(rounds=2)
    assert await ends(shop, "SELECT DISTINCT outcome, wrapped IS NULL FROM webhooks") == {("hinted", True)}
    assert await ends(shop, "SELECT DISTINCT state FROM payments") == {("captured",)}

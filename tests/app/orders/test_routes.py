"""Orders over HTTP and on the command line: one's own only, folded from facts, with the story in order."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from app.kernel.db import Database
from app.kernel.events import Origin
from app.kernel.spine import Spine
from app.orders import store
from app.orders.domain import Line, Order, OrderPaid, OrderPlaced, OrderState, Quantities
from app.orders.schemas import told_to_operators
from app.services import Services
from base import ids
from base.ids import AssetId, DraftId, ItemId, OrderId, OrderLineId, OwnerId, QuoteId
from base.money import Money
from tirage.main import order as command
from tirage.order import told as told_lines

Guest = Callable[[], Awaitable[dict[str, Any]]]
SYSTEM = Origin(actor="system")


async def place(db: Database, spine: Spine, owner: UUID, copies: int = 2) -> Order:
    """An order of one photo, written as placing writes it."""
    now = datetime.now(UTC)
    made = Order(
        id=OrderId(ids.new_id()), owner_id=OwnerId(owner), state=OrderState.PLACED, draft_id=DraftId(uuid4()),
        draft_version=1, draft_digest="a" * 64, quote_id=QuoteId(uuid4()), catalogue_version="v1", currency="EUR",
        total=1098, shipping=499, tax=175, shipping_option="standard", country="DE", promised_by=None,
        expires_at=now + timedelta(hours=1), cancellable_until=None, created_at=now,
    )  # fmt: skip
    asset = AssetId(uuid4())
    line = Line(
        id=OrderLineId(ids.new_id()), number=1, item_id=ItemId(uuid4()), asset_id=asset, sku="photo-10x15-standard",
        print=b"{}", unit=299, total=598, tax=95, quantities=Quantities(ordered=copies),
    )  # fmt: skip
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        await tx.execute(
            "INSERT INTO assets (id, owner_id, state, bytes, declared_type) VALUES ($1, $2, 'ready', 1, 'image/jpeg')",
            asset,
            owner,
        )
        await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
    async with db.transaction() as tx:
        await store.insert(tx, made, [line])
        told = OrderPlaced(order_id=made.id, draft_id=made.draft_id, quote_id=made.quote_id, total=Money(1098, "EUR"))
        await spine.record(tx, told, aggregate_id=made.id, owner_id=owner, origin=SYSTEM)
    return made


async def pay(db: Database, spine: Spine, order: Order) -> None:
    async with db.transaction() as tx:
        told = OrderPaid(order_id=order.id, paid=Money(1098, "EUR"), cancellable_until=datetime.now(UTC))
        await store.transition(tx, spine, order, OrderState.PAID, told, SYSTEM)


async def test_an_order_is_shown_as_its_facts_fold(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    me = await guest()
    order = await place(db, services.spine, ids.decode("owner", me["ownerId"]))
    path = f"/v1/orders/{ids.encode('order', order.id)}"
    shown = (await client.get(path, headers=me["auth"])).json()
    assert (shown["state"], shown["next"], shown["total"]) == ("priced", "payment", {"amount": 1098, "currency": "EUR"})
    await pay(db, services.spine, order)
    assert (await client.get(path, headers=me["auth"])).json()["state"] == "paid"
    async with db.transaction() as tx:
        await tx.execute("UPDATE order_lines SET in_production = 2, shipped = 1")
    shown = (await client.get(path, headers=me["auth"])).json()
    assert (shown["state"], shown["next"], shown["lines"][0]["shipped"]) == ("partially_shipped", "shipment", 1)


async def test_an_order_with_a_flagged_photo_is_on_hold_until_it_is_cleared(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    me = await guest()
    order = await place(db, services.spine, ids.decode("owner", me["ownerId"]))
    await pay(db, services.spine, order)
    async with db.transaction() as tx:
        asset = await tx.value("SELECT asset_id FROM order_lines WHERE order_id = $1", order.id)

    async def shown() -> tuple[str, str, str]:
        one = (await client.get(f"/v1/orders/{ids.encode('order', order.id)}", headers=me["auth"])).json()
        (listed,) = (await client.get("/v1/orders", headers=me["auth"])).json()["orders"]
        return one["state"], one["next"], listed["state"]

    assert await shown() == ("paid", "production", "paid")
    await services.care.flag(asset, "needs-a-look")
    assert await shown() == ("on_hold", "resolution", "on_hold")
    story = await services.orders.story_for_operators(order.id)
    assert "held for: photo_flagged" in told_lines(story)[0]
    await services.care.clear(asset)
    assert await shown() == ("paid", "production", "paid")


async def test_others_orders_are_not_there(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    me, other = await guest(), await guest()
    order = await place(db, services.spine, ids.decode("owner", me["ownerId"]))
    path = f"/v1/orders/{ids.encode('order', order.id)}"
    for asked in (path, f"{path}/timeline"):
        answer = await client.get(asked, headers=other["auth"])
        assert (answer.status_code, answer.json()["code"]) == (404, "order-not-found")
    assert (await client.get("/v1/orders", headers=other["auth"])).json() == {"orders": [], "next": None}


async def test_pages_give_every_order_once_newest_first(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    me = await guest()
    placed = [await place(db, services.spine, ids.decode("owner", me["ownerId"])) for _ in range(5)]
    seen, before = [], None
    while True:
        query = {"limit": "2", **({"before": before} if before else {})}
        page = (await client.get("/v1/orders", params=query, headers=me["auth"])).json()
        seen += [one["id"] for one in page["orders"]]
        before = page["next"]
        if before is None:
            break
    assert seen == [ids.encode("order", order.id) for order in reversed(placed)]


async def test_the_story_has_every_event_in_order_and_the_customers_is_shorter(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services, env: dict[str, str]
) -> None:
    me = await guest()
    order = await place(db, services.spine, ids.decode("owner", me["ownerId"]))
    await pay(db, services.spine, order)
    name = ids.encode("order", order.id)
    told = (await client.get(f"/v1/orders/{name}/timeline", headers=me["auth"])).json()
    assert [one["code"] for one in told["milestones"]] == ["placed", "paid"]
    story = await services.orders.story_for_operators(order.id)
    placed, paid, mail = story.entries
    assert [(entry.source, entry.name) for entry in story.entries] == [
        ("event", "order.placed"),
        ("event", "order.paid"),
        ("job", "order.mail"),
    ]
    assert (placed.cause, mail.cause) == (None, paid.id)
    first, *rest = told_lines(story)
    assert first.startswith(name)
    wanted = ("line 1: 2 of", "order.placed", "order.paid", "order.mail", "next: production")
    for part, line in zip(wanted, rest, strict=True):
        assert part in line
    printed = json.loads(msgspec.json.encode(told_to_operators(story)))
    assert [entry["name"] for entry in printed["entries"]] == ["order.placed", "order.paid", "order.mail"]


def test_the_command_prints_the_story(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    unknown = ids.encode("order", uuid4())
    answer = CliRunner().invoke(command, ["show", unknown, "--data", str(tmp_path)])
    assert answer.exit_code == 1
    assert "no such order" in answer.output

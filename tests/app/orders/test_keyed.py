"""Every keyed call over HTTP, beside Stripe and a printer: it asks for its key, and keeps it to one request."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from app.kernel.idempotency import KEYED
from base import ids
from tests.app.orders.world import HOME, SKU, World
from tests.app.rows import added, adding

Request = tuple[str, Any]
BYTES = b"not a photo"
UPLOAD = {"bytes": len(BYTES), "contentType": "image/jpeg"}
KEY = "5f0c6f3e-8f0e-4b56"
UNKEYED: list[tuple[list[tuple[str, str]], str]] = [
    ([], "idempotency-key-missing"),
    ([("Idempotency-Key", "short")], "idempotency-key-malformed"),
    ([("Idempotency-Key", f'"{KEY}')], "idempotency-key-malformed"),
    ([("Idempotency-Key", KEY), ("Idempotency-Key", KEY)], "idempotency-key-malformed"),
]


async def requests(world: World) -> dict[str, tuple[Request, Request]]:
    """Of every keyed route a request that is good now, and another one."""
    await world.buy([1], 1)
    await world.buy([2], 1)
    first, second = world.orders
    asset, nobody = ids.encode("asset", world.asset), ids.encode("asset", uuid4())
    item = {"assetId": asset, "sku": SKU, "copies": 1}
    price = await world.quote([3])
    upload = (await world.call("POST", "/v1/uploads", UPLOAD)).json()["id"]
    parts = (await world.call("POST", f"/v1/uploads/{upload}/parts")).json()["parts"]
    for part in parts:
        assert (await world.http.put(part["url"], content=BYTES, headers=part["headers"])).is_success
    other = ids.encode("upload", uuid4())
    ask = {"draftId": price["draftId"], "country": "GB", "postcode": HOME["postcode"]}
    buying = {"quoteId": price["id"], "recipient": HOME}
    return {
        "POST /v1/assets/{asset_id}/processing": of("assets/{}/processing", asset, nobody),
        "POST /v1/drafts": (("drafts", {"items": [item]}), ("drafts", {"items": [{**item, "copies": 2}]})),
        "POST /v1/quotes": (("quotes", ask), ("quotes", {**ask, "country": "DE", "postcode": None})),
        "POST /v1/orders": (("orders", buying), ("orders", {**buying, "recipient": {**HOME, "name": "B. Person"}})),
        "POST /v1/orders/{order_id}/cancel": of("orders/{}/cancel", first.id, second.id),
        "POST /v1/orders/{order_id}/payment": of("orders/{}/payment", second.id, first.id),
        "POST /v1/shares": (("shares", {"assetIds": [asset]}), ("shares", {"assetIds": [nobody]})),
        "POST /v1/uploads": (("uploads", UPLOAD), ("uploads", {**UPLOAD, "bytes": 7})),
        "POST /v1/uploads/{upload_id}/complete": of("uploads/{}/complete", upload, other),
    }


def of(path: str, one: str, other: str) -> tuple[Request, Request]:
    """A call without a body, about one thing and about another."""
    return (path.format(one), None), (path.format(other), None)


@contextlib.asynccontextmanager
async def statements(world: World) -> AsyncIterator[list[str]]:
    """What the API asks the database meanwhile, whichever connection it takes."""
    pool = world.places.api.switch.app.services.db.pool
    told: list[str] = []

    def note(record: Any) -> None:
        told.append(record.query)

    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(pool.acquire()) for _ in range(pool.get_max_size())]
        for connection in held:
            connection.add_query_logger(note)
    yield told
    async with contextlib.AsyncExitStack() as stack:
        for _ in held:
            (await stack.enter_async_context(pool.acquire())).remove_query_logger(note)


async def test_every_keyed_call_needs_its_key_and_keeps_it_to_one_request(world: World) -> None:
    known = await requests(world)
    assert set(known) == KEYED
    watching = await asyncpg.connect(world.places.env["TIRAGE_DATABASE_URL"])
    adds = await adding(watching)

    async def ask(request: Request, *keys: tuple[str, str]) -> httpx.Response:
        headers = [("Authorization", f"Bearer {world.token()}"), *keys]
        return await world.http.post(f"{world.places.api.url}/v1/{request[0]}", json=request[1], headers=headers)

    for route, (good, other) in known.items():
        key = ("Idempotency-Key", uuid4().hex)
        before = await added(watching, adds)
        refused = [await ask(good, *keys) for keys, _ in UNKEYED]
        assert [(r.status_code, r.json()["code"]) for r in refused] == [(400, code) for _, code in UNKEYED], route
        assert await added(watching, adds) == before, route

        first = await ask(good, key)
        assert first.is_success, (route, first.text)
        before = await added(watching, adds)
        reused = await ask(other, key)
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency-key-reused"), route
        async with statements(world) as asked:
            again = await ask(good, key)
        assert (again.status_code, again.content) == (first.status_code, first.content), route
        assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
        assert len(asked) == 1, (route, asked)  # a repetition is one round trip to the database
        assert await added(watching, adds) == before, route
    await watching.close()

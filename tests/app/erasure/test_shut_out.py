"""An erased person's access token is good for some minutes more: nothing is made with it, nor by a call that was under
way when they were erased."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.kernel.db import Database
from app.kernel.idempotency import KEYED, UNKEYED, Answer, KeyedCall
from app.kernel.persons import PersonErased
from app.services import Services
from app.uploads.schemas import CreateUpload, UploadOut
from app.web.keyed import as_json
from base import ids
from base.ids import OwnerId

Guest = Callable[[], Awaitable[dict[str, Any]]]
TUS = {"Tus-Resumable": "1.0.0"}
METADATA = "filetype " + base64.b64encode(b"image/jpeg").decode()
NAMES = {
    "upload_id": "upload",
    "asset_id": "asset",
    "order_id": "order",
    "draft_id": "draft",
}
MADE = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""
OWN = {"POST /webhooks/stripe", "POST /webhooks/vendors/{vendor}/{token}", "POST /v1/devices", "POST /ops/pictures"}
"""Nobody's, a new person's, an operator's."""
BODIES: dict[str, Any] = {
    "POST /v1/uploads": {"bytes": 5, "contentType": "image/jpeg"},
    "POST /v1/orders": {"quoteId": ids.encode("quote", uuid4()), "recipient": {"name": "A", "line1": "1", "town": "L"}},
    "POST /v1/drafts": {"items": []},
    "POST /v1/shares": {"assetIds": [ids.encode("asset", uuid4())]},
    "POST /v1/quotes": {"draftId": ids.encode("draft", uuid4()), "currency": "GBP", "country": "GB"},
}


async def rows(db: Database) -> dict[str, int]:
    async with db.reading() as read:
        names = [row["relname"] for row in await read.fetch(MADE)]
        return {name: int(await read.value(f'SELECT count(*) FROM "{name}"')) for name in names}


async def erased(client: httpx.AsyncClient, guest: Guest) -> dict[str, Any]:
    me = await guest()
    assert (await client.delete("/v1/me", headers=me["auth"])).status_code == 200
    return me


@pytest.mark.parametrize("operation", sorted((KEYED | set(UNKEYED)) - OWN))
async def test_no_post_makes_anything(client: httpx.AsyncClient, guest: Guest, db: Database, operation: str) -> None:
    me = await erased(client, guest)
    before = await rows(db)
    path = operation.removeprefix("POST ")
    for name, kind in NAMES.items():
        path = path.replace(f"{{{name}}}", ids.encode(kind, uuid4()))
    headers = {**me["auth"], **TUS, "Upload-Length": "10", "Upload-Metadata": METADATA}
    headers |= {"Idempotency-Key": uuid4().hex} if operation in KEYED else {}
    body = {"refreshToken": me["refreshToken"]} if path == "/v1/tokens" else BODIES.get(operation)
    answer = await client.post(path, headers=headers, **({} if body is None else {"json": body}))
    assert answer.status_code in (400, 401, 404, 410, 422), answer.text
    if operation == "POST /v1/tus" or (operation in KEYED and answer.status_code not in (400, 422)):
        assert (answer.status_code, answer.json()["code"]) == (410, "person-erased")
    assert await rows(db) == before


async def test_a_session_of_before_takes_no_bytes(client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
    me = await guest()
    headers = {**me["auth"], **TUS, "Upload-Length": "10", "Upload-Metadata": METADATA}
    made = (await client.post("/v1/tus", headers=headers)).headers["location"]
    assert (await client.delete("/v1/me", headers=me["auth"])).status_code == 200
    before = await rows(db)
    append = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    answer = await client.patch(made, headers={**me["auth"], **TUS, **append}, content=b"0123456789")
    assert (answer.status_code, answer.json()["code"]) == (410, "person-erased")
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert await rows(db) == before


async def owner_of(me: dict[str, Any]) -> OwnerId:
    return OwnerId(ids.decode("owner", me["ownerId"]))


async def test_a_keyed_call_that_was_under_way_makes_nothing(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    owner = await owner_of(await guest())
    call = KeyedCall(owner_id=owner, operation="POST /v1/uploads", key="race-0001", fingerprint=b"x" * 32)
    declared = msgspec.convert({"bytes": 10, "contentType": "image/jpeg"}, CreateUpload).declared()

    async def erase() -> None:
        """Between the look at the key and the effect."""
        await services.erasure.erase(owner)

    with pytest.raises(PersonErased):
        await services.idempotency.once(
            call, lambda tx: services.uploads.open(tx, owner, declared), as_json(201, UploadOut.of), before=erase
        )
    counts = await rows(db)
    assert (counts["uploads"], counts["idempotency_keys"], counts["quotas"]) == (0, 0, 0)


async def test_an_erasure_waits_for_what_is_being_made_and_takes_it_too(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    owner = await owner_of(await guest())
    call = KeyedCall(owner_id=owner, operation="POST /v1/uploads", key="race-0002", fingerprint=b"x" * 32)
    declared = msgspec.convert({"bytes": 10, "contentType": "image/jpeg", "clientReference": "r"}, CreateUpload)
    erasing: asyncio.Task[Any] | None = None

    async def effect(tx: Any) -> Any:
        nonlocal erasing
        made = await services.uploads.open(tx, owner, declared.declared())
        erasing = asyncio.create_task(services.erasure.erase(owner), context=Context())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%person_keys%'"
        for _ in range(200):  # it stands at the person's key
            async with db.reading() as read:
                if await read.value(waits):
                    return made
            await asyncio.sleep(0.05)
        raise AssertionError("the erasure did not wait")

    given = await services.idempotency.once(call, effect, lambda made: Answer(201, b"{}"))
    assert given.answer.status == 201
    assert erasing is not None
    await erasing
    async with db.reading() as read:
        assert tuple(await read.one("SELECT state, client_reference FROM uploads")) == ("aborted", None)
        assert await read.value("SELECT count(*) FROM idempotency_keys") == 0


@pytest.mark.parametrize("before_key", [True, False])
async def test_bytes_that_end_after_the_erasure_become_no_asset(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services, before_key: bool
) -> None:
    """A session that is completed by its last byte: `before_key` when the erasure comes before that begins."""
    me = await guest()
    owner = await owner_of(me)
    headers = {**me["auth"], **TUS, "Upload-Length": "10", "Upload-Metadata": METADATA}
    made = ids.decode("upload", (await client.post("/v1/tus", headers=headers)).headers["location"].rsplit("/", 1)[1])

    async def arrived(owner_id: OwnerId, upload_id: Any) -> None:
        if not before_key:
            await services.erasure.erase(owner)

    services.uploads.arrived = arrived  # type: ignore[method-assign]
    if before_key:
        await services.erasure.erase(owner)
    with pytest.raises(PersonErased):
        await services.uploads.finish(owner, made)
    assert (await rows(db))["assets"] == 0

"""The background PUT: one request, safe to send twice and late, streamed."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.services import Services
from app.uploads import store
from base import ids, keys
from base.objects import Buckets, ObjectStore
from tests.app.conftest import Guest
from tests.app.uploads.test_routes import BYTES, DIGEST, answer_ingest, complete, create, send, validated
from tests.app.uploads.test_sessions import addresses


async def opened(client: httpx.AsyncClient, auth: dict[str, str], **changes: Any) -> tuple[dict[str, Any], str]:
    upload = await create(client, auth, **changes)
    told = await addresses(client, auth, upload["id"])
    assert told["background"]["expiresInS"] == pytest.approx(14 * 86_400, abs=60)
    return upload, told["background"]["path"]


@pytest.mark.parametrize("declared", [DIGEST, None], ids=["declared", "undeclared"])
async def test_twice_is_once_and_other_bytes_are_refused(
    client: httpx.AsyncClient,
    guest: Guest,
    services: Services,
    record_store: ObjectStore,
    buckets: Buckets,
    declared: str | None,
) -> None:
    auth = (await guest())["auth"]
    upload, path = await opened(client, auth, sha256=declared)
    for _ in range(2):
        answer = await client.put(path, content=BYTES)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["state"], answer.json()["assetId"]) == ("verifying", upload["assetId"])
    other = await client.put(path, content=bytes(len(BYTES)))
    assert (other.status_code, other.json()["code"]) == (409, "upload-bytes-differ")
    await answer_ingest(services, upload["assetId"], validated())
    assert (await client.put(path, content=BYTES)).json()["state"] == "completed"
    assert await record_store.digest(buckets.originals, keys.original(upload["assetId"])) == DIGEST
    assert (await complete(client, auth, upload["id"])).status_code == 202
    async with services.db.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM assets") == 1
    assert await record_store.multiparts(buckets.originals, upload["assetId"]) == []


async def test_a_day_late(client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
    auth = (await guest())["auth"]
    _, path = await opened(client, auth)
    async with services.db.transaction() as tx:
        await tx.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
        await services.uploads.expire_overdue(tx)
    ended = {"Authorization": "Bearer of.what.was"}  # many apps send theirs with every call
    assert (await client.put(path, content=BYTES, headers=ended)).json()["state"] == "verifying"


async def test_wrong_bytes_leave_nothing(
    client: httpx.AsyncClient, guest: Guest, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    upload, path = await opened(client, auth)
    wrong = await client.put(path, content=os.urandom(len(BYTES)))
    assert (wrong.status_code, wrong.json()["code"]) == (422, "upload-digest-mismatch")
    short = await client.put(path, content=BYTES[:-1])
    assert short.status_code == 409
    assert await record_store.list_keys(buckets.originals, upload["assetId"]) == []

    async def chunked(data: bytes) -> AsyncIterator[bytes]:
        yield data

    for data in (BYTES + b"x", BYTES[:-1]):
        assert (await client.put(path, content=chunked(data))).status_code == 409
    assert (await client.put(path, content=chunked(BYTES))).status_code == 200


@pytest.mark.parametrize("change", ["", "A", "x" * 60, "é", "-._~"])
async def test_the_capability_is_checked(client: httpx.AsyncClient, guest: Guest, change: str) -> None:
    auth = (await guest())["auth"]
    _, path = await opened(client, auth)
    other, _ = await opened(client, auth)
    base, good = path.rsplit("/", 1)
    bad = change or good[:-1] + ("A" if good[-1] != "A" else "Q")
    assert (await client.put(f"{base}/{bad}", content=BYTES)).status_code == 404
    moved = path.replace(path.split("/")[3], other["id"])
    assert (await client.put(moved, content=BYTES)).status_code == 404


async def test_many_at_once_are_one(client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
    auth = (await guest())["auth"]
    _, path = await opened(client, auth, sha256=None)
    answers = await asyncio.gather(*(client.put(path, content=BYTES) for _ in range(6)))
    assert [a.status_code for a in answers] == [200] * 6
    async with services.db.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'asset.ingest'") == 1


async def test_what_came_as_a_part_is_the_same(client: httpx.AsyncClient, guest: Guest) -> None:
    auth = (await guest())["auth"]
    upload, path = await opened(client, auth, sha256=None)
    assert (await send(client, auth, upload["id"])).status_code == 200
    assert (await complete(client, auth, upload["id"])).status_code == 202
    assert (await client.put(path, content=BYTES)).status_code == 200
    assert (await client.put(path, content=bytes(len(BYTES)))).status_code == 409


async def test_whole_beside_begun_parts_is_whole(
    client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
) -> None:
    """The multipart upload that addresses began is still open when a twin of the PUT asks what storage holds."""
    auth = (await guest())["auth"]
    upload, path = await opened(client, auth, sha256=None)
    async with services.db.reading() as db:
        session = await store.get_any(db, ids.decode("upload", upload["id"]))
    assert session is not None
    assert session.storage_id is not None
    url, headers = services.uploads.storage.address_whole(session)
    async with httpx.AsyncClient() as phone:
        assert (await phone.put(url, content=BYTES, headers=headers)).status_code == 200
    assert session.storage_id in [begun.upload for begun in await record_store.multiparts(buckets.originals)]
    assert (await client.put(path, content=BYTES)).status_code == 200

"""What one owner may send: sessions and bytes in a day, and bytes in sessions that are open at once."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.kernel.db import Database
from app.kernel.quotas import spend
from app.services import Services
from app.uploads.settings import UploadLimits
from base import ids
from base.ids import OwnerId
from tests.app.conftest import Guest
from tests.app.uploads.test_routes import create
from tests.app.uploads.test_tus import TUS

LIMITS = UploadLimits()
TUS_HEADERS = {**TUS, "Upload-Length": "1000", "Upload-Metadata": "filetype aW1hZ2UvanBlZw=="}


async def ask(client: httpx.AsyncClient, auth: dict[str, str], face: str) -> httpx.Response:
    """A session of 1,000 bytes."""
    if face == "tus":
        return await client.post("/v1/tus", headers={**auth, **TUS_HEADERS})
    body = {"bytes": 1000, "contentType": "image/jpeg"}
    return await client.post("/v1/uploads", json=body, headers={**auth, "Idempotency-Key": uuid4().hex})


def refused_by(answer: httpx.Response) -> tuple[int, Any, int]:
    assert answer.status_code == 429, answer.text
    return answer.status_code, answer.json()["code"], int(answer.headers["retry-after"])


async def used(db: Database, owner: UUID) -> dict[str, int]:
    async with db.reading() as read:
        return {
            r["name"]: r["used"] for r in await read.fetch("SELECT name, used FROM quotas WHERE owner_id = $1", owner)
        }


@pytest.mark.parametrize("face", ["json", "tus"])
async def test_a_days_bytes(client: httpx.AsyncClient, guest: Guest, db: Database, face: str) -> None:
    me, other = await guest(), await guest()
    owner, (_, size) = OwnerId(ids.decode("owner", me["ownerId"])), LIMITS.quotas
    async with db.transaction() as tx:
        await spend(tx, owner, size, size.limit - 1500)
    assert (await ask(client, me["auth"], face)).status_code == 201
    before = await used(db, owner)
    _, code, wait_s = refused_by(await ask(client, me["auth"], face))
    assert (code, 0 < wait_s <= 86_400) == ("quota-exceeded", True)
    assert await used(db, owner) == before
    assert (await ask(client, other["auth"], face)).status_code == 201


@pytest.mark.parametrize("face", ["json", "tus"])
async def test_bytes_that_are_open_at_once(client: httpx.AsyncClient, guest: Guest, db: Database, face: str) -> None:
    auth = (await guest())["auth"]
    first = await create(client, auth)
    async with db.transaction() as tx:
        await tx.execute("UPDATE uploads SET bytes = $1", LIMITS.bytes_open - 1000)
    assert (await ask(client, auth, face)).status_code == 201
    assert refused_by(await ask(client, auth, face)) == (429, "uploads-unfinished", 60)
    async with db.reading() as read:
        assert await read.value("SELECT count(*) FROM uploads") == 2
    assert (await client.delete(f"/v1/uploads/{first['id']}", headers=auth)).status_code == 204
    assert (await ask(client, auth, face)).status_code == 201


async def test_a_session_that_is_revived_counts_as_open(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    auth = (await guest())["auth"]
    first = await create(client, auth)
    wanted, path = ids.decode("upload", first["id"]), f"/v1/uploads/{first['id']}"
    content = (await client.post(f"{path}/parts", headers=auth)).json()["background"]["path"]
    async with db.transaction() as tx:
        await tx.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
        assert await services.uploads.expire_overdue(tx) == 1
    other = await create(client, auth)
    async with db.transaction() as tx:
        await tx.execute("UPDATE uploads SET bytes = $1 WHERE id <> $2", LIMITS.bytes_open, wanted)
    refused = (429, "uploads-unfinished", 60)
    assert refused_by(await client.post(f"{path}/revive", headers=auth)) == refused
    assert refused_by(await client.put(content, content=bytes(first["bytes"]))) == refused
    async with db.reading() as read:
        assert await read.value("SELECT state FROM uploads WHERE id = $1", wanted) == "expired"
    assert (await client.delete(f"/v1/uploads/{other['id']}", headers=auth)).status_code == 204
    async with db.transaction() as tx:  # the quota was lowered meanwhile: it is one of new sessions
        await tx.execute("UPDATE quotas SET used = used + $1", LIMITS.sessions_a_day)
    assert (await client.post(f"{path}/revive", headers=auth)).status_code == 200


async def test_a_session_is_not_revived_beside_another_of_its_reference(
    client: httpx.AsyncClient, guest: Guest, db: Database, services: Services
) -> None:
    auth = (await guest())["auth"]
    first = await create(client, auth, clientReference="IMG/1")
    path = f"/v1/uploads/{first['id']}"
    content = (await client.post(f"{path}/parts", headers=auth)).json()["background"]["path"]
    async with db.transaction() as tx:
        await tx.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
        assert await services.uploads.expire_overdue(tx) == 1
    other = await create(client, auth, clientReference="IMG/1")
    for answer in (
        await client.post(f"{path}/revive", headers=auth),
        await client.put(content, content=bytes(first["bytes"])),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "upload-reference-reused")
    assert (await client.delete(f"/v1/uploads/{other['id']}", headers=auth)).status_code == 204
    assert (await client.post(f"{path}/revive", headers=auth)).status_code == 200


async def test_a_session_that_is_found_again_counts_once(client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
    me = await guest()
    made = [await create(client, me["auth"], clientReference="IMG/1") for _ in range(2)]
    assert made[0]["id"] == made[1]["id"]
    assert await used(db, ids.decode("owner", me["ownerId"])) == {"uploads": 1, "bytes of uploads": made[0]["bytes"]}

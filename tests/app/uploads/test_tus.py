"""tus 1.0 on the same sessions: what is acknowledged is in storage, and either face finishes what the other began."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.services import Services
from app.uploads.planning import Assemble
from base import keys
from base.objects import Buckets, ObjectStore
from tests.app.conftest import Guest
from tests.app.uploads.test_routes import BYTES, DIGEST, complete, create
from tests.app.uploads.test_sessions import LARGE, MIB, addresses, large, piece, put

TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {"Content-Type": "application/offset+octet-stream"}


async def begin(client: httpx.AsyncClient, auth: dict[str, str], size: int = len(BYTES), **fields: str) -> str:
    fields = {"filetype": "image/jpeg", "sha256": DIGEST, **fields}
    told = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items())
    headers = {**auth, **TUS, "Upload-Length": str(size), "Upload-Metadata": told}
    answer = await client.post("/v1/tus", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-expires"].endswith("GMT")
    return str(answer.headers["location"])


async def append(
    client: httpx.AsyncClient, auth: dict[str, str], path: str, offset: int, data: Any, **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.patch(
        path, content=data, headers={**auth, **TUS, **APPEND, "Upload-Offset": str(offset), **named}
    )


async def offset(client: httpx.AsyncClient, auth: dict[str, str], path: str) -> int:
    answer = await client.head(path, headers={**auth, **TUS})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


async def assemble(services: Services) -> int:
    """What a record worker does with assembly jobs."""

    async def finish(_: object) -> None:
        return None

    async with services.db.transaction() as tx:
        rows = await tx.fetch("SELECT payload->>'upload_id' AS id FROM jobs WHERE kind = 'upload.assemble'")
    for row in rows:
        await services.sweeper.assemble(Assemble(upload_id=row["id"]), finish)
    return len(rows)


async def test_blocks_become_the_original(
    client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    path = await begin(client, auth)
    session = path.rsplit("/", 1)[1]
    assert await offset(client, auth, path) == 0
    assert (await append(client, auth, path, 0, BYTES[:30_000])).headers["upload-offset"] == "30000"
    wrong = await append(client, auth, path, 5, BYTES[5:])
    assert (wrong.status_code, wrong.headers["tus-resumable"]) == (409, "1.0.0")
    assert await offset(client, auth, path) == 30_000
    assert (await append(client, auth, path, 30_000, BYTES[30_000:])).status_code == 204
    assert await offset(client, auth, path) == len(BYTES)
    told = (await client.get(f"/v1/uploads/{session}", headers=auth)).json()["upload"]
    assert told["state"] == "verifying"
    for _ in range(2):  # a job may run twice
        assert await assemble(services) == 1
    asset = keys.original(told["assetId"])
    assert await record_store.digest(buckets.originals, asset) == DIGEST
    assert await record_store.list_keys(buckets.staging, session) == []
    async with services.db.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'asset.ingest'") == 1


async def test_begun_with_parts_finished_by_appending(
    client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    upload = await large(client, auth)
    first = (await addresses(client, auth, upload["id"], 1))["parts"][0]
    assert await put(first, piece(first)) == 200
    path = f"/v1/tus/{upload['id']}"
    assert await offset(client, auth, path) == 8 * MIB
    assert (await append(client, auth, path, 8 * MIB, LARGE[8 * MIB :])).status_code == 204
    assert await assemble(services) == 1
    stored = await record_store.digest(buckets.originals, keys.original(upload["assetId"]))
    assert stored == hashlib.sha256(LARGE).hexdigest()


async def test_begun_by_appending_finished_with_parts(
    client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    path = await begin(client, auth, len(LARGE), sha256=hashlib.sha256(LARGE).hexdigest())
    session = path.rsplit("/", 1)[1]
    assert (await append(client, auth, path, 0, LARGE[: 9 * MIB])).status_code == 204
    told = await addresses(client, auth, session)
    assert [part["number"] for part in told["parts"]] == [2, 3]  # the first is there, as blocks
    for part in told["parts"]:
        assert await put(part, piece(part)) == 200
    answer = await complete(client, auth, session)
    assert answer.status_code == 202
    assert await assemble(services) == 1
    stored = await record_store.digest(buckets.originals, keys.original(answer.json()["assetId"]))
    assert stored == hashlib.sha256(LARGE).hexdigest()


class TestChecksum:
    async def test_other_bytes_are_kept_out(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        path = await begin(client, auth)
        digest = base64.b64encode(hashlib.sha1(BYTES[:1000]).digest()).decode()
        bad = await append(client, auth, path, 0, bytes(1000), Upload_Checksum=f"sha1 {digest}")
        assert (bad.status_code, bad.json()["code"]) == (460, "upload-digest-mismatch")
        assert await offset(client, auth, path) == 0
        good = await append(client, auth, path, 0, BYTES[:1000], Upload_Checksum=f"sha1 {digest}")
        assert (good.status_code, good.headers["upload-offset"]) == (204, "1000")
        unknown = await append(client, auth, path, 1000, b"x", Upload_Checksum="crc9 AA==")
        assert unknown.status_code == 400


class TestProtocol:
    async def test_options_need_no_token(self, client: httpx.AsyncClient) -> None:
        answer = await client.options("/v1/tus")
        assert answer.status_code == 204
        assert answer.headers["tus-extension"] == "creation,expiration,checksum,termination"
        assert "sha1" in answer.headers["tus-checksum-algorithm"]

    async def test_refusals(self, client: httpx.AsyncClient, guest: Guest) -> None:
        mine, other = (await guest())["auth"], (await guest())["auth"]
        path = await begin(client, mine)
        assert (await client.head(path, headers={**other, **TUS})).status_code == 404
        assert (await client.head(path, headers=TUS)).status_code == 401
        old = await client.head(path, headers={**mine, "Tus-Resumable": "0.2.2"})
        assert (old.status_code, old.headers["tus-version"]) == (412, "1.0.0")
        long = await append(client, mine, path, 0, BYTES + b"x")
        assert long.status_code == 413
        typed = await client.patch(path, content=b"x", headers={**mine, **TUS, "Upload-Offset": "0"})
        assert (typed.status_code, typed.json()["code"]) == (415, "tus-media-type")
        bare = await client.post("/v1/tus", headers={**mine, **TUS, "Upload-Length": "5"})
        assert bare.status_code == 422
        huge = {"Upload-Length": str(2**39), "Upload-Metadata": "filetype aW1hZ2UvanBlZw=="}
        assert (await client.post("/v1/tus", headers={**mine, **TUS, **huge})).status_code == 413

    async def test_a_reference_finds_the_session_again(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        assert await begin(client, auth, reference="IMG/9") == await begin(client, auth, reference="IMG/9")

    async def test_termination(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        path = await begin(client, auth)
        await append(client, auth, path, 0, BYTES[:10])
        assert (await client.delete(path, headers={**auth, **TUS})).status_code == 204
        assert (await client.head(path, headers={**auth, **TUS})).status_code == 410
        gone = await append(client, auth, path, 10, BYTES[10:])
        assert (gone.status_code, gone.json()["code"]) == (410, "upload-given-up")

    async def test_metadata_is_told_as_it_was_given(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        told = "filename YS5qcGc=,  filetype aW1hZ2UvanBlZw==,is_private"
        headers = {**auth, **TUS, "Upload-Length": "5", "Upload-Metadata": told}
        made = await client.post("/v1/tus", headers=headers)
        assert made.status_code == 201
        again = await client.head(made.headers["location"], headers={**auth, **TUS})
        assert again.headers["upload-metadata"] == told
        long = await client.post("/v1/tus", headers={**headers, "Upload-Metadata": told + "," + "x" * 4096})
        assert long.status_code == 422

    async def test_a_session_of_another_face_has_none(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        answer = await client.head(f"/v1/tus/{(await create(client, auth))['id']}", headers={**auth, **TUS})
        assert "upload-metadata" not in answer.headers

    async def test_the_method_may_be_named_in_a_header(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        path = await begin(client, auth)

        async def post(method: str, **headers: str) -> httpx.Response:
            told = {**auth, **TUS, **APPEND, "X-HTTP-Method-Override": method, "Upload-Offset": "0"}
            return await client.post(path, content=BYTES[:10] if method == "PATCH" else b"", headers=told)

        assert ((first := await post("PATCH")).status_code, first.headers["upload-offset"]) == (204, "10")
        assert ((seen := await post("HEAD")).status_code, seen.headers["upload-offset"]) == (200, "10")
        assert (await post("DELETE")).status_code == 204
        assert (await post("BREW")).status_code == 405

    @pytest.mark.parametrize("path", ["/v1/tus", "/v1/tus/upl_none", "/v1/tus/a/b"])
    @pytest.mark.parametrize("method", ["GET", "PUT", "POST", "HEAD", "OPTIONS"])
    async def test_every_answer_tells_the_version(self, client: httpx.AsyncClient, path: str, method: str) -> None:
        answer = await client.request(method, path)
        assert answer.headers.get_list("tus-resumable") == ["1.0.0"], answer.status_code

    async def test_no_other_path_is_of_it(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/client-config", headers={"X-HTTP-Method-Override": "DELETE"})
        assert "tus-resumable" not in answer.headers
        assert (await client.get("/v1/tusk")).headers.get("tus-resumable") is None


class TestTwoWriters:
    async def test_a_dead_connection_holds_nothing_up_and_changes_nothing(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
    ) -> None:
        """The old request hangs half sent; the new one goes on at once; then the old one wakes up."""
        auth = (await guest())["auth"]
        path = await begin(client, auth)
        awake, waiting = asyncio.Event(), asyncio.Event()

        async def half() -> AsyncIterator[bytes]:
            yield BYTES[:20_000]
            waiting.set()
            await awake.wait()
            yield bytes(len(BYTES) - 20_000)

        old = asyncio.create_task(append(client, auth, path, 0, half()))
        await waiting.wait()
        at = await offset(client, auth, path)
        assert (await append(client, auth, path, at, BYTES[at:])).status_code == 204
        awake.set()
        assert (await old).status_code == 409
        assert await assemble(services) == 1
        told = (await client.get(f"/v1/uploads/{path.rsplit('/', 1)[1]}", headers=auth)).json()["upload"]
        assert await record_store.digest(buckets.originals, keys.original(told["assetId"])) == DIGEST

    async def test_many_at_one_offset_are_one(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        path = await begin(client, auth)
        answers = await asyncio.gather(*(append(client, auth, path, 0, BYTES[:999]) for _ in range(6)))
        assert sorted({a.status_code for a in answers}) in ([204, 409], [204])
        assert sum(a.status_code == 204 for a in answers) == 1
        assert await offset(client, auth, path) == 999


@pytest.mark.parametrize("face", ["json", "tus"])
async def test_expired_sessions_say_so(client: httpx.AsyncClient, guest: Guest, services: Services, face: str) -> None:
    auth = (await guest())["auth"]
    upload = await create(client, auth)
    async with services.db.transaction() as tx:
        await tx.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
        await services.uploads.expire_overdue(tx)
    headers = {**auth, **TUS}
    if face == "tus":
        assert (await client.head(f"/v1/tus/{upload['id']}", headers=headers)).status_code == 410
    else:
        assert (await client.post(f"/v1/uploads/{upload['id']}/parts", headers=auth)).status_code == 410

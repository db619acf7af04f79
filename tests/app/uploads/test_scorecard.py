"""The scorecard: one row a failure an upload must survive, and five invariants after each.

The numbers are those of docs/uploads.md. The invariants: acknowledged bytes are never lost; one asset an owner
and hash; its hash is the source's; every session ends in a named state; nothing is left in storage for nobody.
"""

import asyncio
import contextlib
import hashlib
import io
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from app.kernel import jobs
from app.kernel.access import AccessTokens
from app.kinds import KINDS
from app.settings import load_api
from app.uploads.plan import Held, advise, part_size
from app.uploads.receive import BLOCK
from app.uploads.traffic import OF_AN_ADDRESS, OF_AN_OWNER
from base import ids
from base.clock import SystemClock
from base.ids import DeviceId, OwnerId
from base.ingest import KIND
from base.jobs import LANES
from devstack.s3_faults import Kind
from tasks.dispatcher import Dispatcher
from tasks.queue import Queue, jobs_stream
from tests.app.uploads.conftest import Bench, Make, Phone, Relay
from tests.tasks.test_faults import region_of

MIB = 1024 * 1024
STORE_REMOVES_S = 8
"""SeaweedFS has removed by then what parts were before: only then a read tells whether it was too much."""
TUS = {"Tus-Resumable": "1.0.0"}
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("scorecard"), pytest.mark.scorecard]


@pytest.fixture
async def row(bench: Bench) -> AsyncIterator[Bench]:
    """The bench; the invariants are checked when the row has ended."""
    yield bench
    await bench.check()


async def two_parts(phone: Phone, data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A session of two parts, after a slow one has taught us the network."""
    async with phone.bench.services.db.transaction() as tx:
        made = await phone.begin(b"x" * 10, sha256=None, clientReference=uuid4().hex)
        await tx.execute("UPDATE uploads SET rate = 400000 WHERE id = $1", ids.decode("upload", made["id"]))
    upload = await phone.create(data)
    assert upload["next"]["partBytes"] == 5 * MIB
    return upload, (await phone.parts(upload["id"]))["parts"]


def head_of(phone: Phone, path: str, offset: int, length: int) -> str:
    return (
        f"PATCH {path} HTTP/1.1\r\nHost: api\r\nAuthorization: {phone.auth['Authorization']}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Upload-Offset: {offset}\r\nContent-Length: {length}\r\n\r\n"
    )


async def offset_of(phone: Phone, path: str, api: int = 0) -> int:
    answer = await phone.call("HEAD", path, api=api, **TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


async def append(phone: Phone, path: str, data: bytes, offset: int, api: int = 0, **headers: str) -> int:
    named = {**phone.auth, **TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    try:
        answer = await phone.bench.client(api).patch(path, content=data[offset:], headers={**named, **headers})
    except httpx.TransportError:  # refused before the body was read: the connection may end first
        return 0
    return answer.status_code


async def test_01_app_killed_within_a_part(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(6 * MIB)
    upload, parts = await two_parts(phone, data)
    assert await phone.put(parts[0], data, acknowledge=upload["id"]) == 200
    row.faults.inject(Kind.CUT, "UploadPart", after=100_000)
    assert await phone.put(parts[1], data) == 0
    told = await phone.read(upload["id"])
    assert told["missing"] == [{"firstByte": 5 * MIB, "bytes": len(data) - 5 * MIB}]
    (again,) = (await phone.parts(upload["id"]))["parts"]
    assert await phone.put(again, data, acknowledge=upload["id"]) == 200
    assert (await phone.complete(upload["id"])).status_code == 202


async def test_02_app_killed_within_an_append(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(700_000)
    upload = await phone.create(data)
    path = f"/v1/tus/{upload['id']}"
    dying = row.socket_to(0, head_of(phone, path, 0, len(data)), data[:600_000])
    async with asyncio.timeout(120):
        while await offset_of(phone, path) < 512 * 1024:  # each full block is kept as it comes
            await asyncio.sleep(0.05)
    dying.close()
    at = await offset_of(phone, path)
    phone.acknowledged[upload["id"]] = at
    async with asyncio.timeout(120):
        while await append(phone, path, data, at) != 204:  # the old request may still have kept its last piece
            at = await offset_of(phone, path)
    assert await offset_of(phone, path) == len(data)


async def test_02_api_killed_within_an_append_and_its_temp_folder_deleted(row: Bench, photo: Make) -> None:
    """Nothing acknowledged was on its machine only; another process goes on."""
    phone, data = await row.phone(), photo(900_000)
    upload = await phone.create(data)
    path, temporary = f"/v1/tus/{upload['id']}", Path(row.apis[0].env["TMPDIR"])
    assert await append(phone, path, data[:100_000], 0) == 204
    dying = row.socket_to(0, head_of(phone, path, 100_000, len(data) - 100_000), data[100_000:500_000])
    async with asyncio.timeout(120):
        while await offset_of(phone, path) < 100_000 + 256 * 1024:
            await asyncio.sleep(0.05)
    phone.acknowledged[upload["id"]] = await offset_of(phone, path)
    row.apis[0].kill()
    shutil.rmtree(temporary)
    dying.close()
    at = await offset_of(phone, path, api=1)
    assert at >= phone.acknowledged[upload["id"]]
    assert await append(phone, path, data, at, api=1) == 204
    temporary.mkdir()
    await asyncio.to_thread(row.apis[0].start)


async def test_03_and_04_a_part_again(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(5 * MIB)
    upload = await phone.create(data, sha256=None)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    wrong = bytes(len(data))
    assert [await phone.put(part, body) for body in (wrong, wrong, data, data)] == [200] * 4
    assert (await phone.read(upload["id"]))["arrivedBytes"] == len(data)
    assert (await phone.complete(upload["id"])).status_code == 202
    assert await phone.put(part, wrong) == 404
    answer = await phone.call("POST", f"/v1/uploads/{upload['id']}/parts")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-not-open")
    await row.work()
    assert (await phone.read(upload["id"]))["upload"]["state"] == "completed"
    await asyncio.sleep(STORE_REMOVES_S)


@pytest.mark.soak
async def test_05_wrong_bytes_for_a_digest(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.begin(data)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    assert await phone.put(part, bytes(len(data))) == 400
    path = f"/v1/tus/{upload['id']}"
    assert await append(phone, path, data, 0, **{"Upload-Checksum": "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0="}) == 460
    assert await offset_of(phone, path) == 0


@pytest.mark.parametrize("number", [6, pytest.param(26, marks=pytest.mark.soak)])
async def test_06_and_26_another_file_than_declared(row: Bench, photo: Make, number: int) -> None:
    """A lie about the hash; and a file that was edited between two parts."""
    phone, data, edited = await row.phone(), photo(6 * MIB), photo(6 * MIB)
    upload, parts = await two_parts(phone, data)
    del phone.sources[upload["id"]]
    sent = [edited, edited] if number == 6 else [data, edited]
    for part, body in zip(parts, sent, strict=True):
        assert await phone.put(part, body.ljust(len(data), b"\0")) == 200
    assert (await phone.complete(upload["id"])).status_code == 202
    await row.work()
    told = (await phone.read(upload["id"]))["upload"]
    assert (told["state"], told["reason"]) == ("rejected", "file-digest-mismatch")
    checked = await phone.call("POST", "/v1/uploads/check", {"photos": [{"sha256": hashlib.sha256(data).hexdigest()}]})
    assert checked.json()["photos"][0]["action"] == "send"
    assert (await phone.begin(data))["id"] != upload["id"]  # a restart is possible


async def test_07_a_hash_one_does_not_hold(row: Bench, photo: Make) -> None:
    owner, thief, data = await row.phone(), await row.phone(), photo()
    upload = await owner.send(data)
    await owner.complete(upload["id"])
    await row.work()
    photos = {"photos": [{"sha256": hashlib.sha256(data).hexdigest()}]}
    assert (await owner.call("POST", "/v1/uploads/check", photos)).json()["photos"][0]["reason"] == "exact"
    assert (await thief.call("POST", "/v1/uploads/check", photos)).json()["photos"][0]["reason"] is None
    claimed = await thief.begin(data)
    assert (await thief.complete(claimed["id"])).status_code == 409
    for path in (f"/v1/uploads/{upload['id']}", f"/v1/assets/{upload['assetId']}"):
        assert (await thief.call("GET", path)).status_code == 404


async def test_08_and_09_complete_again_and_at_once(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.send(data)
    answers = await asyncio.gather(*(phone.complete(upload["id"], api=n % 2) for n in range(50)))
    answers += [await phone.complete(upload["id"]) for _ in range(2)]
    assert {(a.status_code, a.content) for a in answers} == {(202, answers[0].content)}
    assert answers[0].json()["assetId"] == upload["assetId"]
    await row.work()
    assert await value(row, "SELECT count(*) FROM events WHERE type = 'asset.created'") == 1


@pytest.mark.soak
async def test_10_complete_with_a_part_missing(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(6 * MIB)
    upload, parts = await two_parts(phone, data)
    assert await phone.put(parts[1], data, acknowledge=upload["id"]) == 200
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-incomplete")
    assert f"0-{5 * MIB - 1}" in answer.json()["detail"]
    assert (await phone.read(upload["id"]))["upload"]["state"] == "open"
    assert await phone.put(parts[0], data, acknowledge=upload["id"]) == 200
    assert (await phone.complete(upload["id"])).status_code == 202


@pytest.mark.parametrize(
    "kind",
    [Kind.LOST, *(pytest.param(k, marks=pytest.mark.soak) for k in (Kind.HANG, Kind.OK_WITH_ERROR, Kind.SLOW_DOWN))],
    ids=str,
)
async def test_11_16_and_17_the_store_does_not_say_how_complete_ended(row: Bench, photo: Make, kind: Kind) -> None:
    """Lost and hanging answers after the commit, an error in a 200, 503; the store refuses a second Complete."""
    phone, data = await row.phone(), photo()
    upload = await phone.send(data)
    row.faults.inject(kind, "CompleteMultipartUpload", times=3)
    key = uuid4().hex
    answer = await phone.complete(upload["id"], key=key)
    if answer.status_code != 202:
        assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
        row.faults.clear()
        answer = await phone.complete(upload["id"], key=key)
    assert (answer.status_code, answer.json()["assetId"]) == (202, upload["assetId"])
    assert (await phone.complete(upload["id"], key=key)).content == answer.content


POINTS = [("CompleteMultipartUpload", Kind.AFTER)]
MORE_POINTS = [
    ("CreateMultipartUpload", Kind.BEFORE),
    ("CreateMultipartUpload", Kind.AFTER),
    ("ListParts", Kind.AFTER),
    ("CompleteMultipartUpload", Kind.BEFORE),
]


@pytest.mark.parametrize(
    ("operation", "moment"), [*POINTS, *(pytest.param(*point, marks=pytest.mark.soak) for point in MORE_POINTS)]
)
async def test_12_api_killed_at_a_commit_point(row: Bench, photo: Make, operation: str, moment: Kind) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.create(data)
    row.faults.inject(moment, operation, hook=row.apis[0].kill)
    key = uuid4().hex
    with contextlib.suppress(Exception):
        (part,) = (await phone.parts(upload["id"]))["parts"]
        assert await phone.put(part, data, acknowledge=upload["id"]) == 200
        await phone.complete(upload["id"], key=key)
    assert row.apis[0].process.poll() is not None, "the process was killed"
    row.faults.clear()
    if await row.object_is_there(upload["assetId"]):  # nobody asks again: a record worker finishes it
        async with row.services.db.transaction() as tx:
            await tx.execute("UPDATE uploads SET completing_at = completing_at - interval '5 minutes'")
        assert await row.services.sweeper.reconcile() == 1
    else:
        for part in (await phone.parts(upload["id"], api=1))["parts"]:
            assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    answer = await phone.complete(upload["id"], key=key, api=1)
    assert (answer.status_code, answer.json()["assetId"]) == (202, upload["assetId"])
    await asyncio.to_thread(row.apis[0].start)


@pytest.mark.soak
@pytest.mark.parametrize("step", ["validate", "previews"])
async def test_13_worker_killed(row: Bench, photo: Make, step: str) -> None:
    """Its work is done and its answer is lost."""
    phone, data = await row.phone(), photo()
    upload = await phone.send(data)
    await phone.complete(upload["id"])
    await row.work(stop_after=step)
    await row.work(attempt=2)
    assert (await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json()["state"] == "ready"


@pytest.mark.soak
async def test_13_worker_process_dies_again_and_again(row: Bench, photo: Make, env: dict[str, str]) -> None:
    """Real processes: two die with the work done and the answer unsent, the next one ends it; one asset comes of it."""
    phone, data, db = await row.phone(), photo(), row.services.db
    async with region_of(env, db, row.services.settings.region) as region:
        for kind in ("dispatcher", "record-worker"):
            region.start(kind)
        upload = await phone.send(data)
        await phone.complete(upload["id"])
        for _ in range(2):
            await region.dies(region.start("pixel-worker", "worked-not-answered"))
        region.start("pixel-worker")
        unfinished = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'published') AND not_before <= now()"
        async with asyncio.timeout(200):
            while await value(row, unfinished):
                await asyncio.sleep(0.2)
    assert (await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json()["state"] == "ready"
    assert await value(row, "SELECT count(*) FROM assets") == 1
    assert await value(row, "SELECT count(*) FROM events WHERE type = 'asset.created'") == 1


async def value(row: Bench, sql: str) -> Any:
    async with row.services.db.reading() as db:
        return await db.value(sql)


async def test_14_postgres_away(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(700_000)
    upload = await phone.create(data)
    path = f"/v1/tus/{upload['id']}"
    assert await append(phone, path, data[:300_000], 0) == 204
    phone.acknowledged[upload["id"]] = 300_000
    row.database.cut()
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
    assert await append(phone, path, data, 300_000) in (0, 503)
    await row.database.join()
    async with asyncio.timeout(120):
        while await append(phone, path, data, 300_000) != 204:
            await asyncio.sleep(0.2)


async def test_14_postgres_goes_away_within_an_append(row: Bench, photo: Make) -> None:
    """Just when the store has the second of three blocks."""
    phone, data = await row.phone(), photo(700_000)
    upload = await phone.create(data)
    path = f"/v1/tus/{upload['id']}"
    row.faults.inject(Kind.AFTER, "PutObject", skip=1, hook=row.database.cut)
    assert await append(phone, path, data, 0) in (0, 503)
    await row.database.join()
    phone.acknowledged[upload["id"]] = await back(phone, path)
    assert phone.acknowledged[upload["id"]] == 2 * BLOCK
    assert await append(phone, path, data, 2 * BLOCK) == 204


async def back(phone: Phone, path: str) -> int:
    """The offset, as soon as the API has its database again."""
    async with asyncio.timeout(120):
        while (answer := await phone.call("HEAD", path, **TUS)).status_code != 200:
            await asyncio.sleep(0.1)
    return int(answer.headers["upload-offset"])


async def test_14_postgres_goes_away_within_complete(row: Bench, photo: Make) -> None:
    """Just when the store has made the object."""
    phone, data, key = await row.phone(), photo(), uuid4().hex
    upload = await phone.send(data)
    row.faults.inject(Kind.AFTER, "CompleteMultipartUpload", hook=row.database.cut)
    answer = await phone.complete(upload["id"], key=key)
    assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
    assert await row.object_is_there(upload["assetId"])
    await row.database.join()
    async with asyncio.timeout(120):
        while (answer := await phone.complete(upload["id"], key=key)).status_code == 503:
            await asyncio.sleep(0.1)
    assert (answer.status_code, answer.json()["assetId"]) == (202, upload["assetId"])


INGEST = "SELECT state FROM jobs WHERE kind = 'asset.ingest'"


async def test_15_queue_away(row: Bench, photo: Make, stack_env: dict[str, str]) -> None:
    """Completion commits while the dispatcher has no queue; once there is one, what waited is published."""
    url = urlsplit(stack_env["TIRAGE_NATS_URL"])
    cable, services = Relay(url.hostname or "", url.port or 4222), row.services
    await cable.join()
    cable.cut()
    login = f"{url.netloc.rpartition('@')[0]}@" if "@" in url.netloc else ""
    queue = Queue(url._replace(netloc=f"{login}127.0.0.1:{cable.port}").geturl(), services.settings.region)
    stop = asyncio.Event()
    dispatching = asyncio.create_task(Dispatcher(services.db, queue, [LANES[KINDS[KIND].lane]]).run(stop))
    phone, data = await row.phone(), photo()
    upload = await phone.send(data)
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.json()["state"]) == (202, "verifying")
    assert await value(row, INGEST) == "queued"
    await cable.join()
    async with asyncio.timeout(60):
        while await value(row, INGEST) != "published":
            await asyncio.sleep(0.05)
    assert (await queue.js.stream_info(jobs_stream(queue.region))).state.messages == 1
    stop.set()
    await dispatching
    await queue.js.delete_stream(jobs_stream(queue.region))
    await queue.close()
    cable.cut()
    async with services.db.transaction() as tx:  # no worker is on that queue: the bench's does it
        await jobs.requeue_lost(tx, queue.region, KINDS[KIND].lane, services.clock.now())


@pytest.mark.soak
async def test_16_store_says_slow_down_to_a_part_and_to_an_append(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.create(data)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    row.faults.inject(Kind.SLOW_DOWN, "UploadPart")
    assert [await phone.put(part, data), await phone.put(part, data, acknowledge=upload["id"])] == [503, 200]
    assert (await phone.complete(upload["id"])).status_code == 202
    other, path = photo(), ""
    path = f"/v1/tus/{(await phone.create(other))['id']}"
    row.faults.inject(Kind.INTERNAL, "PutObject", times=3)
    assert await append(phone, path, other, 0) in (0, 503)
    assert await append(phone, path, other, await offset_of(phone, path)) == 204


@pytest.mark.soak
async def test_18_multipart_upload_aborted_by_another(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.send(data)
    phone.acknowledged.clear()  # storage itself has lost them
    store, bucket = row.services.store, row.buckets.originals
    for found in await store.multiparts(bucket, upload["assetId"]):
        await store.abort_multipart(bucket, found.key, found.upload or "")
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.json()["code"]) == (410, "upload-storage-lost")
    assert (await phone.read(upload["id"]))["arrivedBytes"] == 0
    for part in (await phone.parts(upload["id"]))["parts"]:
        assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    assert (await phone.complete(upload["id"])).status_code == 202


async def test_19_address_expired(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.create(data)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    row.faults.inject(Kind.EXPIRED, "UploadPart")
    assert await phone.put(part, data) == 403
    (part,) = (await phone.parts(upload["id"]))["parts"]
    assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    assert (await phone.complete(upload["id"])).status_code == 202


async def test_19_an_address_that_really_ends(row: Bench, photo: Make) -> None:
    """The store itself refuses it once its time is over, and takes to its end a PUT that began before."""
    phone, data = await row.phone(), photo()
    upload = await phone.create(data)
    await phone.parts(upload["id"])
    store, bucket, asset = row.services.store, row.buckets.originals, upload["assetId"]
    (begun,) = await store.multiparts(bucket, asset)
    url, headers = store.presign_part(
        bucket,
        begun.key,
        upload=begun.upload or "",
        number=1,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        expires_s=3,
    )
    is_over = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield data[:1000]
        await is_over.wait()
        yield data[1000:]

    async with httpx.AsyncClient(timeout=30) as client:
        late = asyncio.create_task(client.put(url, content=body(), headers=headers))
        await asyncio.sleep(4.1)  # signatures count whole seconds
        assert (await client.put(url, content=data, headers=headers)).status_code == 403
        assert (await phone.read(upload["id"]))["arrivedBytes"] == 0
        is_over.set()
        assert (await late).status_code == 200
    phone.acknowledged[upload["id"]] = len(data)
    assert (await phone.complete(upload["id"])).status_code == 202


@pytest.mark.soak
async def test_20_session_expired(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo(6 * MIB)
    upload, parts = await two_parts(phone, data)
    assert await phone.put(parts[0], data, acknowledge=upload["id"]) == 200
    async with row.services.db.transaction() as tx:
        over = "UPDATE uploads SET expires_at = now() - interval '1 hour' WHERE id = $1"
        await tx.execute(over, ids.decode("upload", upload["id"]))
        await row.services.uploads.expire_overdue(tx)
    assert (await phone.complete(upload["id"])).status_code == 410
    assert (await phone.call("POST", f"/v1/uploads/{upload['id']}/revive")).status_code == 200
    (rest,) = (await phone.parts(upload["id"]))["parts"]
    assert rest["number"] == 2
    assert await phone.put(rest, data, acknowledge=upload["id"]) == 200
    assert (await phone.complete(upload["id"])).status_code == 202


@pytest.mark.soak
@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=1), None], ids=["behind", "ahead", "1970"])
async def test_21_a_phone_whose_clock_is_wrong(row: Bench, photo: Make, off: timedelta | None) -> None:
    """It tells its time to the API and to storage; so does its library of the photo."""
    phone, data = await row.phone(), photo()
    told = datetime(1970, 1, 1, tzinfo=UTC) if off is None else datetime.now(UTC) + off
    phone.clock["Date"] = format_datetime(told, usegmt=True)
    upload = await phone.send(data, sourceId="L/1", sourceModifiedAt=told.isoformat())
    assert (await phone.complete(upload["id"])).status_code == 202
    path = f"/v1/tus/{(await phone.create(other := photo(300_000)))['id']}"
    assert await append(phone, path, other, 0, **phone.clock) == 204
    await row.work()
    assert (await phone.read(upload["id"]))["upload"]["state"] == "completed"


@pytest.mark.soak
async def test_22_signed_out_while_sending(row: Bench, photo: Make) -> None:
    """The token's time is over: what storage gets goes on, another is had, and the session is the same."""
    phone, other, data = await row.phone(), await row.phone(), photo()
    upload = await phone.create(data)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    phone.auth["Authorization"] = f"Bearer {over(phone)}"
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.json()["code"]) == (401, "token-expired")
    assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    assert (await other.complete(upload["id"])).status_code == 404
    fresh = await phone.call("POST", "/v1/tokens", {"refreshToken": phone.grant["refreshToken"]})
    assert fresh.status_code == 200, fresh.text
    phone.auth["Authorization"] = f"Bearer {fresh.json()['accessToken']}"
    answer = await phone.complete(upload["id"])
    assert (answer.status_code, answer.json()["assetId"]) == (202, upload["assetId"])


@pytest.mark.soak
async def test_22_logged_out_while_sending(row: Bench, photo: Make) -> None:
    """The app has no token any more and no way to another: what has an address of its own still arrives and is kept."""
    phone, data, other = await row.phone(), photo(), photo()
    upload, background = await phone.create(data), await phone.create(other)
    (part,) = (await phone.parts(upload["id"]))["parts"]
    path = (await phone.parts(background["id"]))["background"]["path"]
    first = phone.grant["refreshToken"]
    second = (await phone.call("POST", "/v1/tokens", {"refreshToken": first})).json()["refreshToken"]
    third = (await phone.call("POST", "/v1/tokens", {"refreshToken": second})).json()["refreshToken"]
    signed_in = dict(phone.auth)
    phone.auth.clear()
    for token, code in ((first, "refresh-reused"), (third, "refresh-refused")):  # a copy is used: the session ends
        refused = await phone.call("POST", "/v1/tokens", {"refreshToken": token})
        assert (refused.status_code, refused.json()["code"]) == (401, code)
    for refused in (await phone.complete(upload["id"]), await phone.call("GET", f"/v1/uploads/{upload['id']}")):
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    assert (await row.client(0).put(path, content=other)).status_code == 200
    row.unfinished.add(upload["id"])
    await row.work()
    phone.auth.update(signed_in)
    assert (await phone.read(upload["id"]))["arrivedBytes"] == len(data)
    assert (await phone.read(background["id"]))["upload"]["state"] == "completed"


def over(phone: Phone) -> str:
    """An access token of a phone that ended an hour ago, signed as the API signs."""
    return token_of(phone, ids.decode("device", phone.grant["deviceId"]), timedelta(hours=-1))


def token_of(phone: Phone, device: UUID, lifetime: timedelta) -> str:
    """An access token of a device of a phone's owner, signed as the API signs."""
    tokens = AccessTokens(load_api(phone.bench.apis[0].env).web.token_keys, SystemClock())
    return tokens.customer(OwnerId(ids.decode("owner", phone.owner)), DeviceId(device), lifetime)[0]


async def test_23_two_sessions_for_one_photo(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    same = [await phone.begin(data, clientReference="IMG/1", api=n) for n in (0, 1)]
    assert same[0]["id"] == same[1]["id"]
    uploads = [await phone.send(data), await phone.send(data)]
    for upload in uploads:
        assert (await phone.complete(upload["id"])).status_code == 202
    await row.work()
    states = [(await phone.call("GET", f"/v1/assets/{u['assetId']}")).json()["state"] for u in uploads]
    assert sorted(states) == ["duplicate", "ready"]


async def test_23_two_devices_at_once(row: Bench, photo: Make) -> None:
    """Both of one owner, each at another process, every step of both at the same moment."""
    phone, data = await row.phone(), photo()
    token = token_of(phone, uuid4(), timedelta(hours=1))
    other = Phone(row, {**phone.grant, "auth": {"Authorization": f"Bearer {token}"}})
    row.phones.append(other)
    tapped = await asyncio.gather(*(phone.begin(data, clientReference="IMG/1", api=n % 2) for n in range(4)))
    assert len({made["id"] for made in tapped}) == 1
    uploads = await asyncio.gather(phone.send(data, api=0), other.send(data, api=1))
    answers = await asyncio.gather(phone.complete(uploads[0]["id"], api=0), other.complete(uploads[1]["id"], api=1))
    assert {answer.status_code for answer in answers} == {202}
    await row.work()
    assets = [(await phone.call("GET", f"/v1/assets/{u['assetId']}")).json() for u in uploads]
    ready, duplicate = sorted(assets, key=lambda asset: asset["state"] != "ready")
    assert (ready["state"], duplicate["state"], duplicate["duplicateOf"]) == ("ready", "duplicate", ready["id"])


async def test_24_and_25_create_again(row: Bench, photo: Make) -> None:
    phone, key = await row.phone(), uuid4().hex
    body = {"bytes": 5, "contentType": "image/jpeg"}
    answers = [await phone.call("POST", "/v1/uploads", body, key=key, api=n) for n in (0, 1, 0)]
    assert {a.content for a in answers} == {answers[0].content}
    row.unfinished.add(answers[0].json()["id"])
    other = await phone.call("POST", "/v1/uploads", {**body, "bytes": 6}, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.soak
async def test_27_far_fewer_pixels_than_the_library_said(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.send(data, pixelWidth=6000, pixelHeight=4000)
    await phone.complete(upload["id"])
    await row.work()
    assert (await phone.read(upload["id"]))["upload"]["warning"] == "low-resolution-representation"


HOSTILE = [
    ("bad-truncated-22mp.jpg", "rejected"),
    ("bomb-280mp.jpg", "rejected"),
    ("bad-script.svg", "rejected"),
    ("crash-libheif.heic", "rejected"),
    ("odd-polyglot-jpeg-zip.jpg", "ready"),
    ("odd-jpeg-named.png", "ready"),
]


@pytest.mark.soak
async def test_28_hostile_files(row: Bench, photos: Path) -> None:
    phone = await row.phone()
    empty = await phone.call("POST", "/v1/uploads", {"bytes": 0, "contentType": "image/jpeg"})
    assert empty.status_code == 422
    uploads = []
    for name, _ in HOSTILE:
        upload = await phone.send((photos / name).read_bytes(), contentType="image/png")
        assert (await phone.complete(upload["id"])).status_code == 202
        uploads.append(upload)
    await row.work()
    found = [(await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json() for upload in uploads]
    assert [asset["state"] for asset in found] == [state for _, state in HOSTILE]
    assert all(asset["reason"] for asset in found if asset["state"] == "rejected")


async def test_30_half_open_connection(row: Bench, photo: Make) -> None:
    """The old connection is neither closed nor sending; a new request goes on at once, on another process. When the
    old one wakes up it is told so, and changes nothing."""
    phone, data = await row.phone(), photo(400_000)
    upload = await phone.create(data)
    path = f"/v1/tus/{upload['id']}"
    half = row.socket_to(0, head_of(phone, path, 0, len(data)), data[:300_000])
    async with asyncio.timeout(120):
        while await offset_of(phone, path, api=1) < 256 * 1024:
            await asyncio.sleep(0.05)
    assert await append(phone, path, data, await offset_of(phone, path, api=1), api=1) == 204
    await asyncio.to_thread(half.sendall, bytes(len(data) - 300_000))
    half.settimeout(60)
    assert (await asyncio.to_thread(half.recv, 1000)).startswith(b"HTTP/1.1 409")
    half.close()
    await row.work()
    assert (await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json()["state"] == "ready"


CHECKED = "Upload-Checksum: sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\r\n"
FACES = ("append", "checked", "background")


async def slow_head(phone: Phone, face: str, data: bytes) -> str:
    """The head of a request whose body of a new session's length is not going to come."""
    upload = await phone.begin(data, sha256=None)
    if face == "background":
        path = (await phone.parts(upload["id"]))["background"]["path"]
        return f"PUT {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {len(data)}\r\n\r\n"
    head = head_of(phone, f"/v1/tus/{upload['id']}", 0, len(data))
    return head if face == "append" else head.removesuffix("\r\n") + CHECKED + "\r\n"


@pytest.mark.soak
@pytest.mark.parametrize("face", FACES)
async def test_31_bodies_that_hardly_move(row: Bench, photo: Make, face: str) -> None:
    """One owner's idle bodies are bounded, the next is refused at once, and nobody else notices."""
    slow, other, data = await row.phone(), await row.phone(), photo()
    held = [row.socket_to(0, await slow_head(slow, face, data), b"x") for _ in range(OF_AN_OWNER)]
    async with asyncio.timeout(120):
        while True:  # until all of them have been read
            path = f"/v1/tus/{(await slow.begin(data, sha256=None))['id']}"
            if await append(slow, path, data[:10], 0) == 429:
                break
    assert (await sent_whole(other, photo())).status_code == 200
    for one in held:
        one.close()
    slow.sources.clear()


async def sent_whole(phone: Phone, data: bytes) -> httpx.Response:
    """A background PUT of a new session."""
    upload = await phone.create(data)
    path = (await phone.parts(upload["id"]))["background"]["path"]
    return await phone.bench.client(0).put(path, content=data)


@pytest.mark.soak
@pytest.mark.parametrize("face", FACES)
async def test_31_five_hundred_sessions_that_hardly_move(row: Bench, photo: Make, face: str) -> None:
    """A byte a second on each of 500 bodies of one address: some are refused at once and the others ended, what came of
    an append is kept; others send on every face as if nobody was there."""
    slow = [await row.phone() for _ in range(63)]
    other = await row.phone()
    whose = [phone for phone in slow for _ in range(OF_AN_OWNER)][:500]
    heads = [await slow_head(phone, face, photo()) for phone in whose]
    alone = await timed(other, photo)
    held = [row.socket_to(0, head, b"x", "127.0.0.2") for head in heads]
    dripping = asyncio.create_task(drip(held))
    beside = await timed(other, photo)
    assert (await sent_whole(other, photo())).status_code == 200
    path = f"/v1/tus/{(await other.create(data := photo()))['id']}"
    assert await append(other, path, data, 0) == 204
    print(f"\nms of a whole upload, alone {alone}, beside 500 slow bodies {beside}")
    statuses = await dripping
    assert set(statuses) == {b"HTTP/1.1 503"}
    assert len(statuses) == 500
    async with row.services.db.reading() as db:
        begun = [one["id"] for one in await db.fetch("SELECT id FROM uploads WHERE appended")]
    kept = [await row.services.store.list_keys(row.buckets.staging, ids.encode("upload", one)) for one in begun]
    assert sum(map(bool, kept)) >= (OF_AN_ADDRESS if face == "append" else 0)
    for phone in slow:
        phone.sources.clear()


async def timed(phone: Phone, photo: Make) -> list[int]:
    """Milliseconds of ten uploads, each from its creation to its completion, fastest first."""
    times = []
    for _ in range(10):
        began = time.monotonic()
        upload = await phone.send(photo())
        assert (await phone.complete(upload["id"])).status_code == 202
        times.append(int((time.monotonic() - began) * 1000))
    return sorted(times)


async def drip(held: list[socket.socket]) -> list[bytes]:
    """Send a byte a second on each until the server ends them all; how each answer began."""
    loop, left, answers = asyncio.get_running_loop(), dict.fromkeys(held), []
    for one in held:
        one.setblocking(False)
    async with asyncio.timeout(180):
        while left:
            for one in list(left):
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(one, b"x")
                with contextlib.suppress(BlockingIOError):
                    answers.append(one.recv(1000)[:12])
                    one.close()
                    del left[one]
            await asyncio.sleep(1)
    return answers


PROXY_LIMIT = 100 * 1000 * 1000


async def test_32_no_request_needs_more_than_a_proxy_lets_through(row: Bench, photo: Make) -> None:
    """The largest photo there may be, on any network; and one whose session is advised so is sent so."""
    for rate in (None, 1, 10_000, 48_000, 1_000_000, 10**9):
        held = Held(size=200 * MIB, part_bytes=part_size(rate))
        assert advise(held, rate).part_bytes < PROXY_LIMIT
    phone, data = await row.phone(), photo()
    largest = await phone.begin(data, bytes=200 * MIB, sha256=None, bytesPerSecond=10**9)
    told = await phone.parts(largest["id"])
    assert max(part["bytes"] for part in told["parts"]) == largest["next"]["partBytes"] < PROXY_LIMIT
    upload = await phone.send(data)
    assert (await phone.complete(upload["id"])).status_code == 202


async def test_38_old_and_new_process_together(row: Bench, photo: Make) -> None:
    phone, data = await row.phone(), photo()
    upload = await phone.create(data, api=0)
    (part,) = (await phone.parts(upload["id"], api=1))["parts"]
    assert await phone.put(part, data, acknowledge=upload["id"]) == 200
    answers = [await phone.complete(upload["id"], key="one-key-for-both", api=n) for n in (1, 0)]
    assert answers[0].content == answers[1].content
    other = photo(300_000)
    path = f"/v1/tus/{(await phone.create(other, api=1))['id']}"
    assert await append(phone, path, other[:100_000], 0, api=1) == 204
    assert await append(phone, path, other, 100_000, api=0) == 204


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The code as it was before the last migration, which a rolling deploy runs on the new schema."""
    root = Path(__file__).parents[3]
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("needs the history")

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=True).stdout

    last = git("rev-list", "-1", "HEAD", "--", "app/migrations").decode().strip()
    tree = tmp_path / "older"
    tree.mkdir()
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{last}^"))) as archive:
        archive.extractall(tree, filter="data")
    return tree


@pytest.mark.soak
async def test_38_the_build_before_the_last_migration(row: Bench, photo: Make, older: Path, tmp_path: Path) -> None:
    phone = await row.phone()
    async with row.beside(older, tmp_path / "older.log") as old:
        for begun, ended in ((old, 0), (0, old)):
            upload = await phone.create(data := photo(), api=begun)
            (part,) = (await phone.parts(upload["id"], api=ended))["parts"]
            assert await phone.put(part, data, acknowledge=upload["id"]) == 200
            key = uuid4().hex
            answers = [await phone.complete(upload["id"], key=key, api=n) for n in (ended, begun)]
            assert answers[0].status_code == 202
            assert answers[0].content == answers[1].content
            path = f"/v1/tus/{(await phone.create(other := photo(300_000), api=begun))['id']}"
            assert await append(phone, path, other[:100_000], 0, api=begun) == 204
            assert await append(phone, path, other, 100_000, api=ended) == 204


@pytest.mark.soak
async def test_31_slow_bodies_are_ended(row: Bench, photo: Make) -> None:
    phone = await row.phone()
    path = f"/v1/tus/{(await phone.begin(photo()))['id']}"
    slow = row.socket_to(0, head_of(phone, path, 0, 50_000), b"x")
    slow.settimeout(60)
    began = time.monotonic()
    answer = await asyncio.to_thread(slow.recv, 1000)
    assert answer.startswith(b"HTTP/1.1 503"), time.monotonic() - began
    assert await offset_of(phone, path) == 1  # what came is kept
    phone.acknowledged[path.rsplit("/", 1)[1]] = 1
    slow.close()

"""The first line, whole: real photos over HTTP through every process, and kill -9 of each of them on the way.

Stacks are started by the command an operator uses; a photo must come out of two of them with the same bytes.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import nats
import pytest
from botocore.config import Config
from nats.js.errors import NotFoundError

from base import ids
from tests.line.running import TIRAGE, Running
from tirage.scene import scene

DEMO = [TIRAGE, "demo", "--json", "--photos-only"]
PHOTO = "large-03-iphone-xs-p3-rotated.jpg"
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("line")]


class Phone:
    """An app that tries again with the same key until it has an answer."""

    def __init__(self, api: str) -> None:
        self._client = httpx.AsyncClient(base_url=api, timeout=10)
        self.auth: dict[str, str] = {}

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {**self.auth, "idempotency-key": uuid4().hex}
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self._client.request(method, path, json=body, headers=headers)
                    if answer.status_code < 500 and answer.json().get("code") != "idempotency-in-flight":
                        return answer
                await asyncio.sleep(0.1)

    async def begin(self) -> None:
        grant = (await self.call("POST", "/v1/devices", {"platform": "ios"})).json()
        self.auth = {"authorization": f"Bearer {grant['accessToken']}"}

    async def send(self, data: bytes, content_type: str = "image/jpeg") -> dict[str, Any]:
        if not self.auth:
            await self.begin()
        body = {"bytes": len(data), "contentType": content_type, "sha256": hashlib.sha256(data).hexdigest()}
        upload: dict[str, Any] = (await self.call("POST", "/v1/uploads", body)).json()
        part = (await self.call("POST", f"/v1/uploads/{upload['id']}/parts")).json()["parts"][0]
        headers = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        async with httpx.AsyncClient(timeout=30) as storage:
            assert (await storage.put(part["url"], content=data, headers=headers)).status_code == 200
        return upload

    async def complete(self, upload: dict[str, Any]) -> None:
        answer = await self.call("POST", f"/v1/uploads/{upload['id']}/complete")
        assert answer.status_code == 202, answer.text
        assert answer.json()["assetId"] == upload["assetId"]

    async def settled(self, asset: str, wanted: tuple[str, ...] = ("ready", "rejected", "duplicate")) -> dict[str, Any]:
        async with asyncio.timeout(120):
            while True:
                found: dict[str, Any] = (await self.call("GET", f"/v1/assets/{asset}")).json()
                if found["state"] in wanted:
                    return found
                await asyncio.sleep(0.05)

    async def addresses(self, asset: str, sides: list[int], format_: str = "jpg") -> list[str]:
        body = {"assetIds": [asset], "sides": sides, "format": format_}
        minted = (await self.call("POST", "/v1/images", body)).json()
        return [variant["url"] for variant in minted["images"][0]["variants"]]

    async def erase(self, asset: str) -> None:
        answer = await self._client.delete(f"/v1/assets/{asset}?permanently=true", headers=self.auth)
        assert answer.status_code == 204, answer.text


async def fetch(url: str) -> bytes:
    """From the edge, trying again while a part behind it is being started."""
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=30) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.get(url)
                if answer.status_code == 200:
                    return answer.content
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.1)


async def digests(stack: Running, asset: str, phone: Phone) -> dict[str, str]:
    """SHA-256 of every rendition, as fetched from the edge; they are those that were recorded."""
    found = {}
    for url in await phone.addresses(asset, [200, 400, 800, 1600]):
        recipe = url.split("/")[-2]
        found[recipe] = hashlib.sha256(await fetch(url)).hexdigest()
    sql = "SELECT recipe, sha256 FROM renditions WHERE asset_id = $1"
    assert dict(await stack.query(sql, ids.decode("asset", asset))) == found
    return found


@pytest.fixture(scope="module")
def photo(photos: Path) -> bytes:
    return (photos / PHOTO).read_bytes()


_good: dict[str, str] = {}


@pytest.fixture
async def good(stack: Running, photo: bytes) -> dict[str, str]:
    """The rendition digests of the photo when nothing goes wrong."""
    if not _good:
        phone = Phone(stack.address("api"))
        upload = await phone.send(photo)
        await phone.complete(upload)
        await phone.settled(upload["assetId"])
        _good.update(await digests(stack, upload["assetId"], phone))
    return _good


async def test_same_photo_has_the_same_bytes_in_two_stacks(
    stack: Running, other: Running, photos: Path, good: dict[str, str]
) -> None:
    for name in (PHOTO, "heic-iphone11pro-p3-rotated.heic", "large-02-pixel-path.jpg"):
        both = []
        for one in (stack, other):
            phone = Phone(one.address("api"))
            kind = "image/heic" if name.endswith("heic") else "image/jpeg"
            upload = await phone.send((photos / name).read_bytes(), kind)
            await phone.complete(upload)
            asset = await phone.settled(upload["assetId"])
            assert asset["state"] == "ready", asset
            assert (asset["width"], asset["height"]) == ((4048, 3036) if "pixel" in name else (3024, 4032))
            both.append(await digests(one, upload["assetId"], phone))
        assert both[0] == both[1]
        assert len(both[0]) == 4
        if name == PHOTO:
            assert both[0] == good


async def test_first_previews_are_at_the_edge_before_anybody_asks(stack: Running, photo: bytes) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    await phone.settled(upload["assetId"])
    urls = await phone.addresses(upload["assetId"], [200, 400, 800])
    told = [httpx.get(url).headers["cache-status"] for url in urls]
    assert told[:2] == ["tirage-edge; hit"] * 2
    assert told[2].startswith("tirage-edge; fwd=uri-miss")


async def test_an_erased_photo_is_gone_from_the_edge(stack: Running, photo: bytes) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    await phone.settled(upload["assetId"])
    (url,) = await phone.addresses(upload["assetId"], [400])
    assert httpx.get(url).status_code == 200
    await phone.erase(upload["assetId"])
    for _ in range(200):
        if httpx.get(url).status_code != 200:
            break
        await asyncio.sleep(0.1)
    assert (httpx.get(url).status_code, httpx.get(url).text) == (410, "erased\n")


@pytest.mark.parametrize("moment", ["decoding", "stored"])
async def test_pixel_worker_killed(stack: Running, photo: bytes, good: dict[str, str], moment: str) -> None:
    """During the decode; and after the ancestor is stored, before its result is out."""
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    if moment == "decoding":
        await asyncio.sleep(0.08)
    else:
        async with asyncio.timeout(20):
            while not stack.has_ancestor(upload["assetId"]):
                await asyncio.sleep(0)
    old = stack.kill("pixel-worker")
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    await stack.back("pixel-worker", old)
    assert await digests(stack, upload["assetId"], phone) == good


async def test_decode_child_killed(stack: Running, photo: bytes, good: dict[str, str]) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    worker = stack.pid("pixel-worker")
    await phone.complete(upload)
    await asyncio.sleep(0.08)
    children = Path(f"/proc/{worker}/task").glob("*/children")
    for child in {pid for listed in children for pid in listed.read_text().split()}:
        os.kill(int(child), signal.SIGKILL)
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    assert stack.pid("pixel-worker") == worker
    assert await digests(stack, upload["assetId"], phone) == good


async def test_children_die_with_their_worker(stack: Running) -> None:
    worker = stack.pid("pixel-worker")
    children = {pid for listed in Path(f"/proc/{worker}/task").glob("*/children") for pid in listed.read_text().split()}
    assert children
    old = stack.kill("pixel-worker")
    async with asyncio.timeout(5):
        while any(Path(f"/proc/{child}/exe").exists() for child in children):
            await asyncio.sleep(0.05)
    await stack.back("pixel-worker", old)


async def test_api_killed_during_complete(stack: Running, photo: bytes, good: dict[str, str]) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    completing = [asyncio.create_task(phone.complete(upload)) for _ in range(8)]
    await asyncio.sleep(0.01)
    old = stack.kill("api")
    await asyncio.gather(*completing)
    await stack.back("api", old)
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    assert await digests(stack, upload["assetId"], phone) == good
    rows = await stack.query("SELECT count(*) FROM assets a JOIN uploads u ON u.asset_id = a.id")
    made = await stack.query("SELECT count(*) FROM assets")
    assert rows[0][0] == made[0][0]


async def test_edge_and_origin_killed_during_a_miss(stack: Running, photo: bytes) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    await phone.settled(upload["assetId"])
    (url,) = await phone.addresses(upload["assetId"], [1600], "avif")
    fetching = asyncio.create_task(fetch(url))
    await asyncio.sleep(0.1)
    old = stack.kill("origin")
    first = await fetching
    await stack.back("origin", old)
    fetching = [asyncio.create_task(fetch(url)) for _ in range(10)]
    old = stack.kill("edge")
    assert {hashlib.sha256(data).digest() for data in await asyncio.gather(*fetching)} == {
        hashlib.sha256(first).digest()
    }
    await stack.back("edge", old)


async def test_record_worker_and_dispatcher_killed(stack: Running, photo: bytes, good: dict[str, str]) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    killed = {"dispatcher": stack.kill("dispatcher")}
    await phone.complete(upload)
    killed["record-worker"] = stack.kill("record-worker")
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    for part, old in killed.items():
        await stack.back(part, old)
    assert await digests(stack, upload["assetId"], phone) == good


@pytest.mark.parametrize("server", ["nats", "postgres", "s3"])
async def test_server_killed(stack: Running, photo: bytes, good: dict[str, str], server: str) -> None:
    """kill -9 right after completion; Postgres away is 503 with Retry-After, and the work is done afterwards."""
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    old = stack.kill(server)
    if server == "postgres":
        async with httpx.AsyncClient(base_url=stack.address("api")) as client:
            answer = await client.get("/v1/assets", headers=phone.auth)
            if answer.status_code != 200:  # the supervisor may have been quicker
                assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    await stack.back(server, old)
    assert await digests(stack, upload["assetId"], phone) == good


async def test_queue_loses_its_data_under_load(stack: Running, photos: Path) -> None:
    """JetStream is killed and its folder deleted while photos are on their way.

    The API commits while it is away; everything converges from the rows.
    """
    phone, names = Phone(stack.address("api")), ["orient-land-1.jpg", "orient-land-6.jpg", "neardup-koala-l.jpg"]
    uploads = [await phone.send((photos / name).read_bytes()) for name in names]
    await phone.complete(uploads[0])
    old = stack.kill("nats")
    shutil.rmtree(stack.folder / "data" / "nats")
    await asyncio.gather(*(phone.complete(upload) for upload in uploads[1:]))
    for upload in uploads:
        assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    await stack.back("nats", old)


HOSTILE = {
    "bomb-header-65500.jpg": {"truncated", "too-many-pixels"},
    "bomb-header-200000.tif": {"too-many-pixels", "truncated"},
    "bad-truncated-22mp.jpg": {"truncated"},
    "half": {"truncated"},
    "text": {"not-an-image"},
    "bad-truncated.heic": {"truncated", "corrupt"},
    "crash-libheif.heic": {"truncated", "corrupt", "not-an-image", "unsupported-coding"},
}


async def test_hostile_files_are_rejected_with_a_reason(stack: Running, photos: Path, photo: bytes) -> None:
    made = {"half": photo[: len(photo) // 2], "text": b"this is no photo\n" * 100}
    worker = stack.pid("pixel-worker")
    phone = Phone(stack.address("api"))
    sent = {}
    for name in HOSTILE:
        upload = await phone.send(made[name] if name in made else (photos / name).read_bytes())
        await phone.complete(upload)
        sent[name] = upload["assetId"]
    for name, reasons in HOSTILE.items():
        asset = await phone.settled(sent[name])
        assert (asset["state"], asset["reason"] in reasons) == ("rejected", True), (name, asset)
    assert stack.pid("pixel-worker") == worker


async def test_nothing_private_leaves(stack: Running, photos: Path) -> None:
    """GPS in, none out: no rendition has EXIF or XMP, no answer has a place."""
    data = (photos / "large-02-pixel-path.jpg").read_bytes()
    assert b"Exif" in data[:100]
    phone = Phone(stack.address("api"))
    upload = await phone.send(data)
    await phone.complete(upload)
    asset = await phone.settled(upload["assetId"])
    assert "gps" not in json.dumps(asset).lower()
    for format_ in ("jpg", "webp", "avif"):
        for url in await phone.addresses(upload["assetId"], [400], format_):
            body = await fetch(url)
            assert not any(word in body for word in (b"Exif", b"http://ns.adobe.com", b"GPS", b"Google", b"Pixel"))


async def test_demo_goes_the_whole_way(stack: Running, photos: Path) -> None:
    run = await asyncio.to_thread(
        subprocess.run,
        [*DEMO, "--data", stack.folder / "data", "--photo", photos / "orient-land-6.jpg"],
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (told,) = json.loads(run.stdout)["photos"]
    assert told["state"] == "ready"
    assert [image["side"] for image in told["images"]] == [200, 400, 800, 1600]
    assert all(image["width"] > image["height"] for image in told["images"])


async def test_one_trace_shows_request_event_job_child_and_result(stack: Running, photos: Path) -> None:
    data = ["--json", "--data", stack.folder / "data"]
    demo = [*DEMO, "--data", stack.folder / "data", "--photo", photos / "orient-land-3.jpg"]
    run = await asyncio.to_thread(subprocess.run, demo, capture_output=True, check=True)
    (told,) = json.loads(run.stdout)["photos"]
    (trace,) = [step["trace"] for step in told["steps"] if "complete" in step["step"]]
    async with asyncio.timeout(20):
        while True:  # the spans of the last result are written a moment after the photo is ready
            shown = await asyncio.to_thread(subprocess.run, [TIRAGE, "trace", trace, *data], capture_output=True)
            assert shown.returncode == 0, shown.stderr
            lines = json.loads(shown.stdout)
            if sum(line["name"] == "result asset.ingest" for line in lines) >= 3:
                break
    seen = {(line["source"], line["name"]): line["depth"] for line in lines}
    wanted = [
        ("api", "POST /v1/uploads/{upload_id}/complete"),
        ("(event)", "asset.created"),
        ("(job)", "asset.ingest (preview)"),
        ("pixel-worker", "job asset.ingest"),
        ("pixel-worker", "child ingest"),
        ("pixel-worker", "step validate"),
        ("pixel-worker", "step first_previews"),
        ("pixel-worker", "step previews"),
        ("record-worker", "result asset.ingest"),
        ("(event)", "asset.ready"),
    ]
    assert [one for one in wanted if one not in seen] == []
    assert seen[wanted[0]] < seen[wanted[3]] < min(seen[one] for one in wanted[4:9])


async def test_event_stream_tells_the_story_in_order(stack: Running, photo: bytes) -> None:
    phone = Phone(stack.address("api"))
    upload = await phone.send(photo)
    await phone.complete(upload)
    await phone.settled(upload["assetId"])
    wanted = [
        "upload.opened",
        "upload.verifying",
        "asset.created",
        "asset.validated",
        "upload.completed",
        "asset.preview_ready",
        "asset.ready",
    ]
    async with asyncio.timeout(20):
        while True:
            page = (await phone.call("GET", "/v1/events")).json()
            if len(page["events"]) >= len(wanted):
                break
    assert [event["type"] for event in page["events"]] == wanted


GUIDE = Path(__file__).parents[2] / "docs" / "api-guide.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guide is written in curl calls, and curl is absent")
def test_the_app_developers_guide_works_as_written(stack: Running, tmp_path: Path) -> None:
    """Every shell block of the guide, in order, as one script."""
    script = "".join(re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), flags=re.S))
    (tmp_path / "photo.jpg").write_bytes(scene())
    env = {"PATH": os.environ["PATH"], "API": stack.address("api")}
    run = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    told = run.stdout.splitlines()
    assert (told[0], {kept["what"] for kept in json.loads(told[-1])}) == ("verifying", LEFT)
    assert (tmp_path / "preview.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_the_guide_names_only_codes_that_exist() -> None:
    rules = GUIDE.read_text().partition("## Trying again")[2].partition("## Events")[0]
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", rules))
    known = set(re.findall(r"^\| \d+ \| `([a-z-]+)`", (GUIDE.parent / "errors.md").read_text(), flags=re.M))
    assert len(named) > 10
    assert named <= known


LEFT = {"events", "receipt", "ids-sizes-and-states-of-photos", "ids-at-edges", "finished-work"}
MARKS = ("MARKED-CAMERA-8d1f", "MARKED-REFERENCE-8d1f", "MARKED-KEY-8d1f")


def with_camera(photo: bytes, camera: str) -> bytes:
    """The photo with a camera's name in its EXIF (TIFF tag 0x0110)."""
    text = camera.encode() + b"\0"
    tiff = struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, 0x0110, 2, len(text), 26, 0) + text
    segment = b"Exif\0\0" + tiff
    return photo[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + photo[2:]


class Search:
    """Everywhere something of a person could be: tables, buckets, queues, logs and spans."""

    def __init__(self, stack: Running) -> None:
        self._stack, self._secrets = stack, stack._secrets

    async def all(self, words: list[str]) -> dict[str, set[str]]:
        """By place, which words are there."""
        found = {
            "tables": await self._tables(words),
            "buckets": self._buckets(words),
            "queues": await self._queues(words),
        }
        for folder in ("logs", "traces"):
            files = [path.read_bytes() for path in (self._stack.folder / "data" / folder).rglob("*") if path.is_file()]
            assert files
            found[folder] = _in(files, words)
        return found

    async def _tables(self, words: list[str]) -> set[str]:
        sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        tables = [row["relname"] for row in await self._stack.query(sql)]
        every = " UNION ALL ".join(f'SELECT t::text AS whole FROM "{table}" t' for table in tables)
        return _in([row["whole"].encode() for row in await self._stack.query(every)], words)

    def _buckets(self, words: list[str]) -> set[str]:
        client = boto3.client(
            "s3",
            endpoint_url=self._stack.address("s3"),
            region_name="us-east-1",
            aws_access_key_id=self._secrets["s3_record_access"],
            aws_secret_access_key=self._secrets["s3_record_secret"],
            config=Config(s3={"addressing_style": "path"}),
        )
        held = []
        for use in ("originals", "ancestors", "derivatives", "staging", "masters"):
            bucket = f"{use}-home"
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    held.append(entry["Key"].encode())
                    with contextlib.suppress(client.exceptions.NoSuchKey):  # a sweep took it meanwhile
                        held.append(client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
        return _in(held, words)

    async def _queues(self, words: list[str]) -> set[str]:
        password, address = self._secrets["nats_password"], self._stack.address("nats")
        connection = await nats.connect(f"nats://app:{password}@{address.removeprefix('nats://')}")
        held = []
        js = connection.jetstream()
        for stream in await js.streams_info():
            for number in range(stream.state.first_seq, stream.state.last_seq + 1):
                with contextlib.suppress(NotFoundError):
                    held.append((await js.get_msg(stream.config.name, number)).data or b"")
        await connection.close()
        return _in(held, words)


def _in(held: list[bytes], words: list[str]) -> set[str]:
    return {word for word in words if any(word.encode() in one for one in held)}


async def test_after_an_erasure_nothing_of_the_person_is_found(stack: Running) -> None:
    phone, search = Phone(stack.address("api")), Search(stack)
    await phone.begin()
    photo = with_camera(scene(), MARKS[0])
    digest = hashlib.sha256(photo).hexdigest()
    body = {"bytes": len(photo), "contentType": "image/jpeg", "sha256": digest, "clientReference": MARKS[1]}
    async with httpx.AsyncClient(base_url=stack.address("api")) as client:
        headers = {**phone.auth, "idempotency-key": MARKS[2]}
        upload = (await client.post("/v1/uploads", json=body, headers=headers)).json()
    part = (await phone.call("POST", f"/v1/uploads/{upload['id']}/parts")).json()["parts"][0]
    async with httpx.AsyncClient(timeout=30) as storage:
        sent = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        assert (await storage.put(part["url"], content=photo, headers=sent)).status_code == 200
    await phone.complete(upload)
    assert (await phone.settled(upload["assetId"]))["state"] == "ready"
    words = [*MARKS, digest, phone.auth["authorization"].removeprefix("Bearer ")]
    before = await search.all(words)
    assert before["tables"] >= {*MARKS[1:], digest}
    assert MARKS[0] in before["buckets"]
    assert before["queues"] | before["logs"] | before["traces"] == set()

    receipt = (await phone.call("DELETE", "/v1/me")).json()
    assert {kept["what"] for kept in receipt["kept"]} == LEFT
    async with asyncio.timeout(60):
        while search._buckets([upload["assetId"], MARKS[0]]):
            await asyncio.sleep(0.5)
    after = await search.all(words)
    assert {place: words for place, words in after.items() if words} == {}

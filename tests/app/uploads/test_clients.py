"""Programs that other people wrote, against the API as a process: tuspy, curl, and botocore's own HTTP client."""

import asyncio
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from tusclient.client import TusClient

from base import keys
from tests.app.uploads.conftest import Bench, Make, Phone

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("scorecard")]


async def arrived(bench: Bench, phone: Phone, upload: str, data: bytes) -> None:
    """The bytes became an asset that can be bought with, byte for byte what was sent."""
    phone.sources[upload] = data
    told = (await phone.read(upload))["upload"]
    assert told["state"] == "verifying"
    await bench.work()
    asset = (await phone.call("GET", f"/v1/assets/{told['assetId']}")).json()
    assert asset["state"] == "ready"
    original = keys.original(told["assetId"])
    assert await bench.services.store.digest(bench.buckets.originals, original) == hashlib.sha256(data).hexdigest()
    await bench.check()


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checksum"])
async def test_tuspy(bench: Bench, photo: Make, tmp_path: Path, checked: bool) -> None:
    """The first uploader gives up half way, as an app that is killed; another goes on from where storage is."""
    phone, data = await bench.phone(), photo(600_000)
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    client = TusClient(f"{bench.apis[0].base}/v1/tus", headers=dict(phone.auth))
    kind: dict[str, Any] = {"chunk_size": 200_000, "upload_checksum": checked}

    def half() -> str:
        uploader = client.uploader(str(file), metadata={"filetype": "image/jpeg"}, **kind)
        uploader.upload(stop_at=400_000)
        assert uploader.offset == 400_000
        return str(uploader.url)

    def rest(url: str) -> None:
        other = TusClient(f"{bench.apis[1].base}/v1/tus", headers=dict(phone.auth))
        moved = url.replace(bench.apis[0].base, bench.apis[1].base)
        other.uploader(str(file), url=moved, **kind).upload()

    url = await asyncio.to_thread(half)
    await asyncio.to_thread(rest, url)
    await arrived(bench, phone, url.rsplit("/", 1)[1], data)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
@pytest.mark.parametrize("way", ["part", "background"])
async def test_curl(bench: Bench, photo: Make, tmp_path: Path, way: str) -> None:
    phone, data = await bench.phone(), photo(300_000)
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    upload = await phone.create(data)
    told = await phone.parts(upload["id"])
    part = told["parts"][0]
    url = part["url"] if way == "part" else bench.apis[0].base + told["background"]["path"]
    headers = [f"{n}: {v}" for n, v in part["headers"].items() if n != "Content-Length"] if way == "part" else []
    command = ["curl", "-sS", "-o", str(tmp_path / "answer"), "-w", "%{http_code}", "--limit-rate", "2M", "-T"]
    command += [str(file), *(word for header in headers for word in ("-H", header)), url]
    for _ in range(2):  # both may be sent twice
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert run.stdout == "200", (run.stderr, (tmp_path / "answer").read_text())
    if way == "part":
        assert (await phone.complete(upload["id"])).status_code == 202
    await arrived(bench, phone, upload["id"], data)


async def test_botocore_sends_a_part(bench: Bench, photo: Make) -> None:
    phone, data = await bench.phone(), photo(300_000)
    upload = await phone.create(data)
    part = (await phone.parts(upload["id"]))["parts"][0]
    request = AWSRequest("PUT", part["url"], headers=part["headers"], data=data).prepare()
    answer = await asyncio.to_thread(URLLib3Session(timeout=20).send, request)
    assert answer.status_code == 200
    assert (await phone.complete(upload["id"])).status_code == 202
    await arrived(bench, phone, upload["id"], data)

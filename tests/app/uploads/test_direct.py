"""A real 12 MP photo on the direct path: few calls, no byte of it through the API, the original read once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from s3transfer.utils import ReadFileChunk

from imagecore.jail import Jail
from tasks.pixel.ingest import Ingestor
from tests.app.uploads.conftest import Bench, Make
from tests.app.uploads.test_clients import arrived

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("scorecard")]

PHOTO = "large-01-mi-a3-dinner.jpg"  # 4000 x 3000


class Meter:
    """Counts what a phone's client sends to the API and gets from it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.calls, self.sent, self.came = 0, 0, 0
        client.event_hooks = {"request": [self._request], "response": [self._response]}

    async def _request(self, request: httpx.Request) -> None:
        self.calls += 1
        self.sent += len(request.content)

    async def _response(self, response: httpx.Response) -> None:
        self.came += len(await response.aread())


class Reads:
    """The worker's store, which counts what is read of originals."""

    def __init__(self, store: Any, originals: str) -> None:
        self._store, self._originals, self.count = store, originals, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, bucket: str, key: str) -> bytes:
        self.count += bucket == self._originals
        data: bytes = await self._store.get(bucket, key)
        return data


async def test_calls_bytes_and_reads_of_a_12_mp_photo(bench: Bench, photos: Path) -> None:
    phone, data = await bench.phone(), (photos / PHOTO).read_bytes()
    seen, client = len(bench.faults.seen), bench.client(0)
    meter = Meter(client)
    upload = await phone.send(data)
    assert (await phone.complete(upload["id"])).status_code == 202
    reads = Reads(bench.services.store, bench.buckets.originals)
    with Jail.open(slots=1) as jail:
        bench.use(Ingestor(reads, bench.buckets, jail))  # type: ignore[arg-type]
        await bench.work()
    wanted = {"assetIds": [upload["assetId"]], "sides": [200, 400]}
    assert (await phone.call("POST", "/v1/images", wanted)).status_code == 200
    client.event_hooks = {}
    assert meter.calls <= 4
    assert meter.sent + meter.came < 10_000 < len(data)
    storage = bench.faults.seen[seen:]  # the phone's and the API's requests; workers have a way of their own
    assert storage.count("UploadPart") == 1
    assert "GetObject" not in storage  # the API reads none of it either
    assert reads.count == 1
    await bench.check()


async def test_s3transfer_sends_parts_as_boto3_does(bench: Bench, photo: Make, tmp_path: Path) -> None:
    """Its file chunks as bodies, on botocore's HTTP client, to the addresses we signed."""
    phone, data = await bench.phone(), photo(6 * 1024 * 1024)
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    upload = await phone.create(data, bytesPerSecond=400_000)
    parts = (await phone.parts(upload["id"]))["parts"]
    assert [part["number"] for part in parts] == [1, 2]

    def put(part: dict[str, Any]) -> int:
        with ReadFileChunk.from_filename(str(file), part["firstByte"], part["bytes"]) as chunk:
            request = AWSRequest("PUT", part["url"], headers=part["headers"], data=chunk).prepare()
            return int(URLLib3Session(timeout=30).send(request).status_code)

    assert await asyncio.gather(*(asyncio.to_thread(put, part) for part in parts)) == [200, 200]
    assert (await phone.complete(upload["id"])).status_code == 202
    await arrived(bench, phone, upload["id"], data)

"""A real 12 MP photo on the direct path: few calls, no byte of it through the API, its original read once for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from s3transfer.utils import ReadFileChunk

from base import ids, ingest, keys
from base.objects import Buckets
from devstack.s3_faults import S3Faults
from imagecore import analyse, measuring
from imagecore.jail import Jail
from tasks.pixel.analysis import Analyst
from tasks.pixel.ingest import Ingestor
from tests.app.uploads.conftest import Bench, Make
from tests.app.uploads.test_clients import arrived
from tests.conftest import store_of

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


@contextlib.asynccontextmanager
async def counted(bench: Bench, env: dict[str, str]) -> AsyncIterator[S3Faults]:
    """The bench with pixel workers of their own that ingest and look, behind a proxy that sees all they ask storage."""
    async with S3Faults(env["TIRAGE_S3_ENDPOINT"]) as proxy:
        store = store_of({**env, "TIRAGE_S3_ENDPOINT": proxy.url}, "PIXEL")
        with Jail.open(slots=1) as jail, Jail.open(analyse.LIMITS, preload=("analyse",)) as models:
            bench.use(Ingestor(store, bench.buckets, jail))
            bench.pixels[ingest.ANALYSE] = Analyst(store, bench.buckets, lambda: models).kind
            yield proxy
        store.close()


def reads(proxy: S3Faults, buckets: Buckets, asset: str) -> int:
    """How often the original of an asset was read by whoever is behind this proxy."""
    path = f"/{buckets.originals}/{keys.original(asset)}"
    return proxy.seen.count(("GetObject", path))


async def test_calls_bytes_and_reads_of_a_12_mp_photo(bench: Bench, env: dict[str, str], photos: Path) -> None:
    """From the first call to `asset.analysed` the phone, two API processes and the pixel workers read it once."""
    phone, data = await bench.phone(), (photos / PHOTO).read_bytes()
    seen, client = len(bench.faults.seen), bench.client(0)
    meter = Meter(client)
    async with counted(bench, env) as workers:
        upload = await phone.send(data)
        asset = upload["assetId"]
        assert (await phone.complete(upload["id"])).status_code == 202
        await bench.work()
        wanted = {"assetIds": [asset], "sides": [200, 400]}
        assert (await phone.call("POST", "/v1/images", wanted)).status_code == 200
        client.event_hooks = {}
        assert meter.calls <= 4
        assert meter.sent + meter.came < 10_000 < len(data)
        storage = [operation for operation, _ in bench.faults.seen[seen:]]  # the phone's and the API's
        assert storage.count("UploadPart") == 1
        assert "GetObject" not in storage  # the API reads none of it either
        assert await happened(bench, asset, "asset.analysed") == 1
        assert reads(workers, bench.buckets, asset) == 1
        quality = await kept(bench, asset)
        assert measuring.decode(quality) == measuring.quality_of(data)
        await bench.check()
        assert (await phone.call("POST", f"/v1/assets/{asset}/processing")).status_code == 202
        await bench.work()
        assert reads(workers, bench.buckets, asset) == 2  # processed again, it is read again: once
        assert await kept(bench, asset) == quality


async def happened(bench: Bench, asset: str, event: str) -> int:
    async with bench.services.db.transaction() as tx:
        told = "SELECT count(*) FROM events WHERE aggregate_id = $1 AND type = $2"
        return int(await tx.value(told, ids.decode("asset", asset), event))


async def kept(bench: Bench, asset: str) -> bytes:
    """The quality that ingest stored; taken away, so that whoever asks again sees whether it comes back."""
    store, bucket = bench.services.store, bench.buckets.ancestors
    (key,) = [key for key in await store.list_keys(bucket, asset) if "quality" in key]
    data = await store.get(bucket, key)
    await store.delete(bucket, key)
    return data


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

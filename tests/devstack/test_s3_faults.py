"""The fault proxy passes requests on with their signatures, and misbehaves as it is told."""

import asyncio
import io
from collections.abc import AsyncIterator

import httpx
import pytest

from base.errors import ServiceUnavailable
from base.objects import Buckets, ObjectAbsent, ObjectStore
from devstack.s3_faults import Kind, S3Faults
from tests.conftest import store_of

DATA = bytes(range(256)) * 400


@pytest.fixture
async def proxy(stack_env: dict[str, str]) -> AsyncIterator[S3Faults]:
    async with S3Faults(stack_env["TIRAGE_S3_ENDPOINT"], strict=True) as made:
        yield made


@pytest.fixture
async def store(stack_env: dict[str, str], proxy: S3Faults) -> AsyncIterator[ObjectStore]:
    made = store_of({**stack_env, "TIRAGE_S3_ENDPOINT": proxy.url}, "RECORD")
    yield made
    proxy.clear()
    await asyncio.to_thread(made.close)


async def test_requests_pass_with_their_signatures(store: ObjectStore, buckets: Buckets, proxy: S3Faults) -> None:
    await store.put(buckets.staging, "faults-plain/a", DATA, "image/jpeg")
    assert await store.get(buckets.staging, "faults-plain/a") == DATA
    assert await store.list_keys(buckets.staging, "faults-plain/") == ["faults-plain/a"]
    await store.delete(buckets.staging, "faults-plain/a")
    with pytest.raises(ObjectAbsent):
        await store.head(buckets.staging, "faults-plain/a")
    asked = ["PutObject", "GetObject", "ListObjectsV2", "DeleteObject", "HeadObject"]
    paths = ["faults-plain/a", "faults-plain/a", "", "faults-plain/a", "faults-plain/a"]
    assert proxy.seen == [
        (what, f"/{buckets.staging}/{key}".rstrip("/")) for what, key in zip(asked, paths, strict=True)
    ]


async def test_a_second_complete_is_refused(store: ObjectStore, buckets: Buckets) -> None:
    key = "faults/multi"
    upload = await store.begin_multipart(buckets.staging, key, "image/jpeg", {"a": "b"})
    part = await store.put_part(buckets.staging, key, upload, 1, io.BytesIO(DATA))
    assert [(p.number, p.size) for p in await store.parts(buckets.staging, key, upload)] == [(1, len(DATA))]
    await store.end_multipart(buckets.staging, key, upload, [part])
    with pytest.raises(ObjectAbsent):
        await store.end_multipart(buckets.staging, key, upload, [part])
    assert (await store.head(buckets.staging, key)).metadata == {"a": "b"}
    await store.delete(buckets.staging, key)


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.EXPIRED, 403), (Kind.FORBIDDEN, 403), (Kind.SLOW_DOWN, 503), (Kind.OK_WITH_ERROR, 200)]
)
async def test_it_answers_in_the_stores_place(
    store: ObjectStore, buckets: Buckets, proxy: S3Faults, kind: Kind, status: int
) -> None:
    url, headers = store.presign_new(
        buckets.staging,
        f"faults/{kind}",
        size=len(DATA),
        content_type="image/jpeg",
        sha256=None,
        metadata={},
        expires_s=60,
    )
    proxy.inject(kind, "PutObject")
    async with httpx.AsyncClient() as client:
        answer = await client.put(url, content=DATA, headers=headers)
    assert (answer.status_code, "<Error>" in answer.text) == (status, True)
    with pytest.raises(ObjectAbsent):
        await store.head(buckets.staging, f"faults/{kind}")


@pytest.mark.parametrize(("kind", "done"), [(Kind.CUT, False), (Kind.LOST, True)])
async def test_connections_end(store: ObjectStore, buckets: Buckets, proxy: S3Faults, kind: Kind, done: bool) -> None:
    fault = proxy.inject(kind, "PutObject", times=3, after=1000)
    with pytest.raises(ServiceUnavailable):
        await store.put(buckets.staging, f"faults/{kind}", DATA, "image/jpeg")
    assert fault.times == 0
    assert (await store.list_keys(buckets.staging, f"faults/{kind}") != []) is done

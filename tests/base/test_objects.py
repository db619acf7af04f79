"""The object store port: bounded in time and in threads, and it says what happened in our own words."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from base.errors import ServiceUnavailable
from base.objects import Buckets, ObjectAbsent, ObjectExists, ObjectStore, ObjectStoreSettings
from base.settings import Secret


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """A port that accepts and never answers."""
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    for writer in held:
        writer.close()
    server.close()


def settings(port: int, **changes: int) -> ObjectStoreSettings:
    made = ObjectStoreSettings(
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key="a",
        secret_key=Secret("s"),
        threads=2,
        connect_timeout_s=1,
        read_timeout_s=1,
    )
    return msgspec.structs.replace(made, **changes)


async def test_a_store_that_never_answers_is_unavailable(silent: int) -> None:
    store = ObjectStore(settings(silent))
    begun = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        await store.get("bucket", "key")
    assert time.monotonic() - begun < 30  # three tries of a second, with pauses; not the minutes of the default
    store.close()


async def test_nobody_there_is_unavailable() -> None:
    store = ObjectStore(settings(1))
    with pytest.raises(ServiceUnavailable):
        await store.head("bucket", "key")
    store.close()


async def test_threads_are_bounded(silent: int) -> None:
    before = threading.active_count()
    store = ObjectStore(settings(silent, threads=3))
    calls = [asyncio.create_task(store.get("bucket", f"key{n}")) for n in range(12)]
    await asyncio.sleep(0.3)
    assert threading.active_count() - before <= 3
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.to_thread(store.close)


async def test_absent_and_taken_are_told_apart(record_store: ObjectStore, buckets: Buckets) -> None:
    with pytest.raises(ObjectAbsent):
        await record_store.get(buckets.derivatives, "base-test/none")
    await record_store.put_new(buckets.derivatives, "base-test/one", b"1", "image/jpeg")
    with pytest.raises(ObjectExists):
        await record_store.put_new(buckets.derivatives, "base-test/one", b"2", "image/jpeg")
    assert await record_store.get(buckets.derivatives, "base-test/one") == b"1"
    await record_store.delete(buckets.derivatives, "base-test/one")
    await record_store.delete(buckets.derivatives, "base-test/one")

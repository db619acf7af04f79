"""What a process holds of bytes on their way: never more than a budget, whoever sends, and never a whole file.

Bytes are counted, not time: pieces that were asked for, bytes held at most, and what Python allocated at its peak.
"""

import asyncio
import base64
import contextlib
import hashlib
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest

from app.services import Services
from app.uploads.errors import UploadPastEnd
from app.uploads.plan import most_blocks
from app.uploads.planning import Assemble
from app.uploads.receive import Checksum, Receiver
from base import ids, keys
from base.ids import OwnerId, UploadId
from base.objects import Buckets, ObjectStore
from tests.app.conftest import Guest
from tests.app.uploads.test_routes import BYTES, complete, create
from tests.app.uploads.test_sessions import LARGE, MIB, addresses, put
from tests.app.uploads.test_tus import append

PIECE = 64 * 1024


class Sending:
    """A body; it counts the pieces that were asked for, and can be held up after some."""

    def __init__(self, data: bytes, stop_after: int | None = None) -> None:
        self._data, self._stop_after = data, stop_after
        self.asked = 0
        self.goes_on, self.stopped = asyncio.Event(), asyncio.Event()

    async def body(self) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(self._data), PIECE):
            if self.asked == self._stop_after:
                self.stopped.set()
                await self.goes_on.wait()
            self.asked += 1
            yield self._data[at : at + PIECE]


def sha1(data: bytes) -> Checksum:
    return Checksum("sha1", hashlib.sha1(data, usedforsecurity=False).digest())


async def session(client: httpx.AsyncClient, guest: Guest, data: bytes) -> tuple[OwnerId, UploadId, dict[str, Any]]:
    grant = await guest()
    made = await create(client, grant["auth"], bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    owner, upload = ids.decode("owner", grant["ownerId"]), ids.decode("upload", made["id"])
    return OwnerId(owner), UploadId(upload), grant["auth"]


@contextlib.contextmanager
def allocated_at_most(limit: int) -> Iterator[None]:
    """Python allocates no more than this at its peak."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before <= limit


@pytest.mark.parametrize("checksum", [sha1(b""), None], ids=["checked", "unchecked"])
@pytest.mark.parametrize(("length", "asked"), [(8 * MIB, 0), (None, 1)], ids=["told", "untold"])
async def test_a_body_for_a_small_session_is_refused_unread(
    client: httpx.AsyncClient,
    guest: Guest,
    receiver: Receiver,
    checksum: Checksum | None,
    length: int | None,
    asked: int,
) -> None:
    owner, upload, _ = await session(client, guest, b"0123456789")
    sending = Sending(bytes(8 * MIB))
    with pytest.raises(UploadPastEnd):
        await receiver.append(owner, upload, 0, sending.body(), checksum, length)
    assert sending.asked == asked


async def test_the_api_refuses_by_the_length_it_is_told(client: httpx.AsyncClient, guest: Guest) -> None:
    auth = (await guest())["auth"]
    made = await create(client, auth)
    digest = f"sha1 {base64.b64encode(hashlib.sha1(BYTES).digest()).decode()}"
    answer = await append(client, auth, f"/v1/tus/{made['id']}", 0, BYTES + b"x", Upload_Checksum=digest)
    assert (answer.status_code, answer.json()["detail"]) == (413, f"at most {len(BYTES)} bytes")


async def test_a_checked_append_is_not_held(client: httpx.AsyncClient, guest: Guest, receiver: Receiver) -> None:
    data = LARGE[: 8 * MIB]
    owner, upload, _ = await session(client, guest, data)
    with allocated_at_most(4 * MIB):
        _, at = await receiver.append(owner, upload, 0, Sending(data).body(), sha1(data))
    assert at == len(data)


async def test_a_session_comes_in_so_many_pieces_and_not_in_more(
    client: httpx.AsyncClient, guest: Guest, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    made = await create(client, auth)
    path = f"/v1/tus/{made['id']}"
    assert (await append(client, auth, path, 0, BYTES[:1])).status_code == 204
    most = most_blocks(len(BYTES))
    blocks = [(f"{made['id']}/{at:012d}", BYTES[at : at + 1]) for at in range(1, most)]
    await asyncio.gather(*(record_store.put(buckets.staging, key, one, "image/jpeg") for key, one in blocks))
    answer = await append(client, auth, path, most, BYTES[most:])
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-in-pieces")
    (part,) = (await addresses(client, auth, made["id"]))["parts"]  # the other way is open
    assert await put(part, BYTES) == 200
    assert (await complete(client, auth, made["id"])).status_code == 202


async def test_an_assembly_holds_a_block_and_no_part(
    client: httpx.AsyncClient,
    guest: Guest,
    services: Services,
    receiver: Receiver,
    record_store: ObjectStore,
    buckets: Buckets,
) -> None:
    owner, upload, _ = await session(client, guest, LARGE)
    done, _ = await receiver.append(owner, upload, 0, Sending(LARGE).body(), None)

    async def finish(_: object) -> None:
        return None

    with allocated_at_most(4 * MIB):  # a part has 8
        await services.sweeper.assemble(Assemble(upload_id=upload), finish)
    key = keys.original(ids.encode("asset", done.asset_id))
    assert await record_store.digest(buckets.originals, key) == hashlib.sha256(LARGE).hexdigest()


async def test_a_background_put_passes_through(client: httpx.AsyncClient, guest: Guest, receiver: Receiver) -> None:
    _, upload, _ = await session(client, guest, LARGE)
    with allocated_at_most(2 * MIB):
        done = await receiver.content(upload, len(LARGE), Sending(LARGE).body())
    assert done.received_sha256 == hashlib.sha256(LARGE).hexdigest()

"""A photo, or its person, erased while its bytes are put together and looked at: nothing of it stays, on either face.

Only the jobs that the erasure causes remove anything here: no sweeper runs, except for rows of earlier releases.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.uploads.domain import GRACE
from app.uploads.planning import Assemble
from app.uploads.service import Uploads
from app.uploads.sweep import Sweeper
from base import ids
from base.errors import ServiceUnavailable
from base.objects import ObjectStore, Site, Sites
from tests.app.uploads.conftest import Bench, Make, Phone, sweeper_of

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("scorecard")]
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}


async def sent(phone: Phone, data: bytes, face: str) -> dict[str, Any]:
    """A session whose bytes are all there, and are about to be looked at."""
    if face == "parts":
        upload = await phone.send(data)
        assert (await phone.complete(upload["id"])).status_code == 202
        return upload
    upload = await phone.create(data)
    headers = {**phone.auth, **TUS}
    answer = await phone.bench.client(0).patch(f"/v1/tus/{upload['id']}", content=data, headers=headers)
    assert answer.status_code == 204, answer.text
    return upload


async def record(bench: Bench, kind: str) -> None:
    """Do the waiting record jobs of a kind, and no other."""
    async with bench.services.db.transaction() as tx:
        rows = await jobs.list_jobs(tx, jobs.JobState.QUEUED, kind, 100)
    for row in rows:
        made = Attempt(row)
        await HANDLERS[kind](bench.services, made)
        async with bench.services.db.transaction() as tx:
            await made.finish(tx)


async def erase_photo(phone: Phone, upload: dict[str, Any]) -> None:
    answer = await phone.call("DELETE", f"/v1/assets/{upload['assetId']}?permanently=true")
    assert answer.status_code == 204, answer.text


async def erase_person(phone: Phone, upload: dict[str, Any]) -> None:
    answer = await phone.call("DELETE", "/v1/me")
    assert answer.status_code == 200, answer.text


async def state_of(bench: Bench, upload: dict[str, Any]) -> str:
    async with bench.services.db.reading() as db:
        return str(await db.value("SELECT state FROM uploads WHERE id = $1", ids.decode("upload", upload["id"])))


async def left(bench: Bench, upload: dict[str, Any]) -> list[str]:
    """Everything in storage that is the session's or its asset's."""
    store, kept = bench.services.store, bench.buckets
    found = await store.list_keys(kept.staging, upload["id"])
    for bucket in (kept.originals, kept.ancestors, kept.derivatives):
        found += await store.list_keys(bucket, upload["assetId"])
    return found + [one.key for one in await store.multiparts(kept.originals, upload["assetId"])]


async def at_once(bench: Bench) -> None:
    """Nobody has worked yet."""


async def assembled(bench: Bench) -> None:
    await record(bench, "upload.assemble")


async def looked_at(bench: Bench) -> None:
    """A worker has made the ancestor and dies before its answer is applied."""
    await bench.work(stop_after="validate")


async def known(bench: Bench) -> None:
    """It is known to be a photo; the worker dies while it makes previews."""
    await bench.work(stop_after="first_previews")


Moment = Callable[[Bench], Awaitable[None]]
Erase = Callable[[Phone, dict[str, Any]], Awaitable[None]]


CASES = [("tus", at_once, "aborted", erase_photo), ("parts", looked_at, "aborted", erase_person)]
MORE_CASES = [
    (face, moment, ended, erase)
    for face in ("tus", "parts")
    for moment, ended in ((at_once, "aborted"), (assembled, "aborted"), (looked_at, "aborted"), (known, "completed"))
    for erase in (erase_photo, erase_person)
]


@pytest.mark.parametrize(
    ("face", "moment", "ended", "erase"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.soak) for case in MORE_CASES if case not in CASES)],
)
async def test_nothing_stays(bench: Bench, photo: Make, face: str, moment: Moment, ended: str, erase: Erase) -> None:
    phone = await bench.phone()
    upload = await sent(phone, photo(300_000), face)
    await moment(bench)
    await erase(phone, upload)
    assert await state_of(bench, upload) == ended  # in the transaction of the erasure: nothing has worked since
    await bench.work(attempt=2)
    assert await left(bench, upload) == []
    assert await state_of(bench, upload) == ended


class Interrupted:
    """A store at which something happens beside an end of a multipart upload: just before it, or just after."""

    def __init__(self, store: ObjectStore, happens: Callable[[], Awaitable[None]], *, after: bool) -> None:
        self._store, self._happens, self._after = store, happens, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def end_multipart(self, *told: Any, **how: Any) -> None:
        if not self._after:
            await self._happens()
        await self._store.end_multipart(*told, **how)
        if self._after:
            await self._happens()


def interrupted(bench: Bench, store: Any) -> Sweeper:
    """A record worker on this store."""
    own = bench.services
    sites = Sites(own.settings.region, Site(store, own.settings.buckets))
    uploads = Uploads(
        own.db, own.spine, own.persons, sites, own.assets, own.clock, own.settings.policy, own.settings.uploads
    )
    return Sweeper(own.db, own.spine, sites, own.assets, uploads, own.clock)


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.soak), True], ids=["before", "after"])
async def test_erased_while_a_record_worker_puts_it_together(bench: Bench, photo: Make, after: bool) -> None:
    """The removal runs to its end beside the assembly; what the assembly still does leaves nothing behind."""
    phone = await bench.phone()
    upload = await sent(phone, photo(300_000), "tus")

    async def happens() -> None:
        await erase_photo(phone, upload)
        await record(bench, "asset.clean")

    async def finish(_: object) -> None:
        return None

    worker = interrupted(bench, Interrupted(bench.services.store, happens, after=after))
    wanted = Assemble(upload_id=ids.decode("upload", upload["id"]))
    try:
        await worker.assemble(wanted, finish)
    except ServiceUnavailable:
        assert not after  # its multipart upload is gone: tried again, it finds a session that has ended
        await worker.assemble(wanted, finish)
    async with bench.services.db.reading() as db:
        assert await db.value("SELECT count(*) FROM jobs WHERE kind = 'asset.ingest'") == 0
    await bench.work()
    assert await left(bench, upload) == []
    assert await state_of(bench, upload) == "aborted"


@pytest.mark.parametrize("face", ["tus", pytest.param("parts", marks=pytest.mark.soak)])
async def test_a_row_that_an_earlier_release_left_stuck_is_ended(bench: Bench, photo: Make, face: str) -> None:
    """Its photo was erased, its session was not; its bytes were put together and looked at all the same."""
    phone, other = await bench.phone(), await bench.phone()
    data, kept = photo(300_000), photo()
    upload, running = await sent(phone, data, face), await sent(other, kept, face)
    await assembled(bench)
    async with bench.services.db.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")  # as no trigger of today would let it
        asset = ids.decode("asset", upload["assetId"])
        await tx.execute("UPDATE assets SET state = 'erased' WHERE id = $1", asset)
        await tx.execute("UPDATE jobs SET state = 'done'")
    assert await left(bench, upload) != []
    await sweeper_of(bench.services, set()).sweep()
    assert (await state_of(bench, upload), await state_of(bench, running)) == ("aborted", "verifying")
    await bench.work()
    assert await left(bench, upload) == []
    assert await left(bench, running) != []


async def test_what_the_device_said_of_a_completed_photo_goes_with_it(bench: Bench, photo: Make) -> None:
    phone, data = await bench.phone(), photo()
    name = "filetype aW1hZ2UvanBlZw==,filename QW5uYS5qcGc="
    made = {**phone.auth, "Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": name}
    upload = (await bench.client(0).post("/v1/tus", headers=made)).headers["location"].rsplit("/", 1)[1]
    sent = await bench.client(0).patch(f"/v1/tus/{upload}", content=data, headers={**phone.auth, **TUS})
    assert sent.status_code == 204, sent.text
    await bench.work()
    said = (
        "SELECT asset_id, state, client_reference, sha256, received_sha256, source_id, source_modified_at,"
        " pixel_width, pixel_height, metadata FROM uploads WHERE id = $1"
    )
    async with bench.services.db.transaction() as tx:
        declared = (
            "UPDATE uploads SET client_reference = 'Anna', sha256 = received_sha256, source_id = 'IMG/1',"
            " source_modified_at = now(), pixel_width = 1, pixel_height = 1 WHERE id = $1"
        )
        await tx.execute(declared, ids.decode("upload", upload))
        asset, state, *before = await tx.one(said, ids.decode("upload", upload))
    assert (state, None in before) == ("completed", False)
    await erase_photo(phone, {"assetId": ids.encode("asset", asset)})
    async with bench.services.db.reading() as db:
        _, state, *after = await db.one(said, ids.decode("upload", upload))
    assert (state, set(after)) == ("completed", {None})
    await bench.work()


async def test_erased_after_it_was_revived(bench: Bench, photo: Make) -> None:
    """The removal that the expiry planned for the end of the grace time does not stand for the erasure's."""
    phone, data, store = await bench.phone(), photo(), bench.services.store
    upload = await phone.create(data)
    await expired(bench, upload)
    assert (await phone.call("POST", f"/v1/uploads/{upload['id']}/revive")).status_code == 200
    for part in (await phone.parts(upload["id"]))["parts"]:
        assert await phone.put(part, data) == 200
    assert (await phone.complete(upload["id"])).status_code == 202
    await bench.work()
    await erase_photo(phone, upload)
    await bench.work()
    for bucket in (bench.buckets.originals, bench.buckets.ancestors, bench.buckets.derivatives):
        assert await store.list_keys(bucket, upload["assetId"]) == []
    await bench.check()


async def test_what_expires_twice_is_removed_after_the_second_time(bench: Bench, photo: Make) -> None:
    phone, data, store = await bench.phone(), photo(), bench.services.store
    upload = await phone.begin(data)
    await expired(bench, upload)
    assert (await phone.call("POST", f"/v1/uploads/{upload['id']}/revive")).status_code == 200
    (part,) = (await phone.parts(upload["id"]))["parts"]
    assert await phone.put(part, data) == 200
    bench.clock.added = timedelta(days=1)
    await expired(bench, upload, days=1)
    bench.clock.added = GRACE
    await bench.work()  # what the first expiry planned: it may still be revived
    assert len(await store.multiparts(bench.buckets.originals, upload["assetId"])) == 1
    bench.clock.added += timedelta(days=1)
    await bench.work()
    assert await store.multiparts(bench.buckets.originals, upload["assetId"]) == []


async def expired(bench: Bench, upload: dict[str, Any], days: int = 0) -> None:
    """It expired an hour ago, or so many days from now."""
    async with bench.services.db.transaction() as tx:
        await tx.execute(
            "UPDATE uploads SET expires_at = now() + make_interval(days => $2) - interval '1 hour' WHERE id = $1",
            ids.decode("upload", upload["id"]),
            days,
        )
        assert await bench.services.uploads.expire_overdue(tx) == 1

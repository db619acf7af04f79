"""What is acknowledged is the photo: nothing that arrives or is lost after the completion changes that."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.kernel import alerts, jobs
from app.services import Services
from app.uploads import gathering, store
from app.uploads.domain import Upload, UploadState
from app.uploads.planning import Assemble
from app.uploads.receive import Receiver
from app.uploads.service import Uploads
from app.uploads.sweep import Swept
from app.uploads.traffic import Traffic
from base import ids
from base.errors import DomainError, ServiceUnavailable
from tests.app.uploads.conftest import ANY_AGE, Bench, Make, Phone, sweeper_of
from tests.app.uploads.test_sessions import MIB

pytestmark = pytest.mark.xdist_group("scorecard")
APPEND = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


async def append(phone: Phone, upload: str, data: Any, offset: int = 0, **headers: str) -> httpx.Response:
    told = {**phone.auth, **APPEND, "Upload-Offset": str(offset), **headers}
    return await phone.bench.client(0).patch(f"/v1/tus/{upload}", content=data, headers=told)


async def session(services: Services, upload: str) -> Upload:
    async with services.db.reading() as db:
        found = await store.get_any(db, ids.decode("upload", upload))
    assert found is not None
    return found


async def complete_by_tus(phone: Phone, upload: str, data: bytes) -> None:
    answer = await append(phone, upload, data)
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(len(data)))
    phone.acknowledged[upload] = len(data)


async def is_ready(phone: Phone, upload: dict[str, Any]) -> bool:
    return bool((await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json()["state"] == "ready")


async def becomes_the_photo(phone: Phone, upload: dict[str, Any], data: bytes) -> None:
    """All of it was acknowledged; what is due is done, and every invariant holds."""
    phone.acknowledged[upload["id"]] = len(data)
    await phone.bench.work()
    assert await is_ready(phone, upload)
    await phone.bench.check()


def waiting(monkeypatch: pytest.MonkeyPatch, uploads: Uploads) -> tuple[asyncio.Event, asyncio.Event]:
    """Who makes a part of blocks sets the first event and waits for the second."""
    began, on, make = asyncio.Event(), asyncio.Event(), uploads.storage._make_part

    async def slow(*args: Any) -> Any:
        began.set()
        await on.wait()
        return await make(*args)

    monkeypatch.setattr(uploads.storage, "_make_part", slow)
    return began, on


class TestTheNote:
    async def test_a_later_note_is_not_taken_back(self, bench: Bench, photo: Make) -> None:
        phone = await bench.phone()
        upload = await session(bench.services, (await phone.begin(photo()))["id"])
        async with bench.services.db.transaction() as tx:
            await store.journal(tx, upload)
        read = (await session(bench.services, ids.encode("upload", upload.id))).completing_at
        assert read is not None
        async with bench.services.db.transaction() as tx:
            await store.journal(tx, upload, by_blocks=True)
        async with bench.services.db.transaction() as tx:
            await store.reopen(tx, upload.id, read)
        after = await session(bench.services, ids.encode("upload", upload.id))
        assert after.completing_at is not None
        assert after.completing_at > read
        await bench.check()

    async def test_taken_back_between_arrival_and_completion(self, bench: Bench, photo: Make) -> None:
        """Whatever becomes of the note: blocks that are the file are put together, never looked at as an object."""
        phone, data = await bench.phone(), photo(400_000)
        made = await phone.create(data)
        upload = await session(bench.services, made["id"])
        async with bench.services.db.transaction() as tx:
            await store.mark_appended(tx, upload.id)
        assert await bench.services.uploads.storage.append(upload, 0, data)
        await bench.services.uploads.arrived(upload.owner_id, upload.id)
        noted = (await session(bench.services, made["id"])).completing_at
        assert noted is not None
        async with bench.services.db.transaction() as tx:
            await store.reopen(tx, upload.id, noted)
        async with bench.services.db.transaction() as tx:
            await bench.services.uploads.complete(tx, upload.owner_id, upload.id)
        phone.acknowledged[made["id"]] = len(data)
        await bench.work()
        assert await is_ready(phone, made)
        await bench.check()


class TestLateBytes:
    async def test_a_part_for_an_address_given_before(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        (part,) = (await phone.parts(upload["id"]))["parts"]
        await complete_by_tus(phone, upload["id"], data)
        assert await phone.put(part, os.urandom(len(data))) == 404
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    @pytest.mark.parametrize("sent", [False, True], ids=["not sent yet", "sent before"])
    async def test_a_part_after_an_object_whose_answer_was_lost(self, bench: Bench, photo: Make, sent: bool) -> None:
        """The background PUT's process died when storage had the file; the phone sends it again."""
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        told = await phone.parts(upload["id"])
        if sent:
            assert await phone.put(told["parts"][0], data) == 200
        url, headers = bench.services.uploads.storage.address_whole(await session(bench.services, upload["id"]))
        async with httpx.AsyncClient() as storage:
            assert (await storage.put(url, content=data, headers=headers)).status_code == 200
        assert (await bench.client(0).put(told["background"]["path"], content=data)).status_code == 200
        phone.acknowledged[upload["id"]] = len(data)
        assert await phone.put(told["parts"][0], os.urandom(len(data))) == 404
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_a_part_that_was_there_before_the_blocks(self, bench: Bench, photo: Make) -> None:
        """Some bytes came as a part, the rest as blocks: they are one object before the last byte is acknowledged."""
        phone, data = await bench.phone(), photo(8 * MIB + 300_000)
        upload = await phone.create(data, sha256=None)
        first = (await phone.parts(upload["id"], 1))["parts"][0]
        assert await phone.put(first, data) == 200
        assert (await append(phone, upload["id"], data[8 * MIB :], 8 * MIB)).status_code == 204
        phone.acknowledged[upload["id"]] = len(data)
        assert await phone.put(first, os.urandom(len(data))) == 404
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_addresses_asked_for_while_it_was_completed(self, bench: Bench, photo: Make) -> None:
        """Whoever read the session while it was open gets no multipart upload for it any more."""
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        before = await session(bench.services, upload["id"])
        await complete_by_tus(phone, upload["id"], data)
        with pytest.raises(DomainError) as refused:
            await bench.services.uploads.with_storage(before)
        assert refused.value.code == "upload-not-open"
        assert (await session(bench.services, upload["id"])).storage_id is None
        await bench.work()
        await bench.check()

    @pytest.mark.parametrize("late", [False, True], ids=["before it is assembled", "after"])
    async def test_a_background_put_that_was_streaming(self, bench: Bench, photo: Make, late: bool) -> None:
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        path = (await phone.parts(upload["id"]))["background"]["path"]
        on, first = asyncio.Event(), asyncio.Event()

        async def other() -> AsyncIterator[bytes]:
            yield os.urandom(200_000)
            first.set()
            await on.wait()
            yield os.urandom(len(data) - 200_000)

        streaming = asyncio.create_task(
            bench.client(0).put(path, content=other(), headers={"Content-Length": str(len(data))})
        )
        await first.wait()
        await complete_by_tus(phone, upload["id"], data)
        if late:
            await bench.work()
        on.set()
        assert (await streaming).status_code == (409 if late else 503)
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    @pytest.mark.parametrize("same", [False, True], ids=["other bytes", "the same"])
    async def test_the_last_append_after_a_part(self, bench: Bench, photo: Make, same: bool) -> None:
        """A part came in its place meanwhile and is the photo: acknowledged is only what the photo has."""
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        (part,) = (await phone.parts(upload["id"]))["parts"]
        sent = data if same else data[:200_000] + os.urandom(len(data) - 200_000)
        body = Hanging(sent[:299_000], sent[299_000:])
        appending = asyncio.create_task(append(phone, upload["id"], body, **{"Content-Length": body.length}))
        await body.first.wait()
        while not (await session(bench.services, upload["id"])).appended:
            await asyncio.sleep(0.02)
        assert await phone.put(part, data) == 200
        assert (await phone.complete(upload["id"])).status_code == 202
        phone.acknowledged[upload["id"]] = len(data)
        body.on.set()
        answer = await appending
        assert answer.status_code == (204 if same else 409)
        assert same or answer.json()["code"] == "upload-offset-mismatch"
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_the_last_append_after_another(self, bench: Bench, photo: Make) -> None:
        """Its last block found its place free again: the photo was made of another's blocks, and those were removed."""
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        body = Hanging(data[:299_000], os.urandom(len(data) - 299_000))
        hanging = asyncio.create_task(append(phone, upload["id"], body, **{"Content-Length": body.length}))
        await body.first.wait()
        while not await bench.services.uploads.storage.blocks(await session(bench.services, upload["id"])):
            await asyncio.sleep(0.02)
        assert (await append(phone, upload["id"], data[256 * 1024 :], 256 * 1024)).status_code == 204
        phone.acknowledged[upload["id"]] = len(data)
        await bench.work()
        body.on.set()
        answer = await hanging
        assert (answer.status_code, answer.json()["code"]) == (409, "upload-offset-mismatch")
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_a_block_over_others(self, bench: Bench, photo: Make) -> None:
        """A writer that hung keeps a block where none begins: it is none of those that were counted."""
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        await complete_by_tus(phone, upload["id"], data)
        writer = await session(bench.services, upload["id"])
        assert await bench.services.uploads.storage.append(writer, 1000, bytes(1000))
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()


class TestMixed:
    """Some bytes came as parts, others as blocks: several who put them together are as one."""

    async def mixed(self, phone: Phone, data: bytes) -> dict[str, Any]:
        """The first part as a part, the second as a block that nobody has counted yet."""
        upload = await phone.create(data, sha256=None)
        (first,) = (await phone.parts(upload["id"], 1))["parts"]
        assert await phone.put(first, data) == 200
        bench, made = phone.bench, await session(phone.bench.services, upload["id"])
        async with bench.services.db.transaction() as tx:
            await store.mark_appended(tx, made.id)
        assert await bench.services.uploads.storage.append(made, made.part_bytes, data[made.part_bytes :])
        return upload

    async def completed(self, phone: Phone, upload: dict[str, Any], api: int) -> int:
        """As a phone does: asked again while storage does not say."""
        while (answer := await phone.complete(upload["id"], api=api)).status_code == 503:
            await asyncio.sleep(0.05)
        return answer.status_code

    async def test_completed_by_several_at_once(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(8 * MIB + 300_000)
        upload = await self.mixed(phone, data)
        assert await asyncio.gather(*(self.completed(phone, upload, n % 2) for n in range(6))) == [202] * 6
        await becomes_the_photo(phone, upload, data)

    async def set_turn(self, bench: Bench, upload: dict[str, Any], end: str) -> None:
        async with bench.services.db.transaction() as tx:
            sql = "UPDATE uploads SET gathered_until = now() + $2::text::interval WHERE id = $1"
            await tx.execute(sql, ids.decode("upload", upload["id"]), end)

    async def has_turn(self, bench: Bench, upload: dict[str, Any]) -> bool:
        async with bench.services.db.reading() as db:
            sql = "SELECT gathered_until > now() FROM uploads WHERE id = $1"
            return bool(await db.value(sql, ids.decode("upload", upload["id"])))

    async def test_no_part_is_made_twice(self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        phone, data, uploads = await bench.phone(), photo(8 * MIB + 300_000), bench.services.uploads
        upload = await self.mixed(phone, data)
        made, make = list[int](), uploads.storage._make_part

        async def counted(*args: Any) -> Any:
            made.append(args[-1])
            return await make(*args)

        monkeypatch.setattr(uploads.storage, "_make_part", counted)
        row = await session(bench.services, upload["id"])
        ended = await asyncio.gather(*(uploads.finish(row.owner_id, row.id) for _ in range(4)))
        assert {one.state for one in ended} == {UploadState.VERIFYING}
        assert made == [2]
        await becomes_the_photo(phone, upload, data)

    async def test_a_turn_that_is_not_given_back_ends(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(8 * MIB + 300_000)
        upload = await self.mixed(phone, data)
        await self.set_turn(bench, upload, "1 hour")
        refused = await phone.complete(upload["id"])
        assert (refused.status_code, refused.json()["code"]) == (503, "service-unavailable")
        assert "retry-after" in refused.headers
        await self.set_turn(bench, upload, "-1 second")
        assert (await phone.complete(upload["id"])).status_code == 202
        assert not await self.has_turn(bench, upload)
        await becomes_the_photo(phone, upload, data)

    async def test_goes_on_when_nobody_waits(self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """The call that began it reached its time limit; the next finds the work done."""
        phone, data, uploads = await bench.phone(), photo(8 * MIB + 300_000), bench.services.uploads
        upload = await self.mixed(phone, data)
        began, on = waiting(monkeypatch, uploads)
        row = await session(bench.services, upload["id"])
        call = asyncio.create_task(uploads.finish(row.owner_id, row.id))
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await self.has_turn(bench, upload)
        on.set()
        while await self.has_turn(bench, upload):
            await asyncio.sleep(0.02)
        assert await uploads.storage.is_committed(row)
        assert (await uploads.finish(row.owner_id, row.id)).state is UploadState.VERIFYING
        await becomes_the_photo(phone, upload, data)

    async def test_a_turn_lasts_as_long_as_the_work(
        self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        phone, data, uploads = await bench.phone(), photo(8 * MIB + 300_000), bench.services.uploads
        upload = await self.mixed(phone, data)
        monkeypatch.setattr(gathering, "TURN", timedelta(seconds=0.8))
        monkeypatch.setattr(gathering, "RENEW_S", 0.1)
        began, on = waiting(monkeypatch, uploads)
        row = await session(bench.services, upload["id"])
        first = asyncio.create_task(uploads.finish(row.owner_id, row.id))
        await began.wait()
        with pytest.raises(ServiceUnavailable):  # after two seconds
            await uploads.finish(row.owner_id, row.id)
        on.set()
        assert (await first).state is UploadState.VERIFYING
        await becomes_the_photo(phone, upload, data)

    async def test_who_lost_the_turn_ends(self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """It hung for longer than its turn, and does not give back the turn of the next."""
        phone, data, uploads = await bench.phone(), photo(8 * MIB + 300_000), bench.services.uploads
        upload = await self.mixed(phone, data)
        with monkeypatch.context() as patched:
            patched.setattr(gathering, "RENEW_S", 0.05)
            began, ended = asyncio.Event(), list[str]()

            async def slow(*_: Any) -> None:
                began.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise

            patched.setattr(uploads.storage, "_make_part", slow)
            row = await session(bench.services, upload["id"])
            call = asyncio.create_task(uploads.finish(row.owner_id, row.id))
            await began.wait()
            await self.set_turn(bench, upload, "1 hour")
            with pytest.raises(ServiceUnavailable):
                await call
            await asyncio.sleep(0)
            assert ended == ["cancelled"]
        assert await self.has_turn(bench, upload)
        await self.set_turn(bench, upload, "-1 second")
        assert (await phone.complete(upload["id"])).status_code == 202
        await becomes_the_photo(phone, upload, data)

    async def test_ended_by_another_while_a_part_is_made(
        self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reconciliation finds the multipart upload gone, and goes on with the next session."""
        phone, data, uploads = await bench.phone(), photo(8 * MIB + 300_000), bench.services.uploads
        upload, other = await self.mixed(phone, data), await phone.send(photo())
        async with bench.services.db.transaction() as tx:
            for n, made in enumerate((upload, other)):
                await tx.execute(
                    "UPDATE uploads SET completing_at = now() - make_interval(mins => $2) WHERE id = $1",
                    ids.decode("upload", made["id"]),
                    9 - n,
                )
        make = uploads.storage._make_part

        async def late(*args: Any) -> Any:
            monkeypatch.undo()
            await self.set_turn(bench, upload, "-1 second")  # it hung, and its turn is over
            assert (await phone.complete(upload["id"])).status_code == 202
            return await make(*args)

        monkeypatch.setattr(uploads.storage, "_make_part", late)
        assert await bench.services.sweeper.reconcile() == 2
        for made in (upload, other):
            assert (await session(bench.services, made["id"])).state is UploadState.VERIFYING
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()


class TestTheBuildBefore:
    """It notes `assemble` before every last block and at each completion; it knows of no `by_blocks`."""

    async def noted(self, bench: Bench, upload: dict[str, Any]) -> None:
        async with bench.services.db.transaction() as tx:
            noted = "UPDATE uploads SET appended = true, assemble = true WHERE id = $1"
            await tx.execute(noted, ids.decode("upload", upload["id"]))

    async def test_a_note_of_it_beside_a_whole_multipart_upload(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.send(data, sha256=None)
        await self.noted(bench, upload)
        assert (await phone.complete(upload["id"])).status_code == 202
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_completed_by_it(self, bench: Bench, photo: Make) -> None:
        """It left a part and a block to the record worker."""
        phone, data, services = await bench.phone(), photo(8 * MIB + 300_000), bench.services
        upload = await TestMixed().mixed(phone, data)
        await self.noted(bench, upload)
        made = await session(services, upload["id"])
        async with services.db.transaction() as tx:
            await services.uploads.complete(tx, made.owner_id, made.id)
        phone.acknowledged[upload["id"]] = len(data)
        assert await sweeper_of(services, {upload["id"], upload["assetId"]}).sweep(ANY_AGE) == Swept()
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()


class TestLostStorage:
    async def test_the_multipart_upload_is_lost_while_the_last_block_is_kept(self, bench: Bench, photo: Make) -> None:
        """Nothing of it is needed, so nothing is waited for."""
        phone, data, uploads = await bench.phone(), photo(300_000), bench.services.uploads
        made = await phone.create(data, sha256=None)
        await phone.parts(made["id"])
        upload = await session(bench.services, made["id"])
        async with bench.services.db.transaction() as tx:
            await store.mark_appended(tx, upload.id)
            await store.journal(tx, upload)
        assert await uploads.storage.append(upload, 0, data)
        assert upload.storage_id is not None
        await uploads.storage.abandon(upload, upload.storage_id)
        await uploads.finish(upload.owner_id, upload.id)
        await bench.work()
        assert await is_ready(phone, made)
        await bench.check()

    async def test_the_multipart_upload_is_lost_while_blocks_are_put_together(
        self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        phone, data, uploads = await bench.phone(), photo(300_000), bench.services.uploads
        upload = await phone.create(data, sha256=None)
        await complete_by_tus(phone, upload["id"], data)
        make, lost = uploads.storage._make_part, list[str]()

        async def losing(made: Upload, storage_id: str, *args: Any) -> Any:
            part = await make(made, storage_id, *args)
            if not lost:
                lost.append(storage_id)
                await uploads.storage.abandon(made, storage_id)
            return part

        monkeypatch.setattr(uploads.storage, "_make_part", losing)
        await bench.work()
        assert (await session(bench.services, upload["id"])).storage_id not in lost
        assert (await session(bench.services, upload["id"])).state is UploadState.COMPLETED
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_two_workers_put_blocks_together(
        self, bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other one is told to come again; it finds the work done."""
        phone, data, uploads = await bench.phone(), photo(300_000), bench.services.uploads
        upload = await phone.create(data, sha256=None)
        await complete_by_tus(phone, upload["id"], data)
        make, sweeper = uploads.storage._make_part, bench.services.sweeper
        wanted, made = Assemble(upload_id=ids.decode("upload", upload["id"])), list[int]()

        async def finish(_: object) -> None:
            return None

        async def slow(*args: Any) -> Any:
            made.append(args[-1])
            with pytest.raises(ServiceUnavailable):
                await sweeper.assemble(wanted, finish)
            return await make(*args)

        monkeypatch.setattr(uploads.storage, "_make_part", slow)
        await sweeper.assemble(wanted, finish)
        await sweeper.assemble(wanted, finish)
        assert made == [1]
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()


async def test_reconciliation_beside_the_last_append(
    bench: Bench, photo: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw a gap and takes its note back just while the phone's last bytes complete the session."""
    phone, data, services = await bench.phone(), photo(500_000), bench.services
    made = await phone.create(data)
    assert (await append(phone, made["id"], data[:300_000])).status_code == 204
    upload = await session(services, made["id"])
    async with services.db.transaction() as tx:
        await store.journal(tx, upload)
        await tx.execute("UPDATE uploads SET completing_at = now() - interval '2 minutes' WHERE id = $1", upload.id)
    saw_gap, arrived = asyncio.Event(), asyncio.Event()
    reopen, complete = store.reopen, services.uploads.complete

    async def late_reopen(*args: Any) -> None:
        saw_gap.set()
        await arrived.wait()
        await reopen(*args)

    async def late_complete(*args: Any) -> Upload:
        arrived.set()
        await reconciling
        return await complete(*args)

    monkeypatch.setattr(store, "reopen", late_reopen)
    reconciling = asyncio.create_task(services.sweeper.reconcile())
    await saw_gap.wait()
    monkeypatch.setattr(services.uploads, "complete", late_complete)
    receiver = Receiver(services.db, services.uploads, Traffic())

    async def rest() -> Any:
        yield data[300_000:]

    _, at = await receiver.append(upload.owner_id, upload.id, 300_000, rest(), None)
    monkeypatch.undo()
    await receiver.close()
    phone.acknowledged[made["id"]] = at
    await bench.work()
    assert await is_ready(phone, made)
    await bench.check()


class TestOtherBytes:
    """A background PUT is answered 200 only for the bytes that are the session's."""

    async def put(self, phone: Phone, path: str, data: bytes) -> tuple[int, str]:
        answer = await phone.bench.client(0).put(path, content=data)
        told = answer.json()
        return answer.status_code, told.get("code") or told["state"]

    async def path(self, phone: Phone, upload: dict[str, Any]) -> str:
        return str((await phone.parts(upload["id"]))["background"]["path"])

    async def test_to_one_completed_by_tus(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(300_000)
        upload = await phone.create(data, sha256=None)
        path = await self.path(phone, upload)
        await complete_by_tus(phone, upload["id"], data)
        assert await self.put(phone, path, os.urandom(len(data))) == (503, "service-unavailable")
        assert await self.put(phone, path, data) == (503, "service-unavailable")
        await bench.work()
        assert await self.put(phone, path, os.urandom(len(data))) == (409, "upload-bytes-differ")
        assert await self.put(phone, path, data) == (200, "completed")
        await bench.check()

    async def test_beside_the_last_append(self, bench: Bench, photo: Make) -> None:
        """The photo is what the PUT brought: the append is not told that its bytes are."""
        phone, other = await bench.phone(), photo(300_000)
        data = photo(300_000)[: len(other)].ljust(len(other), b"\0")
        upload = await phone.create(other, sha256=None)
        path, body = await self.path(phone, upload), Hanging(data[:299_000], data[299_000:])
        appending = asyncio.create_task(append(phone, upload["id"], body, **{"Content-Length": body.length}))
        await body.first.wait()
        while not (await session(bench.services, upload["id"])).appended:
            await asyncio.sleep(0.02)
        assert await self.put(phone, path, other) == (200, "verifying")
        body.on.set()
        answer = await appending
        assert (answer.status_code, answer.json()["code"]) == (409, "upload-offset-mismatch")
        await bench.work()
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_to_a_duplicate(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo()
        first, second = await phone.send(data, sha256=None), await phone.create(data, sha256=None)
        path = await self.path(phone, second)
        for part in (await phone.parts(second["id"]))["parts"]:
            assert await phone.put(part, data) == 200
        for upload in (first, second):
            assert (await phone.complete(upload["id"])).status_code == 202
            await bench.work()
        assert await self.put(phone, path, os.urandom(len(data))) == (409, "upload-bytes-differ")
        assert await self.put(phone, path, data) == (200, "completed")
        await bench.check()

    async def test_to_a_lie(self, bench: Bench, photo: Make) -> None:
        """What was declared is not what came: the declared bytes are other bytes as well."""
        phone, came = await bench.phone(), photo(300_000)
        declared = photo(300_000)[: len(came)].ljust(len(came), b"\0")
        upload = await phone.create(declared)
        path = await self.path(phone, upload)
        await complete_by_tus(phone, upload["id"], came)
        await bench.work()
        assert await self.put(phone, path, declared) == (409, "upload-bytes-differ")
        assert await self.put(phone, path, came) == (200, "rejected")
        await bench.check()

    async def test_to_what_is_no_photo(self, bench: Bench) -> None:
        """It is removed; of bytes that did not come through us nobody can say whether these are the same."""
        phone, data = await bench.phone(), b"no photo" * 1000
        upload = await phone.create(data, sha256=None)
        path = await self.path(phone, upload)
        for part in (await phone.parts(upload["id"]))["parts"]:
            assert await phone.put(part, data) == 200
        assert (await phone.complete(upload["id"])).status_code == 202
        await bench.work()
        assert await self.put(phone, path, os.urandom(len(data))) == (409, "upload-not-open")
        await bench.check()


class Hanging:
    """A body that stops after its first part until told to go on."""

    def __init__(self, *parts: bytes) -> None:
        self._parts, self.length = parts, str(sum(map(len, parts)))
        self.first, self.on = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._parts[0]
        self.first.set()
        await self.on.wait()
        for part in self._parts[1:]:
            yield part


class TestEndedMeanwhile:
    """Who stores bytes looks again, and leaves nothing of a session that was ended: no sweep is needed."""

    async def nothing_is_left(self, bench: Bench, upload: dict[str, Any]) -> None:
        await bench.work()
        store, kept = bench.services.store, bench.buckets
        assert await store.list_keys(kept.staging, upload["id"]) == []
        assert await store.list_keys(kept.originals, upload["assetId"]) == []
        assert await store.multiparts(kept.originals, upload["assetId"]) == []

    async def blocks(self, bench: Bench, upload: dict[str, Any], count: int) -> None:
        while len(await bench.services.store.list_keys(bench.buckets.staging, upload["id"])) < count:
            await asyncio.sleep(0.02)

    @pytest.mark.parametrize("ended", ["aborted", "erased"])
    async def test_beside_an_append(self, bench: Bench, photo: Make, ended: str) -> None:
        phone, data = await bench.phone(), photo(900_000)
        upload = await phone.create(data)
        body = Hanging(data[:300_000], data[300_000:600_000], data[600_000:])
        appending = asyncio.create_task(append(phone, upload["id"], body, **{"Content-Length": body.length}))
        await self.blocks(bench, upload, 1)
        path = f"/v1/uploads/{upload['id']}" if ended == "aborted" else "/v1/me"
        assert (await phone.call("DELETE", path)).status_code in (200, 202, 204)
        await bench.work()
        body.on.set()
        assert (await appending).status_code in (409, 410)
        await self.nothing_is_left(bench, upload)

    async def test_beside_an_append_to_what_another_completed(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(600_000)
        upload = await phone.create(data)
        path = (await phone.parts(upload["id"]))["background"]["path"]
        body = Hanging(data[:300_000], data[300_000:])
        appending = asyncio.create_task(append(phone, upload["id"], body, **{"Content-Length": body.length}))
        await self.blocks(bench, upload, 1)
        assert (await bench.client(1).put(path, content=data)).status_code == 200
        await bench.work()
        body.on.set()
        assert (await appending).status_code == 409
        await bench.work()
        assert await bench.services.store.list_keys(bench.buckets.staging, upload["id"]) == []
        assert await is_ready(phone, upload)
        await bench.check()

    async def test_beside_a_background_put(self, bench: Bench, photo: Make) -> None:
        phone, data = await bench.phone(), photo(400_000)
        upload = await phone.create(data)
        path = (await phone.parts(upload["id"]))["background"]["path"]
        body = Hanging(data[:200_000], data[200_000:])
        sending = asyncio.create_task(bench.client(0).put(path, content=body, headers={"Content-Length": body.length}))
        await body.first.wait()
        assert (await phone.call("DELETE", f"/v1/uploads/{upload['id']}")).status_code == 204
        await bench.work()
        body.on.set()
        assert (await sending).status_code in (409, 410)
        await self.nothing_is_left(bench, upload)


@pytest.mark.parametrize(("step", "state"), [("first_previews", "processing"), ("previews", "preview_ready")])
async def test_a_refusal_after_it_was_found_to_be_a_photo(bench: Bench, photo: Make, step: str, state: str) -> None:
    """What was validated, and shown, is not taken away: the job is set aside, and told, and can be run again."""
    phone, data = await bench.phone(), photo()
    upload = await phone.send(data)
    assert (await phone.complete(upload["id"])).status_code == 202
    await bench.work(stop_after=step)
    await bench.refuse(step, "needs-too-much-time")
    assert (await phone.read(upload["id"]))["upload"]["state"] == "completed"
    assert (await phone.call("GET", f"/v1/assets/{upload['assetId']}")).json()["state"] == state
    async with bench.services.db.transaction() as tx:
        (parked,) = await jobs.list_jobs(tx, jobs.JobState.PARKED, "asset.ingest", 10)
        assert [one.subject for one in await alerts.open_alerts(tx)] == [f"asset.ingest:{parked.id}"]
        assert await jobs.replay(tx, parked.id, None) == [parked.id]
    await bench.work(attempt=parked.attempt + 1)
    assert await is_ready(phone, upload)
    await bench.check()


async def test_a_late_refusal_leaves_the_attempt_that_runs_alone(bench: Bench, photo: Make) -> None:
    phone, data = await bench.phone(), photo()
    upload = await phone.send(data)
    assert (await phone.complete(upload["id"])).status_code == 202
    await bench.work(stop_after="first_previews")
    async with bench.services.db.transaction() as tx:
        (job,) = await jobs.list_jobs(tx, jobs.JobState.QUEUED, "asset.ingest", 10)
        await jobs.failed(tx, job.id, job.attempt, "test", final=False)
    with pytest.raises(jobs.AttemptOver):
        await bench.refuse("first_previews", "needs-too-much-time", attempt=job.attempt)
    async with bench.services.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET not_before = now() WHERE id = $1", job.id)
        assert await alerts.open_alerts(tx) == []
    await bench.work(attempt=job.attempt + 1)
    assert await is_ready(phone, upload)
    await bench.check()

"""Row 12 at its other moments: real deaths while bytes come, are put together and are removed; who asks again goes on.

`make test` takes the first, the last and a seeded suspension of appending and completing; `make soak` three of all, and
every one.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.kernel.jobs import JobState
from base import ids
from tests.app.crashes import Case, Crashes
from tests.app.uploads.conftest import Bench, Make, Phone

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("scorecard")]
FIRST = 256 * 1024
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.soak)], ids=["some", "all"])
def crashes(request: pytest.FixtureRequest, env: dict[str, str]) -> Crashes:
    return Crashes(env, every=request.param, seeded=1)


class World:
    """One phone and what it has sent; every case is a session of its own."""

    def __init__(self, bench: Bench, phone: Phone, photo: Make, folder: Path) -> None:
        self.bench, self.phone, self._photo, self._folder = bench, phone, photo, folder
        self.owner = str(ids.decode("owner", phone.owner))

    def data(self) -> bytes:
        return self._photo(600_000)

    async def begun(self) -> tuple[dict[str, Any], Path]:
        data = self.data()
        made = await self.phone.create(data)
        file = self._folder / made["id"]
        file.write_bytes(data)
        return made, file

    async def append(self, upload: str, data: bytes, offset: int) -> None:
        headers = {**self.phone.auth, **TUS, "Upload-Offset": str(offset)}
        answer = await self.bench.client(0).patch(f"/v1/tus/{upload}", content=data, headers=headers)
        assert answer.status_code == 204, answer.text
        self.phone.acknowledged[upload] = int(answer.headers["upload-offset"])

    async def go_on(self, case: Case) -> None:
        """The phone reads where it is and sends the rest."""
        upload = ids.encode("upload", UUID(case["upload"]))
        head = await self.phone.call("HEAD", f"/v1/tus/{upload}", **TUS)
        at, data = int(head.headers["upload-offset"]), self.phone.sources[upload]
        assert at >= self.phone.acknowledged.get(upload, 0)
        if at < len(data):
            await self.append(upload, data[at:], at)

    async def job_of(self, kind: str) -> str:
        async with self.bench.services.db.reading() as db:
            sql = "SELECT id FROM jobs WHERE kind = $1 AND state = $2 ORDER BY position DESC LIMIT 1"
            return str(await db.value(sql, kind, JobState.QUEUED))

    async def again(self) -> None:
        """What a dead worker had taken is handed out anew, its turn is over, and all that waits is done."""
        async with self.bench.services.db.transaction() as tx:
            await tx.execute("UPDATE uploads SET gathered_until = NULL")
            await tx.execute("UPDATE jobs SET state = 'queued' WHERE state = 'published'")
        await self.bench.work()


@pytest.fixture
async def world(bench: Bench, photo: Make, tmp_path: Path) -> World:
    return World(bench, await bench.phone(), photo, tmp_path)


async def test_appending(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made, file = await world.begun()
        await world.append(made["id"], file.read_bytes()[:FIRST], 0)
        upload = str(ids.decode("upload", made["id"]))
        return {"owner": world.owner, "upload": upload, "file": str(file), "offset": str(FIRST)}

    for case in await crashes.happen("append", prepare):
        await world.go_on(case)
    await world.bench.check()


async def test_completing(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made = await world.phone.send(world.data())
        return {"owner": world.owner, "upload": str(ids.decode("upload", made["id"]))}

    await ended(world, crashes, "complete", prepare)
    await world.bench.check()


async def ended(world: World, crashes: Crashes, op: str, prepare: Callable[[], Awaitable[Case]]) -> None:
    """Let it die, then complete each session twice."""
    for case in await crashes.happen(op, prepare):
        upload = ids.encode("upload", UUID(case["upload"]))
        answers = [await world.phone.complete(upload) for _ in range(2)]
        assert {answer.status_code for answer in answers} == {202}


@pytest.mark.soak
async def test_reconciling(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made = await world.phone.send(world.data())
        upload = ids.decode("upload", made["id"])
        await world.bench.services.uploads.arrived(ids.decode("owner", world.phone.owner), upload)  # type: ignore[arg-type]
        return {"upload": str(upload)}

    await ended(world, crashes, "reconcile", prepare)
    await world.bench.check()


@pytest.mark.soak
async def test_a_background_put(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made, file = await world.begun()
        return {"upload": str(ids.decode("upload", made["id"])), "file": str(file)}

    for case in await crashes.happen("content", prepare):
        upload = ids.encode("upload", UUID(case["upload"]))
        path = (await world.phone.parts(upload))["background"]["path"] if await is_open(world, upload) else None
        if path is not None:
            answer = await world.bench.client(0).put(path, content=Path(case["file"]).read_bytes())
            assert answer.status_code == 200, answer.text
    await world.bench.check()


async def is_open(world: World, upload: str) -> bool:
    return bool((await world.phone.read(upload))["upload"]["state"] == "open")


@pytest.mark.soak
async def test_assembling(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made, file = await world.begun()
        await world.append(made["id"], file.read_bytes(), 0)
        return {"job": await world.job_of("upload.assemble")}

    await crashes.happen("job", prepare)
    await world.again()
    await world.bench.check()


@pytest.mark.soak
async def test_removing(world: World, crashes: Crashes) -> None:
    async def prepare() -> Case:
        made, file = await world.begun()
        await world.append(made["id"], file.read_bytes(), 0)
        del world.phone.acknowledged[made["id"]]
        erased = await world.phone.call("DELETE", f"/v1/assets/{made['assetId']}?permanently=true")
        assert erased.status_code == 204
        return {"job": await world.job_of("asset.clean")}

    await crashes.happen("job", prepare)
    await world.again()
    await world.bench.check()

"""kill -9 at each named moment, in real processes on real servers: every job done, each result recorded once."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from app.kernel import alerts, jobs
from app.kernel.db import Database
from app.kernel.jobs import JobState, Plan
from app.kinds import KINDS
from base import ids
from devstack.processes import PROCESSES
from tasks.queue import Queue

pytestmark = pytest.mark.timeout(400)
CRASHING = Path(__file__).with_name("crashing.py")
TIRAGE = Path(sys.executable).parent / "tirage"
STATUS = 86
ECHO = KINDS["pixel.echo"]


class Nothing(msgspec.Struct, frozen=True):
    pass


class Region:
    """Processes of one region of its own, started and killed by a test."""

    def __init__(self, env: dict[str, str], db: Database, name: str | None = None) -> None:
        self.name, self._db = name or f"f{uuid4().hex[:10]}", db
        self.env = {**env, "TIRAGE_REGION": self.name}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, kind: str, moment: str | None = None) -> subprocess.Popen[bytes]:
        """A process of this kind with just its own variables; with a moment, one that dies there."""
        process = next(p for p in PROCESSES if p.name == kind)
        begin = [sys.executable, str(CRASHING), moment] if moment else [str(TIRAGE)]
        env = {"PATH": os.environ["PATH"], **{name: self.env[name] for name in process.variables}}
        started = subprocess.Popen(
            [*begin, *process.command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.running.append(started)
        return started

    async def dies(self, process: subprocess.Popen[bytes]) -> None:
        async with asyncio.timeout(120):
            while process.poll() is None:
                await asyncio.sleep(0.05)
        assert process.returncode == STATUS

    async def plan(self, count: int = 1) -> list[UUID]:
        made = []
        async with self._db.transaction() as tx:
            for _ in range(count):
                job = await jobs.plan(tx, ECHO, Plan(kind=ECHO.name, payload=Nothing()), self.name, None)
                assert job is not None
                made.append(job)
            tx.wake_after_commit(f"jobs:{self.name}")
        return made

    async def reach(self, wanted: list[UUID], state: JobState) -> None:
        async with asyncio.timeout(120):
            while True:
                async with self._db.transaction(readonly=True) as tx:
                    sql = "SELECT count(*) FROM jobs WHERE id = ANY($1) AND state = $2"
                    if await tx.value(sql, wanted, state.value) == len(wanted):
                        return
                await asyncio.sleep(0.1)

    async def steps(self, wanted: list[UUID]) -> int:
        async with self._db.transaction(readonly=True) as tx:
            return int(await tx.value("SELECT count(*) FROM step_runs WHERE job_id = ANY($1)", wanted))


@contextlib.asynccontextmanager
async def region_of(env: dict[str, str], db: Database, name: str | None = None) -> AsyncIterator[Region]:
    """A region, named or one of its own; its processes and streams end with it."""
    made = Region(env, db, name)
    yield made
    for process in made.running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    queue = Queue(env["TIRAGE_NATS_URL"], made.name)
    await queue.connect()
    for stream in (f"JOBS-{made.name}", f"RESULTS-{made.name}"):
        with contextlib.suppress(Exception):
            await queue.js.delete_stream(stream)
    await queue.close()


@pytest.fixture
async def region(env: dict[str, str], db: Database) -> AsyncIterator[Region]:
    async with region_of(env, db) as made:
        yield made


MOMENTS = [
    ("dispatcher", "published-not-marked"),
    ("pixel-worker", "worked-not-answered"),
    ("pixel-worker", "answered-not-acked"),
    ("record-worker", "applied-not-acked"),
]


async def test_killed_at_each_named_moment(env: dict[str, str], db: Database) -> None:
    """A region a moment, side by side: most of each is silence, until the queue hands the message out again."""

    async def survives(kind: str, moment: str) -> int:
        async with region_of(env, db) as region:
            wanted = await region.plan(3)
            for other in {"dispatcher", "pixel-worker", "record-worker"} - {kind}:
                region.start(other)
            await region.dies(region.start(kind, moment))
            region.start(kind)
            await region.reach(wanted, JobState.DONE)
            return await region.steps(wanted)

    recorded = await asyncio.gather(*(survives(kind, moment) for kind, moment in MOMENTS))
    assert dict(zip(MOMENTS, recorded, strict=True)) == dict.fromkeys(MOMENTS, 3)


async def test_killed_again_and_again(region: Region) -> None:
    """Every kind is killed while 200 jobs pass; a standby dispatcher takes over."""
    kinds = ["dispatcher", "dispatcher", "pixel-worker", "record-worker"]
    alive = [(kind, region.start(kind)) for kind in kinds]
    wanted = await region.plan(200)
    for turn in range(4):
        await asyncio.sleep(0.4)
        kind, process = alive.pop(turn % len(alive))
        process.send_signal(signal.SIGKILL)
        process.wait()
        alive.append((kind, region.start(kind)))
    await region.reach(wanted, JobState.DONE)
    assert await region.steps(wanted) == 200


async def test_job_that_kills_its_worker_is_parked_alerted_and_replayed(region: Region, db: Database) -> None:
    wanted = await region.plan(1)
    for kind in ("dispatcher", "record-worker"):
        region.start(kind)
    for _ in range(3):
        await region.dies(region.start("pixel-worker", "kills-its-worker"))
    region.start("pixel-worker")
    await region.reach(wanted, JobState.PARKED)
    async with db.transaction() as tx:
        assert [(a.rule, a.detail) for a in await alerts.open_alerts(tx)] == [("job-parked", "worker-lost")]
        assert await jobs.replay(tx, wanted[0], None) == wanted
    await region.reach(wanted, JobState.DONE)


async def test_a_pixel_worker_knows_no_database(region: Region, env: dict[str, str], tmp_path: Path) -> None:
    """Environment and sockets of the running process, from the outside; its modules as it leaves them."""
    worker = region.start("pixel-worker", f"modules:{tmp_path / 'modules'}")
    wanted = await region.plan(1)
    region.start("dispatcher")
    region.start("record-worker")
    await region.reach(wanted, JobState.DONE)
    proc = Path(f"/proc/{worker.pid}")
    environ = proc.joinpath("environ").read_bytes().decode()
    assert "postgres" not in environ
    assert "TIRAGE_KEK" not in environ
    assert "TIRAGE_URL_KEYS" not in environ
    maps = proc.joinpath("maps").read_text()
    assert "/asyncpg/" not in maps
    listening = env["TIRAGE_DATABASE_URL"].rsplit(":", 1)[1].split("/")[0]
    sockets = {os.readlink(fd) for fd in proc.joinpath("fd").iterdir() if os.readlink(fd).startswith("socket:")}
    inodes = {s.removeprefix("socket:[").removesuffix("]") for s in sockets}
    table = proc.joinpath("net/tcp").read_text().splitlines()[1:]
    remote_ports = {int(line.split()[2].split(":")[1], 16) for line in table if line.split()[9] in inodes}
    assert int(listening) not in remote_ports
    worker.terminate()
    assert worker.wait(30) == 0
    loaded = {name.split(".")[0] for name in (tmp_path / "modules").read_text().splitlines()}
    assert loaded >= {"tasks", "imagecore", "base", "nats"}
    assert loaded & {"app", "piccolo", "asyncpg", "litestar"} == set()


async def test_api_dies_after_the_commit_before_the_answer(region: Region, env: dict[str, str], db: Database) -> None:
    """The same call with the same key gives the answer that was lost; the effect is there once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    region.env["TIRAGE_API_PORT"] = str(port)
    base = f"http://127.0.0.1:{port}"
    body = {"bytes": 5, "contentType": "image/jpeg"}
    dying = region.start("api", "committed-not-answered")
    async with httpx.AsyncClient(base_url=base, timeout=10) as client:
        grant = await _answer(client, "/v1/devices", {"platform": "ios"}, {})
        headers = {"authorization": f"Bearer {grant.json()['accessToken']}", "idempotency-key": uuid4().hex}
        with pytest.raises(httpx.HTTPError):
            await client.post("/v1/uploads", json=body, headers=headers)
        await region.dies(dying)
        async with db.transaction() as tx:
            lost = await tx.value("SELECT id FROM uploads")
        region.start("api")
        again = await _answer(client, "/v1/uploads", body, headers)
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert ids.decode("upload", again.json()["id"]) == lost
    async with db.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM uploads") == 1


async def _answer(
    client: httpx.AsyncClient, path: str, body: dict[str, object], headers: dict[str, str]
) -> httpx.Response:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                return await client.post(path, json=body, headers=headers)
            await asyncio.sleep(0.1)

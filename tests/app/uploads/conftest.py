"""Two real API processes behind a store that misbehaves, and what record and pixel workers do, step by step.

The scorecard of failures and the real clients run on it. Nothing here is a double: Postgres, the object store, the API
processes, the decode jail are real; only the queue between the workers is left out. Proxies stand before the store and
the database.
"""

import asyncio
import contextlib
import functools
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from app.handlers import HANDLERS, Attempt, appliers
from app.kernel import jobs
from app.kernel.jobs import JobRow
from app.services import Services
from app.settings import load
from app.uploads.receive import Receiver
from app.uploads.sweep import Sweeper, Swept
from app.uploads.traffic import Traffic
from base import ingest, keys
from base.jobs import Job, Outcome, Result, signed
from base.objects import ObjectAbsent, ObjectStore, Site, Sites, Stored
from devstack.s3_faults import S3Faults
from imagecore.jail import Jail
from tasks.pixel.ingest import Ingestor
from tasks.pixel.worker import PixelKind, Refusal, StepDone
from tests.app.conftest import ApiProcess, register
from tests.app.paying import MovedClock
from tests.app.uploads import invariants, table
from tests.conftest import EMPTY

SMALL = "subsampling-411.jpg"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if "or scorecard" not in config.option.markexpr:
        return
    stats = terminalreporter.stats
    reports = [r for kind in ("passed", "failed", "error", "skipped", "") for r in stats.get(kind, [])]
    terminalreporter.section("scorecard of uploads")
    for line in table.lines(r for r in reports if isinstance(r, pytest.TestReport)):
        terminalreporter.write_line(line)


class OwnOnly:
    """The store as one test sees it: buckets are shared with tests that run beside it on databases of their own."""

    def __init__(self, store: ObjectStore, mine: set[str]) -> None:
        self._store, self.mine = store, mine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _own(self, found: list[Stored]) -> list[Stored]:
        return [entry for entry in found if entry.key.partition("/")[0] in self.mine]

    async def listing(self, bucket: str, prefix: str, after: str = "", limit: int = 1000) -> list[Stored]:
        found, page = [], await self._store.listing(bucket, prefix, after, limit)
        while page:
            found += self._own(page)
            page = await self._store.listing(bucket, prefix, page[-1].key, limit) if len(page) == limit else []
        return found

    async def multiparts(self, bucket: str, prefix: str = "") -> list[Stored]:
        return self._own(await self._store.multiparts(bucket, prefix))


def sweeper_of(services: Services, mine: set[str]) -> Sweeper:
    """A sweeper of what belongs to these assets and sessions (TypeIDs), whatever its age."""
    store: Any = OwnOnly(services.store, mine)
    return Sweeper(
        services.db,
        services.spine,
        Sites(services.settings.region, Site(store, services.settings.buckets)),
        services.assets,
        services.uploads,
        services.clock,
    )


ANY_AGE = timedelta(seconds=-60)


def variant(photo: bytes, size: int = 0) -> bytes:
    """Another file with the same picture: JPEG comments after the first marker, up to about `size` bytes more."""
    made, fill = bytearray(photo[:2]), os.urandom(16)
    while True:
        more = fill if len(made) >= size else os.urandom(60_000)
        made += b"\xff\xfe" + struct.pack(">H", len(more) + 2) + more
        if more is fill:
            return bytes(made + photo[2:])


class Phone:
    """An app of one owner; it knows what was acknowledged, which nobody may lose."""

    def __init__(self, bench: "Bench", grant: dict[str, Any]) -> None:
        self.bench, self.grant = bench, grant
        self.auth: dict[str, str] = grant["auth"]
        self.owner: str = grant["ownerId"]
        self.clock: dict[str, str] = {}
        """The time it tells whomever it talks to, as headers."""
        self.sources: dict[str, bytes] = {}
        self.acknowledged: dict[str, int] = {}

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, api: int = 0, **headers: str
    ) -> httpx.Response:
        """One call. A read is sent again when a kept connection had ended, as every phone does (RFC 9110 9.2.2)."""
        told = {**self.auth, **self.clock, "Idempotency-Key": key or uuid4().hex, **headers}
        send = functools.partial(self.bench.client(api).request, method, path, json=body, headers=told)
        try:
            return await send()
        except httpx.RemoteProtocolError:
            if method not in {"GET", "HEAD"}:
                raise
            return await send()

    async def create(self, data: bytes, *, api: int = 0, **changes: Any) -> dict[str, Any]:
        body = {"bytes": len(data), "contentType": "image/jpeg", "sha256": hashlib.sha256(data).hexdigest(), **changes}
        answer = await self.call("POST", "/v1/uploads", {k: v for k, v in body.items() if v is not None}, api=api)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        self.sources.setdefault(made["id"], data)
        return made

    async def begin(self, data: bytes, **changes: Any) -> dict[str, Any]:
        """A session that will stay open."""
        made = await self.create(data, **changes)
        self.bench.unfinished.add(made["id"])
        return made

    async def parts(self, upload: str, *numbers: int, api: int = 0, digest: str | None = None) -> dict[str, Any]:
        body = {"parts": [{"number": n, "sha256": digest} for n in numbers]} if numbers else None
        answer = await self.call("POST", f"/v1/uploads/{upload}/parts", body, api=api)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def put(self, part: dict[str, Any], source: bytes, *, acknowledge: str | None = None) -> int:
        """One PUT of a part straight to storage; its status, 0 when the connection ended."""
        piece = source[part["firstByte"] : part["firstByte"] + part["bytes"]]
        headers = {name: value for name, value in part["headers"].items() if name != "Content-Length"} | self.clock
        try:
            async with httpx.AsyncClient(timeout=30) as storage:
                status = (await storage.put(part["url"], content=piece, headers=headers)).status_code
        except httpx.TransportError:
            return 0
        if status == 200 and acknowledge is not None:
            self.acknowledged[acknowledge] = self.acknowledged.get(acknowledge, 0) + part["bytes"]
        return status

    async def send(self, data: bytes, *, api: int = 0, **changes: Any) -> dict[str, Any]:
        """Create, and PUT every part."""
        upload = await self.create(data, api=api, **changes)
        for part in (await self.parts(upload["id"], api=api))["parts"]:
            assert await self.put(part, data, acknowledge=upload["id"]) == 200
        return upload

    async def complete(self, upload: str, *, key: str | None = None, api: int = 0) -> httpx.Response:
        return await self.call("POST", f"/v1/uploads/{upload}/complete", key=key, api=api)

    async def read(self, upload: str, *, api: int = 0) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/uploads/{upload}", api=api)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told


class Relay:
    """A TCP relay that can be cut: every connection ends, new ones are refused, until it is joined again."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._writers |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        self._writers -= {writer, back}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()


DUE = "SELECT id FROM jobs WHERE id = ANY($1) AND not_before <= now() + $2::interval"


class Bench:
    """See the module."""

    def __init__(
        self,
        apis: list[ApiProcess],
        faults: S3Faults,
        database: Relay,
        services: Services,
        jail: Jail,
        clock: MovedClock,
    ) -> None:
        self.apis, self.faults, self.database, self.services = apis, faults, database, services
        self.clock = clock
        self.buckets = services.settings.buckets
        self._clients = [httpx.AsyncClient(base_url=api.base, timeout=40) for api in apis]
        self._usual = Ingestor(services.store, self.buckets, jail)
        self.pixels: dict[str, PixelKind] = {}
        self.use_usual()
        self.phones: list[Phone] = []
        self.unfinished: set[str] = set()
        """Sessions that the test leaves open, as it says itself."""

    @contextlib.asynccontextmanager
    async def beside(self, tree: Path, log: Path) -> AsyncIterator[int]:
        """The number of an API process that runs the code of another tree, on the same database and store."""
        api = await asyncio.to_thread(ApiProcess, {**self.apis[0].env, "PYTHONPATH": str(tree)}, log)
        self._clients.append(httpx.AsyncClient(base_url=api.base, timeout=40))
        yield len(self._clients) - 1
        await self._clients.pop().aclose()
        await asyncio.to_thread(api.stop)

    def use(self, ingestor: Ingestor) -> None:
        """Let this one ingest from now on; until the next test."""
        self.pixels[ingest.KIND] = ingestor.kind

    def use_usual(self) -> None:
        """Let photos be ingested as usual, and not be looked at."""
        self.pixels.clear()
        self.use(self._usual)

    def client(self, api: int) -> httpx.AsyncClient:
        return self._clients[api]

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def phone(self) -> Phone:
        grant = await register(self._clients[-1])
        self.phones.append(Phone(self, grant))
        return self.phones[-1]

    def socket_to(self, api: int, head: str, body: bytes, address: str = "127.0.0.1") -> socket.socket:
        """A connection from an address of this machine that has sent this and stays open."""
        parts = urlsplit(self.apis[api].base)
        made = socket.create_connection((parts.hostname or "", parts.port or 0), 10, (address, 0))
        made.sendall(head.encode() + body)
        return made

    async def work(self, *, attempt: int = 1, stop_after: str | None = None) -> None:
        """Run what is due, as workers would, until nothing is; `stop_after`: the pixel worker dies then."""
        handled = ("upload.assemble", "asset.clean")
        while True:
            async with self.services.db.transaction() as tx:
                rows = await jobs.list_jobs(tx, jobs.JobState.QUEUED, None, 100)
                found = await tx.fetch(DUE, [row.id for row in rows], self.clock.added)
            due = {row["id"] for row in found}
            rows = [row for row in rows if row.id in due and (row.kind in self.pixels or row.kind in handled)]
            if not rows:
                return
            for row in rows:
                if row.kind in self.pixels:
                    if await self._pixels(row, attempt, stop_after):
                        return
                else:
                    await self._record(row)

    async def _record(self, row: JobRow) -> None:
        made = Attempt(row)
        await HANDLERS[row.kind](self.services, made)
        async with self.services.db.transaction() as tx:
            await made.finish(tx)

    async def _pixels(self, row: JobRow, attempt: int, stop_after: str | None) -> bool:
        async with self.services.db.transaction() as tx:
            done = (await jobs.steps_done(tx, [row.id])).get(row.id, ())
        job = Job(
            id=row.id,
            kind=row.kind,
            region=row.region,
            lane=row.lane,
            attempt=attempt,
            nonce=row.nonce,
            deadline=None,
            time_limit_s=60,
            owner_id=row.owner_id,
            payload=row.payload,
            done=done,
            last_reason=row.last_reason,
        )
        try:
            async with contextlib.aclosing(self.pixels[row.kind].run(job)) as steps:  # type: ignore[type-var]
                async for step in steps:
                    if step.step == stop_after:
                        return True
                    await self._apply(row, attempt, step)
        except Refusal as refusal:
            step = StepDone(step=self.pixels[row.kind].steps[len(done)], body=refusal.body)
            await self._apply(row, attempt, step, refusal.reason)
        return False

    async def refuse(self, step: str, reason: str, attempt: int | None = None) -> None:
        """Answer the waiting ingest that a worker cannot go on with this step."""
        async with self.services.db.transaction() as tx:
            (row,) = await jobs.list_jobs(tx, jobs.JobState.QUEUED, ingest.KIND, 10)
        body = ingest.Refused(sha256=None, bytes=0)
        await self._apply(row, attempt or row.attempt, StepDone(step=step, body=body), reason)

    async def _apply(self, row: JobRow, attempt: int, done: StepDone, refused: str | None = None) -> None:
        steps = self.pixels[row.kind].steps
        result = Result(
            job_id=row.id,
            kind=row.kind,
            attempt=attempt,
            step=done.step,
            index=steps.index(done.step),
            last=done.step == steps[-1] or refused is not None,
            outcome=Outcome.OK if refused is None else Outcome.REFUSED,
            reason=refused,
            ms=1,
            engine=done.engine,
            body=msgspec.json.encode(done.body),
        )
        key = self.services.settings.result_key.reveal()
        async with self.services.db.transaction() as tx:
            await jobs.apply(tx, key, signed(key, row.nonce, result), appliers(self.services))

    async def check(self) -> None:
        """The five invariants, for every owner of the row."""
        await invariants.hold(self)
        self.phones.clear()
        self.unfinished.clear()

    async def sweep(self, mine: set[str]) -> Swept:
        return await sweeper_of(self.services, mine).sweep(ANY_AGE)

    async def object_is_there(self, asset: str) -> bool:
        try:
            await self.services.store.head(self.buckets.originals, keys.original(asset))
        except ObjectAbsent:
            return False
        return True


def folder(parent: Path, name: str) -> str:
    """A new folder for what a process keeps for a moment."""
    made = parent / f"{name}-tmp"
    made.mkdir()
    return str(made)


@pytest.fixture
async def receiver(services: Services) -> AsyncIterator[Receiver]:
    """What takes bodies, in this process."""
    made = Receiver(services.db, services.uploads, Traffic())
    yield made
    await made.close()


@pytest.fixture(scope="session")
async def session_bench(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    clock = MovedClock()
    services = Services(load(env, "RECORD"), clock)
    await services.start()
    url = urlsplit(env["TIRAGE_DATABASE_URL"])
    database = Relay(url.hostname or "", url.port or 5432)
    await database.join()
    async with S3Faults(env["TIRAGE_S3_ENDPOINT"], strict=True) as faults:
        relayed = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{database.port}").geturl()
        faulty = {
            **env,
            "TIRAGE_DATABASE_URL": relayed,
            "TIRAGE_S3_ENDPOINT": faults.url,
            "TIRAGE_S3_READ_TIMEOUT": "1",
        }
        logs = tmp_path_factory.mktemp("bench")
        apis = [
            await asyncio.to_thread(ApiProcess, {**faulty, "TMPDIR": folder(logs, n)}, logs / n) for n in ("a", "b")
        ]
        with Jail.open(slots=1) as jail:
            made = Bench(apis, faults, database, services, jail, clock)
            yield made
            await made.close()
        for api in apis:
            await asyncio.to_thread(api.stop)
    database.cut()
    await services.stop()


@pytest.fixture
async def bench(session_bench: Bench, database_url: str) -> Bench:
    """The bench, well behaved, on an empty database, both processes up."""
    admin = await asyncpg.connect(database_url)
    await admin.execute(EMPTY)
    await admin.close()
    session_bench.faults.clear()
    session_bench.phones.clear()
    session_bench.unfinished.clear()
    session_bench.clock.added = timedelta()
    session_bench.use_usual()
    for api in session_bench.apis:
        if api.process.poll() is not None:
            await asyncio.to_thread(api.start)
    return session_bench


@pytest.fixture(scope="session")
def small(photos: Path) -> bytes:
    """A small real photo."""
    return (photos / SMALL).read_bytes()


Make = Callable[..., bytes]


@pytest.fixture
def photo(small: bytes) -> Make:
    """A new file each time, of the same picture: `photo(size)`."""
    return lambda size=0: variant(small, size)

"""One own stack of real servers a test session, shared by all workers; one database a worker, cloned from a template.

The controller starts the servers, migrates the template and hands the addresses to workers by environment. `--no-stack`
skips that for tests that need none.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from app.catalog.service import Catalog, read_files
from app.kernel.db import Database, DatabaseSettings
from app.kernel.migrate import migrate
from app.machines import MACHINES
from app.services import Services
from app.settings import load
from base.objects import Buckets, ObjectStore, ObjectStoreSettings
from base.settings import Secret
from devstack.child import StartFailed
from devstack.prodigi.app import ProdigiApp
from devstack.prodigi.knobs import Knobs
from devstack.stack import Stack
from devstack.stripe.app import Config, StripeApp
from tirage.catalog import FOLDER
from tirage.keys import edge_keys

ROOT = Path(__file__).parents[1]
PHOTOS = Path(os.environ.get("TIRAGE_PHOTOS", ROOT.parent / "shared" / "photos"))
STACK = "TIRAGE_TEST_STACK"
TEMPLATE = "template_tirage"
NOTHING_GIVEN: Mapping[str, str] = {}

_held: dict[str, Any] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-stack", action="store_true", help="start no servers")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or config.option.no_stack or config.option.collectonly:
        return
    folder = Path(tempfile.mkdtemp(prefix="tirage-test-"))
    stack = Stack(folder, {}, edge_keys)
    _held.update(stack=stack, folder=folder)
    try:
        stack.claim()
        stack.start_servers(lambda _: None, tied=True)
    except StartFailed as error:
        pytest.exit(f"the tests' own stack did not start\n{error}", returncode=3)
    env = stack.environment()
    asyncio.run(_make_template(env["TIRAGE_DATABASE_URL"]))
    os.environ[STACK] = json.dumps(env)


def pytest_unconfigure(config: pytest.Config) -> None:
    stack = _held.pop("stack", None)
    if stack is not None:
        stack.stop(lambda _: None)
        shutil.rmtree(_held.pop("folder"), ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not PHOTOS.exists():
        skipped = sum("real photos" in str(r.longrepr) for r in terminalreporter.stats.get("skipped", []))
        terminalreporter.write_line(f"real photos absent ({PHOTOS}): {skipped} tests skipped")


def database_settings(url: str) -> DatabaseSettings:
    return DatabaseSettings(url=Secret(url), pool_min=1, pool_max=10, acquire_timeout_s=5, statement_timeout_ms=30_000)


async def _make_template(url: str) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    database = Database(database_settings(url.replace("/postgres", f"/{TEMPLATE}")))
    await database.start()
    await migrate(database, MACHINES)
    await Catalog(database).load(read_files(FOLDER), production=False)
    await database.stop()


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photos; absent, a counted skip, or a failure where CI requires them."""
    if not (PHOTOS / "manifest.jsonl").exists():
        if os.environ.get("TIRAGE_REQUIRE_PHOTOS") == "1":
            pytest.fail(f"real photos are required and absent: {PHOTOS}")
        pytest.skip("real photos are absent")
    return PHOTOS


@pytest.fixture(scope="session")
def stack_env() -> dict[str, str]:
    """Every variable of the session's stack."""
    if STACK not in os.environ:
        pytest.skip("no stack (--no-stack)")
    env: dict[str, str] = json.loads(os.environ[STACK])
    return env


@pytest.fixture(scope="session")
def database_url(stack_env: dict[str, str], worker_id: str) -> str:
    """This worker's own database, cloned from the migrated template."""
    url, name = stack_env["TIRAGE_DATABASE_URL"], f"test_{worker_id}"

    async def make() -> None:
        admin = await asyncpg.connect(url)
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY wal_log")
        await admin.close()

    asyncio.run(make())
    return url.replace("/postgres", f"/{name}")


@pytest.fixture(scope="session")
def env(stack_env: dict[str, str], database_url: str) -> dict[str, str]:
    """The stack's variables with this worker's database."""
    return {**stack_env, "TIRAGE_DATABASE_URL": database_url}


# Deleting a test's few rows takes a hundredth of what truncating forty tables does.
EMPTY = """
DO $$ DECLARE name text; BEGIN
    PERFORM set_config('session_replication_role', 'replica', true);
    FOR name IN SELECT format('%I', relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND relname NOT IN ('transitions', 'migration', 'catalogues', 'catalog_variants', 'vendor_skus')
    LOOP EXECUTE 'DELETE FROM ' || name; END LOOP;
END $$
"""


async def emptied(database_url: str) -> None:
    """Forget everything but the catalogue and the legal moves."""
    admin = await asyncpg.connect(database_url)
    await admin.execute(EMPTY)
    await admin.close()


@pytest.fixture(scope="session")
async def own_database(database_url: str) -> AsyncIterator[Database]:
    """This worker's database, started."""
    database = Database(database_settings(database_url))
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def db(own_database: Database) -> Database:
    """A started database, emptied before the test of everything but the catalogue and the legal moves."""
    await own_database.pool.execute(EMPTY)
    return own_database


@pytest.fixture(scope="session")
def buckets(stack_env: dict[str, str]) -> Buckets:
    """The session's buckets."""
    uses = ("originals", "ancestors", "derivatives", "masters", "staging")
    return Buckets(**{use: stack_env[f"TIRAGE_BUCKET_{use.upper()}"] for use in uses})


def store_of(env: dict[str, str], role: str) -> ObjectStore:
    """An object store port with the key of a role."""
    return ObjectStore(
        ObjectStoreSettings(
            endpoint=env["TIRAGE_S3_ENDPOINT"],
            region="us-east-1",
            access_key=env[f"TIRAGE_S3_{role}_ACCESS_KEY"],
            secret_key=Secret(env[f"TIRAGE_S3_{role}_SECRET_KEY"]),
            threads=8,
            connect_timeout_s=3,
            read_timeout_s=20,
        )
    )


@pytest.fixture(scope="session")
def record_store(stack_env: dict[str, str]) -> Iterator[ObjectStore]:
    """The object store with the record role's key."""
    store = store_of(stack_env, "RECORD")
    yield store
    store.close()


OwnStack = Callable[..., Stack]


@pytest.fixture
def own_stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnStack]:
    """Start further stacks of the three servers, for tests that kill or change them: `own_stack(folder, given)`.

    Tied to this thread and stopped at the end; the same folder again is the same data.
    """
    if request.config.option.no_stack:
        pytest.skip("no stack (--no-stack)")
    started: list[Stack] = []

    def start(folder: Path = tmp_path / "stack", given: Mapping[str, str] = NOTHING_GIVEN) -> Stack:
        stack = Stack(folder, given, edge_keys)
        stack.claim()
        started.append(stack)
        stack.start_servers(lambda _: None, tied=True)
        return stack

    yield start
    for stack in started:
        stack.stop(lambda _: None)


def database_name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


@pytest.fixture
async def services(env: dict[str, str], db: Database) -> AsyncIterator[Services]:
    """One process's parts on this worker's database, which `db` has emptied."""
    made = Services(load(env, "RECORD"))
    await made.start()
    yield made
    await made.stop()


class Stripe:
    """The Stripe simulator of one test: its parts, its address, and a client of its control side."""

    KEY = "sk_test_of_the_tests"
    PUBLISHABLE = "pk_test_of_the_tests"
    SECRET = "whsec_of_the_tests"

    def __init__(self, app: StripeApp, port: int) -> None:
        self.app, self.url = app, f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20)

    async def turn(self, **knobs: Any) -> None:
        """Set knobs."""
        answer = await self.http.post("/_sim/knobs", json=knobs)
        assert answer.status_code == 200, answer.text

    async def advance(self, seconds: int) -> None:
        """Move the virtual clock on."""
        await self.http.post("/_sim/clock", json={"advance_s": seconds})

    async def counts(self) -> dict[str, Any]:
        """What an audit compares."""
        found: dict[str, Any] = (await self.http.get("/_sim/counts")).json()
        return found

    async def confirm(self, secret: str, method: str = "pm_card_visa", **more: str) -> httpx.Response:
        """What a phone does: confirm with the client secret and the publishable key."""
        intent = secret.partition("_secret_")[0]
        form = {"client_secret": secret, "payment_method": method, **more}
        headers = {"Authorization": f"Bearer {self.PUBLISHABLE}"}
        return await self.http.post(f"/v1/payment_intents/{intent}/confirm", data=form, headers=headers)


StartStripe = Callable[..., Any]


@pytest.fixture
async def start_stripe() -> AsyncIterator[StartStripe]:
    """Start Stripe simulators in this process: `await start_stripe(path=None, endpoint=None)`; stopped at the end."""
    started: list[tuple[Stripe, Server, asyncio.Task[Any]]] = []

    async def start(path: Path | None = None, endpoint: str | None = None) -> Stripe:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = Config(
            key=Stripe.KEY, publishable=Stripe.PUBLISHABLE, secrets=(Stripe.SECRET,), endpoint=endpoint, path=path
        )
        app = StripeApp(config)
        server = Server(
            app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.auto, websockets=False
        )
        task = asyncio.create_task(server.serve())
        made = Stripe(app, port)
        started.append((made, server, task))
        while True:
            try:
                await made.http.get("/healthz")
                return made
            except httpx.TransportError:
                await asyncio.sleep(0.02)

    yield start
    for made, server, task in started:
        await made.http.aclose()
        server.stop()
        await task
        await made.app.stop()


@pytest.fixture
async def stripe_sim(start_stripe: StartStripe) -> Stripe:
    """A Stripe simulator without an endpoint, in memory."""
    made: Stripe = await start_stripe()
    return made


class Printer:
    """The simulated printer of one test: its address, and a client of its control side."""

    KEY = "key-of-the-printer"

    def __init__(self, app: ProdigiApp, port: int) -> None:
        self.app, self.url = app, f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20, headers={"X-API-Key": self.KEY})

    async def turn(self, **knobs: Any) -> None:
        """Set knobs."""
        answer = await self.http.post("/_sim/knobs", json=knobs)
        assert answer.status_code == 200, answer.text

    async def advance(self, seconds: int) -> None:
        """Move the virtual clock on, with everything that becomes due."""
        assert (await self.http.post("/_sim/clock", json={"advance_s": seconds})).status_code == 200

    async def counts(self) -> dict[str, int]:
        """What was asked and done."""
        found: dict[str, int] = (await self.http.get("/_sim/counts")).json()
        return found

    async def orders(self) -> list[dict[str, Any]]:
        """Every order with what only the printer knows."""
        found: list[dict[str, Any]] = (await self.http.get("/_sim/orders")).json()
        return found

    async def patch(self, order_id: str, patch: dict[str, Any]) -> None:
        """Change what an order tells (RFC 7396)."""
        assert (await self.http.post(f"/_sim/orders/{order_id}", json=patch)).status_code == 200


class Switch:
    """An ASGI application that is another one when a test says so: one server serves every test's printer."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Switch, int]]:
    """A server of this process whose application can be exchanged, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Switch()
    server = Server(
        made, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.auto, websockets=False
    )
    task = asyncio.create_task(server.serve())
    yield made, port
    server.stop()
    await task


@pytest.fixture(scope="session")
async def switch() -> AsyncIterator[tuple[Switch, int]]:
    """A server whose application tests exchange, and its port."""
    async with served() as made:
        yield made


StartPrinter = Callable[..., Any]


@pytest.fixture
async def start_printer(tmp_path: Path, switch: tuple[Switch, int]) -> AsyncIterator[StartPrinter]:
    """Start simulated printers, one after the other at one address, their clocks standing still:
    `await start_printer(path, **knobs)`; the same path again is the same printer started anew.
    """
    started: list[Printer] = []

    async def start(path: Path | None = None, **knobs: Any) -> Printer:
        server, port = switch
        server.app = ProdigiApp(path or tmp_path / "prodigi.db", Printer.KEY, Knobs(**knobs), auto=False)
        made = Printer(server.app, port)
        started.append(made)
        while True:
            try:
                await made.http.get("/healthz")
                return made
            except httpx.TransportError:
                await asyncio.sleep(0.02)

    yield start
    for made in started:
        await made.http.aclose()
        await made.app.stop()


@pytest.fixture
async def printer(start_printer: StartPrinter) -> Printer:
    """A simulated printer whose clock stands still."""
    made: Printer = await start_printer()
    return made

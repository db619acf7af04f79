"""The API in this process, over HTTP semantics but without a socket; its database is emptied before each test."""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from app.kernel.db import Database
from app.main import Api, create_app
from app.settings import ApiSettings, load_api
from app.web.openapi import document
from base import telemetry

ROOMY = {
    "TIRAGE_API_READS_BURST": "100000",
    "TIRAGE_API_WRITES_BURST": "100000",
    "TIRAGE_API_DEVICES_BURST": "100000",
}


def api_settings(env: dict[str, str], **changes: str) -> ApiSettings:
    """The stack's settings for an API whose limits stay out of the way unless a test sets them."""
    return load_api({**env, **ROOMY, **changes})


@contextlib.asynccontextmanager
async def living(app: Api) -> AsyncIterator[None]:
    """The app while its lifespan is open, in a task of its own: fixtures are set up and torn down in different ones."""
    stop, ready = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            ready.set()
            await stop.wait()

    life = asyncio.create_task(live())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        stop.set()
        waiting.cancel()
        await life


def client_of(app: Api, *hooks: Any) -> httpx.AsyncClient:
    """A client of a living app; a crash inside the app is the app's 500, not the test's error."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("192.0.2.7", 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://api.test", event_hooks={"response": [*hooks]})


class Described:
    """Looks at every answer: its status, and a problem's code, must stand in the description of the operation."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\{\w+}", "[^/]+", path)), path, operation["responses"])
            for path, operations in described["paths"].items()
            for method, operation in operations.items()
        ]
        self._operations.sort(key=lambda one: "{" in one[2])  # a path without parameters goes before one that fits it

    async def __call__(self, answer: httpx.Response) -> None:
        """An answer that nobody was told of is a defect, in whichever test it comes."""
        method, path, status = answer.request.method, answer.request.url.path, str(answer.status_code)
        found = next((r for m, p, _, r in self._operations if m == method and p.fullmatch(path)), None)
        if found is None or status == "500":
            return
        assert status in found, (method, path, status, await answer.aread())
        if status[0] in "45":
            code = json.loads(await answer.aread())["code"]
            assert f"`{code}`" in found[status]["description"], (method, path, status, code)


@contextlib.asynccontextmanager
async def running(app: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of one test."""
    async with living(app), client_of(app) as client:
        yield client


@pytest.fixture(scope="session")
async def app(env: dict[str, str]) -> AsyncIterator[Api]:
    """The API that a worker's tests share; whoever changes it makes one of his own."""
    made = create_app(api_settings(env))
    async with living(made):
        yield made


@pytest.fixture(scope="session")
def described_only(app: Api) -> Described:
    """What the shared API's answers are held against."""
    return Described(document(app))


@pytest.fixture
async def client(app: Api, described_only: Described, db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared API, which answers as described; the database is empty."""
    async with client_of(app, described_only) as made:
        yield made


Guest = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
def guest(client: httpx.AsyncClient) -> Guest:
    """Register a guest device; its answer with `auth` headers added."""

    return lambda: register(client)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything a process would log, as it would log it."""
    stream, root = io.StringIO(), logging.getLogger()
    kept, level = root.handlers[:], root.level
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        telemetry.configure_logs("test", "debug")
    yield stream
    root.handlers[:] = kept
    root.setLevel(level)
    structlog.reset_defaults()


class ApiProcess:
    """`tirage api` as its own process on a free port of 127.0.0.1; what it logs is kept in a file."""

    def __init__(self, env: dict[str, str], log: Path, **changes: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base, self.log = f"http://127.0.0.1:{self.port}", log
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIRAGE_")},
            **env,
            **ROOMY,
            **changes,
            "TIRAGE_API_PORT": str(self.port),
        }
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with self.log.open("ab") as out:
            command = [Path(sys.executable).with_name("tirage"), "api"]
            self.process = subprocess.Popen(command, env=self.env, stdout=out, stderr=out)
        for _ in range(6000):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base}/healthz").status_code == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError("the API did not start: " + self.log.read_text())

    def kill(self) -> None:
        """SIGKILL, as a machine that dies."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def api_process(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API process that tests share; they do not stop it."""
    process = ApiProcess(env, tmp_path_factory.mktemp("api") / "log", TIRAGE_API_HEARTBEAT="1")
    yield process
    process.stop()


@pytest.fixture
async def remote(api_process: ApiProcess, db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared API process; the database is empty."""
    async with httpx.AsyncClient(base_url=api_process.base, timeout=20) as client:
        yield client


async def register(client: httpx.AsyncClient) -> dict[str, Any]:
    """A guest of any client: the grant, and headers for its calls."""
    answer = await client.post("/v1/devices", json={"platform": "ios"})
    assert answer.status_code == 201, answer.text
    grant: dict[str, Any] = answer.json()
    return {**grant, "auth": {"Authorization": f"Bearer {grant['accessToken']}"}}

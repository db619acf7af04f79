"""The API in this process, over HTTP semantics but without a socket; its database is emptied before each test."""

import asyncio
import contextlib
import io
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import structlog

from app.kernel.db import Database
from app.main import Api, create_app
from app.settings import ApiSettings, load_api
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
async def running(app: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app while its lifespan is open; a crash inside the app is the app's 500, not the test's error."""
    stop, ready = asyncio.Event(), asyncio.Event()

    async def live() -> None:  # a task of its own: fixtures are set up and torn down in different ones
        async with app.lifespan():
            ready.set()
            await stop.wait()

    life = asyncio.create_task(live())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("192.0.2.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            yield client
    finally:
        stop.set()
        waiting.cancel()
        await life


@pytest.fixture
async def app(env: dict[str, str], db: Database) -> Api:
    return create_app(api_settings(env))


@pytest.fixture
async def client(app: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client


Guest = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
def guest(client: httpx.AsyncClient) -> Guest:
    """Register a guest device; its answer with `auth` headers added."""

    async def register() -> dict[str, Any]:
        answer = await client.post("/v1/devices", json={"platform": "ios"})
        assert answer.status_code == 201, answer.text
        grant: dict[str, Any] = answer.json()
        return {**grant, "auth": {"Authorization": f"Bearer {grant['accessToken']}"}}

    return register


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

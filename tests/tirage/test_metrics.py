"""Metrics as a scraper reads them, of real processes."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.kernel import jobs
from app.kernel.jobs import JobKind, Plan
from app.services import Services

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """A job's payload."""


@pytest.fixture
def dispatcher(env: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A dispatcher of a region of its own: the region, and where its metrics are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    region = f"t{uuid4().hex[:10]}"
    given = {**env, "TIRAGE_REGION": region, "TIRAGE_DISPATCHER_METRICS_PORT": str(port), "PATH": os.environ["PATH"]}
    with (tmp_path / "log").open("wb") as out:
        command = [Path(sys.executable).with_name("tirage"), "dispatcher"]
        process = subprocess.Popen(command, env=given, stdout=out, stderr=out)
    yield region, f"http://127.0.0.1:{port}/metrics"
    process.terminate()
    assert process.wait(30) == 0, (tmp_path / "log").read_text()


async def scraped(url: str) -> Series:
    """Every series, once the process answers."""
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                text = (await client.get(url)).text
                break
            await asyncio.sleep(0.1)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_dispatcher_tells_how_each_lane_of_a_region_is(services: Services, dispatcher: tuple[str, str]) -> None:
    region, url = dispatcher
    for lane in ("preview", "preview", "checkout"):
        kind = JobKind(name=f"t.{lane}", lane=lane, time_limit_s=20, max_attempts=3)
        async with services.db.transaction() as tx:
            assert await jobs.plan(tx, kind, Plan(kind=kind.name, payload=Nothing(), owner_id=None), region, None)
    labels = {lane: {("region", region), ("lane", lane)} for lane in ("preview", "checkout")}
    found: Series = {}
    async with asyncio.timeout(60):
        while ("tirage_lane_oldest_seconds", frozenset(labels["checkout"])) not in found:
            found = await scraped(url)
            await asyncio.sleep(0.1)

    def depth(lane: str) -> float:
        states = ("queued", "published", "parked")
        return sum(found["tirage_lane_depth", frozenset({*labels[lane], ("state", state)})] for state in states)

    assert (depth("preview"), depth("checkout")) == (2, 1)
    for lane in labels:
        assert found["tirage_lane_oldest_seconds", frozenset(labels[lane])] >= 0
        assert ("tirage_lane_predicted_wait_seconds", frozenset(labels[lane])) in found

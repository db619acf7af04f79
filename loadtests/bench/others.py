"""Whether time tells what others have: a hash that another owner has against one that nobody has, in turn.

`guessed` is how often one who sees the times of two such calls picks the right one (0.5 is a coin); `difference_us` is
between the medians. `own` is the control: a hash that the asker has, which time may tell. Never a gate.
"""

import asyncio
import json
import os
import random
import statistics
import sysconfig
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from app.kernel.db import Database, DatabaseSettings
from base import ids
from devstack.stack import running_servers
from loadtests.bench.api import ALBUM, ROOMY, migrated, server

CALLS: Final = 1500
HAD: Final = 10_000
"""`ALBUM` has this many photos, whose hashes are 1, 2, 3, …"""


def run() -> dict[str, Any]:
    """Of `POST /v1/uploads/check` and of creating a session."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(running_servers(folder / "data", {}))
        env = {**servers.environment(), **ROOMY}
        settings = asyncio.run(migrated(env["TIRAGE_DATABASE_URL"]))
        api, _ = stack.enter_context(server([Path(sysconfig.get_path("scripts")) / "tirage", "api"], env))
        return asyncio.run(_measure(settings, api))


async def _measure(settings: DatabaseSettings, api: str) -> dict[str, Any]:
    db = Database(settings)
    await db.start()
    async with httpx.AsyncClient(base_url=api, timeout=30) as client:
        owner, asker = [await _guest(client) for _ in range(2)]
        async with db.transaction() as tx:
            await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
            await tx.execute(ALBUM, ids.decode("owner", owner["ownerId"]))
            await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
            await tx.execute("ANALYZE assets")
        figures = {
            "calls_each": CALLS,
            "load_average": os.getloadavg()[0],
            "check": await _compared(client, asker, "/v1/uploads/check", _check),
            "check_of_ones_own": await _compared(client, owner, "/v1/uploads/check", _check),
            "create": await _compared(client, asker, "/v1/uploads", _create),
        }
    await db.stop()
    return figures


async def _guest(client: httpx.AsyncClient) -> dict[str, Any]:
    made: dict[str, Any] = (await client.post("/v1/devices", json={"platform": "ios"})).json()
    return made


def _check(digest: str) -> dict[str, Any]:
    return {"photos": [{"sha256": digest}]}


def _create(digest: str) -> dict[str, Any]:
    return {"bytes": 1000, "contentType": "image/jpeg", "sha256": digest}


async def _compared(client: httpx.AsyncClient, who: dict[str, Any], path: str, body: Any) -> dict[str, float]:
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(CALLS + 50):
        for had in random.sample((True, False), 2):
            digest = f"{random.randint(1, HAD) + (0 if had else 1 << 40):064x}"
            headers = {"Authorization": f"Bearer {who['accessToken']}", "Idempotency-Key": uuid4().hex}
            begun = time.perf_counter()
            (await client.post(path, json=body(digest), headers=headers)).raise_for_status()
            if number >= 50:
                times[had].append((time.perf_counter() - begun) * 1e6)
    had_us, not_us = statistics.median(times[True]), statistics.median(times[False])
    return {
        "p50_us": round(not_us),
        "difference_us": round(had_us - not_us, 1),
        "guessed": round(guessed(times[True], times[False]), 3),
    }


def guessed(one: Sequence[float], other: Sequence[float]) -> float:
    """The chance that of two values, one of each, the larger is of the side that is larger more often."""
    ordered = sorted(other)
    above = sum(bisect_left(ordered, each) + bisect_right(ordered, each) for each in one) / 2
    share = above / (len(one) * len(other))
    return max(share, 1 - share)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

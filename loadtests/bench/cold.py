"""Five hundred at once for one picture that nobody has made, over three origins: what waiting for one render costs.

Beside it the same five hundred once it is made, and one that asks alone for another picture of its kind.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx

from loadtests.bench.images import photos
from loadtests.bench.previews import Address, origin

ORIGINS: Final = 3
AT_ONCE: Final = 500
ROUNDS: Final = 7
LARGEST: Final = 640
"""Of larger ones the client in Python would be what is measured: 500 of 1600 px are 200 MB."""


def run() -> dict[str, Any]:
    """Milliseconds; `hot_hits_for_the_wait` is (cold p99 - alone) / hot p99. Needs the real photos."""
    if not photos().exists():
        return {"skipped": f"needs photos in {photos()}"}
    with tempfile.TemporaryDirectory() as folder, origin(Path(folder), ORIGINS) as servers:
        rounds = asyncio.run(_rounds(servers))
    wait = [(each["cold_p99"] - each["alone"]) / each["hot_p99"] for each in rounds]
    figures = {name: round(statistics.median(each[name] for each in rounds)) for name in rounds[0]}
    told = {"hot_hits_for_the_wait": round(statistics.median(wait), 2), "all": [round(one, 2) for one in sorted(wait)]}
    return {"at_once": AT_ONCE, "origins": ORIGINS, "ms": figures, **told, "load_average": os.getloadavg()[0]}


async def _rounds(servers: list[Address]) -> list[dict[str, float]]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        await _times(client, [server(0, LARGEST) for server in servers] * (AT_ONCE // ORIGINS))  # connections, children
        return [await _round(client, servers, LARGEST - 2 * number) for number in range(1, ROUNDS + 1)]


async def _round(client: httpx.AsyncClient, servers: list[Address], side: int) -> dict[str, float]:
    alone = await _times(client, [servers[0](0, side - 1)])
    everybody = [servers[number % ORIGINS](0, side) for number in range(AT_ONCE)]
    cold, hot = await _times(client, everybody), await _times(client, everybody)
    return {"alone": alone[0], "cold_p50": cold[AT_ONCE // 2], "cold_p99": _p99(cold), "hot_p99": _p99(hot)}


def _p99(times: list[float]) -> float:
    return times[len(times) * 99 // 100]


async def _times(client: httpx.AsyncClient, addresses: list[str]) -> list[float]:
    """How long each took, in milliseconds, all begun at once; shortest first."""

    async def one(address: str) -> float:
        begun = time.perf_counter()
        answer = await client.get(address)
        answer.raise_for_status()
        return 1000 * (time.perf_counter() - begun)

    return sorted(await asyncio.gather(*map(one, addresses)))

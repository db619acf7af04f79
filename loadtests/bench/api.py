"""The API: what authentication and one indexed read cost beside a bare handler, idle streams, and a replayed call.

Needs Debian's `wrk` and two cores: the API and its peer have core 0, the load and Postgres core 1.
"""

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx

from app.assets.domain import AssetErased
from app.kernel.access import AccessTokens
from app.kernel.db import Database, DatabaseSettings
from app.kernel.events import Origin, append
from app.kernel.migrate import migrate
from app.machines import MACHINES
from base import ids
from base.clock import SystemClock
from base.ids import AssetId, DeviceId, OwnerId
from base.settings import Reader, Secret
from devstack.stack import running_servers
from loadtests.bench.edge import _await, _ending, _free_port

ROUNDS: Final = 7
SECONDS: Final = 3
CONNECTIONS: Final = 32
ASSETS: Final = 500
"""As many are read in turn: reads of one row at once would be answered by one read of it."""
STREAMS: Final = 500
WAKES: Final = 200
"""Events told to all streams. One more before them opens the teller's connection and prepares the statements; of fewer
rounds the slowest one alone would be the 99th percentile."""
ROOMY: Final = {f"TIRAGE_API_{name}": "1000000" for name in ("READS_BURST", "WRITES_BURST", "DEVICES_BURST")} | {
    "TIRAGE_API_READS_PER_MINUTE": "10000000",
    "TIRAGE_API_STREAMS_PER_OWNER": "1000",
}
BARE: Final = """
import os, sys
import asyncpg, msgspec, uvloop
from litestar import Litestar, get
from base import ids
from tirage.serving import serve_asgi

class Out(msgspec.Struct):
    id: str
    bytes: int

@get("/", sync_to_thread=False)
def read() -> Out:
    return Out("ast_01h455vb4pex5vsknk084sn02q", 1000)

@get("/v1/assets/{asset:str}")
async def read_row(asset: str) -> Out:
    async with app.state.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM assets WHERE id = $1", ids.decode("asset", asset))
    return Out(asset, row["bytes"])

async def start():
    app.state.pool = await asyncpg.create_pool(os.environ["TIRAGE_DATABASE_URL"])

app = Litestar([read, read_row], on_startup=[start], openapi_config=None, logging_config=None)
uvloop.run(serve_asgi(app, "127.0.0.1", int(sys.argv[1])))
"""
CHECKS: Final = 200
ALBUM: Final = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256)
SELECT gen_random_uuid(), $1, 'ready', 3000000 + n, 'image/jpeg', lpad(to_hex(n), 64, '0')
FROM generate_series(1, 10000) n
"""
CYCLE: Final = """
local function lines(name)
  local found = {}
  for line in io.lines(os.getenv(name)) do found[#found + 1] = line end
  return found
end
local tokens, paths, at = lines("TOKENS"), lines("PATHS"), 0
request = function()
  at = at + 1
  wrk.headers["Authorization"] = "Bearer " .. tokens[at % #tokens + 1]
  return wrk.format("GET", paths[at % #paths + 1])
end
"""


def run() -> dict[str, Any]:
    """Requests a second, the ratios' median, milliseconds of a replay, megabytes and wake-up of idle streams."""
    if shutil.which("wrk") is None or (os.cpu_count() or 1) < 2:
        return {"skipped": "needs wrk and two cores"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.sched_setaffinity(0, {1})  # the servers inherit it, and so does the load
        servers = stack.enter_context(running_servers(folder / "data", {}))
        env = {**servers.environment(), **ROOMY}
        db = asyncio.run(migrated(env["TIRAGE_DATABASE_URL"]))
        api, pid = stack.enter_context(server([Path(sysconfig.get_path("scripts")) / "tirage", "api"], env))
        bare, _ = stack.enter_context(server([sys.executable, "-c", BARE], env, port_argument=True))
        return asyncio.run(_measure(db, env, folder, api, pid, bare))


async def migrated(url: str) -> DatabaseSettings:
    """Migrate an empty database; how to reach it."""
    settings = DatabaseSettings(
        url=Secret(url), pool_min=1, pool_max=4, acquire_timeout_s=30, statement_timeout_ms=60_000
    )
    db = Database(settings)
    await db.start()
    await migrate(db, MACHINES)
    await db.stop()
    return settings


@contextmanager
def server(command: list[Any], env: Mapping[str, str], *, port_argument: bool = False) -> Iterator[tuple[str, int]]:
    """A server on core 0 until the end: its address and process."""
    port = _free_port()
    whole = {**os.environ, **env, "TIRAGE_API_PORT": str(port)}
    pinned = ["taskset", "-c", "0", *command, *([str(port)] if port_argument else [])]
    process = subprocess.Popen(pinned, env=whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with _ending(process):
        _await(f"http://127.0.0.1:{port}/" if port_argument else f"http://127.0.0.1:{port}/healthz")
        yield f"http://127.0.0.1:{port}", process.pid


async def _measure(
    settings: DatabaseSettings, env: Mapping[str, str], folder: Path, api: str, pid: int, bare: str
) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=api, timeout=30) as client:
        me = (await client.post("/v1/devices", json={"platform": "ios"})).json()
        auth = {"Authorization": f"Bearer {me['accessToken']}"}
        db = Database(settings)
        await db.start()
        (folder / "paths").write_text("\n".join(await _assets(client, auth, db)))
        (folder / "root").write_text("/")
        tokens = folder / "tokens"
        tokens.write_text("\n".join(_tokens(env, me["ownerId"])))
        figures = {
            "command": f"wrk -t1 -c{CONNECTIONS} (alone: -c1) -d{SECONDS}s on core 1, API on core 0, {ROUNDS} rounds",
            "load_average": os.getloadavg()[0],
            "reads": await asyncio.to_thread(_compare, api, me["accessToken"], tokens, bare, folder),
            "replay": await _replays(client, auth),
            "bulk_check": await _checks(client, auth, me["ownerId"], db),
            "streams": await _streams(client, auth, me["ownerId"], db, pid),
        }
        await db.stop()
        return figures


async def _assets(client: httpx.AsyncClient, auth: dict[str, str], db: Database) -> list[str]:
    """Paths of assets that are read by their keys; their rows are all that is needed."""
    owner = ids.decode("owner", (await client.get("/v1/me", headers=auth)).json()["id"])
    made = [ids.new_id() for _ in range(ASSETS)]
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        await tx.many(
            "INSERT INTO assets (id, owner_id, state, bytes, declared_type) VALUES ($1, $2, 'ready', 1, 'image/jpeg')",
            [(asset, owner) for asset in made],
        )
        await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
    return [f"/v1/assets/{ids.encode('asset', asset)}" for asset in made]


def _tokens(env: Mapping[str, str], owner: str) -> list[str]:
    """More tokens of one owner than are asked with: each is met for the first time."""
    access = AccessTokens(Reader(env).keys("TIRAGE_TOKEN_KEYS"), SystemClock())
    owner_id = OwnerId(ids.decode("owner", owner))
    return [
        access.customer(owner_id, DeviceId(UUID(int=number)), timedelta(minutes=50))[0] for number in range(100_000)
    ]


def _compare(api: str, token: str, tokens: Path, bare: str, folder: Path) -> dict[str, Any]:
    """The same script asks all of them: with one token or a new one each time, for rows in turn or the bare `/`."""
    script, known = folder / "cycle.lua", folder / "known"
    script.write_text(CYCLE)
    known.write_text(token)
    paths, root = folder / "paths", folder / "root"
    ways = {
        "known_token": (api, paths, known, CONNECTIONS),
        "cold_token": (api, paths, tokens, CONNECTIONS),
        "bare_handler": (bare, root, known, CONNECTIONS),
        "bare_handler_with_the_read": (bare, paths, known, CONNECTIONS),
        "known_token_alone": (api, paths, known, 1),
        "bare_handler_alone": (bare, root, known, 1),
        "bare_handler_with_the_read_alone": (bare, paths, known, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    lines = tokens.read_text().splitlines()
    share = len(lines) // ROUNDS
    for number in range(ROUNDS):
        # Each round of cold tokens begins where none was seen yet.
        tokens.write_text("\n".join(lines[number * share : (number + 1) * share]))
        for name, (url, asked, given, connections) in ways.items():
            rates[name].append(_rate(url, script, asked, given, connections))
    ratios = {
        name: [ours / theirs for ours, theirs in zip(found, rates[_peer(name)], strict=True)]
        for name, found in rates.items()
        if name != _peer(name)
    }
    return {
        "per_s": {name: round(statistics.median(found)) for name, found in rates.items()},
        "ratio": {name: round(statistics.median(found), 3) for name, found in ratios.items()},
        "ratios": {name: [round(ratio, 3) for ratio in sorted(found)] for name, found in ratios.items()},
    }


def _peer(name: str) -> str:
    """The bare handler asked by as many connections."""
    return "bare_handler_alone" if name.endswith("_alone") else "bare_handler"


def _rate(url: str, script: Path, paths: Path, tokens: Path, connections: int) -> float:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", str(script), url]
    env = {**os.environ, "TOKENS": str(tokens), "PATHS": str(paths)}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    if "Non-2xx" in told:
        raise RuntimeError(f"unexpected answers: {told}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", told)
    assert found is not None
    return float(found[1])


async def _replays(client: httpx.AsyncClient, auth: dict[str, str]) -> dict[str, float]:
    """Milliseconds of a keyed call the first time and again; what it costs in statements is a test's business."""
    first, again = [], []
    for number in range(200):
        body = {"bytes": 1000, "contentType": "image/jpeg"}
        headers = {**auth, "Idempotency-Key": f"bench-{number:08}"}
        for times in (first, again):
            begun = time.perf_counter()
            (await client.post("/v1/uploads", json=body, headers=headers)).raise_for_status()
            times.append((time.perf_counter() - begun) * 1000)
    return {"first_p50_ms": round(statistics.median(first), 2), "again_p50_ms": round(statistics.median(again), 2)}


async def _checks(client: httpx.AsyncClient, auth: dict[str, str], owner: str, db: Database) -> dict[str, float]:
    """Milliseconds of `POST /v1/uploads/check` for 1,000 photos, half of them in an album of 10,000."""
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        await tx.execute(ALBUM, ids.decode("owner", owner))
        await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
        await tx.execute("ANALYZE assets")
    times = []
    for number in range(CHECKS):
        asked = range(number * 7 + 1, number * 7 + 1001)
        photos = [{"sha256": f"{n:064x}", "sourceId": f"S{n}", "bytes": 3_000_000 + n} for n in asked if n % 2]
        photos += [{"sha256": f"{n + (1 << 40):064x}", "sourceId": f"S{n}", "bytes": n} for n in asked if n % 2 == 0]
        begun = time.perf_counter()
        (await client.post("/v1/uploads/check", json={"photos": photos}, headers=auth)).raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return {"p50_ms": round(statistics.median(times), 1), "p99_ms": round(times[len(times) * 99 // 100], 1)}


async def _streams(
    client: httpx.AsyncClient, auth: dict[str, str], owner: str, db: Database, pid: int
) -> dict[str, float]:
    """Memory of the process with and without idle streams; from COMMIT to the line at the last of them."""
    before = _pss_mb(pid)
    host, port = client.base_url.host, client.base_url.port
    opened = [await _open(host, port or 80, auth["Authorization"]) for _ in range(STREAMS)]
    await asyncio.sleep(2)
    held = _pss_mb(pid)
    waits: list[float] = []
    for number in range(WAKES + 1):
        got = [asyncio.ensure_future(_told(reader)) for reader, _ in opened]
        async with db.transaction() as tx:
            asset = AssetId(ids.new_id())
            owner_id = ids.decode("owner", owner)
            told = AssetErased(asset_id=asset)
            await append(tx, told, aggregate_id=asset, owner_id=owner_id, origin=Origin(actor="system"))
            tx.wake_after_commit("events")
        committed = time.perf_counter()
        arrived = await asyncio.gather(*got)
        if number:
            waits += [(moment - committed) * 1000 for moment in arrived]
    for _, writer in opened:
        writer.close()
    waits.sort()
    return {
        "open": STREAMS,
        "process_mb_before": before,
        "process_mb_with": held,
        "kb_a_stream": round((held - before) * 1000 / STREAMS, 1),
        "wake_p50_ms": round(statistics.median(waits), 1),
        "wake_p99_ms": round(waits[int(0.99 * len(waits))], 1),
    }


async def _open(host: str, port: int, authorization: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"GET /v1/events?after=latest HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def _told(reader: asyncio.StreamReader) -> float:
    while not (await reader.readline()).startswith(b"data:"):
        pass
    return time.perf_counter()


def _pss_mb(pid: int) -> float:
    line = next(row for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if row.startswith("Pss:"))
    return round(int(line.split()[1]) / 1000, 1)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

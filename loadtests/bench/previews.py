"""Previews that nobody has asked for yet: our origin against thumbor and ipx, two workers each, taking turns.

Every request is for another width of 200 to 1600 px. The peers read the original from disk; our origin is the real
one: it verifies the signed path, takes a lease, reads facts and parent from the store and writes what it made. Beside
it the decode children alone, two of them, which is the image core's own share.

Beside the rates, the processor time that a preview took of every program that had part in it: on a busy machine a rate
tells who was given the core.
"""

import asyncio
import base64
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from base import keys
from base.objects import ObjectStore, read_buckets, read_store
from base.settings import Reader
from devstack.stack import running_servers
from edge.node.settings import VARIABLES
from imagecore import engine, recipe, render
from imagecore.facts import canonical
from imagecore.jail import Jail
from imagecore.recipe import Recipe
from imagecore.signing import Durable, Ring, derive
from loadtests.bench.edge import _await, _free_port
from loadtests.bench.images import photos
from loadtests.bench.peers import install

ROUNDS: Final = 5
REQUESTS: Final = 24
CONCURRENCY: Final = 4
SLOTS: Final = 2
PHOTOS: Final = ("large-03-iphone-xs-p3-rotated.jpg", "large-01-mi-a3-dinner.jpg")
ASSETS: Final = ("ast_01m86bj0xee1ere2xz744049w7", "ast_01m86bj0xee1ere2xz744049w8")
MASTER: Final = ("u1", bytes(range(32)))
THUMBOR: Final = """
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {root!r}
STORAGE = "thumbor.storages.no_storage"
QUALITY = 80
PROGRESSIVE_JPEG = False
"""

Get = Callable[[int, int], Awaitable[int]]
"""Fetch a photo (its number) fitted into a square of so many pixels; gives the bytes received."""
Address = Callable[[int, int], str]
"""Where a photo fitted into a square is."""


def wanted(side: int) -> Recipe:
    return recipe.rung(side, engine.revision())


@contextmanager
def serving(argv: list[str], port: int, path: str, env: dict[str, str]) -> Iterator[str]:
    """A server in a process group of its own: thumbor's children outlive a signal to their parent."""
    process = subprocess.Popen(
        argv, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _await(f"http://127.0.0.1:{port}{path}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def thumbor(folder: Path) -> Iterator[list[Address]]:
    """Two servers with a listener each.

    With `--processes 2` whichever process wakes first accepts a connection, and one of three starts gave all four of a
    client's connections to one of them.
    """
    conf = folder / "thumbor.conf"
    conf.write_text(THUMBOR.format(root=str(folder)))
    with ExitStack() as stack:
        yield [stack.enter_context(_one_thumbor(conf)) for _ in range(SLOTS)]


@contextmanager
def _one_thumbor(conf: Path) -> Iterator[Address]:
    port = _free_port()
    argv = [str(install.python().with_name("thumbor")), "-p", str(port), "-i", "127.0.0.1", "-c", str(conf)]
    with serving(argv, port, "/healthcheck", {}) as url:
        yield lambda photo, side: f"{url}/unsafe/fit-in/{side}x{side}/{PHOTOS[photo]}"


@contextmanager
def ipx(folder: Path) -> Iterator[list[Address]]:
    port, modules = _free_port(), install.node_modules()
    assert modules is not None
    program = str(modules / "node_modules" / ".bin" / "ipx")
    argv = [program, "serve", "--dir", str(folder), "--port", str(port), "--host", "127.0.0.1"]
    with serving(argv, port, f"/w_16/{PHOTOS[0]}", {"UV_THREADPOOL_SIZE": "2", "VIPS_CONCURRENCY": "1"}) as url:
        yield [lambda photo, side: f"{url}/s_{side}x{side},fit_inside,q_80,f_jpeg/{PHOTOS[photo]}"]


@contextmanager
def region(folder: Path) -> Iterator[tuple[dict[str, str], Address]]:
    """A real store and queue with the photos' ancestors and their halves, as origins know them; and signed paths."""
    ring = Ring.of_masters([MASTER], "home")
    secrets = {name: derive(MASTER[1], life, "home") for life, name in VARIABLES.items()}
    with running_servers(folder / "stack", {}) as stack:
        env = stack.environment() | {"TIRAGE_ORIGIN_RENDERS": str(SLOTS), "TIRAGE_REGION": "home"}
        env |= {name: f"u1:{base64.b64encode(key).decode()}" for name, key in secrets.items()}
        asyncio.run(_store(env))
        yield env, lambda photo, side: ring.sign(Durable(asset=ASSETS[photo], recipe=recipe.text(wanted(side))))


@contextmanager
def origin(folder: Path) -> Iterator[list[Address]]:
    """A real origin."""
    port, argv = _free_port(), [str(Path(sysconfig.get_path("scripts")) / "tirage"), "origin"]
    with (
        region(folder) as (env, path),
        serving(argv, port, "/healthz", {**env, "TIRAGE_ORIGIN_PORT": str(port)}) as url,
    ):
        yield [lambda photo, side: url + path(photo, side)]


async def _store(env: dict[str, str]) -> None:
    read = Reader(env)
    store, buckets, revision = ObjectStore(read_store(read, "RECORD")), read_buckets(read), engine.revision()
    for asset, name in zip(ASSETS, PHOTOS, strict=True):
        report, parents = render.parents((photos() / name).read_bytes())
        await store.put(buckets.ancestors, keys.ancestor(asset, revision), parents["ancestor"], "image/jpeg")
        await store.put(buckets.ancestors, keys.half(asset, revision), parents["half"], "image/jpeg")
        await store.put(buckets.ancestors, keys.facts(asset, revision), canonical(report.facts), "application/json")
    store.close()


def over_http(client: httpx.AsyncClient, servers: list[Address]) -> Get:
    """From the server that has the fewest requests of ours."""
    busy = [0] * len(servers)

    async def get(photo: int, side: int) -> int:
        which = busy.index(min(busy))
        busy[which] += 1
        try:
            answer = await client.get(servers[which](photo, side))
        finally:
            busy[which] -= 1
        answer.raise_for_status()
        return len(answer.content)

    return get


def in_jail(jail: Jail) -> Get:
    """Two at once, as an origin asks: with more jobs than slots a jail would start a child for each of the others."""
    stored = [render.parents((photos() / name).read_bytes()) for name in PHOTOS]
    slots = asyncio.Semaphore(SLOTS)

    async def get(photo: int, side: int) -> int:
        report, parents = stored[photo]
        parent = parents[render.parent_of(wanted(side), report.facts)]
        params = render.RenderParams(recipe=recipe.text(wanted(side)), facts=canonical(report.facts))
        async with slots:
            outputs = jail.arun("render", msgspec.msgpack.encode(params), [parent], 60)
            return sum([len(output.data) async for output in outputs])

    return get


async def rate(get: Get, sides: list[int]) -> float:
    """Previews a second, each photo in turn, a few at once."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int, side: int) -> None:
        async with gate:
            assert await get(number % len(PHOTOS), side) > 1_000

    start = time.monotonic()
    await asyncio.gather(*(one(number, side) for number, side in enumerate(sides)))
    return len(sides) / (time.monotonic() - start)


def spent() -> Counter[str]:
    """Milliseconds of processor time that our descendants have used so far, by program."""
    rows: dict[int, list[tuple[int, str, int]]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            ticks = sum(map(int, fields[11:15]))  # its own and its ended children's
            rows.setdefault(int(fields[1]), []).append((int(status.parent.name), name, ticks))
    told, waiting = Counter[str](), [os.getpid()]
    while waiting:
        for pid, name, ticks in rows.get(waiting.pop(), []):
            told[name] += 1000 * ticks // os.sysconf("SC_CLK_TCK")
            waiting.append(pid)
    return told


async def compared(servers: dict[str, list[Address]], jail: Jail) -> dict[str, Any]:
    """Rates of all in turn; every round has widths of its own, the same for all."""
    sides = list(range(200, 1601))
    random.Random(5).shuffle(sides)
    async with httpx.AsyncClient(timeout=120) as client:
        getting = {name: over_http(client, alike) for name, alike in servers.items()}
        getting["jail"] = in_jail(jail)
        for get in getting.values():
            await rate(get, [sides.pop() for _ in range(4)])
        rounds, used = [], {name: Counter[str]() for name in getting}
        for _ in range(ROUNDS):
            these, rates = [sides.pop() for _ in range(REQUESTS)], dict[str, float]()
            for name, get in getting.items():
                before = spent()
                rates[name] = await rate(get, these)
                used[name] += spent() - before
            rounds.append(rates)
    told: dict[str, Any] = {name: round(statistics.median(r[name] for r in rounds), 1) for name in getting}
    for ours in ("origin", "jail"):
        for peer in sorted(set(getting) - {"origin", "jail"}):
            told[f"{ours} to {peer}"] = round(statistics.median(r[ours] / r[peer] for r in rounds), 2)
    each = ROUNDS * REQUESTS
    told["cpu_ms"] = {name: {program: round(ms / each, 1) for program, ms in of.items()} for name, of in used.items()}
    return told


def run() -> dict[str, Any]:
    """Previews a second, and how many times the peers' ours are; needs the real photos and node."""
    if not photos().exists() or install.node_modules() is None:
        return {"skipped": f"needs photos in {photos()}, and node"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in PHOTOS:
            shutil.copy(photos() / name, folder / name)
        peers = {"thumbor": thumbor, "ipx": ipx, "origin": origin}
        servers = {name: stack.enter_context(begin(folder)) for name, begin in peers.items()}
        jail = stack.enter_context(Jail.open(slots=SLOTS, preload=("render",)))
        return {**asyncio.run(compared(servers, jail)), "load_average": os.getloadavg()}

"""Keys are changed while people look at pictures: two edges behind whoever asks, rolled one after the other."""

import asyncio
import base64
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import pyvips

from app.delivery.service import Minter, MintSettings
from base import ids, keys
from base.clock import SystemClock
from base.edges import EdgeClient, Purge
from base.objects import Buckets, ObjectStore
from base.settings import Keys, Reader, Secret
from edge.node.settings import VARIABLES
from imagecore import engine, render
from imagecore import recipe as recipes
from imagecore.facts import canonical
from imagecore.recipe import Format
from imagecore.signing import derive

ASSET = "ast_01m86bj0xee1ere2xz744049w7"
SHARE = "shr_01m86bj0xee1ere2xz744049w7"
RECIPE = recipes.text(recipes.rung(400, "lv8187a"))
OLD, NEW = ("r1", bytes(range(1, 33))), ("r2", bytes(range(33, 65)))
DATA = b"picture" * 2000


def variables(*masters: tuple[str, bytes]) -> dict[str, str]:
    """What the edges of region `home` are configured with."""
    return {
        name: ",".join(f"{kid}:{base64.b64encode(derive(key, life, 'home')).decode()}" for kid, key in masters)
        for life, name in VARIABLES.items()
    }


def minter(*masters: tuple[str, bytes]) -> Minter:
    """The API's, newest key first; its addresses are paths."""
    keyring = Keys([(kid, Secret(key)) for kid, key in masters])
    return Minter(MintSettings(keys=keyring, edge_url=""), "home", SystemClock())


def known(by: Minter) -> list[str]:
    """Addresses of the picture that both edges have, one of each lifetime."""
    picture: tuple[str, str] = (ASSET, "lv8187a")
    made = [
        *by.ladder(*picture, [400], "jpg"),
        *by.shared(*picture, SHARE, [400], "jpg"),
        *by.durable(*picture, [400], "jpg"),
    ]
    return [address.url for address in made]


class Viewers:
    """Ask one edge, and the other when the first does not answer or says 503, as a load balancer does.

    `look` at what both edges have, `look_further` at what only an origin can make. `told` counts statuses, `seen` by
    key id what was answered, once there are origins only what one of them made.
    """

    def __init__(self, edges: list[Any], cold: Iterator[tuple[str, int, Format]] | None) -> None:
        self._edges, self._cold, self.minter = edges, cold, minter(OLD)
        self.told, self.seen, self.is_done = Counter[int](), Counter[str](), False

    async def look(self, first: int) -> None:
        order = itertools.cycle([first, 1 - first])
        async with httpx.AsyncClient(timeout=5) as client:
            while not self.is_done:
                for path in known(self.minter):
                    self.told[(await self._answer(client, path, order)).status_code] += 1
                    self.seen[path.split("/")[2]] += self._cold is None

    async def look_further(self) -> None:
        if self._cold is None:
            return
        order = itertools.cycle([0, 1])
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.is_done:
                asset, side, format_ = next(self._cold)
                (address,) = self.minter.ladder(asset, engine.revision(), [side], format_)
                answer = await self._answer(client, address.url, order)
                self.told[answer.status_code] += 1
                self.seen[address.url.split("/")[2]] += "detail=origin" in answer.headers["cache-status"]
                await asyncio.sleep(0.2)

    async def _answer(self, client: httpx.AsyncClient, path: str, order: Iterator[int]) -> httpx.Response:
        for at in itertools.islice(order, 400):
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(self._edges[at].url + path)
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(0.05)
        raise AssertionError("neither edge answers")

    async def until_seen(self, kid: str) -> None:
        """Wait until another picture was seen at an address of this key."""
        before = self.seen[kid]
        async with asyncio.timeout(60):
            while self.seen[kid] == before:
                await asyncio.sleep(0.05)


async def roll(servers: list[Any], *masters: tuple[str, bytes]) -> None:
    """Give each other keys, one after the other."""
    for server in servers:
        assert await asyncio.to_thread(server.stop) == 0
        server.env.update(variables(*masters))
        await asyncio.to_thread(server.start)
        if server.name == "edge":
            await listed(server)


async def listed(edge: Any) -> None:
    """Home's word that nothing is revoked."""
    client = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PURGE_KEYS"))
    assert (await client.purge(Purge(total=0))).listed
    await client.close()


@pytest.fixture(params=[0, pytest.param(2, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def origins(start: Any, request: pytest.FixtureRequest) -> list[Any]:
    """One for each edge; without, nothing is asked for that an edge has not."""
    return [start("origin", **variables(OLD)) for _ in range(request.param)]


@pytest.fixture
async def edges(start: Any, origins: list[Any]) -> list[Any]:
    behind = [{"TIRAGE_ORIGIN_URL": origin.url} for origin in origins] or [{}, {}]
    started = [start("edge", **variables(OLD), **each) for each in behind]
    for edge in started:
        client = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PUSH_KEYS"))
        assert await client.push(ASSET, RECIPE, "jpg", DATA)
        await client.close()
        await listed(edge)
    return started


@pytest.fixture
async def cold(
    record_store: ObjectStore, buckets: Buckets, origins: list[Any]
) -> Iterator[tuple[str, int, Format]] | None:
    """Renditions that nobody has made: asset, side and format."""
    if not origins:
        return None
    rows = np.random.default_rng(9).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    image = pyvips.Image.new_from_array(rows).resize(10).copy(interpretation="srgb")
    report, parents = render.parents(image.jpegsave_buffer(Q=90))
    assets, revision = [ids.encode("asset", uuid4()) for _ in range(40)], engine.revision()
    for asset in assets:
        await record_store.put(buckets.ancestors, keys.ancestor(asset, revision), parents["ancestor"], "image/jpeg")
        await record_store.put(buckets.ancestors, keys.half(asset, revision), parents["half"], "image/jpeg")
        facts = canonical(report.facts)
        await record_store.put(buckets.ancestors, keys.facts(asset, revision), facts, "application/json")
    formats: tuple[Format, ...] = ("jpg", "webp")
    return itertools.product(assets, (200, 400, 800), formats)


async def test_no_good_path_is_refused_and_no_retired_one_accepted(
    edges: list[Any], origins: list[Any], cold: Iterator[tuple[str, int, Format]] | None
) -> None:
    """In the order of docs/runbooks.md: who verifies, then who mints, and back the other way."""
    viewers = Viewers(edges, cold)
    looking = [asyncio.create_task(look) for look in (viewers.look(0), viewers.look(1), viewers.look_further())]
    await viewers.until_seen("r1")
    await roll([*origins, *edges], OLD, NEW)
    await viewers.until_seen("r1")
    retired = known(viewers.minter)
    viewers.minter = minter(NEW, OLD)
    await viewers.until_seen("r2")
    assert statuses(edges, retired) == {200}
    await roll([*edges, *origins], NEW)
    await viewers.until_seen("r2")
    viewers.is_done = True
    await asyncio.gather(*looking)
    assert set(viewers.told) == {200}
    assert viewers.told[200] > 100
    assert statuses(edges, retired) == statuses(edges, known(minter(OLD))) == {404}


def statuses(edges: list[Any], paths: list[str]) -> set[int]:
    return {httpx.get(edge.url + path).status_code for edge in edges for path in paths}


async def test_another_order_refuses_good_paths(
    edges: list[Any], origins: list[Any], cold: Iterator[tuple[str, int, Format]] | None
) -> None:
    """Minted before the edges know the key, and before the origin does."""
    fresh = minter(NEW, OLD)
    assert statuses(edges, known(fresh)) == {404}
    if cold is None:
        return
    await roll(edges[:1], OLD, NEW)
    asset, side, format_ = next(cold)
    (address,) = fresh.ladder(asset, engine.revision(), [side], format_)
    assert statuses(edges[:1], known(fresh)) == {200}
    assert statuses(edges[:1], [address.url]) == {404}
    await roll(origins[:1], OLD, NEW)
    assert statuses(edges[:1], [address.url]) == {200}

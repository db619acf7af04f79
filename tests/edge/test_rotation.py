"""Keys are changed while people look at pictures: two edges behind whoever asks, rolled one after the other."""

import asyncio
import base64
import itertools
from typing import Any

import httpx
import pytest

from base.edges import EdgeClient, Purge
from base.settings import Reader
from edge.node.settings import VARIABLES
from imagecore import recipe as recipes
from imagecore.signing import Durable, Ring, Share, derive

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


class Viewers:
    """Ask one edge, and the other when the first does not answer or says 503, as a load balancer does."""

    def __init__(self, edges: list[Any]) -> None:
        self._edges, self.statuses, self.is_done = edges, [0] * 600, False
        self.ring = Ring.of_masters([OLD], "home")

    async def look(self, first: int) -> None:
        order = itertools.cycle([first, 1 - first])
        async with httpx.AsyncClient(timeout=5) as client:
            while not self.is_done:
                wanted = Durable(asset=ASSET, recipe=RECIPE), Share(asset=ASSET, recipe=RECIPE, share=SHARE)
                for path in map(self.ring.sign, wanted):
                    self.statuses[await self._status(client, path, order)] += 1

    async def _status(self, client: httpx.AsyncClient, path: str, order: Any) -> int:
        for at in itertools.islice(order, 40):
            try:
                answer = await client.get(self._edges[at].url + path)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code != 503:
                return answer.status_code
        return 599


async def roll(edges: list[Any], *masters: tuple[str, bytes]) -> None:
    for edge in edges:
        assert await asyncio.to_thread(edge.stop) == 0
        edge.env.update(variables(*masters))
        await asyncio.to_thread(edge.start)
        await listed(edge)


async def listed(edge: Any) -> None:
    """Home's word that nothing is revoked."""
    client = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PURGE_KEYS"))
    assert (await client.purge(Purge(total=0))).listed
    await client.close()


@pytest.fixture
async def edges(start: Any) -> list[Any]:
    started = [start("edge", **variables(OLD)) for _ in range(2)]
    for edge in started:
        client = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PUSH_KEYS"))
        assert await client.push(ASSET, RECIPE, "jpg", DATA)
        await client.close()
        await listed(edge)
    return started


async def test_no_good_path_is_refused_and_no_retired_one_accepted(edges: list[Any]) -> None:
    viewers = Viewers(edges)
    looking = [asyncio.create_task(viewers.look(first)) for first in (0, 1)]
    await asyncio.sleep(0.3)
    await roll(edges, OLD, NEW)
    await asyncio.sleep(0.3)
    kept = viewers.ring.sign(Durable(asset=ASSET, recipe=RECIPE))
    viewers.ring = Ring.of_masters([NEW, OLD], "home")
    await asyncio.sleep(0.3)
    assert {httpx.get(edge.url + kept).status_code for edge in edges} == {200}
    await roll(edges, NEW)
    await asyncio.sleep(0.3)
    viewers.is_done = True
    await asyncio.gather(*looking)
    assert {status for status, count in enumerate(viewers.statuses) if count} == {200}
    assert sum(viewers.statuses) > 100
    assert {httpx.get(edge.url + kept).status_code for edge in edges} == {404}
    fresh = Ring.of_masters([OLD], "home").sign(Share(asset=ASSET, recipe=RECIPE, share=SHARE))
    assert {httpx.get(edge.url + fresh).status_code for edge in edges} == {404}

"""Real origins on the real store and queue: one render a key in the cluster, whoever dies; honest refusals."""

import asyncio
import hashlib
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import pyvips
import uuid_utils
from typeid import TypeID

from base import keys
from base.errors import ServiceUnavailable
from base.ids import new_id
from base.objects import Buckets, ObjectStore
from base.settings import Reader
from edge.node.settings import ring_of
from edge.node.sources import Gone, Origin, Overloaded
from edge.origin.admission import Admission, predicted_ms
from edge.origin.leases import Leases
from imagecore import engine, render
from imagecore import recipe as recipes
from imagecore.facts import canonical
from imagecore.recipe import Crop, Recipe
from imagecore.signing import Durable, Lifetime, Ring

pytestmark = pytest.mark.xdist_group("origin")  # what the module makes is made once


def fresh_id(prefix: str) -> str:
    return str(TypeID.from_uuid(uuid_utils.UUID(bytes=new_id().bytes), prefix=prefix))


@pytest.fixture(scope="module")
def photo() -> tuple[render.Parents, bytes]:
    """The stored parents and facts file of a 3000 x 2000 picture with enough in it to take time."""
    rows = np.random.default_rng(5).integers(0, 256, (500, 750, 3), dtype=np.uint8)
    image = pyvips.Image.new_from_array(rows).resize(4).copy(interpretation="srgb")
    report, parents = render.parents(image.jpegsave_buffer(Q=90))
    return parents, canonical(report.facts)


@pytest.fixture
async def asset(photo: tuple[render.Parents, bytes], record_store: ObjectStore, buckets: Buckets) -> str:
    """An asset whose ancestor and its half are stored."""
    made, revision = fresh_id("ast"), engine.revision()
    parents, facts = photo
    await record_store.put(buckets.ancestors, keys.ancestor(made, revision), parents["ancestor"], "image/jpeg")
    await record_store.put(buckets.ancestors, keys.half(made, revision), parents["half"], "image/jpeg")
    await record_store.put(buckets.ancestors, keys.facts(made, revision), facts, "application/json")
    return made


@pytest.fixture(scope="module")
def ring(stack_env: dict[str, str]) -> Ring:
    read = Reader(stack_env)
    return ring_of({life: read.keys(f"TIRAGE_EDGE_KEYS_{life.name}") for life in Lifetime})


@pytest.fixture(scope="module")
def origins(start: Any, free_ports: Any, stack_env: dict[str, str]) -> list[Any]:
    """Three of a region whose leases last longer than any test may: whoever waits for the end of one fails."""
    asyncio.run(make_leases(stack_env["TIRAGE_NATS_URL"], "patient", 600))
    return several(start, free_ports, "patient", 3)


def several(start: Any, free_ports: Any, region: str, count: int) -> list[Any]:
    ports = [str(free_ports()) for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        begin = threads.map(lambda port: start("origin", TIRAGE_REGION=region, TIRAGE_ORIGIN_METRICS_PORT=port), ports)
        return list(begin)


async def make_leases(url: str, region: str, lease_s: int) -> None:
    """A region's leases, as the first origin would have made them but for their time."""
    leases = Leases(url, region, lease_s=lease_s)
    await leases.take("any", 1)
    await leases.close()


def metric(origin: Any, name: str) -> int:
    text = httpx.get(f"http://127.0.0.1:{origin.env['TIRAGE_ORIGIN_METRICS_PORT']}/metrics").text
    found = re.search(rf"^{re.escape(name)} ([0-9.]+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


MADE = 'tirage_origin_renders_total{outcome="made"}'


def path_of(ring: Ring, asset: str, wanted: Recipe) -> str:
    return ring.sign(Durable(asset=asset, recipe=recipes.text(wanted)))


def wanted(**change: Any) -> Recipe:
    return Recipe(**{"width": 500, "height": 500, "engine": engine.revision(), **change})


async def get(origin: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=origin.url, timeout=40) as client:
        return await client.get(path)


class TestOneRender:
    async def many(self, origins: list[Any], path: str, count: int) -> set[tuple[int, str]]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            answers = await asyncio.gather(*(client.get(origins[n % 3].url + path) for n in range(count)))
        return {(answer.status_code, hashlib.sha256(answer.content).hexdigest()) for answer in answers}

    @pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.soak)])
    async def test_many_cold_requests_over_three_processes(
        self, origins: list[Any], asset: str, ring: Ring, record_store: ObjectStore, buckets: Buckets, count: int
    ) -> None:
        recipe = wanted(width=1600, height=1600, format="avif", quality=55)
        before = sum(metric(origin, MADE) for origin in origins)
        answers = await self.many(origins, path_of(ring, asset, recipe), count)
        stored = await record_store.get(buckets.derivatives, keys.derivative(asset, recipes.text(recipe), "avif"))
        assert answers == {(200, hashlib.sha256(stored).hexdigest())}
        assert sum(metric(origin, MADE) for origin in origins) - before == 1

    @pytest.mark.parametrize("each", [4, pytest.param(167, marks=pytest.mark.soak)])
    async def test_a_killed_leader_costs_one_retry(self, origins: list[Any], asset: str, ring: Ring, each: int) -> None:
        recipe = wanted(width=1700, height=1700, format="webp", effort=6)
        path = path_of(ring, asset, recipe)
        before = [metric(origin, MADE) for origin in origins]
        waiting = [asyncio.create_task(get(origin, path)) for origin in origins for _ in range(each)]
        leader = await self.leader(origins)
        leader.kill()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        died = [answer for answer in answers if isinstance(answer, BaseException)]
        good = [answer for answer in answers if isinstance(answer, httpx.Response)]
        assert len(died) == each
        assert {answer.status_code for answer in good} == {200}
        assert len({answer.content for answer in good}) == 1
        alive = [n for n, origin in enumerate(origins) if origin is not leader]
        assert sum(metric(origins[n], MADE) - before[n] for n in alive) == 1
        leader.start()
        assert (await get(leader, path)).content == good[0].content
        assert metric(leader, MADE) == 0

    async def leader(self, origins: list[Any]) -> Any:
        for _ in range(500):
            for origin in origins:
                if await asyncio.to_thread(metric, origin, "tirage_origin_rendering"):
                    return origin
        raise AssertionError("nobody renders")

    async def test_a_leader_that_hangs_costs_its_lease(
        self, start: Any, free_ports: Any, asset: str, ring: Ring, stack_env: dict[str, str]
    ) -> None:
        await make_leases(stack_env["TIRAGE_NATS_URL"], "brief", 2)
        origins = several(start, free_ports, "brief", 2)
        path = path_of(ring, asset, wanted(width=1650, height=1650, format="webp", effort=6))
        waiting = {origin: asyncio.create_task(get(origin, path)) for origin in origins}
        leader = await self.leader(origins)
        leader.process.send_signal(signal.SIGSTOP)
        (other,) = (origin for origin in origins if origin is not leader)
        answer = await waiting[other]
        assert (answer.status_code, metric(other, MADE)) == (200, 1)
        leader.process.send_signal(signal.SIGCONT)
        late = await waiting[leader]
        assert late.status_code == 503 or late.content == answer.content  # it may have hung beyond its own deadline
        assert (await get(leader, path)).content == answer.content

    async def test_the_edge_asks_another_when_the_first_dies_over_it(self, origins: list[Any]) -> None:
        """A connection that ends without an answer is asked once more, and only once."""
        asked = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.append(1)
            if len(asked) == 2:
                digest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
                writer.write(
                    f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nrepr-digest: sha-256=:{digest}:\r\n\r\n".encode()
                )
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = Origin(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await origin.get("key", "/d/path") == b""
        with pytest.raises(ServiceUnavailable):
            await origin.get("key", "/d/path")
        assert len(asked) == 4
        await origin.close()
        server.close()


class TestRefusals:
    async def test_another_engine_is_gone(self, origins: list[Any], asset: str, ring: Ring) -> None:
        answer = await get(origins[0], path_of(ring, asset, wanted(engine="old1")))
        assert (answer.status_code, answer.headers["tirage-reason"]) == (410, "engine-retired")

    async def test_an_original_that_is_gone(self, origins: list[Any], ring: Ring) -> None:
        answer = await get(origins[0], path_of(ring, fresh_id("ast"), wanted()))
        assert (answer.status_code, answer.headers["tirage-reason"]) == (410, "original-gone")

    async def test_an_original_that_went_a_moment_ago(
        self, origins: list[Any], asset: str, ring: Ring, record_store: ObjectStore, buckets: Buckets
    ) -> None:
        """Its facts are remembered, its pixels are not."""
        assert (await get(origins[0], path_of(ring, asset, wanted()))).status_code == 200
        await record_store.delete(buckets.ancestors, keys.facts(asset, engine.revision()))
        assert (await get(origins[0], path_of(ring, asset, wanted(width=499)))).status_code == 200
        await record_store.delete(buckets.ancestors, keys.half(asset, engine.revision()))
        answer = await get(origins[0], path_of(ring, asset, wanted(width=498)))
        assert (answer.status_code, answer.content) == (410, b"original-gone\n")

    async def test_a_crop_outside_the_picture(self, origins: list[Any], asset: str, ring: Ring) -> None:
        answer = await get(origins[0], path_of(ring, asset, wanted(crop=Crop(2990, 0, 100, 100))))
        assert (answer.status_code, answer.headers["tirage-reason"]) == (410, "outside-the-picture")

    async def test_a_crop_that_needs_the_original(self, origins: list[Any], asset: str, ring: Ring) -> None:
        answer = await get(origins[0], path_of(ring, asset, wanted(crop=Crop(0, 0, 500, 500))))
        assert (answer.status_code, answer.text) == (404, "needs-original\n")

    async def test_nothing_without_a_signature(self, origins: list[Any], asset: str, ring: Ring) -> None:
        path = path_of(ring, asset, wanted())
        unsigned = f"{path[:-5]}{'1' if path[-5] == '0' else '0'}.jpg"
        for wrong in (unsigned, path + "?a=1", path.replace("500x500", "501x501"), "/d/%2e%2e"):
            assert (await get(origins[0], wrong)).status_code == 404

    async def test_what_the_edge_makes_of_them(self, origins: list[Any], asset: str, ring: Ring) -> None:
        origin = Origin(origins[0].url)
        assert await origin.get("", path_of(ring, asset, wanted(crop=Crop(0, 0, 500, 500)))) is None
        with pytest.raises(Gone, match="engine-retired"):
            await origin.get("", path_of(ring, asset, wanted(engine="old1")))
        data = await origin.get("", path_of(ring, asset, wanted(width=100)))
        assert data is not None
        assert pyvips.Image.new_from_buffer(data, "").width == 100
        await origin.close()


class TestAdmission:
    def test_costlier_recipes_are_predicted_to_cost_more(self) -> None:
        formats = [("jpg", 0), ("webp", 2), ("avif", 0), ("avif", 1), ("webp", 6)]
        costs = [predicted_ms(wanted(width=1600, height=1600, format=f, effort=e)) for f, e in formats]
        assert costs == sorted(costs)
        assert predicted_ms(wanted(width=1600)) > predicted_ms(wanted())

    def test_every_recipe_has_a_prediction(self) -> None:
        for format_, most in recipes.MAX_EFFORT.items():
            for effort in range(most + 1):
                assert predicted_ms(wanted(format=format_, effort=effort)) > 0

    def test_work_beyond_the_patience_is_refused_with_a_time(self) -> None:
        admission = Admission(renders=2, patience_ms=800)
        with admission.take(900):
            with admission.take(900):
                with pytest.raises(Overloaded) as refused, admission.take(1):
                    raise AssertionError("admitted")
                assert refused.value.retry_after_s == 1
            with admission.take(50):
                assert admission.taken_ms == 950
        assert admission.taken_ms == 0

    def test_one_costly_work_alone_is_admitted(self) -> None:
        with Admission(renders=1, patience_ms=10).take(100_000):
            pass

    async def test_refused_on_the_wire(self, start: Any, asset: str, ring: Ring) -> None:
        small = start("origin", TIRAGE_ORIGIN_RENDERS="1", TIRAGE_ORIGIN_DEADLINE="1", TIRAGE_ORIGIN_WAITING="8")
        paths = [path_of(ring, asset, wanted(width=2000 + n, height=2000, format="avif", effort=1)) for n in range(12)]
        answers = await asyncio.gather(*(get(small, path) for path in paths))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert (await get(small, "/healthz")).status_code == 200

"""Previews at the edge before the rest is made; and edges that hang, refuse or are away, which hold up no photo."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from base import keys
from base.edges import EdgeClient
from base.ingest import Ingest, Previews
from base.jobs import Job
from base.objects import Buckets, ObjectStore
from base.settings import Keys, Secret
from edge.node.app import EdgeNode
from edge.node.cache import DiskCache
from edge.node.control import Control
from edge.node.denied import Denied
from edge.node.wire import Server
from imagecore import vips
from imagecore.jail import Jail
from imagecore.signing import Ring
from tasks.pixel import pushing
from tasks.pixel.ingest import Ingestor
from tasks.pixel.pushing import PushTo
from tests.conftest import store_of
from tests.tasks.test_ceiling import DEEDS, TABLE, planned

KEYRING = Keys([("p1", Secret(bytes(range(32))))])
OTHERS = Keys([("p1", Secret(bytes(32)))])
SIDES = frozenset({200, 400, 800})
_INGEST = msgspec.json.Decoder(Ingest)


@pytest.fixture(scope="module")
def raw() -> bytes:
    pixels = memoryview(bytes(range(256)) * 256 * 3)
    return bytes(vips.from_pixels(pixels, 256, 256, 3, wide=False, owner=pixels).resize(7).jpegsave_buffer(Q=90))


class Edge:
    """A node in this process: what it has, by side, and its denied ids."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.cache, self.denied = DiskCache(folder / "cache", 10**8), Denied(folder / "denied")
        self.url, self.stop = f"http://127.0.0.1:{self.port}", asyncio.Event()

    async def serve(self) -> None:
        control = Control(f"127.0.0.1:{self.port}", KEYRING, KEYRING, self.cache, self.denied)
        node = EdgeNode(Ring.of_masters([("u1", bytes(32))], "home"), self.cache, [], self.denied, control)
        await Server(node).run("127.0.0.1", self.port, self.stop)

    async def kept(self, job: Job, *previews: Previews) -> list[int]:
        """The width of each of these previews that it has."""
        asset = _INGEST.decode(job.payload).asset
        made = [one for each in previews for one in each.renditions]
        found = [await self.cache.get(keys.derivative(asset, one.recipe, one.extension)) for one in made]
        return [one.width for one, entry in zip(made, found, strict=True) if entry is not None]


@contextlib.asynccontextmanager
async def running(edge: Edge) -> AsyncIterator[Edge]:
    serving = asyncio.create_task(edge.serve())
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", edge.port))[1].close()
                break
            await asyncio.sleep(0.01)
    yield edge
    edge.stop.set()
    await serving


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running(Edge(tmp_path)) as made:
        yield made


@pytest.fixture
def store(stack_env: dict[str, str]) -> Iterator[ObjectStore]:
    made = store_of(stack_env, "PIXEL")
    yield made
    made.close()


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    made = Jail.open()
    yield made
    made.close()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Jail]:
    """A jail whose child stands still before it makes the 800 px."""
    table = tmp_path / "table.py"
    table.write_text(TABLE.format(after=2, deed=DEEDS["time"]))
    jail = Jail.open(preload=("ladder",), table=table)
    yield jail
    jail.close()


async def test_the_first_are_recorded_and_at_the_edge_before_the_rest_is_made(
    store: ObjectStore, record_store: ObjectStore, buckets: Buckets, raw: bytes, edge: Edge, held: Jail
) -> None:
    job, client = await planned(record_store, buckets, raw), EdgeClient(edge.url, KEYRING)
    steps = Ingestor(store, buckets, held, [PushTo(client, SIDES)], ceiling_s=300).run(job)
    answered = [await anext(steps), await anext(steps)]
    assert [step.step for step in answered] == ["validate", "first_previews"]
    first = answered[1].body
    assert isinstance(first, Previews)
    assert (len(first.renditions), first.thumbhash is not None) == (2, True)
    async with asyncio.timeout(60):
        while len(await edge.kept(job, first)) < 2:
            await asyncio.sleep(0.01)
    asset = _INGEST.decode(job.payload).asset
    assert len(await record_store.list_keys(buckets.derivatives, f"{asset}/")) == 2
    await steps.aclose()  # type: ignore[attr-defined]
    await client.close()


@contextlib.asynccontextmanager
async def wrong(how: str, edge: Edge, asset: str) -> AsyncIterator[EdgeClient]:
    """A client of an edge that hangs, refuses the keys, has the asset erased, or is not there."""
    url, keyring = edge.url, OTHERS if how == "refuses" else KEYRING
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes calls and says nothing
        if how == "hangs":
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        elif how == "absent":
            url = "http://127.0.0.1:1"
        elif how == "erased":
            await edge.denied.add([asset])
        client = EdgeClient(url, keyring)
        yield client
        await client.close()


@pytest.mark.parametrize(
    ("how", "event"),
    [
        ("hangs", None),
        ("refuses", "push_failed"),
        ("erased", "push_refused"),
        ("absent", "push_failed"),
    ],
)
async def test_an_edge_that_takes_none_holds_up_no_photo(
    how: str,
    event: str | None,
    store: ObjectStore,
    record_store: ObjectStore,
    buckets: Buckets,
    raw: bytes,
    jail: Jail,
    tmp_path: Path,
    edge: Edge,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is stored and answered; the other edge has its pushes; what hangs is let go of."""
    monkeypatch.setattr(pushing, "SETTLE_S", 0.5)
    said = list[str]()
    monkeypatch.setattr(pushing, "log", Said(said))
    job = await planned(record_store, buckets, raw)
    asset = _INGEST.decode(job.payload).asset
    async with running(Edge(tmp_path / "good")) as good, wrong(how, edge, asset) as client:
        other = EdgeClient(good.url, KEYRING)
        targets = [PushTo(client, SIDES), PushTo(other, SIDES)]
        answered = [step async for step in Ingestor(store, buckets, jail, targets).run(job)]
        previews = [step.body for step in answered if isinstance(step.body, Previews)]
        assert [step.step for step in answered] == ["validate", "first_previews", "previews"]
        assert len(await record_store.list_keys(buckets.derivatives, f"{asset}/")) == 4
        assert (len(await good.kept(job, *previews)), await edge.kept(job, *previews)) == (len(SIDES), [])
        assert said == ([event] * len(SIDES) if event else [])
        assert [task for task in asyncio.all_tasks() if "_push" in repr(task.get_coro())] == []
        await other.close()


class Said:
    """A logger that keeps which events were told."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def warning(self, event: str, **_: object) -> None:
        self._events.append(event)

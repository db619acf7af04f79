"""The order line: statements and overhead of a price and an order, and the legs from the payment to the printer."""

import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import uvloop

from app.catalog.service import Catalog, read_files
from app.drafts.domain import Wish
from app.kernel.db import Transaction, connect_arguments
from app.kernel.migrate import migrate
from app.machines import MACHINES
from app.orders.checkout import Placing
from app.pricing.service import Ask
from app.services import Services
from app.settings import load
from base import ids
from base.ids import AssetId, OwnerId
from base.recipients import Recipient
from devstack import state as states
from devstack.processes import tirage_command
from devstack.stack import running_servers
from tirage.catalog import FOLDER
from tirage.demo import Walk
from tirage.keys import edge_keys
from tirage.purchase import HOME, Purchase
from tirage.scene import scene

ROUNDS: Final = 60
ORDERS: Final = 3
READY: Final = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256, format, width, height)
VALUES ($1, $2, 'ready', 1000, 'image/jpeg', $3, 'jpeg', 4032, 3024)
"""
LEGS: Final = (
    ("payment.secured", "order.paid"),
    ("order.paid", "fulfilment.submitting"),
    ("fulfilment.submitting", "fulfilment.submitted"),
    ("payment.secured", "fulfilment.submitted"),
)


def run() -> dict[str, Any]:
    """`ratio` is the whole call to the same statements with the same parameters in bare asyncpg, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        with running_servers(Path(folder) / "servers", {}) as stack:
            env = {**edge_keys(stack.environment()), **stack.environment(), "TIRAGE_DATABASE_POOL_MAX": "1"}
            costs = uvloop.run(_costs(env))  # the loop of the API
        return {**costs, "legs_ms": _legs(Path(folder) / "stack"), "load_average": round(os.getloadavg()[0], 1)}


class _Undone(Exception):
    """Ends a transaction whose statements are to be known and not kept."""


class Case(msgspec.Struct, frozen=True):
    """A use case in a transaction of its own; `keep` says whether it stays."""

    services: Services
    work: Callable[[Transaction], Awaitable[Any]]

    async def run(self, *, keep: bool) -> Any:
        async with self.services.db.transaction() as tx:
            done = await self.work(tx)
            if not keep:
                raise _Undone
        return done

    async def asked(self) -> list[tuple[str, Any]]:
        """The statements and their parameters, BEGIN and COMMIT included, learnt from a run that is undone.

        Nobody listens when it is timed: a listener costs as much as a statement's way through the driver.
        """
        steps: list[tuple[str, Any]] = []

        def note(record: Any) -> None:
            steps.append((record.query, record.args))

        only = await self.services.db.acquire()
        only._con.add_query_logger(note)
        await self.services.db.pool.release(only)
        with contextlib.suppress(_Undone):
            await self.run(keep=False)
        await asyncio.sleep(0)  # a listener is called by the loop
        only = await self.services.db.acquire()
        only._con.remove_query_logger(note)
        await self.services.db.pool.release(only)
        return [(sql if sql != "ROLLBACK;" else "COMMIT;", args) for sql, args in steps]


class Took(msgspec.Struct, frozen=True):
    """Seconds on the clock, and of processor time in this process and in the server's for its connection."""

    clock: float
    processor: float


class Beside(msgspec.Struct, frozen=True):
    """One use case and its statements alone."""

    statements: int
    ours: Took
    bare: Took


class Bench:
    """Ours and a bare connection. What is bought is made by `making`, on a connection of its own: making it empties the
    cache of plans of its connection, which would have the other side's statements planned anew each time."""

    def __init__(self, services: Services, making: Services, bare: Any, pids: tuple[int, int]) -> None:
        self.services, self.making = services, making
        self._bare, self._pids = bare, pids

    async def beside(self, theirs: Case, ours: Case, *, first: bool) -> Beside:
        """Ours, and the same statements with the same parameters in bare asyncpg, both kept; `first` has ours begin.

        What is asked is learnt from a run that is undone; each side then works on a draft of its own.
        """
        steps = await theirs.asked()
        await ours.asked()  # so that both have seen their person's key
        if first:
            mine = await self._timed(lambda: ours.run(keep=True))
        bare = await self._timed(lambda: _replay(self._bare, steps))
        if not first:
            mine = await self._timed(lambda: ours.run(keep=True))
        return Beside(len(steps), mine, bare)

    async def _timed(self, work: Callable[[], Awaitable[Any]]) -> Took:
        processor, clock = self._processor(), time.perf_counter()
        await work()
        clock = time.perf_counter() - clock
        return Took(clock, self._processor() - processor)

    def _processor(self) -> float:
        served = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self._pids)
        return time.process_time() + served / 1e9


async def _costs(env: dict[str, str]) -> dict[str, Any]:
    services, making = Services(load(env, "RECORD")), Services(load(env, "RECORD"))
    for one in (services, making):
        await one.start()
    await migrate(services.db, MACHINES)
    await Catalog(services.db).load(read_files(FOLDER), production=False)
    bare = await asyncpg.connect(**connect_arguments(env["TIRAGE_DATABASE_URL"]))
    async with services.db.transaction() as tx:
        pids = (int(await tx.value("SELECT pg_backend_pid()")), bare.get_server_pid())
    bench = Bench(services, making, bare, pids)
    costs: dict[str, list[Beside]] = {"quote": [], "order": []}
    for number in range(ROUNDS):
        await _round(bench, number, costs)
    await bare.close()
    for one in (services, making):
        await one.stop()
    return {name: _told(seen[ROUNDS // 6 :]) for name, seen in costs.items()}  # the first ones warm up


async def _round(bench: Bench, number: int, costs: dict[str, list[Beside]]) -> None:
    drafts = [await _draft(bench.making, 2 * number + n) for n in range(2)]
    is_first = number % 2 == 0
    quoting = [_quoting(bench.services, one) for one in drafts]
    costs["quote"].append(await bench.beside(*quoting, first=is_first))
    placing = [_placing(bench.services, one, await _quoting(bench.making, one).run(keep=True)) for one in drafts]
    costs["order"].append(await bench.beside(*placing, first=is_first))


def _quoting(services: Services, draft: tuple[OwnerId, Ask]) -> Case:
    owner, ask = draft
    return Case(services, lambda tx: services.quotes.ask(tx, owner, ask))


def _placing(services: Services, draft: tuple[OwnerId, Ask], quote: Any) -> Case:
    placing = Placing(quote_id=quote.id, recipient=Recipient(**HOME), accepted_doubts=frozenset())
    return Case(services, lambda tx: services.checkout.place(tx, draft[0], placing))


async def _replay(bare: Any, steps: list[tuple[str, Any]]) -> None:
    for sql, args in steps:
        if isinstance(args, list):
            await bare.executemany(sql, args)
        elif args:
            await bare.fetch(sql, *args)
        else:
            await bare.execute(sql)


def _told(seen: Sequence[Beside]) -> dict[str, float]:
    def median(of: Callable[[Beside], float]) -> float:
        return round(statistics.median(of(one) for one in seen), 2)

    return {
        "statements": int(median(lambda x: x.statements)),
        "ms": median(lambda x: 1000 * x.ours.clock),
        "bare_ms": median(lambda x: 1000 * x.bare.clock),
        "ratio": median(lambda x: x.ours.clock / x.bare.clock),
        "processor_ms": median(lambda x: 1000 * x.ours.processor),
        "bare_processor_ms": median(lambda x: 1000 * x.bare.processor),
        "processor_ratio": median(lambda x: x.ours.processor / x.bare.processor),
    }


async def _draft(services: Services, number: int) -> tuple[OwnerId, Ask]:
    owner, asset = OwnerId(ids.new_id()), AssetId(ids.new_id())
    async with services.db.transaction() as tx:
        await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
        await services.persons.create(tx, owner)
        await tx.execute("SET LOCAL session_replication_role = replica")  # a photo from nowhere
        await tx.execute(READY, asset, owner, f"{number:064x}")
    wish = Wish(
        id=None, asset_id=asset, sku="photo-10x15-standard", copies=2, paper=None, orientation="auto", fit="cover",
        crop=None, focal=(5_000, 5_000), border_um=0, gift_note=None,
    )  # fmt: skip
    async with services.db.transaction() as tx:
        draft = (await services.drafts.create(tx, owner, [wish])).draft.id
    where = {"country": HOME["country"], "region": None, "postcode": HOME["postcode"]}
    return owner, Ask(draft_id=draft, currency="GBP", way="standard", **where)


def _legs(data: Path) -> dict[str, float]:
    """Medians of `ORDERS` orders, one after the other, on an idle stack; the cancel window of five seconds is in it."""
    subprocess.run([tirage_command(), "up", "--detach", "--data", data], check=True, stdout=subprocess.DEVNULL)
    try:
        state = states.read_living(data)
        assert state is not None
        address = {name: part["address"] for name, part in state["parts"].items()}
        stories = [_story(data, address, number) for number in range(ORDERS)]
    finally:
        subprocess.run([tirage_command(), "down", "--data", data], check=False, stdout=subprocess.DEVNULL)
    legs = {
        f"{first} to {last}": [(story[last] - story[first]).total_seconds() for story in stories]
        for first, last in LEGS
    }
    return {name: round(1000 * statistics.median(took)) for name, took in legs.items()}


def _story(data: Path, address: dict[str, str], number: int) -> dict[str, datetime]:
    """When each event of one order was recorded."""
    walk = Walk("photo.jpg", scene(number + 1), address["api"], True, None)
    with contextlib.redirect_stdout(io.StringIO()):
        walk.run()
        order = Purchase(walk.client, address["stripe"], walk.note, is_clumsy=False).run(
            [walk.asset], "photo-10x15-standard"
        )
    show = [tirage_command(), "order", "show", order, "--json", "--data", data]
    entries = json.loads(subprocess.check_output(show))["entries"]
    return {e["name"]: datetime.fromisoformat(e["at"]) for e in entries if e["source"] == "event"}

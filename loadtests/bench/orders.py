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
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

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
            env = {**edge_keys(stack.environment()), **stack.environment(), "TIRAGE_DATABASE_POOL_MAX": "2"}
            costs = asyncio.run(_costs(env))
        return {**costs, "legs_ms": _legs(Path(folder) / "stack"), "load_average": round(os.getloadavg()[0], 1)}


class Watch:
    """What the driver was asked, with which parameters, over every connection of a pool."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    async def attach(self, services: Services) -> None:
        """Listen on all connections."""
        held = [await services.db.acquire() for _ in range(2)]
        for connection in held:
            connection._con.add_query_logger(lambda record: self.asked.append((record.query, record.args)))
            await services.db.pool.release(connection)

    async def of(self, work: Callable[[], Awaitable[Any]]) -> list[tuple[str, Any]]:
        """The statements of a use case, BEGIN and the end of the transaction included."""
        self.asked = []
        with contextlib.suppress(_Undone):
            await work()
        return self.asked


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


async def _costs(env: dict[str, str]) -> dict[str, Any]:
    services, watch = Services(load(env, "RECORD")), Watch()
    await services.start()
    await migrate(services.db, MACHINES)
    await Catalog(services.db).load(read_files(FOLDER), production=False)
    await watch.attach(services)
    bare = await asyncpg.connect(**connect_arguments(env["TIRAGE_DATABASE_URL"]))
    costs: dict[str, list[tuple[int, float, float]]] = {"quote": [], "order": []}
    for number in range(ROUNDS):
        first, second = [await _draft(services, 2 * number + n) for n in range(2)]
        costs["quote"].append(await _beside(watch, bare, _quoting(services, first), _quoting(services, second)))
        placing = [_placing(services, one, await _quoting(services, one).run(keep=True)) for one in (first, second)]
        costs["order"].append(await _beside(watch, bare, *placing))
    await bare.close()
    await services.stop()
    return {name: _told(seen[ROUNDS // 6 :]) for name, seen in costs.items()}  # the first ones warm up


def _quoting(services: Services, draft: tuple[OwnerId, Ask]) -> Case:
    owner, ask = draft
    return Case(services, lambda tx: services.quotes.ask(tx, owner, ask))


def _placing(services: Services, draft: tuple[OwnerId, Ask], quote: Any) -> Case:
    placing = Placing(quote_id=quote.id, recipient=Recipient(**HOME), accepted_doubts=frozenset())
    return Case(services, lambda tx: services.checkout.place(tx, draft[0], placing))


async def _beside(watch: Watch, bare: Any, theirs: Case, ours: Case) -> tuple[int, float, float]:
    """Statements, seconds of ours, and of the same statements with the same parameters in bare asyncpg, both kept.

    What is asked is learnt from a run that is undone; each side then works on a draft of its own, alike in all else.
    """
    asked = await watch.of(lambda: theirs.run(keep=False))
    await watch.of(lambda: ours.run(keep=False))  # so that both have seen their person's key
    steps = [(sql if sql != "ROLLBACK;" else "COMMIT;", args) for sql, args in asked]
    begun = time.perf_counter()
    await _replay(bare, steps)
    between = time.perf_counter()
    await ours.run(keep=True)
    return len(steps), time.perf_counter() - between, between - begun


async def _replay(bare: Any, steps: list[tuple[str, Any]]) -> None:
    for sql, args in steps:
        if isinstance(args, list):
            await bare.executemany(sql, args)
        elif args:
            await bare.fetch(sql, *args)
        else:
            await bare.execute(sql)


def _told(costs: list[tuple[int, float, float]]) -> dict[str, float]:
    return {
        "statements": statistics.median(count for count, _, _ in costs),
        "ms": round(1000 * statistics.median(ours for _, ours, _ in costs), 2),
        "bare_ms": round(1000 * statistics.median(bare for _, _, bare in costs), 2),
        "ratio": round(statistics.median(ours / bare for _, ours, bare in costs), 2),
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

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

from app.catalog.service import Catalog, read_files
from app.drafts.domain import Wish
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
    """`ratio` is the whole call to the time that the driver spent in the same statements, BEGIN and COMMIT included."""
    with tempfile.TemporaryDirectory() as folder:
        with running_servers(Path(folder) / "servers", {}) as stack:
            env = {**edge_keys(stack.environment()), **stack.environment(), "TIRAGE_DATABASE_POOL_MAX": "2"}
            costs = asyncio.run(_costs(env))
        return {**costs, "legs_ms": _legs(Path(folder) / "stack"), "load_average": round(os.getloadavg()[0], 1)}


class Watch:
    """What the driver was asked and how long it took, over every connection of a pool."""

    def __init__(self) -> None:
        self.statements, self.driver_s = 0, 0.0

    async def attach(self, services: Services) -> None:
        """Listen on all connections."""
        held = [await services.db.acquire() for _ in range(2)]
        for connection in held:
            connection._con.add_query_logger(self._logged)
            await services.db.pool.release(connection)

    def _logged(self, record: Any) -> None:
        self.statements += 1
        self.driver_s += record.elapsed

    async def of(self, work: Callable[[], Awaitable[Any]]) -> tuple[int, float, float, Any]:
        """Statements, seconds, and the driver's part of them."""
        self.statements, self.driver_s = 0, 0.0
        begun = time.perf_counter()
        done = await work()
        return self.statements, time.perf_counter() - begun, self.driver_s, done


async def _costs(env: dict[str, str]) -> dict[str, Any]:
    services, watch = Services(load(env, "RECORD")), Watch()
    await services.start()
    await migrate(services.db, MACHINES)
    await Catalog(services.db).load(read_files(FOLDER), production=False)
    await watch.attach(services)
    seen: dict[str, list[tuple[int, float, float]]] = {"quote": [], "order": []}
    for number in range(ROUNDS):
        owner, ask = await _draft(services, number)

        async def quote(owner: OwnerId = owner, ask: Ask = ask) -> Any:
            async with services.db.transaction() as tx:
                return await services.quotes.ask(tx, owner, ask)

        *cost, priced = await watch.of(quote)
        seen["quote"].append((cost[0], cost[1], cost[2]))
        placing = Placing(quote_id=priced.id, recipient=Recipient(**HOME), accepted_doubts=frozenset())

        async def place(owner: OwnerId = owner, placing: Placing = placing) -> Any:
            async with services.db.transaction() as tx:
                return await services.checkout.place(tx, owner, placing)

        *cost, _ = await watch.of(place)
        seen["order"].append((cost[0], cost[1], cost[2]))
    await services.stop()
    return {name: _told(costs[ROUNDS // 6 :]) for name, costs in seen.items()}  # the first ones warm up


def _told(costs: list[tuple[int, float, float]]) -> dict[str, float]:
    return {
        "statements": statistics.median(count for count, _, _ in costs),
        "ms": round(1000 * statistics.median(took for _, took, _ in costs), 2),
        "driver_ms": round(1000 * statistics.median(driver for _, _, driver in costs), 2),
        "ratio": round(statistics.median(took / driver for _, took, driver in costs), 2),
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

"""Orders with both simulators: real database, real print files, record jobs run by hand and by the clock."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pyvips

from app.fulfilment.domain import Fulfilment, Master
from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.kernel.db import Database
from app.reconcile.service import Report
from app.services import Services
from app.settings import load
from base import ids
from base.ids import OrderId, OwnerId
from tasks import policy
from tests.app.orders.test_checkout import SKU, Counter
from tests.app.paying import MovedClock, Shop, payment_env

GRACE_S = 300
LOOKS = ("payment.read", "fulfilment.poll", "fulfilment.tend")


class World:
    """One process's parts, Stripe and a printer, whose three clocks move together."""

    def __init__(self, shop: Shop, printer: Any) -> None:
        self.shop, self.printer, self.services, self.sim = shop, printer, shop.services, shop.sim
        self.counter = Counter(shop)

    @property
    def db(self) -> Database:
        return self.services.db

    async def placed(self) -> tuple[OwnerId, OrderId, str]:
        """An order whose payment was begun; its client secret."""
        owner = await self.counter.owner()
        order = await self.counter.place(owner, await self.counter.quote(owner))
        started = await self.services.checkout.pay(owner, order)
        assert started.client_secret is not None
        return owner, order, started.client_secret

    async def paid(self) -> tuple[OwnerId, OrderId]:
        """An order whose money is captured and heard of; its print files are not made."""
        owner, order, secret = await self.placed()
        await self.sim.confirm(secret)
        await self.read(order)
        await self.work()
        return owner, order

    async def read(self, order: OrderId) -> None:
        """Look at an order's payment now."""
        async with self.db.transaction() as tx:
            payment = await self.services.payments.of_order(tx, order)
        await self.services.payments.read(payment.payment_id)

    async def render(self, order: OrderId) -> None:
        """What pixel workers would do."""
        async with self.db.transaction() as tx:
            (found,) = await self.services.fulfilments.of_order(tx, order)
            (line,) = await self.services.fulfilments.lines(tx, found.id)
            area = await self.services.catalog.vendor_sku(tx, SKU, "prodigi", paper=line.paper)
        size = (area.print_width_px, area.print_height_px)
        data: bytes = pyvips.Image.black(*size, bands=3).cast("uchar").jpegsave_buffer()
        key = f"{ids.encode('order_line', line.id)}.jpg"
        bucket = self.services.settings.buckets.masters
        version = await self.services.store.put_version(bucket, key, data, "image/jpeg")
        master = Master(
            line_id=line.id, key=key, version=version, sha256=hashlib.sha256(data).hexdigest(),
            md5=hashlib.md5(data).hexdigest(), bytes=len(data), width=size[0], height=size[1],
        )  # fmt: skip
        async with self.db.transaction() as tx:
            await self.services.fulfilments.masters_ready(tx, found.id, (master,))

    async def submitted(self) -> tuple[OwnerId, OrderId]:
        """An order that the printer has."""
        owner, order = await self.paid()
        await self.render(order)
        await self.work()
        assert (await self.fulfilment(order)).vendor_order_id is not None
        return owner, order

    async def fulfilment(self, order: OrderId) -> Fulfilment:
        async with self.db.transaction() as tx:
            return (await self.services.fulfilments.of_order(tx, order))[-1]

    async def later(self, seconds: int) -> None:
        """All clocks move on."""
        await self.shop.later(seconds)
        await self.printer.advance(seconds)

    async def work(self) -> None:
        """Run every record job that is due, and what it causes, but looks at Stripe and the printer; failures are what
        a worker would make of them."""
        for _ in range(8):
            if not await self.once(*(set(HANDLERS) - set(LOOKS))):
                return

    async def once(self, *kinds: str) -> bool:
        """Run each due job of these kinds once; whether there was one."""
        sql = "SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY($1) AND not_before <= $2 ORDER BY position"
        async with self.db.transaction() as tx:
            due = [row["id"] for row in await tx.fetch(sql, list(kinds), self.services.clock.now())]
        for name in due:
            await self._run(name)
        return bool(due)

    async def lose(self, *kinds: str) -> None:
        """Forget what is planned of these kinds."""
        async with self.db.transaction() as tx:
            await tx.execute(
                "UPDATE jobs SET state = 'cancelled' WHERE state = 'queued' AND kind = ANY($1)", list(kinds)
            )

    async def _run(self, name: Any) -> None:
        async with self.db.transaction() as tx:
            row = await jobs.lock(tx, name)
            assert row is not None
            if row.state is not jobs.JobState.QUEUED:
                return  # superseded meanwhile
        attempt = Attempt(row)
        try:
            await HANDLERS[row.kind](self.services, attempt)
        except Exception as error:
            async with self.db.transaction() as tx:
                await jobs.failed(tx, row.id, row.attempt, policy.reason(error), final=policy.is_final(error))
            return
        if not attempt.finished:
            async with self.db.transaction() as tx:
                await attempt.finish(tx)

    async def reconcile(self) -> Report:
        return await self.services.reconciler.run()

    async def stripe(self, path: str, **form: str) -> Any:
        """What somebody does in Stripe's dashboard."""
        headers = {"Authorization": f"Bearer {self.sim.KEY}"}
        answer: httpx.Response = await self.sim.http.post(f"/v1/{path}", data=form, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def intent(self, order: OrderId) -> str:
        view = await self.shop.view(order)
        assert view.intent_id is not None
        found: str = view.intent_id
        return found

    async def rows(self) -> dict[str, int]:
        """How many rows there are of everything that a run could leave."""
        tables = ("findings", "jobs", "alerts", "events", "refunds", "payment_disputes")
        async with self.db.transaction() as tx:
            found = {table: await tx.value(f"SELECT count(*) FROM {table}") for table in tables}
            found["raised"] = await tx.value("SELECT coalesce(sum(count), 0) FROM alerts")
        return found

    async def alerts(self) -> set[str]:
        return await self.shop.alerts()


@pytest.fixture
async def world(env: dict[str, str], db: Database, stripe_sim: Any, printer: Any) -> AsyncIterator[World]:
    """No webhook reaches us: everything is found by looking."""
    clock = MovedClock()
    variables = {
        **payment_env(env, stripe_sim),
        "TIRAGE_PRODIGI_URL": printer.url,
        "TIRAGE_PRODIGI_KEY": printer.KEY,
        "TIRAGE_ORDER_CANCEL_WINDOW_S": "0",
        "TIRAGE_RECONCILE_GRACE_S": str(GRACE_S),
    }
    services = Services(load(variables, "RECORD"), clock)
    await services.start()
    yield World(Shop(services, clock, stripe_sim), printer)
    await services.stop()

"""Payments against the Stripe simulator: an order to pay, a clock to move, and jobs run by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.kernel.db import Database
from app.kernel.events import Origin
from app.orders.domain import OrderPlaced
from app.services import Services
from app.settings import load
from base import ids
from base.ids import DraftId, OrderId, OwnerId, QuoteId
from base.money import Money


class MovedClock:
    """The machine's clock and what was added."""

    def __init__(self) -> None:
        self.added = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.added


class Shop:
    """The parts of one process, and what the tests do with them."""

    def __init__(self, services: Services, clock: MovedClock, sim: Any) -> None:
        self.services, self.clock, self.sim = services, clock, sim
        self.payments = services.payments

    async def later(self, seconds: int) -> None:
        """Both clocks, ours and Stripe's, move on."""
        self.clock.added += timedelta(seconds=seconds)
        await self.sim.advance(seconds)

    async def order(self, amount: int = 2500, currency: str = "GBP") -> tuple[OwnerId, OrderId]:
        """An order with a payment that is open."""
        owner, order = OwnerId(ids.new_id()), OrderId(ids.new_id())
        draft, quote = DraftId(ids.new_id()), QuoteId(ids.new_id())
        async with self.services.db.transaction() as tx:
            await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
            await self.services.persons.create(tx, owner)
            await tx.execute(ORDER, order, owner, draft, "0" * 64, quote, currency, amount)
            told = OrderPlaced(order_id=order, draft_id=draft, quote_id=quote, total=Money(amount, currency))
            await self.services.spine.record(tx, told, aggregate_id=order, owner_id=owner, origin=Origin(actor="owner"))
            await self.payments.open(tx, order, owner, Money(amount, currency))
        return owner, order

    async def paid(self, amount: int = 2500, method: str = "pm_card_visa") -> tuple[OwnerId, OrderId]:
        """An order that is paid."""
        owner, order = await self.order(amount)
        started = await self.payments.start(owner, order)
        assert started.client_secret is not None
        await self.sim.confirm(started.client_secret, method)
        await self.work()
        return owner, order

    async def work(self, rounds: int = 1) -> list[str]:
        """Run every waiting record job once, however late it is planned; their kinds. Raises what a job raises."""
        done = []
        for _ in range(rounds):
            async with self.services.db.transaction() as tx:
                waiting = await tx.fetch("SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY($1)", list(KINDS))
            for found in waiting:
                async with self.services.db.transaction() as tx:
                    row = await jobs.lock(tx, found["id"])
                assert row is not None
                async with self.services.db.transaction() as tx:
                    if not await jobs.mark_published(tx, [row]):
                        continue  # superseded meanwhile
                attempt = Attempt(row)
                try:
                    await HANDLERS[row.kind](self.services, attempt)
                except Exception:
                    async with self.services.db.transaction() as tx:
                        await jobs.failed(tx, row.id, row.attempt, "failed", final=False)
                    raise
                if not attempt.finished:
                    async with self.services.db.transaction() as tx:
                        await attempt.finish(tx)
                done.append(row.kind)
        return done

    async def told(self, order: OrderId, *types: str) -> list[str]:
        """The events of an order, in their order."""
        sql = "SELECT type FROM events WHERE order_id = $1 AND type NOT LIKE 'order.%' ORDER BY position"
        async with self.services.db.transaction() as tx:
            return [row["type"] for row in await tx.fetch(sql, order) if not types or row["type"] in types]

    async def alerts(self) -> set[str]:
        """The rules that were raised."""
        async with self.services.db.transaction() as tx:
            return {row["rule"] for row in await tx.fetch("SELECT rule FROM alerts")}

    async def view(self, order: OrderId) -> Any:
        """The order's money."""
        async with self.services.db.transaction() as tx:
            return await self.payments.of_order(tx, order)


KINDS = ("payment.read", "payment.cancel", "payment.refund", "webhook.process")
ORDER = """
INSERT INTO orders (id, owner_id, state, draft_id, draft_version, draft_digest, quote_id, catalogue_version, currency,
                    total, shipping, tax, shipping_option, country, expires_at)
VALUES ($1, $2, 'placed', $3, 1, $4, $5, 'test', $6, $7, 0, 0, 'standard', 'GB', now() + interval '1 day')
"""


def payment_env(env: dict[str, str], sim: Any) -> dict[str, str]:
    """The variables of a process that talks to a simulator of the tests."""
    return {
        **env,
        "TIRAGE_STRIPE_URL": sim.url,
        "TIRAGE_STRIPE_KEY": sim.KEY,
        "TIRAGE_STRIPE_PUBLISHABLE_KEY": sim.PUBLISHABLE,
        "TIRAGE_STRIPE_TIMEOUT": "1",
    }


@pytest.fixture
async def shop(env: dict[str, str], db: Database, stripe_sim: Any) -> AsyncIterator[Shop]:
    clock = MovedClock()
    services = Services(load(payment_env(env, stripe_sim), "RECORD"), clock)
    await services.start()
    yield Shop(services, clock, stripe_sim)
    await services.stop()

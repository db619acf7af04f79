"""An order at the simulated printer: real database, real print files under lock, jobs run one by one."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pyvips

from app.catalog.domain import VendorSku
from app.fulfilment.domain import Fulfilment, FulfilmentItem, FulfilmentState, Master, Shipment
from app.fulfilment.sending import Files, Sending
from app.kernel.db import Database, Readable
from app.kernel.events import Origin
from app.orders import store as orders
from app.orders.domain import Line, Order, OrderPlaced, OrderState, Quantities
from app.services import Services
from app.settings import load
from base import ids
from base.ids import AssetId, DraftId, FulfilmentId, ItemId, OrderId, OrderLineId, OwnerId, QuoteId
from base.money import Money
from base.recipients import Recipient
from tests.app import working

AREA = (120, 180)


class MovableClock:
    """The time, as far ahead as a test moves it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Skus:
    """A catalogue of one vendor product, small enough for tests."""

    async def vendor_sku(self, db: Readable, sku: str, vendor: str, *, paper: str | None = None) -> VendorSku:
        return VendorSku(
            vendor=vendor,
            sku="GLOBAL-PHO-4X6",
            attributes={"finish": "lustre"},
            print_width_px=AREA[0],
            print_height_px=AREA[1],
        )


def jpeg(size: tuple[int, int] = AREA, shade: int = 128) -> bytes:
    data: bytes = (pyvips.Image.black(*size, bands=3) + shade).cast("uchar").jpegsave_buffer()
    return data


class House:
    """Our side of one fulfilment, and the printer's."""

    def __init__(self, services: Services, printer: Any, clock: MovableClock) -> None:
        self.services, self.printer, self.clock = services, printer, clock
        self.db: Database = services.db
        self.order: Order
        self.lines: list[Line] = []
        self.id: FulfilmentId
        self.masters: list[Master] = []

    async def plan(self, lines: int = 1, *, window_s: int = 0) -> None:
        """A paid order's fulfilment, whose print files are not made yet."""
        owner = OwnerId(uuid4())
        now = self.clock.now()
        self.order = Order(
            id=OrderId(ids.new_id()), owner_id=owner, state=OrderState.PLACED, draft_id=DraftId(uuid4()),
            draft_version=1, draft_digest="a" * 64, quote_id=QuoteId(uuid4()), catalogue_version="v1", currency="GBP",
            total=1000, shipping=300, tax=100, shipping_option="standard", country="GB", promised_by=None,
            expires_at=now + timedelta(hours=1), cancellable_until=None, created_at=now,
        )  # fmt: skip
        self.lines = [
            Line(
                id=OrderLineId(ids.new_id()), number=n, item_id=ItemId(uuid4()), asset_id=AssetId(uuid4()),
                sku="photo-10x15-standard", print=b"{}", unit=100, total=200, tax=20, quantities=Quantities(ordered=2),
            )
            for n in range(1, lines + 1)
        ]  # fmt: skip
        async with self.db.transaction() as tx:
            await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
            await self.services.persons.create(tx, owner)
            await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
            for line in self.lines:
                await tx.execute(
                    "INSERT INTO assets (id, owner_id, state, bytes, declared_type) "
                    "VALUES ($1, $2, 'ready', 1, 'image/jpeg')",
                    line.asset_id,
                    owner,
                )
            await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
        async with self.db.transaction() as tx:
            await orders.insert(tx, self.order, self.lines)
            told = OrderPlaced(
                order_id=self.order.id,
                draft_id=self.order.draft_id,
                quote_id=self.order.quote_id,
                total=Money(1000, "GBP"),
            )
            origin = Origin(actor="system")
            await self.services.spine.record(tx, told, aggregate_id=self.order.id, owner_id=owner, origin=origin)
            await self.services.mailing.keep(tx, self.order, RECIPIENT, ())
            items = [
                FulfilmentItem(line_id=x.id, asset_id=x.asset_id, sku=x.sku, copies=2, draft_digest="a" * 64)
                for x in self.lines
            ]
            self.id = await self.services.fulfilments.plan(
                tx,
                order_id=self.order.id,
                owner_id=owner,
                items=items,
                shipping_option="standard",
                not_before=now + timedelta(seconds=window_s),
            )

    async def render(self, size: tuple[int, int] = AREA) -> None:
        """Put real print files under lock and say that they are ready."""
        self.masters = []
        for n, line in enumerate(self.lines):
            data, key = jpeg(size, 100 + n), f"{ids.encode('asset', line.asset_id)}/{n}.jpg"
            version = await self.services.store.put_version(
                self.services.settings.buckets.masters, key, data, "image/jpeg"
            )
            digests = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()
            self.masters.append(
                Master(
                    line_id=line.id, key=key, version=version, sha256=digests[0], md5=digests[1], bytes=len(data),
                    width=size[0], height=size[1],
                )
            )  # fmt: skip
        async with self.db.transaction() as tx:
            await self.services.fulfilments.rendering(tx, self.id)
            await self.services.fulfilments.masters_ready(tx, self.id, self.masters)

    async def submitted(self, lines: int = 1) -> str:
        """An order that the printer has; its name there."""
        await self.plan(lines)
        await self.render()
        await self.work("fulfilment.submit")
        found = await self.read()
        assert found.state is FulfilmentState.SUBMITTED
        assert found.vendor_order_id is not None
        return found.vendor_order_id

    async def work(self, *kinds: str) -> list[str]:
        """Run each due job of these kinds (all of fulfilment) once, as a worker would; what went wrong, by code."""
        wanted = list(kinds) or ["fulfilment.submit", "fulfilment.poll", "fulfilment.cancel", "fulfilment.tend"]
        waiting = await working.due(self.services, wanted, self.clock.now())
        told = [await working.attempt(self.services, job) for job in waiting]
        return [code for code in told if code is not None]

    def later(self, seconds: int) -> None:
        """Let our own clock run ahead."""
        self.clock.ahead += timedelta(seconds=seconds)

    async def watch(self, seconds: int, step: int = 1) -> None:
        """Let both clocks run, working off what is due at each step."""
        for _ in range(0, seconds, step):
            self.later(step)
            await self.printer.advance(step)
            await self.work()

    async def cancel(self) -> FulfilmentState | None:
        """A person cancels."""
        async with self.db.transaction() as tx:
            return await self.services.fulfilments.cancel(tx, self.order.id)

    async def read(self) -> Fulfilment:
        async with self.db.transaction() as tx:
            (found,) = await self.services.fulfilments.of_order(tx, self.order.id)
            return found

    async def shipments(self) -> list[Shipment]:
        async with self.db.transaction() as tx:
            return await self.services.fulfilments.shipments(tx, self.order.id)

    async def events(self) -> list[str]:
        """What happened to the fulfilment, in order, without charges."""
        async with self.db.transaction() as tx:
            rows = await tx.fetch("SELECT type FROM events WHERE aggregate_id = $1 ORDER BY seq", self.id)
        told = [r["type"].removeprefix("fulfilment.") for r in rows]
        return [name for name in told if name != "charged"]

    async def alerts(self) -> set[str]:
        async with self.db.transaction() as tx:
            subject = ids.encode("fulfilment", self.id)
            return {r["rule"] for r in await tx.fetch("SELECT rule FROM alerts WHERE subject = $1", subject)}

    async def jobs(self, kind: str) -> list[str]:
        async with self.db.transaction() as tx:
            rows = await tx.fetch("SELECT state FROM jobs WHERE kind = $1 ORDER BY position", kind)
            return [r["state"] for r in rows]


RECIPIENT = Recipient(name="Ada Byron", line1="1 High Street", town="London", postcode="N1 1AA", country="GB")


@pytest.fixture
async def house(env: dict[str, str], db: Database, printer: Any) -> AsyncIterator[House]:
    """Our side with the printer of this test."""
    clock = MovableClock()
    settings = load(
        {**env, "TIRAGE_PRODIGI_URL": printer.url, "TIRAGE_PRODIGI_KEY": printer.KEY, "TIRAGE_FULFILMENT_POLL_S": "1",
         "TIRAGE_FULFILMENT_POLL_MOST_S": "1", "TIRAGE_PRODIGI_TIMEOUT_S": "5"},
        "RECORD",
    )  # fmt: skip
    services = Services(settings, clock)
    files = Files(services.sites, settings.fulfilment.link_s)
    services.sending = Sending(
        services.db,
        services.fulfilments,
        services.vendors,
        files,
        Skus(),
        services.mailing.recipient_of,
        clock,
        services.care.is_flagged,
    )
    await services.start()
    yield House(services, printer, clock)
    await services.stop()

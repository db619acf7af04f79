"""Placing, paying, cancelling, expiring: against the Stripe simulator, with jobs run by hand."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from app.drafts.domain import Wish
from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.orders import store as orders
from app.orders.checkout import PAYABLE_FOR, Placing
from app.orders.domain import Line, OrderState, Quantities
from app.orders.errors import OrderNotFound, OrderNotPayable, RecipientDoubtful, RecipientElsewhere
from app.orders.fold import Visible
from app.orders.owed import price_of
from app.payments import store as payments
from app.pricing.errors import QuoteNotFound
from app.pricing.service import Ask
from base import ids
from base.ids import AssetId, ItemId, OrderId, OrderLineId, OwnerId
from base.recipients import Recipient
from tests.app.paying import Shop

HOME = Recipient(name="A. Person", line1="12 High Street", town="Leeds", postcode="LS1 4AP", country="GB")
SKU = "photo-10x15-standard"
ORDER_JOBS = ("order.settle", "order.unpaid", "order.follow", "order.not_made", "order.refunded", "orders.expire")


class Counter:
    """A shop that places orders."""

    def __init__(self, given: Shop) -> None:
        self.shop, self.services = given, given.services

    async def quote(self, owner: OwnerId, copies: int = 2, country: str = "GB", postcode: str = "LS1 4AP") -> UUID:
        """A price for prints of a photo that is ready."""
        asset = AssetId(ids.new_id())
        async with self.services.db.transaction() as tx:
            await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
            await tx.execute(READY, asset, owner, "b" * 64)
            await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
        wish = Wish(
            id=None, asset_id=asset, sku=SKU, copies=copies, paper=None, orientation="auto", fit="cover", crop=None,
            focal=(5_000, 5_000), border_um=0, gift_note=None,
        )  # fmt: skip
        async with self.services.db.transaction() as tx:
            draft = await self.services.drafts.create(tx, owner, [wish])
        ask = Ask(
            draft_id=draft.draft.id, country=country, region=None, postcode=postcode, currency="GBP", way="standard"
        )
        async with self.services.db.transaction() as tx:
            return (await self.services.quotes.ask(tx, owner, ask)).id

    async def owner(self) -> OwnerId:
        """Somebody."""
        owner = OwnerId(ids.new_id())
        async with self.services.db.transaction() as tx:
            await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
            await self.services.persons.create(tx, owner)
        return owner

    async def place(self, owner: OwnerId, quote: UUID, to: Recipient = HOME, accepted: tuple[str, ...] = ()) -> OrderId:
        """An order."""
        wanted = Placing(quote_id=quote, recipient=to, accepted_doubts=frozenset(accepted))
        async with self.services.db.transaction() as tx:
            return await self.services.checkout.place(tx, owner, wanted)

    async def paid(self, copies: int = 2) -> tuple[OwnerId, OrderId]:
        """An order that is paid and planned."""
        owner = await self.owner()
        order = await self.place(owner, await self.quote(owner, copies))
        started = await self.services.checkout.pay(owner, order)
        assert started.client_secret is not None
        await self.shop.sim.confirm(started.client_secret, "pm_card_visa")
        await self.work()
        return owner, order

    async def work(self) -> None:
        """Run everything that waits, until nothing does."""
        for _ in range(4):
            await self.shop.work()
            await self._orders()

    async def _orders(self) -> None:
        async with self.services.db.transaction() as tx:
            sql = "SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY($1) ORDER BY position"
            waiting = [row["id"] for row in await tx.fetch(sql, list(ORDER_JOBS))]
        for job in waiting:
            async with self.services.db.transaction() as tx:
                row = await jobs.lock(tx, job)
            assert row is not None
            await HANDLERS[row.kind](self.services, Attempt(row))

    async def state(self, owner: OwnerId, order: OrderId) -> tuple[OrderState, Visible]:
        """Ours, and what apps see."""
        view = await self.services.orders.get(owner, order)
        return view.order.state, view.shown.state

    async def cancel(self, owner: OwnerId, order: OrderId) -> None:
        """Ask for its end."""
        async with self.services.db.transaction() as tx:
            await self.services.checkout.cancel(tx, owner, order)


READY = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256, format, width, height)
VALUES ($1, $2, 'ready', 1000, 'image/jpeg', $3, 'jpeg', 4032, 3024)
"""


@pytest.fixture
async def counter(shop: Shop) -> Counter:
    return Counter(shop)


class TestPlace:
    async def test_the_same_quote_is_one_order_whatever_key_it_comes_with(self, counter: Counter) -> None:
        owner = await counter.owner()
        quote = await counter.quote(owner)
        first = await counter.place(owner, quote)
        assert await counter.place(owner, quote) == first
        assert await counter.state(owner, first) == (OrderState.PLACED, Visible.PRICED)

    async def test_two_taps_at_once_are_one_order(self, counter: Counter) -> None:
        owner = await counter.owner()
        quote = await counter.quote(owner)
        placed = await asyncio.gather(*(counter.place(owner, quote) for _ in range(3)))
        assert len(set(placed)) == 1

    async def test_an_odd_address_is_told_and_the_person_decides(self, counter: Counter) -> None:
        owner = await counter.owner()
        quote = await counter.quote(owner, country="DE", postcode="101")
        odd = msgspec.structs.replace(HOME, country="DE", postcode="101")
        with pytest.raises(RecipientDoubtful, match="postcode_unusual"):
            await counter.place(owner, quote, odd)
        order = await counter.place(owner, quote, odd, ("postcode_unusual",))
        async with counter.services.db.transaction() as tx:
            sql = "SELECT overridden FROM order_recipients WHERE order_id = $1"
            assert await tx.value(sql, order) == ["postcode_unusual"]

    async def test_anothers_quote_is_not_there(self, counter: Counter) -> None:
        owner, other = await counter.owner(), await counter.owner()
        quote = await counter.quote(owner)
        with pytest.raises(QuoteNotFound):
            await counter.place(other, quote)

    async def test_another_place_than_the_prices_is_refused_and_nothing_changes(self, counter: Counter) -> None:
        owner = await counter.owner()
        quote = await counter.quote(owner)
        with pytest.raises(RecipientElsewhere):
            await counter.place(owner, quote, msgspec.structs.replace(HOME, country="DE", postcode="10115"))
        async with counter.services.db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM orders") == 0
            assert await tx.value("SELECT state FROM quotes") == "priced"


class TestPaid:
    async def test_a_capture_makes_it_paid_once_and_plans_one_print_job(self, counter: Counter) -> None:
        owner, order = await counter.paid()
        assert await counter.state(owner, order) == (OrderState.PAID, Visible.PAID)
        await counter.work()
        async with counter.services.db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'print.master'") == 1
            assert await tx.value("SELECT count(*) FROM fulfilments") == 1

    async def test_paid_and_refused_by_the_printer_it_is_held_for_the_person_to_see(self, counter: Counter) -> None:
        owner, order = await counter.paid()
        async with counter.services.db.transaction() as tx:
            (made,) = await counter.services.fulfilments.of_order(tx, order)
            await counter.services.fulfilments.fail(tx, made.id, "vendor-refused")
        await counter.work()
        assert await counter.state(owner, order) == (OrderState.PAID, Visible.ON_HOLD)

    async def test_cancelled_within_the_window_it_is_refunded_whole(self, counter: Counter) -> None:
        owner, order = await counter.paid()
        await counter.cancel(owner, order)
        await counter.cancel(owner, order)
        await counter.work()
        await counter.work()
        view = await counter.shop.view(order)
        assert (view.captured, view.refunded) == (view.amount, view.amount)
        assert await counter.state(owner, order) == (OrderState.CANCELLED, Visible.CANCELLED)
        shown = await counter.services.orders.get(owner, order)
        assert [(line.quantities.cancelled, line.quantities.refunded) for line in shown.lines] == [(2, 2)]
        with pytest.raises(OrderNotPayable):
            await counter.services.checkout.pay(owner, order)

    async def test_what_was_given_back_by_hand_is_not_given_back_again(self, counter: Counter) -> None:
        owner, order = await counter.paid()
        sim, view = counter.shop.sim, await counter.shop.view(order)
        headers, part = {"Authorization": f"Bearer {sim.KEY}"}, {"payment_intent": view.intent_id, "amount": "100"}
        await sim.http.post("/v1/refunds", data=part, headers=headers)
        async with counter.services.db.transaction() as tx:
            await counter.services.payments.hint(tx, view.intent_id, None)
        await counter.work()
        await counter.cancel(owner, order)
        await counter.work()
        view = await counter.shop.view(order)
        assert (view.refunded, view.left.amount) == (view.captured, 0)
        assert await counter.state(owner, order) == (OrderState.CANCELLED, Visible.CANCELLED)
        assert "refund-not-covered" in await counter.shop.alerts()


class TestUnpaid:
    async def test_cancelled_before_paying_frees_the_draft(self, counter: Counter) -> None:
        owner = await counter.owner()
        order = await counter.place(owner, await counter.quote(owner))
        await counter.services.checkout.pay(owner, order)
        await counter.cancel(owner, order)
        await counter.work()
        assert await counter.state(owner, order) == (OrderState.CANCELLED, Visible.CANCELLED)
        async with counter.services.db.transaction() as tx:
            assert await tx.value("SELECT state FROM drafts") == "ready_for_checkout"

    async def test_it_expires_only_when_stripe_says_that_nothing_can_be_paid(self, counter: Counter) -> None:
        owner = await counter.owner()
        order = await counter.place(owner, await counter.quote(owner))
        await counter.services.checkout.pay(owner, order)
        counter.shop.clock.added += PAYABLE_FOR + timedelta(seconds=1)
        async with counter.services.db.transaction() as tx:
            assert await counter.services.checkout.expire_overdue(tx) == 1
        assert (await counter.state(owner, order))[0] is OrderState.AWAITING_PAYMENT
        await counter.work()
        assert (await counter.state(owner, order))[0] is OrderState.EXPIRED

    async def test_a_payment_is_written_while_its_order_is_locked(self, counter: Counter) -> None:
        """Else two at once wait for each other: cancelling has the order first, reading a payment the payment."""
        owner = await counter.owner()
        order = await counter.place(owner, await counter.quote(owner))
        db = counter.services.db
        async with db.transaction(readonly=True) as tx:
            payment = await counter.services.payments.of_order(tx, order)
        assert payment is not None
        connection = await db.connect()
        async with connection.transaction():
            await connection.fetch(orders.LOCK, order)
            async with db.transaction() as tx:
                await tx.execute("SET LOCAL lock_timeout = '2s'")
                for sql in (payments.POLLED, payments.POLL_AFRESH):  # the second one checks the order's row
                    await payments.note(tx, sql, payment.payment_id)
        await connection.close()

    async def test_others_cannot_cancel(self, counter: Counter) -> None:
        owner, other = await counter.owner(), await counter.owner()
        order = await counter.place(owner, await counter.quote(owner))
        with pytest.raises(OrderNotFound):
            await counter.cancel(other, order)


@pytest.mark.parametrize(("total", "ordered"), [(1000, 3), (999, 7), (1, 2), (0, 1)])
def test_refunds_by_copy_add_up_to_the_price(total: int, ordered: int) -> None:
    line = Line(
        id=OrderLineId(uuid4()), number=1, item_id=ItemId(uuid4()), asset_id=AssetId(uuid4()), sku=SKU, print=b"{}",
        unit=0, total=total, tax=0, quantities=Quantities(ordered=ordered),
    )  # fmt: skip
    assert sum(price_of(line, given, 1) for given in range(ordered)) == total
    assert price_of(line, 0, ordered) == total

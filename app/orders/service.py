"""Orders: read them, and tell their story."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from app.assets.service import flagged
from app.kernel.db import Database, Readable
from app.orders import store, timeline
from app.orders.domain import Line, Order
from app.orders.errors import OrderNotFound
from app.orders.fold import DISPUTED, PHOTO_FLAGGED, Facts, Shown, fold
from app.orders.timeline import Entry, Milestone, Waiting
from app.payments.service import disputed
from base.clock import Clock
from base.ids import AssetId, OwnerId


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its lines, and what is shown of it now."""

    order: Order
    lines: list[Line]
    holds: frozenset[str]
    shown: Shown


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """An order, everything that happened to it, and what is awaited."""

    view: OrderView
    entries: list[Entry]
    milestones: list[Milestone]
    waiting: Waiting


class Orders:
    """The use cases of orders."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def get(self, owner_id: OwnerId, order_id: UUID) -> OrderView:
        """An owner's order; raises `OrderNotFound`, also for somebody else's."""
        async with self._db.reading() as db:
            return await self._view(db, await store.get(db, order_id, owner_id))

    async def page(self, owner_id: OwnerId, before: UUID | None, limit: int) -> list[OrderView]:
        """An owner's orders, newest first, `limit` at most, older than `before`."""
        async with self._db.reading() as db:
            return await self._views(db, await store.page(db, owner_id, before, limit))

    async def story(self, owner_id: OwnerId, order_id: UUID) -> Story:
        """The story of an owner's order; raises `OrderNotFound`."""
        async with self._db.reading() as db:
            return await self._story(db, await store.get(db, order_id, owner_id))

    async def story_for_operators(self, name: UUID) -> Story:
        """The story of anybody's order, by its id or that of a payment, refund, fulfilment or case of it; raises
        `OrderNotFound`."""
        async with self._db.reading() as db:
            return await self._story(db, await store.find(db, name))

    async def ledger(self, db: Readable, since: datetime, orders: Sequence[UUID]) -> list[OrderView]:
        """Orders by id, and the paid ones that were placed since."""
        return await self._views(db, await store.ledger(db, since, orders))

    async def _story(self, db: Readable, order: Order | None) -> Story:
        view = await self._view(db, order)
        entries = await store.timeline(db, view.order.id)
        return Story(
            view=view,
            entries=entries,
            milestones=timeline.milestones(entries),
            waiting=timeline.waiting(view.shown),
        )

    async def _view(self, db: Readable, order: Order | None) -> OrderView:
        if order is None:
            raise OrderNotFound()
        return (await self._views(db, [order]))[0]

    async def _views(self, db: Readable, orders: Sequence[Order]) -> list[OrderView]:
        now, wanted = self._clock.now(), [order.id for order in orders]
        lines, holds = await store.lines(db, wanted), await store.holds(db, wanted)
        found = await flagged(db, [line.asset_id for order in orders for line in lines[order.id]])
        waiting = {hold.asset_id for hold in found}
        banks = await disputed(db, wanted)
        for order_id in banks.open | banks.lost:
            holds[order_id] |= {DISPUTED}
        return [_viewed(order, lines[order.id], holds[order.id], waiting, now) for order in orders]


def _viewed(order: Order, lines: list[Line], holds: frozenset[str], waiting: set[AssetId], now: datetime) -> OrderView:
    """`waiting` are flagged photos."""
    if any(line.asset_id in waiting for line in lines):
        holds |= {PHOTO_FLAGGED}
    facts = Facts(order=order, lines=[line.quantities for line in lines], holds=holds)
    return OrderView(order=order, lines=lines, holds=holds, shown=fold(facts, now))

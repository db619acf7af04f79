"""Orders over HTTP."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from app.orders.errors import OrderNotFound
from app.orders.schemas import OrderOut, OrderPageOut, TimelineOut
from app.orders.service import Orders
from app.web.guards import Customer, CustomerController
from app.web.openapi import fails
from base import ids


class OrderController(CustomerController):
    """Orders."""

    path = "/v1/orders"
    tags = ("orders",)
    orders: Orders

    @get("/", operation_id="ListOrders", summary="List orders", responses=fails(ids.MalformedId))
    async def page(
        self,
        who: NamedDependency[Customer],
        before: Annotated[
            str | None, QueryParameter(description="The `next` of the page before.", max_length=40)
        ] = None,
        limit: Annotated[int, QueryParameter(description="At most so many.", ge=1, le=100)] = 20,
    ) -> OrderPageOut:
        """The caller's orders, newest first."""
        found = await self.orders.page(who.owner_id, ids.decode("order", before) if before else None, limit)
        return OrderPageOut(
            orders=[OrderOut.of(view) for view in found],
            next=ids.encode("order", found[-1].order.id) if len(found) == limit else None,
        )

    @get("/{order_id:str}", operation_id="ReadOrder", summary="Read an order", responses=fails(OrderNotFound))
    async def read(self, order_id: FromPath[str], who: NamedDependency[Customer]) -> OrderOut:
        """One order, as it stands: what happened to each line, what comes next, until when it can be changed."""
        return OrderOut.of(await self.orders.get(who.owner_id, ids.decode("order", order_id)))

    @get(
        "/{order_id:str}/timeline",
        operation_id="ReadTimeline",
        summary="The story of an order",
        responses=fails(OrderNotFound),
    )
    async def timeline(self, order_id: FromPath[str], who: NamedDependency[Customer]) -> TimelineOut:
        """What happened to an order so far, oldest first."""
        return TimelineOut.of(await self.orders.story(who.owner_id, ids.decode("order", order_id)))

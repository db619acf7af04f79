"""Orders over HTTP."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.drafts.errors import DraftClosed, DraftNotFound, DraftNotReady, QuoteStale
from app.kernel.db import Transaction
from app.kernel.idempotency import Idempotency
from app.orders.checkout import Checkout
from app.orders.errors import (
    OrderNotCancellable,
    OrderNotFound,
    OrderNotPayable,
    RecipientDoubtful,
    RecipientElsewhere,
)
from app.orders.schemas import (
    OrderOut,
    OrderPageOut,
    PaymentBegunOut,
    PaymentOut,
    PlacedOut,
    PlaceOrder,
    TimelineOut,
)
from app.orders.service import Orders
from app.payments.errors import PaymentNotFound, ProviderRefused
from app.pricing.errors import QuoteNotFound, QuoteOver, QuoteUsed
from app.web.guards import CustomerController, customer
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids

PLACE_ERRORS = (
    QuoteNotFound,
    QuoteUsed,
    QuoteOver,
    QuoteStale,
    DraftNotFound,
    DraftClosed,
    DraftNotReady,
    RecipientDoubtful,
    RecipientElsewhere,
)
PAY_ERRORS = (OrderNotFound, OrderNotPayable, PaymentNotFound, ProviderRefused)


class OrderController(CustomerController):
    """Orders."""

    path = "/v1/orders"
    tags = ("orders",)
    orders: Orders
    checkout: Checkout
    idempotency: Idempotency

    @post(
        "/",
        operation_id="PlaceOrder",
        summary="Place an order",
        status_code=201,
        responses=fails(*KEY_ERRORS, *PLACE_ERRORS),
    )
    async def place(self, data: JSONBody[PlaceOrder], request: Request[Any, Any, Any]) -> Response[PlacedOut]:
        """Buy a draft at a quote's price. Nothing is paid yet: `…/payment` begins that."""
        call = await keyed(request)
        given = await self.idempotency.once(
            call,
            lambda tx: self.checkout.place(tx, call.owner_id, data.placing()),
            as_json(201, lambda order_id: PlacedOut(id=ids.encode("order", order_id))),
        )
        return answered(given)

    @post(
        "/{order_id:str}/payment",
        operation_id="BeginPayment",
        summary="Begin to pay",
        status_code=202,
        responses=fails(*KEY_ERRORS, *PAY_ERRORS),
    )
    async def begin(self, order_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[PaymentBegunOut]:
        """Make the order payable at Stripe; however often it is asked, one payment. Then read `…/payment`."""
        call = await keyed(request)
        wanted = ids.decode("order", order_id)

        async def before() -> None:
            await self.checkout.pay(call.owner_id, wanted)

        async def effect(_: Transaction) -> str:
            return order_id

        given = await self.idempotency.once(
            call, effect, as_json(202, lambda name: PaymentBegunOut(order_id=name)), before=before
        )
        return answered(given)

    @get(
        "/{order_id:str}/payment",
        operation_id="ReadPayment",
        summary="How the payment stands",
        responses=fails(*PAY_ERRORS),
    )
    async def payment(self, order_id: FromPath[str]) -> PaymentOut:
        """The secret to confirm with at Stripe, while there is something to confirm. Never kept by us. Reading begins
        nothing: before `BeginPayment` the state is `created`."""
        who = customer()
        wanted = ids.decode("order", order_id)
        return PaymentOut.of(await self.checkout.pay(who.owner_id, wanted, begins=False))

    @post(
        "/{order_id:str}/cancel",
        operation_id="CancelOrder",
        summary="Cancel an order",
        status_code=202,
        responses=fails(*KEY_ERRORS, OrderNotFound, OrderNotCancellable),
    )
    async def cancel(self, order_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[PlacedOut]:
        """Ask for the order's end. Whether it still can be stopped shows in the order; money goes back by itself."""
        call = await keyed(request)
        wanted = ids.decode("order", order_id)

        async def effect(tx: Transaction) -> str:
            await self.checkout.cancel(tx, call.owner_id, wanted)
            return order_id

        return answered(await self.idempotency.once(call, effect, as_json(202, lambda name: PlacedOut(id=name))))

    @get("/", operation_id="ListOrders", summary="List orders", responses=fails(ids.MalformedId))
    async def page(
        self,
        before: Annotated[
            str | None, QueryParameter(description="The `next` of the page before.", max_length=40)
        ] = None,
        limit: Annotated[int, QueryParameter(description="At most so many.", ge=1, le=100)] = 20,
    ) -> OrderPageOut:
        """The caller's orders, newest first."""
        who = customer()
        found = await self.orders.page(who.owner_id, ids.decode("order", before) if before else None, limit)
        return OrderPageOut(
            orders=[OrderOut.of(view) for view in found],
            next=ids.encode("order", found[-1].order.id) if len(found) == limit else None,
        )

    @get("/{order_id:str}", operation_id="ReadOrder", summary="Read an order", responses=fails(OrderNotFound))
    async def read(self, order_id: FromPath[str]) -> OrderOut:
        """One order, as it stands: what happened to each line, what comes next, until when it can be changed."""
        who = customer()
        return OrderOut.of(await self.orders.get(who.owner_id, ids.decode("order", order_id)))

    @get(
        "/{order_id:str}/timeline",
        operation_id="ReadTimeline",
        summary="The story of an order",
        responses=fails(OrderNotFound),
    )
    async def timeline(self, order_id: FromPath[str]) -> TimelineOut:
        """What happened to an order so far, oldest first."""
        who = customer()
        return TimelineOut.of(await self.orders.story(who.owner_id, ids.decode("order", order_id)))

"""Orders on the wire."""

from datetime import date, datetime
from typing import Annotated, Any, Self

from msgspec import Meta

from app.orders.addresses import Doubt
from app.orders.checkout import Placing
from app.orders.domain import Line
from app.orders.service import OrderView, Story
from app.orders.timeline import Milestone
from app.payments.domain import Started
from app.web.wire import MoneyOut, WireIn, WireOut
from base import ids
from base.money import Money
from base.recipients import Recipient

EMAIL = r"^[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}$"
PHONE = r"^\+?[0-9][0-9 ()./-]{2,30}$"


class OrderLineOut(WireOut, frozen=True, kw_only=True):
    """One photo as one product, and what became of its copies."""

    id: Annotated[str, Meta(description="The line's id.")]
    item_id: Annotated[str, Meta(description="The draft's item that was bought.")]
    asset_id: Annotated[str, Meta(description="The photo.")]
    sku: Annotated[str, Meta(description="The product's variant.")]
    total: Annotated[MoneyOut, Meta(description="All copies, tax included, in minor units.")]
    tax: Annotated[MoneyOut, Meta(description="The tax in `total`, in minor units.")]
    ordered: Annotated[int, Meta(description="Copies ordered.")]
    in_production: Annotated[int, Meta(description="Copies that went into production.")]
    shipped: Annotated[int, Meta(description="Copies on their way.")]
    delivered: Annotated[int, Meta(description="Copies that arrived.")]
    cancelled: Annotated[int, Meta(description="Copies that are not made.")]
    refunded: Annotated[int, Meta(description="Copies whose price was given back.")]
    returned: Annotated[int, Meta(description="Copies that came back.")]

    @classmethod
    def of(cls, line: Line, currency: str) -> Self:
        """From the domain."""
        counts = line.quantities
        return cls(
            id=ids.encode("order_line", line.id),
            item_id=ids.encode("item", line.item_id),
            asset_id=ids.encode("asset", line.asset_id),
            sku=line.sku,
            total=MoneyOut.of(Money(line.total, currency)),
            tax=MoneyOut.of(Money(line.tax, currency)),
            ordered=counts.ordered,
            in_production=counts.in_production,
            shipped=counts.shipped,
            delivered=counts.delivered,
            cancelled=counts.cancelled,
            refunded=counts.refunded,
            returned=counts.returned,
        )


class OrderOut(WireOut, frozen=True, kw_only=True):
    """An order. `state` is folded from payment, production and parcels; `next` and `by` say what comes."""

    id: Annotated[str, Meta(description="The order's id.")]
    state: Annotated[
        str,
        Meta(
            description="`priced`, `paid`, `in_production`, `partially_shipped`, `shipped`, `delivered`, `cancelled` "
            "or `on_hold`.",
            examples=["paid"],
        ),
    ]
    next: Annotated[
        str,
        Meta(description="What comes next: `payment`, `production`, `shipment`, `delivery`, `resolution`, `nothing`."),
    ]
    by: Annotated[str | None, Meta(description="The moment or day by which it is expected, where one is known.")]
    change_until: Annotated[datetime | None, Meta(description="Until then a cancellation needs nobody's consent, UTC.")]
    draft_id: Annotated[str, Meta(description="What was bought.")]
    quote_id: Annotated[str, Meta(description="At which price.")]
    total: Annotated[MoneyOut, Meta(description="What is paid in all, tax included, in minor units.")]
    shipping: Annotated[MoneyOut, Meta(description="Of it, shipping.")]
    tax: Annotated[MoneyOut, Meta(description="Of it, tax.")]
    shipping_option: Annotated[str, Meta(description="How it is sent: a code of the quote.")]
    country: Annotated[str, Meta(description="Where it goes: ISO 3166-1 alpha-2.")]
    promised_by: Annotated[date | None, Meta(description="The day it was promised for.")]
    created_at: Annotated[datetime, Meta(description="When it was placed, UTC.")]
    lines: Annotated[list[OrderLineOut], Meta(description="What it consists of.")]

    @classmethod
    def of(cls, view: OrderView) -> Self:
        """From the domain."""
        order, shown = view.order, view.shown
        by = None if shown.by is None else shown.by.isoformat().replace("+00:00", "Z")
        return cls(
            id=ids.encode("order", order.id),
            state=shown.state.value,
            next=shown.next.value,
            by=by,
            change_until=shown.change_until,
            draft_id=ids.encode("draft", order.draft_id),
            quote_id=ids.encode("quote", order.quote_id),
            total=MoneyOut.of(Money(order.total, order.currency)),
            shipping=MoneyOut.of(Money(order.shipping, order.currency)),
            tax=MoneyOut.of(Money(order.tax, order.currency)),
            shipping_option=order.shipping_option,
            country=order.country,
            promised_by=order.promised_by,
            created_at=order.created_at,
            lines=[OrderLineOut.of(line, order.currency) for line in view.lines],
        )


class OrderPageOut(WireOut, frozen=True, kw_only=True):
    """A page of orders, newest first."""

    orders: Annotated[list[OrderOut], Meta(description="The orders.")]
    next: Annotated[str | None, Meta(description="Give as `before` for the next page; null at the end.")]


class MilestoneOut(WireOut, frozen=True, kw_only=True):
    """Something that happened."""

    at: Annotated[datetime, Meta(description="When, UTC.")]
    code: Annotated[str, Meta(description="What happened.", examples=["paid"])]

    @classmethod
    def of(cls, milestone: Milestone) -> Self:
        """From the domain."""
        return cls(at=milestone.at, code=milestone.code)


class TimelineOut(WireOut, frozen=True, kw_only=True):
    """The story of an order."""

    order: Annotated[OrderOut, Meta(description="The order as it stands.")]
    milestones: Annotated[list[MilestoneOut], Meta(description="What happened, oldest first.")]

    @classmethod
    def of(cls, story: Story) -> Self:
        """From the domain."""
        return cls(order=OrderOut.of(story.view), milestones=[MilestoneOut.of(one) for one in story.milestones])


class RecipientIn(WireIn, frozen=True, kw_only=True):
    """Who receives the parcel. Kept encrypted under the person's key; never in an event or a log."""

    name: Annotated[str, Meta(description="The person's name.", min_length=1, max_length=80, examples=["Robin Sample"])]
    line1: Annotated[
        str, Meta(description="Street and number.", min_length=1, max_length=100, examples=["12 High Street"])
    ]
    line2: Annotated[
        Annotated[str, Meta(max_length=100)] | None, Meta(description="What does not fit into the first line.")
    ] = None
    town: Annotated[str, Meta(description="Town or city.", min_length=1, max_length=80, examples=["Leeds"])]
    region: Annotated[
        Annotated[str, Meta(max_length=80)] | None, Meta(description="State or county, where addresses have one.")
    ] = None
    postcode: Annotated[
        Annotated[str, Meta(max_length=20)] | None, Meta(description="As it is written there.", examples=["LS1 4AP"])
    ] = None
    country: Annotated[str, Meta(description="ISO 3166-1 alpha-2.", pattern="^[A-Z]{2}$", examples=["GB"])]
    email: Annotated[
        Annotated[str, Meta(max_length=254, pattern=EMAIL)] | None,
        Meta(description="For the two mails about the order, and the carrier."),
    ] = None
    phone: Annotated[
        Annotated[str, Meta(max_length=32, pattern=PHONE)] | None, Meta(description="For the carrier.")
    ] = None

    def recipient(self) -> Recipient:
        """To the domain."""
        return Recipient(
            name=self.name,
            line1=self.line1,
            line2=self.line2,
            town=self.town,
            region=self.region,
            postcode=self.postcode,
            country=self.country,
            email=self.email,
            phone=self.phone,
        )


class PlaceOrder(WireIn, frozen=True, kw_only=True):
    """Buy a draft at a quote's price."""

    quote_id: Annotated[
        str, Meta(description="The quote the person saw.", max_length=40, examples=["quo_01h455vb4pex5vsknk084sn02q"])
    ]
    recipient: Annotated[RecipientIn, Meta(description="Who receives it, where the quote sends it to.")]
    accepted_doubts: Annotated[
        list[Doubt],
        Meta(description="Codes of `recipient-doubtful` that the person says are fine.", max_length=8),
    ] = []  # noqa: RUF012 msgspec copies it

    def placing(self) -> Placing:
        """To the domain."""
        return Placing(
            quote_id=ids.decode("quote", self.quote_id),
            recipient=self.recipient.recipient(),
            accepted_doubts=frozenset(self.accepted_doubts),
        )


class PlacedOut(WireOut, frozen=True, kw_only=True):
    """An order that was placed. Read it for everything else."""

    id: Annotated[str, Meta(description="The order's id.")]


class PaymentBegunOut(WireOut, frozen=True, kw_only=True):
    """That a payment has begun; its secret comes by `GET …/payment`, since this answer is kept."""

    order_id: Annotated[str, Meta(description="The order.")]


class PaymentOut(WireOut, frozen=True, kw_only=True):
    """What an app needs to pay at Stripe, with Stripe's own library."""

    state: Annotated[
        str,
        Meta(
            description="`created`, `requires_payment_method`, `requires_action`, `processing`, `authorised`, "
            "`captured` or `cancelled`.",
            examples=["requires_payment_method"],
        ),
    ]
    client_secret: Annotated[
        str | None,
        Meta(description="Confirms this payment at Stripe; null when there is nothing to confirm, or not yet."),
    ]
    publishable_key: Annotated[str, Meta(description="Which Stripe account it is.")]

    @classmethod
    def of(cls, started: Started) -> Self:
        """From the domain."""
        return cls(
            state=started.state.value, client_secret=started.client_secret, publishable_key=started.publishable_key
        )


def told_to_operators(story: Story) -> dict[str, Any]:
    """The whole story as plain values, for `tirage order show --json`: every entry with its cause and trace."""
    return {
        "order": OrderOut.of(story.view),
        "holds": sorted(story.view.holds),
        "waiting": story.waiting,
        "entries": [
            {
                "at": entry.at,
                "source": entry.source,
                "name": entry.name,
                "state": entry.state,
                "actor": entry.actor,
                "id": ids.encode("event" if entry.source == "event" else "job", entry.id),
                "cause": None if entry.cause is None else ids.encode("event", entry.cause),
                "traceId": entry.trace_id,
                "due": entry.due,
                "ms": entry.ms,
            }
            for entry in story.entries
        ],
    }

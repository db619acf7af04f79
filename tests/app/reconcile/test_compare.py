"""The comparison alone: healthy books say nothing, and each way to differ says exactly what differs."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from app.fulfilment.domain import Fulfilment, FulfilmentState
from app.fulfilment.facts import Facts, of
from app.fulfilment.vendor import Observation, ParcelState, Read, SeenCharge, SeenItem, SeenParcel, Stage
from app.orders.domain import Line, Order, OrderState, Quantities
from app.orders.fold import Facts as Shown
from app.orders.fold import fold
from app.orders.service import OrderView
from app.payments.domain import Capture, Ledger, Payment, PaymentState, Refund, RefundFacts, RefundState
from app.reconcile.compare import Books, compare
from app.reconcile.domain import Drift
from base import ids
from base.ids import (
    AssetId,
    DraftId,
    FulfilmentId,
    ItemId,
    OrderId,
    OrderLineId,
    OwnerId,
    PaymentId,
    QuoteId,
    RefundId,
)
from base.money import Money

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
THEN = NOW - timedelta(days=1)
TOTAL = Money(2500, "GBP")


class Sale:
    """One order that went well: paid, printed, shipped, everywhere the same."""

    def __init__(self, n: int = 1) -> None:
        owner, self.name = OwnerId(UUID(int=n)), OrderId(UUID(int=100 + n))
        self.order = Order(
            id=self.name, owner_id=owner, state=OrderState.PAID, draft_id=DraftId(UUID(int=n)), draft_version=1,
            draft_digest="0" * 64, quote_id=QuoteId(UUID(int=n)), catalogue_version="v1", currency="GBP", total=2500,
            shipping=300, tax=0, shipping_option="standard", country="GB", promised_by=None, expires_at=THEN,
            cancellable_until=THEN, created_at=THEN,
        )  # fmt: skip
        self.line = Line(
            id=OrderLineId(UUID(int=200 + n)), number=1, item_id=ItemId(UUID(int=n)), asset_id=AssetId(UUID(int=n)),
            sku="s", print=b"{}", unit=1, total=2200, tax=0, quantities=Quantities(ordered=2, shipped=2),
        )  # fmt: skip
        self.payment = Payment(
            id=PaymentId(UUID(int=300 + n)), order_id=self.name, owner_id=owner, state=PaymentState.CAPTURED,
            attempt=1, amount=TOTAL, intent_id=f"pi_{n}", key_number=1, asked_at=THEN, spoiled_at=None, polls=1,
            cancel_reason=None,
        )  # fmt: skip
        self.capture = Capture(
            id=f"ch_{n}", intent_id=f"pi_{n}", order_ref=ids.encode("order", self.name),
            payment_ref=ids.encode("payment", self.payment.id), amount=2500, currency="GBP", refunded=0,
            disputed=False, created_at=THEN,
        )  # fmt: skip
        self.fulfilment = Fulfilment(
            id=FulfilmentId(UUID(int=400 + n)), order_id=self.name, owner_id=owner, state=FulfilmentState.CLOSED,
            vendor="prodigi", shipping_option="standard", not_before=THEN, attempt=1, begun_at=THEN, links_until=NOW,
            vendor_order_id=f"ord_{n}", cancel_reason=None, changed_at=THEN, ended_at=THEN, created_at=THEN,
            quoted_cost=600, quoted_currency="GBP",
        )  # fmt: skip
        self.seen = Observation(
            vendor_order_id=f"ord_{n}", reference=ids.encode("fulfilment", self.fulfilment.id), updated_at=THEN,
            stage=Stage.COMPLETE, items=(SeenItem(id="i", line=ids.encode("order_line", self.line.id), copies=2),),
            parcels=(SeenParcel(id="p", state=ParcelState.SHIPPED, items=("i",)),),
            charges=(SeenCharge(id="c", amount=Money(600, "GBP")),),
        )  # fmt: skip
        self.facts: Facts = of(self.seen)
        self.refunds: list[Refund] = []
        self.refunds_there: list[RefundFacts] = []
        self.more_captures: list[Capture] = []
        self.more_seen: list[Observation] = []
        self.missing: frozenset[str] = frozenset()

    def refund(self, state: RefundState) -> None:
        """A part of it goes back."""
        refund = Refund(
            id=RefundId(UUID(int=500)), payment_id=self.payment.id, order_id=self.name, owner_id=self.order.owner_id,
            state=state, amount=Money(100, "GBP"), reason="goodwill", lines=(), stripe_id=None, stray_intent=None,
            key_number=1, asked_at=THEN, spoiled_at=None, polls=1, created_at=THEN,
        )  # fmt: skip
        self.refunds.append(refund)
        self.refunds_there.append(
            RefundFacts(
                id="re_1",
                intent_id=self.payment.intent_id,
                status="succeeded",
                amount=100,
                currency="gbp",
                refund_ref=ids.encode("refund", refund.id),
                failure=None,
                created_at=THEN,
            )
        )  # fmt: skip

    def books(self) -> Books:
        shown = fold(Shown(order=self.order, lines=[self.line.quantities]), NOW)
        view = OrderView(order=self.order, lines=[self.line], holds=frozenset(), shown=shown)
        seen = [self.seen, *self.more_seen]
        return Books(
            settled=NOW - timedelta(minutes=10),
            complete=NOW - timedelta(days=3),
            tolerance=10,
            captures=[self.capture, *self.more_captures],
            refunds=self.refunds_there,
            vendor_orders=[Read(seen=one, raw=b"") for one in seen],
            missing=self.missing,
            ledger=Ledger(payments=[self.payment], refunds=self.refunds, disputed=frozenset()),
            orders=[view],
            fulfilments=[(self.fulfilment, self.facts)],
        )


def found(sale: Sale) -> list[tuple[Drift, str, bool]]:
    """Kind, what differs, and whether a command mends it."""
    return [(one.drift, one.what, one.repair is not None) for one in compare(sale.books())]


def change(sale: Sale, part: str, **values: Any) -> None:
    setattr(sale, part, replace(getattr(sale, part), **values))


def test_healthy_books_say_nothing() -> None:
    sale = Sale()
    assert found(sale) == []
    sale.refund(RefundState.SUCCEEDED)
    change(sale, "capture", refunded=100)
    assert found(sale) == []


PAID, CAPTURED, TWICE = Drift.PAID_NOT_SUBMITTED, Drift.CAPTURED_WITHOUT_ORDER, Drift.CAPTURED_TWICE
VENDOR, SHIPPED, REFUND, AMOUNT = Drift.VENDOR_ORDER, Drift.SHIPPED_NOT_RECORDED, Drift.REFUND, Drift.AMOUNT
MADE = {"vendor_order_id": None, "state": FulfilmentState.CANCELLED}


@pytest.mark.parametrize(
    ("part", "values", "expected"),
    [
        ("payment", {"state": PaymentState.PROCESSING}, [(PAID, "capture-unheard", True)]),
        ("order", {"state": OrderState.AWAITING_PAYMENT}, [(PAID, "not-settled", True)]),
        ("order", {"state": OrderState.EXPIRED}, [(CAPTURED, "order-over", True)]),
        ("order", {"total": 2400}, [(AMOUNT, "order-total", False)]),
        ("capture", {"amount": 2499}, [(AMOUNT, "captured", False)]),
        ("capture", {"currency": "EUR"}, [(AMOUNT, "captured", False)]),
        ("capture", {"disputed": True}, [(REFUND, "dispute-unheard", True)]),
        ("fulfilment", MADE, [(VENDOR, "made-though-given-up", False), (PAID, "cancellation-unheard", True)]),
        ("fulfilment", {"quoted_cost": 500}, [(AMOUNT, "vendor-charge", False)]),
        ("fulfilment", {"quoted_cost": 606}, []),
        ("fulfilment", {"quoted_cost": 607}, [(AMOUNT, "vendor-charge", False)]),
        ("fulfilment", {"quoted_currency": "EUR"}, [(AMOUNT, "vendor-charge", False)]),
        ("fulfilment", {"quoted_cost": None}, []),
        ("facts", {"parcels": ()}, [(SHIPPED, "parcel", True)]),
        ("line", {"quantities": Quantities(ordered=2)}, [(SHIPPED, "lines", True)]),
        ("seen", {"reference": "somebody-elses"}, [(VENDOR, "unknown-here", False)]),
        ("seen", {"stage": Stage.CANCELLED}, [(SHIPPED, "cancellation", True)]),
        ("seen", {"updated_at": NOW, "stage": Stage.CANCELLED}, []),
    ],
)
def test_one_difference_is_one_finding(part: str, values: dict[str, Any], expected: list[Any]) -> None:
    sale = Sale()
    change(sale, part, **values)
    assert sorted(found(sale)) == sorted(expected)


def test_an_intent_whose_making_was_never_answered() -> None:
    sale = Sale()
    change(sale, "order", state=OrderState.AWAITING_PAYMENT)
    change(sale, "payment", intent_id=None, state=PaymentState.CREATED)
    assert found(sale) == [(PAID, "capture-unheard", True)]


def test_money_of_others_and_twice() -> None:
    sale = Sale()
    stray = replace(sale.capture, id="ch_9", intent_id="pi_9", payment_ref="")
    for one, expected in (
        (stray, [(TWICE, "second-intent", True)]),
        (replace(stray, intent_id=None), [(TWICE, "second-charge", False)]),
        (replace(stray, currency="EUR"), [(CAPTURED, "intent-not-ours", False)]),
        (replace(stray, order_ref="ord_of_nobody"), [(CAPTURED, "no-order", False)]),
        (replace(stray, refunded=2500), []),
        (replace(stray, created_at=NOW), []),
        (replace(sale.capture, id="ch_9"), [(TWICE, "charge-doubled", False)]),
    ):
        sale.more_captures = [one]
        assert found(sale) == expected


def test_an_order_that_is_paid_here_only() -> None:
    sale = Sale()
    change(sale, "capture", intent_id="pi_8", order_ref="", payment_ref="", refunded=2500)
    assert found(sale) == [(AMOUNT, "not-captured", False)]
    change(sale, "order", created_at=NOW - timedelta(days=5))  # Stripe's list does not reach so far
    assert found(sale) == []


def test_two_vendor_orders_and_none() -> None:
    sale = Sale()
    sale.more_seen = [replace(sale.seen, vendor_order_id="ord_9")]
    assert found(sale) == [(VENDOR, "doubled", False)]
    sale.more_seen = [replace(sale.seen, vendor_order_id="ord_9", stage=Stage.CANCELLED)]
    assert found(sale) == []
    sale.missing = frozenset({"ord_1"})
    assert found(sale) == [(VENDOR, "unknown-there", False)]


def test_refunds_on_both_sides() -> None:
    for state, there, expected in (
        (RefundState.REQUESTED, {}, [(REFUND, "succeeded-unheard", True)]),
        (RefundState.SUCCEEDED, {"status": "failed"}, [(REFUND, "failed-unheard", True)]),
        (RefundState.FAILED, {"status": "succeeded"}, []),  # what has failed stays failed
        (RefundState.SUCCEEDED, {"amount": 99}, [(REFUND, "amount", False)]),
        (RefundState.FAILED, {"refund_ref": "", "id": "re_9"}, [(REFUND, "made-elsewhere", True)]),
        (RefundState.SUCCEEDED, {"refund_ref": "", "intent_id": "pi_8"}, [(REFUND, "not-there", False)]),
        (RefundState.REQUESTED, {"refund_ref": "", "intent_id": "pi_8"}, [(REFUND, "not-made", True)]),
    ):  # fmt: skip
        sale = Sale()
        sale.refund(state)
        sale.refunds_there = [replace(sale.refunds_there[0], **there)]
        assert found(sale) == expected, there


def test_natural_keys_are_the_same_in_another_run() -> None:
    sale = Sale()
    change(sale, "facts", parcels=())
    first, again = (compare(sale.books()) for _ in range(2))
    assert [(one.drift, one.what, one.subject) for one in first] == [
        (one.drift, one.what, one.subject) for one in again
    ]

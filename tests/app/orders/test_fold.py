"""The visible state of an order: every state reached, and never dependent on the order of facts."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.orders.domain import Order, OrderState, Quantities
from app.orders.fold import PHOTO_FLAGGED, Facts, Next, Visible, fold
from base.ids import DraftId, OrderId, OwnerId, QuoteId

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def order(state: OrderState = OrderState.PAID, cancellable_until: datetime | None = None) -> Order:
    return Order(
        id=OrderId(uuid4()), owner_id=OwnerId(uuid4()), state=state, draft_id=DraftId(uuid4()), draft_version=1,
        draft_digest="0" * 64, quote_id=QuoteId(uuid4()), catalogue_version="v1", currency="EUR", total=1000,
        shipping=300, tax=160, shipping_option="standard", country="DE", promised_by=NOW.date(),
        expires_at=NOW + timedelta(hours=1), cancellable_until=cancellable_until, created_at=NOW,
    )  # fmt: skip


def made(*lines: Quantities, state: OrderState = OrderState.PAID, holds: frozenset[str] = frozenset()) -> Visible:
    return fold(Facts(order=order(state), lines=lines, holds=holds), NOW).state


TWO = Quantities(ordered=2)


def test_a_flagged_photo_holds_an_order_until_it_is_made() -> None:
    held = frozenset({PHOTO_FLAGGED})
    assert made(TWO, holds=held) is Visible.ON_HOLD
    assert made(replace(TWO, in_production=1), holds=held) is Visible.IN_PRODUCTION
    assert made(replace(TWO, in_production=1), holds=held | {"master_refused"}) is Visible.ON_HOLD


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((TWO,), Visible.PAID),
        ((replace(TWO, in_production=1), TWO), Visible.IN_PRODUCTION),
        ((replace(TWO, in_production=2, shipped=1),), Visible.PARTIALLY_SHIPPED),
        ((replace(TWO, shipped=2), TWO), Visible.PARTIALLY_SHIPPED),
        ((replace(TWO, shipped=2),), Visible.SHIPPED),
        ((replace(TWO, shipped=2), replace(TWO, cancelled=2, refunded=2)), Visible.SHIPPED),
        ((replace(TWO, shipped=2, delivered=2), replace(TWO, shipped=2)), Visible.SHIPPED),
        ((replace(TWO, shipped=2, delivered=2),), Visible.DELIVERED),
        ((replace(TWO, cancelled=2),), Visible.CANCELLED),
        # A parcel that left although it was cancelled is a parcel.
        ((replace(TWO, cancelled=2, shipped=2),), Visible.SHIPPED),
    ],
)
def test_lines_make_the_state(lines: tuple[Quantities, ...], expected: Visible) -> None:
    assert made(*lines) is expected


@pytest.mark.parametrize(
    ("state", "expected", "next_"),
    [
        (OrderState.PLACED, Visible.PRICED, Next.PAYMENT),
        (OrderState.AWAITING_PAYMENT, Visible.PRICED, Next.PAYMENT),
        (OrderState.PAID, Visible.PAID, Next.PRODUCTION),
        (OrderState.CLOSED, Visible.PAID, Next.PRODUCTION),
        (OrderState.CANCELLED, Visible.CANCELLED, Next.NOTHING),
        (OrderState.EXPIRED, Visible.CANCELLED, Next.NOTHING),
    ],
)
def test_lifecycle_makes_the_state(state: OrderState, expected: Visible, next_: Next) -> None:
    shown = fold(Facts(order=order(state), lines=(TWO,)), NOW)
    assert (shown.state, shown.next) == (expected, next_)


def test_a_parcel_that_left_after_the_cancellation_is_shown() -> None:
    assert made(replace(TWO, cancelled=2), state=OrderState.CANCELLED) is Visible.CANCELLED
    assert made(replace(TWO, cancelled=2, shipped=2), state=OrderState.CANCELLED) is Visible.SHIPPED


def test_a_hold_is_shown_until_the_parcel_left() -> None:
    held = frozenset({"master_refused"})
    assert made(TWO, holds=held) is Visible.ON_HOLD
    assert made(replace(TWO, shipped=2), holds=held) is Visible.SHIPPED


def test_change_is_possible_until_the_window_ends() -> None:
    until = NOW + timedelta(minutes=5)
    paid = order(cancellable_until=until)
    assert fold(Facts(order=paid, lines=(TWO,)), NOW).change_until == until
    assert fold(Facts(order=paid, lines=(TWO,)), until).change_until is None
    assert fold(Facts(order=paid, lines=(replace(TWO, in_production=1),)), NOW).change_until is None


quantities = st.integers(1, 3).flatmap(
    lambda ordered: st.builds(
        Quantities,
        ordered=st.just(ordered),
        **{
            name: st.integers(0, ordered)
            for name in ("in_production", "shipped", "delivered", "cancelled", "refunded", "returned")
        },
    )
)


@given(st.lists(quantities, min_size=1, max_size=4))
def test_every_combination_of_facts_has_one_state_whatever_the_order_of_lines(lines: list[Quantities]) -> None:
    states = {made(*shuffled) for shuffled in itertools.permutations(lines)}
    assert len(states) == 1

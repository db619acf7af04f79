"""Payments: one live PaymentIntent an order, what Stripe says of it, and refunds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

import msgspec

from app.kernel.events import Code, OrderEvent, event
from app.kernel.states import Machine
from base.ids import OrderId, OwnerId, PaymentId, RefundId
from base.money import Money


class PaymentState(StrEnum):
    """Where a payment is; every move but the first is read from Stripe."""

    CREATED = "created"
    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    AUTHORISED = "authorised"
    CAPTURED = "captured"
    CANCELLED = "cancelled"


class RefundState(StrEnum):
    """Where a refund is; a bank may send back what had succeeded."""

    REQUESTED = "requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class _OfPayment(OrderEvent, frozen=True, kw_only=True):
    payment_id: PaymentId


@event
class PaymentOpened(_OfPayment, frozen=True, kw_only=True):
    """An order is to be paid."""

    type: ClassVar[str] = "payment.opened"
    amount: Money
    attempt: int


@event
class PaymentRequiresMethod(_OfPayment, frozen=True, kw_only=True):
    """Stripe waits for a card or another means of payment."""

    type: ClassVar[str] = "payment.requires_payment_method"


@event
class PaymentRequiresAction(_OfPayment, frozen=True, kw_only=True):
    """The bank asks the person (3-D Secure)."""

    type: ClassVar[str] = "payment.requires_action"


@event
class PaymentProcessing(_OfPayment, frozen=True, kw_only=True):
    """The money is on its way; it may take days."""

    type: ClassVar[str] = "payment.processing"


@event
class PaymentAuthorised(_OfPayment, frozen=True, kw_only=True):
    """The money is held for us, not taken yet."""

    type: ClassVar[str] = "payment.authorised"


@event
class PaymentSecured(_OfPayment, frozen=True, kw_only=True):
    """Stripe says that the whole amount is taken, for this order, in its currency."""

    type: ClassVar[str] = "payment.secured"
    amount: Money


@event
class PaymentCancelled(_OfPayment, frozen=True, kw_only=True):
    """Stripe says that nothing can be paid any more."""

    type: ClassVar[str] = "payment.cancelled"
    reason: Code


@event
class PaymentFailed(_OfPayment, frozen=True, kw_only=True):
    """One try to pay was declined; another means can be tried."""

    type: ClassVar[str] = "payment.failed"
    reason: Code


@event
class PaymentMismatchFound(_OfPayment, frozen=True, kw_only=True):
    """What Stripe has differs from what we asked for; an operator decides."""

    type: ClassVar[str] = "payment.mismatch_found"
    what: Code


@event
class PaymentDisputed(_OfPayment, frozen=True, kw_only=True):
    """The person's bank wants the money back, or that dispute has moved on; a person answers it at Stripe."""

    type: ClassVar[str] = "payment.disputed"
    amount: Money
    reason: Code
    status: Code


class _OfRefund(_OfPayment, frozen=True, kw_only=True):
    refund_id: RefundId
    amount: Money


@event
class RefundRequested(_OfRefund, frozen=True, kw_only=True):
    """Money is to go back."""

    type: ClassVar[str] = "refund.requested"
    reason: Code


@event
class RefundSucceeded(_OfRefund, frozen=True, kw_only=True):
    """Money is on its way back."""

    type: ClassVar[str] = "refund.succeeded"


@event
class RefundFailed(_OfRefund, frozen=True, kw_only=True):
    """Money did not go back, or came back to us."""

    type: ClassVar[str] = "refund.failed"
    reason: Code


_P, _R = PaymentState, RefundState
OPEN: Final = (_P.CREATED, _P.REQUIRES_PAYMENT_METHOD, _P.REQUIRES_ACTION, _P.PROCESSING, _P.AUTHORISED)
TOLD: Final[dict[PaymentState, type[_OfPayment]]] = {
    _P.REQUIRES_PAYMENT_METHOD: PaymentRequiresMethod,
    _P.REQUIRES_ACTION: PaymentRequiresAction,
    _P.PROCESSING: PaymentProcessing,
    _P.AUTHORISED: PaymentAuthorised,
    _P.CAPTURED: PaymentSecured,
    _P.CANCELLED: PaymentCancelled,
}
MACHINE: Final[Machine[PaymentState]] = Machine(
    "payment",
    "payments",
    {_P.CREATED: PaymentOpened.type},
    {(old, new): told.type for old in OPEN for new, told in TOLD.items() if old != new},
)
"""An open payment goes wherever Stripe says that it is, and ends captured or cancelled."""

REFUNDS: Final[Machine[RefundState]] = Machine(
    "refund",
    "refunds",
    {_R.REQUESTED: RefundRequested.type},
    {
        (_R.REQUESTED, _R.SUCCEEDED): RefundSucceeded.type,
        (_R.REQUESTED, _R.FAILED): RefundFailed.type,
        (_R.SUCCEEDED, _R.FAILED): RefundFailed.type,
    },
)

CANCELLABLE: Final = (_P.CREATED, _P.REQUIRES_PAYMENT_METHOD, _P.REQUIRES_ACTION, _P.AUTHORISED)

STATE_OF: Final[dict[str, PaymentState]] = {
    "requires_payment_method": _P.REQUIRES_PAYMENT_METHOD,
    "requires_confirmation": _P.REQUIRES_PAYMENT_METHOD,
    "requires_action": _P.REQUIRES_ACTION,
    "processing": _P.PROCESSING,
    "requires_capture": _P.AUTHORISED,
    "succeeded": _P.CAPTURED,
    "canceled": _P.CANCELLED,
}
"""Stripe's words; one that is not here is kept, alerted and changes nothing."""

FINAL: Final = frozenset({"succeeded", "canceled"})
DISPUTES_OVER: Final = frozenset({"won", "lost", "warning_closed"})
DISPUTES_WON: Final = frozenset({"won", "warning_closed"})
LOST: Final = "lost"
REFUND_STATE_OF: Final[dict[str, RefundState]] = {
    "succeeded": _R.SUCCEEDED,
    "failed": _R.FAILED,
    "canceled": _R.FAILED,
}


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to have an order paid; `key_number` counts the outbound keys that were used up."""

    id: PaymentId
    order_id: OrderId
    owner_id: OwnerId
    state: PaymentState
    attempt: int
    amount: Money
    intent_id: str | None
    key_number: int
    asked_at: datetime | None
    spoiled_at: datetime | None
    polls: int
    cancel_reason: str | None


class IntentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A PaymentIntent as Stripe gave it at `read_at` (when we began to ask). Amounts are minor units."""

    id: str
    status: str
    amount: int
    currency: str
    received: int
    refunded: int
    order_ref: str
    payment_ref: str
    failed_charge: str | None
    failure: str | None
    read_at: datetime
    disputed: bool = False


class RefundLine(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a refund is for which line of the order, and for how many copies."""

    line_id: UUID
    copies: int
    amount: int


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What went back of an order, or is about to: copies by line, and of the shipping, in minor units. Refunds that
    name no line (made at Stripe by hand) are not in it."""

    copies: Mapping[UUID, int]
    shipping: int


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money back to the person, whole or in part. `stray_intent` is an intent that is not the payment's: what it took
    was paid a second time, so its refund is no part of the payment's sums."""

    id: RefundId
    payment_id: PaymentId
    order_id: OrderId
    owner_id: OwnerId
    state: RefundState
    amount: Money
    reason: str
    lines: tuple[RefundLine, ...]
    stripe_id: str | None
    stray_intent: str | None
    key_number: int
    asked_at: datetime | None
    spoiled_at: datetime | None
    polls: int
    created_at: datetime


def given(refunds: Sequence[Refund]) -> Given:
    """What living refunds give back; what a refund has beyond its lines is shipping."""
    copies: Counter[UUID] = Counter()
    shipping = 0
    for refund in refunds:
        for line in refund.lines:
            copies[line.line_id] += line.copies
        if refund.lines:
            shipping += max(0, refund.amount.amount - sum(line.amount for line in refund.lines))
    return Given(copies=copies, shipping=shipping)


class RefundFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as Stripe gave it."""

    id: str
    intent_id: str | None
    status: str
    amount: int
    currency: str
    refund_ref: str
    failure: str | None
    created_at: datetime


class DisputeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as Stripe gave it; `due_by` is when its evidence must be there, while it still can be sent."""

    id: str
    status: str
    amount: int
    currency: str
    reason: str
    due_by: datetime | None


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """Money that Stripe says it has taken, whoever asked for it; minor units. `created_at` is when the try was made."""

    id: str
    intent_id: str | None
    order_ref: str
    payment_ref: str
    amount: int
    currency: str
    refunded: int
    disputed: bool
    created_at: datetime


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Our side of what Stripe did: payments, refunds, and the payments that have a dispute."""

    payments: list[Payment]
    refunds: list[Refund]
    disputed: frozenset[PaymentId]


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of the house needs to know of an order's money: `refunded` has succeeded, `refunding` not yet;
    `left` can still go back, whoever gave back the rest; `lost` the bank took back after a dispute."""

    payment_id: PaymentId
    state: PaymentState
    amount: Money
    captured: Money
    refunded: Money
    refunding: Money
    left: Money
    lost: Money
    intent_id: str | None
    cancelling: bool


class Disputed(msgspec.Struct, frozen=True, kw_only=True):
    """Orders whose payment a bank may take back (`open`), or has (`lost`)."""

    open: frozenset[UUID]
    lost: frozenset[UUID]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What an app needs to pay; without `client_secret` Stripe has not answered yet: ask again in a moment."""

    payment_id: PaymentId
    state: PaymentState
    client_secret: str | None
    publishable_key: str


def outbound_key(payment: Payment) -> str:
    """The idempotency key of the intent's making: the same for the same order, attempt, amount and currency."""
    amount = payment.amount
    return f"pi-{payment.order_id}-{payment.attempt}-{amount.amount}-{amount.currency}-{payment.key_number}"


def cancel_key(payment: Payment) -> str:
    """The idempotency key of one asking to cancel: another after each look, since Stripe keeps refusals as well."""
    return f"cancel-{payment.id}-{payment.polls}"


def refund_key(refund: Refund) -> str:
    """The idempotency key of a refund's making."""
    return f"re-{refund.id}-{refund.amount.amount}-{refund.amount.currency}-{refund.key_number}"


def mismatch(payment: Payment, order_ref: str, facts: IntentFacts) -> str | None:
    """What differs between our payment and Stripe's intent, as a code; None when all is equal."""
    if facts.currency.upper() != payment.amount.currency:
        return "currency"
    if facts.amount != payment.amount.amount:
        return "amount"
    if facts.order_ref != order_ref:
        return "order"
    if facts.status == "succeeded" and facts.received != payment.amount.amount:
        return "received"
    return None

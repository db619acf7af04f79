"""Reconciliation: what our rows, Stripe and the printers say of the same order, and where they differ.

Every difference is a finding of one of seven kinds, known by its natural key (kind, what, subject), so that looking
twice finds it once. A finding is repaired by one command, or it is a case for a person.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from app.kernel.alerts import Severity
from app.kernel.events import Code, Event, event
from app.kernel.states import Machine
from base.ids import CaseId, FulfilmentId, OrderId, PaymentId, RefundId
from base.money import Money


class Drift(StrEnum):
    """The closed list of what can differ."""

    PAID_NOT_SUBMITTED = "paid-not-submitted"
    CAPTURED_WITHOUT_ORDER = "captured-without-order"
    CAPTURED_TWICE = "captured-twice"
    VENDOR_ORDER = "vendor-order"
    SHIPPED_NOT_RECORDED = "shipped-not-recorded"
    REFUND = "refund"
    AMOUNT = "amount"


RULES: Final[dict[Drift, tuple[str, Severity]]] = {
    Drift.PAID_NOT_SUBMITTED: ("reconcile-paid-not-submitted", Severity.CRITICAL),
    Drift.CAPTURED_WITHOUT_ORDER: ("reconcile-captured-without-order", Severity.CRITICAL),
    Drift.CAPTURED_TWICE: ("reconcile-captured-twice", Severity.CRITICAL),
    Drift.VENDOR_ORDER: ("reconcile-vendor-order", Severity.CRITICAL),
    Drift.SHIPPED_NOT_RECORDED: ("reconcile-shipped-not-recorded", Severity.ERROR),
    Drift.REFUND: ("reconcile-refund", Severity.ERROR),
    Drift.AMOUNT: ("reconcile-amount", Severity.ERROR),
}
"""What an operator is told when a drift becomes a case."""


class FindingState(StrEnum):
    """What becomes of a finding. Only a person closes a case."""

    REPAIRING = "repairing"
    REPAIRED = "repaired"
    CASE = "case"
    CLOSED = "closed"


class _OfFinding(Event, frozen=True, kw_only=True):
    finding_id: CaseId
    order_id: OrderId | None
    drift: Code
    what: Code


@event
class DriftFound(_OfFinding, frozen=True, kw_only=True):
    """Two sides differ, and a command that mends it is planned."""

    type: ClassVar[str] = "reconcile.drift_found"


@event
class DriftRepaired(_OfFinding, frozen=True, kw_only=True):
    """The command has been carried out."""

    type: ClassVar[str] = "reconcile.repaired"


@event
class CaseOpened(_OfFinding, frozen=True, kw_only=True):
    """A person has to decide: no command mends it, or the one that should has not."""

    type: ClassVar[str] = "reconcile.case_opened"


@event
class CaseClosed(_OfFinding, frozen=True, kw_only=True):
    """A person has decided."""

    type: ClassVar[str] = "reconcile.case_closed"


_S = FindingState
MACHINE: Final[Machine[FindingState]] = Machine(
    "finding",
    "findings",
    {_S.REPAIRING: DriftFound.type, _S.CASE: CaseOpened.type},
    {
        (_S.REPAIRING, _S.REPAIRED): DriftRepaired.type,
        (_S.REPAIRING, _S.CASE): CaseOpened.type,
        (_S.REPAIRED, _S.CASE): CaseOpened.type,  # carried out, and it differs still
        (_S.CASE, _S.CLOSED): CaseClosed.type,
    },
)


class ReadPayment(msgspec.Struct, frozen=True, kw_only=True, tag="read_payment"):
    """Read a payment with its refunds and disputes at Stripe, and believe it."""

    payment_id: PaymentId


class AskRefund(msgspec.Struct, frozen=True, kw_only=True, tag="ask_refund"):
    """Make a requested refund at Stripe, or read what became of it."""

    refund_id: RefundId


class GiveBack(msgspec.Struct, frozen=True, kw_only=True, tag="give_back"):
    """Refund what an intent took for an order that another intent has paid."""

    order_id: OrderId
    intent_id: str
    amount: Money


class SettleOrder(msgspec.Struct, frozen=True, kw_only=True, tag="settle_order"):
    """The payment is secured: go on to make the order, or give the money of a dead one back."""

    order_id: OrderId


class RenderOrder(msgspec.Struct, frozen=True, kw_only=True, tag="render_order"):
    """Have the missing print files of an order made."""

    order_id: OrderId


class FollowOrder(msgspec.Struct, frozen=True, kw_only=True, tag="follow_order"):
    """Count anew what the printer did on the order's lines, and refund what is not made."""

    order_id: OrderId


class ResumeFulfilment(msgspec.Struct, frozen=True, kw_only=True, tag="resume_fulfilment"):
    """Go on with what is next at the printer: send, cancel, or look."""

    fulfilment_id: FulfilmentId


Repair = ReadPayment | AskRefund | GiveBack | SettleOrder | RenderOrder | FollowOrder | ResumeFulfilment
"""Every command is idempotent and is carried out by the service of the slice whose rows it changes."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `subject` names what differs, `what` how, `detail` both sides in codes and amounts; without
    `repair` a person decides."""

    drift: Drift
    what: str
    subject: str
    order_id: OrderId | None
    detail: str = ""
    repair: Repair | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A finding as stored."""

    id: CaseId
    state: FindingState
    finding: Finding
    found_at: datetime
    changed_at: datetime

"""Reconciliation: reads Stripe and the printers, compares with our rows, and has each difference mended, once.

Reading happens outside any transaction and before our own rows are read, so that ours are never older than theirs. A
repair is a job that names the finding; its effect goes through the service of the slice whose rows it changes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec
from prometheus_client import Counter

from app.fulfilment.domain import Fulfilment, FulfilmentState
from app.fulfilment.facts import Facts
from app.fulfilment.service import Fulfilments
from app.fulfilment.vendor import Read, Vendor
from app.kernel import alerts
from app.kernel.db import Database, Transaction
from app.kernel.events import Event, Origin
from app.kernel.jobs import Plan
from app.kernel.spine import Spine
from app.orders.checkout import Checkout, OfOrder
from app.orders.service import Orders, OrderView
from app.payments.domain import Capture, Ledger, RefundFacts
from app.payments.errors import ProviderSilent
from app.payments.gateway import Gateway
from app.payments.service import Payments
from app.reconcile import store
from app.reconcile.compare import Books, compare, decoded
from app.reconcile.domain import (
    RULES,
    AskRefund,
    CaseClosed,
    CaseOpened,
    DriftFound,
    DriftRepaired,
    Finding,
    FindingState,
    FollowOrder,
    GiveBack,
    Kept,
    ReadPayment,
    RenderOrder,
    Repair,
    ResumeFulfilment,
    SettleOrder,
)
from app.reconcile.errors import CaseNotFound
from app.reconcile.settings import ReconcileSettings
from base import ids
from base.clock import Clock
from base.ids import CaseId, RefundId

FOUND: Final = Counter("tirage_drift_total", "Differences found, by kind and what differs", ("drift", "what"))
SYSTEM: Final = Origin(actor="system")
OPERATOR: Final = Origin(actor="operator")
LOOKED_UP: Final = 50
"""Orders at a printer that are asked for one by one in a run, because its list does not have them."""
WHOLE_EVERY: Final = 24
"""Of so many scheduled runs one looks the whole window back; the others at what is recent."""
PATIENCE: Final = 6
"""So many grace times a mending, and what it plans behind everybody else's work, may take before it is a case."""
_STRAY: Final = UUID("5b1f0d51-8a06-5d39-9f5e-0a6c2b9e7d42")
Finish = Callable[[Transaction], Awaitable[None]]
_S = FindingState


class Mend(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a repair job."""

    finding_id: CaseId


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a scheduled run: its number, counted from the epoch."""

    number: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A difference as a run saw it: `is_new` when no run before has."""

    id: CaseId
    state: FindingState
    is_new: bool
    finding: Finding


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run looked at and saw."""

    since: datetime
    settled: datetime
    looked_at: dict[str, int]
    seen: tuple[Seen, ...]


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What the others say."""

    captures: list[Capture]
    refunds: list[RefundFacts]
    vendor_orders: list[Read]


class Reconciler:
    """The use cases."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        clock: Clock,
        gateway: Gateway,
        vendors: Mapping[str, Vendor],
        payments: Payments,
        fulfilments: Fulfilments,
        orders: Orders,
        checkout: Checkout,
        settings: ReconcileSettings,
    ) -> None:
        self._db, self._spine, self._clock, self._settings = db, spine, clock, settings
        self._gateway, self._vendors, self._payments = gateway, vendors, payments
        self._fulfilments, self._orders, self._checkout = fulfilments, orders, checkout

    async def scheduled(self, number: int) -> Report:
        """The run of a period; raises what `run` raises."""
        is_whole = number % WHOLE_EVERY == 0
        return await self.run(self._settings.window_s if is_whole else self._settings.recent_s)

    async def run(self, window_s: int | None = None) -> Report:
        """Compare once, keep what is new, plan its repairs. Raises `ProviderSilent`, `VendorUnavailable`: what is not
        known from all sides is not compared."""
        now = self._clock.now()
        since = now - timedelta(seconds=window_s or self._settings.window_s)
        outside = await self._read(since)
        ledger, orders, fulfilments = await self._ours(since, outside)
        books = Books(
            settled=now - timedelta(seconds=self._settings.grace_s),
            complete=since + (now - since) / 2,
            tolerance=self._settings.tolerance,
            captures=outside.captures,
            refunds=outside.refunds,
            vendor_orders=outside.vendor_orders,
            missing=await self._missing(since, now, outside, fulfilments),
            ledger=ledger,
            orders=orders,
            fulfilments=fulfilments,
        )
        seen = [await self._keep(finding, now) for finding in compare(books)]
        looked_at = {
            "captures": len(outside.captures),
            "refunds": len(outside.refunds),
            "vendorOrders": len(outside.vendor_orders),
            "orders": len(orders),
            "fulfilments": len(fulfilments),
        }
        return Report(since=since, settled=books.settled, looked_at=looked_at, seen=tuple(seen))

    async def _read(self, since: datetime) -> Outside:
        captures = await self._gateway.captures(since)
        refunds = await self._gateway.refunds_since(since)
        vendor_orders = [read for vendor in self._vendors.values() for read in await vendor.orders(since)]
        return Outside(captures=captures, refunds=refunds, vendor_orders=vendor_orders)

    async def _ours(
        self, since: datetime, outside: Outside
    ) -> tuple[Ledger, list[OrderView], list[tuple[Fulfilment, Facts]]]:
        """Our rows about everything that the others have, and the paid orders that they should have."""
        intents = [*(one.intent_id for one in outside.captures), *(one.intent_id for one in outside.refunds)]
        payments = [decoded("payment", one.payment_ref) for one in outside.captures]
        named = [decoded("order", one.order_ref) for one in outside.captures]
        references = [decoded("fulfilment", read.seen.reference) for read in outside.vendor_orders]
        async with self._db.transaction(readonly=True, isolation="repeatable_read") as tx:
            orders = await self._orders.ledger(tx, since, _there(named))
            names = [view.order.id for view in orders]
            ledger = await self._payments.ledger(tx, since, _there(intents), _there(payments), names)
            known = set(names)
            others = [payment.order_id for payment in ledger.payments if payment.order_id not in known]
            if others:
                orders = await self._orders.ledger(tx, since, [*names, *others])
            fulfilments = await self._fulfilments.ledger(tx, since, _there(references), names)
        return ledger, orders, fulfilments

    async def _missing(
        self, since: datetime, now: datetime, outside: Outside, fulfilments: Sequence[tuple[Fulfilment, Facts]]
    ) -> frozenset[str]:
        """Orders that we sent and their printer does not show, neither in its list nor by name."""
        listed, missing = {read.seen.vendor_order_id for read in outside.vendor_orders}, set()
        doubtful = []
        for found, _ in fulfilments:
            is_open = found.state in (FulfilmentState.SUBMITTED, FulfilmentState.CANCELLING)
            if is_open and found.vendor_order_id not in listed and found.begun_at is not None:
                hidden = timedelta(seconds=self._settings.grace_s + self._vendors[found.vendor].hold_s)
                if since < found.begun_at < now - hidden:
                    doubtful.append((self._vendors[found.vendor], found.vendor_order_id))
        for vendor, name in doubtful[:LOOKED_UP]:
            if name is not None and await vendor.read(name) is None:
                missing.add(name)
        return frozenset(missing)

    async def _keep(self, finding: Finding, now: datetime) -> Seen:
        """Keep a new finding and plan its repair, or open its case; a known one whose repair did not help becomes one.

        Anything else changes nothing.
        """
        state, finding_id = _S.CASE if finding.repair is None else _S.REPAIRING, CaseId(ids.new_id())
        async with self._db.transaction() as tx:
            if await store.insert(tx, finding_id, finding, state, now):
                FOUND.labels(finding.drift.value, finding.what).inc()
                told = _told(CaseOpened if state is _S.CASE else DriftFound, finding_id, finding)
                await self._spine.record(tx, told, aggregate_id=finding_id, owner_id=None, origin=SYSTEM)
                if state is _S.CASE:
                    await _alert(tx, finding)
                return Seen(id=finding_id, state=state, is_new=True, finding=finding)
            kept = await store.known(tx, finding)
            has_had_time = now - kept.changed_at > timedelta(seconds=PATIENCE * self._settings.grace_s)
            if kept.state in (_S.REPAIRING, _S.REPAIRED) and has_had_time:
                await self._open_case(tx, kept, now)
                return Seen(id=kept.id, state=_S.CASE, is_new=False, finding=finding)
            return Seen(id=kept.id, state=kept.state, is_new=False, finding=finding)

    async def _open_case(self, tx: Transaction, kept: Kept, now: datetime) -> None:
        told = _told(CaseOpened, kept.id, kept.finding)
        await store.transition(tx, self._spine, kept, _S.CASE, now, told, SYSTEM)
        await _alert(tx, kept.finding)

    async def mend(self, finding_id: UUID, cause: UUID, finish: Finish) -> None:
        """Carry a finding's repair out, unless it was; raises `ProviderSilent` and what the owning service raises."""
        async with self._db.transaction(readonly=True) as tx:
            kept = await store.get(tx, finding_id)
        if kept is not None and kept.state is _S.REPAIRING and kept.finding.repair is not None:
            await self._outside(kept.finding.repair)
        async with self._db.transaction() as tx:
            kept = await store.lock(tx, finding_id)
            if kept is not None and kept.state is _S.REPAIRING and kept.finding.repair is not None:
                await self._inside(tx, kept.id, kept.finding.repair, cause)
                told = _told(DriftRepaired, kept.id, kept.finding)
                await store.transition(tx, self._spine, kept, _S.REPAIRED, self._clock.now(), told, SYSTEM)
            await finish(tx)

    async def _outside(self, repair: Repair) -> None:
        """Repairs that ask Stripe: they open their own transactions."""
        match repair:
            case ReadPayment(payment_id=payment_id):
                if not await self._payments.read(payment_id):
                    raise ProviderSilent()
            case AskRefund(refund_id=refund_id):
                await self._payments.ask_refund(refund_id)

    async def _inside(self, tx: Transaction, finding_id: CaseId, repair: Repair, cause: UUID) -> None:
        """Repairs of our own rows; what must leave the house they plan."""
        match repair:
            case GiveBack(order_id=order_id, intent_id=intent_id, amount=amount):
                refund_id = RefundId(uuid5(_STRAY, str(finding_id)))
                await self._payments.give_back_stray(tx, order_id, refund_id, intent_id, amount)
            case SettleOrder(order_id=order_id):
                await self._checkout.settle(tx, OfOrder(order_id=order_id, event_id=cause))
            case RenderOrder(order_id=order_id):
                await self._checkout.render_again(tx, order_id, cause)
            case FollowOrder(order_id=order_id):
                await self._checkout.follow(tx, OfOrder(order_id=order_id, event_id=cause))
            case ResumeFulfilment(fulfilment_id=fulfilment_id):
                await self._fulfilments.resume(tx, fulfilment_id)

    async def cases(self, limit: int = 200) -> list[Kept]:
        """Open cases, oldest first."""
        async with self._db.reading() as db:
            return await store.cases(db, limit)

    async def close(self, case_id: UUID) -> None:
        """A person has decided; raises `CaseNotFound`. The same difference is not found again."""
        async with self._db.transaction() as tx:
            kept = await store.lock(tx, case_id)
            if kept is None or kept.state is not _S.CASE:
                raise CaseNotFound()
            told = _told(CaseClosed, kept.id, kept.finding)
            await store.transition(tx, self._spine, kept, _S.CLOSED, self._clock.now(), told, OPERATOR)
            await alerts.settle(tx, RULES[kept.finding.drift][0], kept.finding.subject)


async def planned_mend(tx: Transaction, happened: Any) -> Plan | None:
    """The repair of a difference that was just found."""
    payload = Mend(finding_id=CaseId(happened.aggregate_id))
    return Plan(kind="reconcile.mend", payload=payload, dedupe=f"reconcile.mend:{happened.aggregate_id}")


def _there(values: Sequence[Any | None]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if value is not None]


def _told(kind: type[Any], finding_id: CaseId, finding: Finding) -> Event:
    told: Event = kind(finding_id=finding_id, order_id=finding.order_id, drift=finding.drift.value, what=finding.what)
    return told


async def _alert(tx: Transaction, finding: Finding) -> None:
    rule, severity = RULES[finding.drift]
    detail = f"{finding.what}: {finding.detail}" if finding.detail else finding.what
    await alerts.alert(tx, rule, severity, finding.subject, detail=detail)

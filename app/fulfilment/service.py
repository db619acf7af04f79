"""Fulfilment: from a paid order's lines to parcels. Talks to no vendor itself: `sending.py` and `watching.py` do.

Facts from a vendor are merged, never refused; our lifecycle follows from them. Everything here runs in the caller's
transaction and plans jobs for what must leave the house.
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from app.fulfilment import facts as merged
from app.fulfilment import store
from app.fulfilment.domain import (
    UNSENT,
    Fulfilment,
    FulfilmentCancelled,
    FulfilmentCancelling,
    FulfilmentCancelRefused,
    FulfilmentCharged,
    FulfilmentClosed,
    FulfilmentContradicted,
    FulfilmentFailed,
    FulfilmentHeld,
    FulfilmentInProduction,
    FulfilmentItem,
    FulfilmentLinesCancelled,
    FulfilmentPlanned,
    FulfilmentReleased,
    FulfilmentRendering,
    FulfilmentShipped,
    FulfilmentState,
    FulfilmentSubmitted,
    FulfilmentSubmitting,
    Line,
    Master,
    Shipment,
)
from app.fulfilment.errors import FulfilmentNotFound
from app.fulfilment.facts import Facts
from app.fulfilment.vendor import Hint, Read, Vendor
from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.jobs import Plan
from app.kernel.persons import PersonErased, PersonKeys
from app.kernel.spine import Spine
from base import ids
from base.clock import Clock
from base.ids import FulfilmentId, OrderId, OwnerId
from base.money import Money
from base.settings import Secret

SYSTEM: Final = Origin(actor="system")
VENDOR: Final = Origin(actor="vendor")
SEALED: Final = "vendor_facts.sealed"
_S = FulfilmentState


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of every fulfilment job."""

    fulfilment_id: FulfilmentId


def name_of(fulfilment_id: UUID) -> str:
    """The TypeID: the vendor's reference of ours, and the subject of alerts."""
    return ids.encode("fulfilment", fulfilment_id)


class Fulfilments:
    """The use cases; one fulfilment an order for now."""

    def __init__(
        self,
        spine: Spine,
        persons: PersonKeys,
        clock: Clock,
        vendors: Mapping[str, Vendor],
        tokens: Sequence[Secret[str]],
    ) -> None:
        self._spine, self._persons, self._clock = spine, persons, clock
        self._vendors, self._tokens = vendors, tokens

    async def plan(
        self,
        tx: Transaction,
        *,
        order_id: OrderId,
        owner_id: OwnerId,
        items: Sequence[FulfilmentItem],
        shipping_option: str,
        not_before: datetime,
        vendor: str = "prodigi",
        origin: Origin = SYSTEM,
    ) -> FulfilmentId:
        """Plan that a paid order's lines are made, none sent before `not_before`; asked again, the first one's id."""
        known = await store.lock_living(tx, order_id)
        if known is not None and known.state not in (_S.CANCELLED, _S.FAILED):
            return known.id
        made = FulfilmentId(ids.new_id())
        await store.insert(
            tx,
            made,
            order_id,
            owner_id,
            vendor=vendor,
            shipping_option=shipping_option,
            not_before=not_before,
            items=items,
        )
        told = FulfilmentPlanned(fulfilment_id=made, order_id=order_id, not_before=not_before)
        await self._spine.record(tx, told, aggregate_id=made, owner_id=owner_id, origin=origin)
        return made

    async def rendering(self, tx: Transaction, fulfilment_id: UUID) -> None:
        """The print files are being made; said again, nothing happens."""
        found = await self._lock(tx, fulfilment_id)
        if found.state is _S.PLANNED:
            await self._move(tx, found, _S.RENDERING, FulfilmentRendering(**_of(found)))

    async def masters_ready(self, tx: Transaction, fulfilment_id: UUID, masters: Sequence[Master]) -> bool:
        """Note print files; with the last one the order is due to be sent. Whether it is now complete.

        Files of a fulfilment that was given up meanwhile, and second files of a line, change nothing.
        """
        found = await self._lock(tx, fulfilment_id)
        if found.state not in (_S.PLANNED, _S.RENDERING):
            return False
        for master in masters:
            await store.set_master(tx, found.id, master)
        if any(line.master is None for line in await store.lines(tx, found.id)):
            return False
        if found.state is _S.PLANNED:
            found = await self._move(tx, found, _S.RENDERING, FulfilmentRendering(**_of(found)))
        told = FulfilmentSubmitting(**_of(found), vendor=found.vendor, not_before=found.not_before)
        await self._move(tx, found, _S.SUBMITTING, told)
        await self.plan_work(tx, found.id, "submit", not_before=found.not_before)
        return True

    async def awaits_files(self, tx: Transaction, fulfilment_id: UUID) -> bool:
        """Whether print files are still of use to it."""
        return (await self._lock(tx, fulfilment_id)).state in (_S.PLANNED, _S.RENDERING)

    async def is_at_vendor(self, tx: Transaction, order_id: UUID) -> bool:
        """Whether the vendor surely has an order and makes it."""
        found = await store.lock_living(tx, order_id)
        return found is not None and found.state is _S.SUBMITTED

    async def fail(self, tx: Transaction, fulfilment_id: UUID, reason: str) -> None:
        """It cannot be made (a print file cannot be rendered, the vendor refuses): a person decides."""
        found = await self._lock(tx, fulfilment_id)
        if found.state in UNSENT:
            await self._move(tx, found, _S.FAILED, FulfilmentFailed(**_of(found), reason=reason))
            await alerts.alert(tx, "fulfilment-failed", Severity.CRITICAL, name_of(found.id), detail=reason)

    async def cancel(
        self, tx: Transaction, order_id: UUID, *, reason: str = "asked", origin: Origin = SYSTEM
    ) -> FulfilmentState | None:
        """Cancel what is planned of an order: at once while nothing has left the house (`cancelled`), else the vendor
        is asked (`cancelling`) and its answer comes as an event. The state afterwards; None when there is nothing.
        """
        found = await store.lock_living(tx, order_id)
        if found is None:
            return None
        if found.state in (*UNSENT, _S.FAILED) and found.begun_at is None:
            lines = await store.lines(tx, found.id)
            told = FulfilmentCancelled(**_of(found), reason=reason, at_vendor=False, **_counted(lines))
            return (await self._move(tx, found, _S.CANCELLED, told, origin)).state
        if found.state in (_S.SUBMITTING, _S.SUBMITTED, _S.FAILED):
            return (await self._ask_to_cancel(tx, found, reason, origin)).state
        return found.state

    async def _ask_to_cancel(self, tx: Transaction, found: Fulfilment, reason: str, origin: Origin) -> Fulfilment:
        await store.set_reason(tx, found.id, reason)
        told = FulfilmentCancelling(**_of(found), reason=reason)
        moved = await self._move(tx, found, _S.CANCELLING, told, origin)
        await self.plan_work(tx, found.id, "cancel")
        return msgspec.structs.replace(moved, cancel_reason=reason)

    async def cancel_refused(self, tx: Transaction, found: Fulfilment, reason: str) -> None:
        """The vendor goes on; what it said of parcels is merged already."""
        if found.state is _S.CANCELLING:
            told = FulfilmentCancelRefused(**_of(found), reason=reason)
            await self._move(tx, found, _S.SUBMITTED, told, VENDOR)

    async def never_sent(self, tx: Transaction, found: Fulfilment) -> None:
        """It is proved that the vendor never got the order whose sending had begun."""
        if found.state is _S.CANCELLING:
            lines = await store.lines(tx, found.id)
            reason = found.cancel_reason or "asked"
            told = FulfilmentCancelled(**_of(found), reason=reason, at_vendor=False, **_counted(lines))
            await self._move(tx, found, _S.CANCELLED, told)

    async def submitted(
        self, tx: Transaction, found: Fulfilment, vendor_order_id: str, read: Read | None, via: str
    ) -> Fulfilment:
        """The vendor has the order. A second name for it is a contradiction: the first stays."""
        if found.vendor_order_id not in (None, vendor_order_id):
            await self.contradicted(tx, found, "vendor-order-doubled")
            return found
        if found.state is _S.CANCELLED and found.vendor_order_id is None:  # a call that was held up for minutes
            await self.contradicted(tx, found, "vendor-order-after-cancelled")
        await store.sent(tx, found.id, vendor_order_id)
        found = msgspec.structs.replace(found, vendor_order_id=vendor_order_id)
        if found.state is _S.SUBMITTING:
            told = FulfilmentSubmitted(**_of(found), vendor=found.vendor)
            found = await self._move(tx, found, _S.SUBMITTED, told)
        await self.plan_work(tx, found.id, "poll")
        return found if read is None else await self.observe(tx, found, read, via)

    async def observe(self, tx: Transaction, found: Fulfilment, read: Read, via: str) -> Fulfilment:
        """Store what a vendor says and let everything follow that is new in it; any order, any repetition, one state.

        `found` is locked. What is not understood is stored and alerted, and changes nothing. Where an erased person's
        parcels are is not stored.
        """
        sealed = await self._sealed(tx, found, read.raw)
        seen = merged.without_trackings(read.seen) if sealed is None else read.seen
        await store.add_fact(tx, found.id, via, seen, sealed)
        old = await store.facts(tx, found.id)
        new = merged.merge(old, merged.of(seen))
        if new == old:
            return found
        await store.set_facts(tx, found.id, new)
        if set(new.unknown) - set(old.unknown):
            unknown = ", ".join(new.unknown)
            await alerts.alert(tx, "vendor-unknown", Severity.WARNING, name_of(found.id), detail=unknown)
        lines = await store.lines(tx, found.id)
        await self._tell_making(tx, found, old, new, lines)
        await self._tell_parcels(tx, found, old, new, lines)
        found = await self._settle(tx, found, old, new, lines)
        return await self._judge(tx, found, old, new, lines)

    async def _sealed(self, tx: Transaction, found: Fulfilment, raw: bytes) -> bytes | None:
        try:
            return await self._persons.seal(tx, found.owner_id, raw, SEALED)
        except PersonErased:
            return None

    async def _tell_making(
        self, tx: Transaction, found: Fulfilment, old: Facts, new: Facts, lines: Sequence[Line]
    ) -> None:
        if new.in_production and not old.in_production:
            await self._tell(tx, found, FulfilmentInProduction(**_of(found), **_counted(lines)))
        for _, amount, currency in sorted(set(new.charges) - set(old.charges)):
            await self._tell(tx, found, FulfilmentCharged(**_of(found), amount=Money(amount, currency)))
        held, before = new.held[1], old.held[1]
        if held and held != before:
            await self._tell(tx, found, FulfilmentHeld(**_of(found), reason=held[0]))
            await alerts.alert(tx, "vendor-hold", Severity.ERROR, name_of(found.id), detail=", ".join(held))
        elif before and not held:
            await self._tell(tx, found, FulfilmentReleased(**_of(found)))

    async def _tell_parcels(
        self, tx: Transaction, found: Fulfilment, old: Facts, new: Facts, lines: Sequence[Line]
    ) -> None:
        gone = {parcel.id for parcel in old.parcels if parcel.shipped}
        counted = {line.id for line in merged.shipped_lines(old, lines)}
        for parcel in new.parcels:
            inside = merged.lines_of(new, parcel, lines)
            shipment_id = await store.set_shipment(tx, found, parcel, [line.id for line in inside])
            if parcel.shipped and parcel.id not in gone:
                fresh = [line for line in inside if line.id not in counted]
                counted |= {line.id for line in fresh}
                told = FulfilmentShipped(**_of(found), shipment_id=shipment_id, **_counted(fresh))
                await self._tell(tx, found, told)

    async def _settle(
        self, tx: Transaction, found: Fulfilment, old: Facts, new: Facts, lines: Sequence[Line]
    ) -> Fulfilment:
        """Move to where the facts say that it ends."""
        before = {line.id for line in merged.cancelled_lines(old, lines)}
        gone = [line for line in merged.cancelled_lines(new, lines) if line.id not in before]
        end = merged.end_of(new, lines)
        if end is _S.CANCELLED and found.state in (_S.SUBMITTED, _S.CANCELLING):
            reason = found.cancel_reason or "vendor"
            cancelled = FulfilmentCancelled(**_of(found), reason=reason, at_vendor=True, **_counted(gone))
            return await self._move(tx, found, _S.CANCELLED, cancelled, VENDOR)
        if gone:
            await self._tell(tx, found, FulfilmentLinesCancelled(**_of(found), **_counted(gone)))
        if end is not _S.CLOSED or found.state not in (_S.SUBMITTED, _S.CANCELLING, _S.CANCELLED):
            return found
        if found.state is _S.CANCELLING:
            await self._tell(tx, found, FulfilmentCancelRefused(**_of(found), reason="shipped"))
        return await self._move(tx, found, _S.CLOSED, FulfilmentClosed(**_of(found)), VENDOR)

    async def _judge(
        self, tx: Transaction, found: Fulfilment, old: Facts, new: Facts, lines: Sequence[Line]
    ) -> Fulfilment:
        """Open a case for each thing that cannot be; where the file is wrong, ask the vendor to stop."""
        rules = merged.contradictions(new, lines) - merged.contradictions(old, lines)
        for rule in sorted(rules):
            await self.contradicted(tx, found, rule)
        wrong = rules & merged.ASKS_TO_CANCEL
        if wrong and found.state is _S.SUBMITTED:
            return await self._ask_to_cancel(tx, found, min(wrong), VENDOR)
        return found

    async def contradicted(self, tx: Transaction, found: Fulfilment, rule: str) -> None:
        """Open a case: an alert, and an event for the order's story."""
        await alerts.alert(tx, rule, Severity.CRITICAL, name_of(found.id))
        await self._tell(tx, found, FulfilmentContradicted(**_of(found), rule=rule))

    async def hint(self, tx: Transaction, vendor: str, vendor_order_id: str) -> bool:
        """An unsigned callback says that something moved: look soon. False for an order that is not known (yet)."""
        found = await store.by_vendor_order(tx, vendor, vendor_order_id)
        if found is not None:
            await self.plan_work(tx, found, "poll")
        return found is not None

    def read_hint(self, vendor: str, body: bytes) -> Hint | None:
        """What a callback's body is about; None for an unknown vendor or a body that cannot be read."""
        known = self._vendors.get(vendor)
        return None if known is None else known.hint(body)

    def accepts(self, vendor: str, token: str) -> bool:
        """Whether a callback's address has one of our tokens, compared in constant time."""
        good = [hmac.compare_digest(token.encode(), known.reveal().encode()) for known in self._tokens]
        return vendor in self._vendors and any(good)

    async def of_order(self, db: Readable, order_id: UUID) -> list[Fulfilment]:
        """Every fulfilment of an order, oldest first."""
        return await store.of_order(db, order_id)

    async def shipments(self, db: Readable, order_id: UUID) -> list[Shipment]:
        """An order's parcels."""
        return await store.shipments(db, order_id)

    async def lines(self, db: Readable, fulfilment_id: UUID) -> list[Line]:
        """A fulfilment's lines, with their print files."""
        return await store.lines(db, fulfilment_id)

    async def ledger(
        self, db: Readable, since: datetime, fulfilments: Sequence[UUID], orders: Sequence[UUID]
    ) -> list[tuple[Fulfilment, Facts]]:
        """Our side of what vendors do: fulfilments by id or order, and those that a vendor got since."""
        return await store.ledger(db, since, fulfilments, orders)

    async def tend(self, tx: Transaction) -> int:
        """Give living fulfilments that no job looks after a job again; how many."""
        found = await store.forgotten(tx)
        for fulfilment_id, state in found:
            await self._resume(tx, fulfilment_id, state)
        return len(found)

    async def resume(self, tx: Transaction, fulfilment_id: UUID) -> None:
        """Go on with what is next at the vendor, now: send, cancel or look."""
        found = await self._lock(tx, fulfilment_id)
        await self._resume(tx, found.id, found.state)

    async def _resume(self, tx: Transaction, fulfilment_id: FulfilmentId, state: FulfilmentState) -> None:
        kind = {_S.SUBMITTING: "submit", _S.CANCELLING: "cancel"}.get(state, "poll")
        await self.plan_work(tx, fulfilment_id, kind)

    async def plan_work(
        self,
        tx: Transaction,
        fulfilment_id: FulfilmentId,
        what: str,
        *,
        after_s: int = 0,
        not_before: datetime | None = None,
    ) -> None:
        """Plan `fulfilment.WHAT`, in place of one that still waits for its time."""
        when = not_before or self._clock.now() + timedelta(seconds=after_s)
        key = f"fulfilment.{what}@{fulfilment_id}"
        work = Work(fulfilment_id=fulfilment_id)
        plan = Plan(kind=f"fulfilment.{what}", payload=work, dedupe=key, supersede=key, not_before=when)
        await self._spine.plan(tx, plan, cause=None)

    async def _lock(self, tx: Transaction, fulfilment_id: UUID) -> Fulfilment:
        found = await store.lock(tx, fulfilment_id)
        if found is None:
            raise FulfilmentNotFound()
        return found

    async def _move(
        self, tx: Transaction, found: Fulfilment, new: FulfilmentState, told: Event, origin: Origin = SYSTEM
    ) -> Fulfilment:
        return await store.transition(tx, self._spine, found, new, told, origin)

    async def _tell(self, tx: Transaction, found: Fulfilment, told: Event) -> None:
        await store.tell(tx, self._spine, found, told, VENDOR)


def _of(found: Fulfilment) -> dict[str, Any]:
    return {"fulfilment_id": found.id, "order_id": found.order_id}


def _counted(lines: Sequence[Line]) -> dict[str, Any]:
    return {"lines": tuple(line.id for line in lines), "quantities": tuple(line.copies for line in lines)}

"""Looking at what a vendor does: the job that asks, the job that cancels.

Callbacks are unsigned, so they carry no truth: they only make the next look come sooner. Without any of them every
order still reaches its end.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from app.fulfilment import store
from app.fulfilment.domain import AT_VENDOR, Fulfilment, FulfilmentState, next_look
from app.fulfilment.errors import VendorBusy, VendorPending, VendorUnavailable
from app.fulfilment.sending import Finish
from app.fulfilment.service import Fulfilments, name_of
from app.fulfilment.settings import FulfilmentSettings
from app.fulfilment.vendor import CancelOutcome, Read, Vendor
from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Database, Transaction
from base.clock import Clock

ARRIVING_S: Final = 180
"""After this long a call that was cut off is not on its way any more (the vendor gives up after one minute)."""
LINKS_LEFT_S: Final = 24 * 3600


class Watching:
    """The jobs `fulfilment.poll` and `fulfilment.cancel`."""

    def __init__(
        self,
        db: Database,
        fulfilments: Fulfilments,
        vendors: Mapping[str, Vendor],
        clock: Clock,
        settings: FulfilmentSettings,
    ) -> None:
        self._db, self._fulfilments, self._vendors = db, fulfilments, vendors
        self._clock, self._settings = clock, settings

    async def poll(self, fulfilment_id: UUID, finish: Finish) -> None:
        """Look once, and plan the next look. A vendor that does not answer is asked again; nothing is lost by it."""
        async with self._db.transaction(readonly=True) as tx:
            found = await store.get(tx, fulfilment_id)
        read, wait = None, None
        if found is not None and found.vendor_order_id is not None and found.state in AT_VENDOR:
            read, wait = await self._glance(self._vendors[found.vendor], found.vendor_order_id)
        async with self._db.transaction() as tx:
            await finish(tx)
            current = await store.lock(tx, fulfilment_id)
            if current is None or current.vendor_order_id is None:
                return
            await store.looked(tx, current.id)
            if read is not None:
                await self._fulfilments.observe(tx, current, read, "poll")
            await self._again(tx, fulfilment_id, wait)

    async def _glance(self, vendor: Vendor, vendor_order_id: str) -> tuple[Read | None, int | None]:
        """What the vendor says, and in how many seconds to ask again where it is not up to us."""
        try:
            return await vendor.read(vendor_order_id), None
        except VendorBusy as busy:
            return None, busy.retry_after_s
        except VendorUnavailable:
            return None, self._settings.poll_s

    async def _again(self, tx: Transaction, fulfilment_id: UUID, wait: int | None) -> None:
        current = await store.lock(tx, fulfilment_id)
        assert current is not None
        now, settings = self._clock.now(), self._settings
        if current.ended_at is not None and _seconds(now, current.ended_at) > settings.watch_s:
            return
        quiet = _seconds(now, current.changed_at)
        after = next_look(quiet, settings.poll_s, settings.poll_most_s) if wait is None else max(1, wait)
        await self._fulfilments.plan_work(tx, current.id, "poll", after_s=after)
        await self._check_links(tx, current, now)

    async def _check_links(self, tx: Transaction, current: Fulfilment, now: datetime) -> None:
        """The vendor cannot be given new links: somebody must know before the old ones end."""
        if current.ended_at is not None or current.links_until is None:
            return
        fetched = (await store.facts(tx, current.id)).fetched
        if not fetched and _seconds(current.links_until, now) < LINKS_LEFT_S:
            await alerts.alert(tx, "links-ending", Severity.CRITICAL, name_of(current.id))

    async def cancel(self, fulfilment_id: UUID, finish: Finish) -> None:
        """Ask the vendor to cancel, looking first; raises `VendorPending` or `VendorUnavailable` to be tried again."""
        async with self._db.transaction(readonly=True) as tx:
            found = await store.get(tx, fulfilment_id)
        if found is not None and found.state is FulfilmentState.CANCELLING:
            vendor = self._vendors[found.vendor]
            if found.vendor_order_id is None:
                found = await self._look_up(found, vendor)
            if found.vendor_order_id is not None and await self._is_open(found, found.vendor_order_id, vendor):
                await self._ask(found, found.vendor_order_id, vendor)
        async with self._db.transaction() as tx:
            await finish(tx)

    async def _look_up(self, found: Fulfilment, vendor: Vendor) -> Fulfilment:
        """Find out whether an order that was being sent arrived; raises `VendorPending` until that is sure."""
        existing = await vendor.find(name_of(found.id))
        begun = found.begun_at or found.created_at
        is_sure = _seconds(self._clock.now(), begun) > ARRIVING_S + vendor.hold_s
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            for read in existing:
                current = await self._fulfilments.submitted(tx, current, read.seen.vendor_order_id, read, "find")
            if current.vendor_order_id is None and is_sure:
                await self._fulfilments.never_sent(tx, current)
                return current
        if current.vendor_order_id is None:
            raise VendorPending()
        return current

    async def _is_open(self, found: Fulfilment, vendor_order_id: str, vendor: Vendor) -> bool:
        """Read before asking, so that a lost answer is not asked twice; whether there is still something to ask."""
        read = await vendor.read(vendor_order_id)
        if read is None:
            raise VendorPending()
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            current = await self._fulfilments.observe(tx, current, read, "poll")
        return current.state is FulfilmentState.CANCELLING

    async def _ask(self, found: Fulfilment, vendor_order_id: str, vendor: Vendor) -> None:
        answer = await vendor.cancel(vendor_order_id)
        if answer is None:
            raise VendorPending()
        read = answer.read or await vendor.read(vendor_order_id)
        if read is None:
            raise VendorPending()
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            current = await self._fulfilments.observe(tx, current, read, "cancel")
            is_open = current.state is FulfilmentState.CANCELLING
            if is_open and answer.outcome is CancelOutcome.REFUSED:
                await self._fulfilments.cancel_refused(tx, current, answer.code)
                is_open = False
            await self._fulfilments.plan_work(tx, current.id, "poll")
        if is_open:  # it says cancelled, and shows an order that is not
            raise VendorPending()


def _seconds(later: datetime, earlier: datetime) -> int:
    return int((later - earlier).total_seconds())

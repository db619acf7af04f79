"""Sending a fulfilment to its vendor, once: the only code that orders anything.

No print file leaves that is not, byte for byte, what was rendered. The vendor's key is derived from our ids, so that a
lost answer is asked for again and never ordered twice; what became of an order is first looked up by our reference.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.fulfilment import facts, store
from app.fulfilment.domain import Fulfilment, FulfilmentState, Line, Master
from app.fulfilment.errors import MasterChanged, MasterMisfit, VendorRefused, VendorUnavailable
from app.fulfilment.service import Fulfilments, name_of
from app.fulfilment.vendor import Read, Vendor, VendorItem, VendorOrder, VendorSku, VendorSkus
from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Database, Transaction
from base.clock import Clock
from base.errors import DomainError, ServiceUnavailable
from base.money import Money
from base.objects import ObjectAbsent, Site, Sites
from base.recipients import Recipient

Finish = Callable[[Transaction], Awaitable[None]]
Recipients = Callable[[Transaction, UUID, UUID], Awaitable[Recipient | None]]
"""Who receives an order, by the order's and its owner's id; None when the person was erased."""
Held = Callable[[Transaction, Sequence[UUID]], Awaitable[bool]]
"""Whether any of these photos was flagged and must wait for a person."""
Disputed = Callable[[Transaction, UUID], Awaitable[bool]]
"""Whether a bank may take an order's payment back, or has."""
HELD_S: Final = 600
"""How long until a fulfilment that must wait is looked at again."""
FETCHING_S: Final = 72 * 3600
"""A vendor may try for three days after its pause before links end."""


class Order(msgspec.Struct, frozen=True):
    """What is needed to order, read together in one transaction."""

    fulfilment: Fulfilment
    lines: tuple[Line, ...]
    skus: tuple[VendorSku, ...]
    recipient: Recipient


class Files(msgspec.Struct, frozen=True):
    """Where print files are, and how long links to them last (seconds)."""

    sites: Sites
    link_s: int

    def of(self, master: Master) -> Site:
        """The region that keeps one; raises `ServiceUnavailable`."""
        return self.sites.here if master.region is None else self.sites.at(master.region)


class Sending:
    """The job `fulfilment.submit`."""

    def __init__(
        self,
        db: Database,
        fulfilments: Fulfilments,
        vendors: Mapping[str, Vendor],
        files: Files,
        skus: VendorSkus,
        recipients: Recipients,
        clock: Clock,
        held: Held | None = None,
        disputed: Disputed | None = None,
    ) -> None:
        self._disputed = disputed
        self._db, self._fulfilments, self._vendors, self._held = db, fulfilments, vendors, held
        self._files, self._skus, self._recipients, self._clock = files, skus, recipients, clock

    async def submit(self, fulfilment_id: UUID, finish: Finish) -> None:
        """Send it if it is still to be sent; raises `VendorUnavailable` (tried again), `MasterChanged` (parked)."""
        order = await self._gather(fulfilment_id, finish)
        if order is None:
            return
        found = order.fulfilment
        vendor = self._vendors[found.vendor]
        if found.begun_at is not None:  # an earlier attempt may have got through
            existing = await vendor.find(name_of(found.id))
            if existing:
                await self._existing(found, existing, finish)
                return
        await self._check(order)
        worded = self._worded(order)
        if not await self._begin(order, vendor, await _cost(vendor, worded), finish):
            return
        try:
            created = await vendor.create(worded)
        except VendorRefused as refused:
            await self._refused(found, refused, finish)
            return
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            await self._sent(tx, current, created.vendor_order_id, created.read, "create")
            await finish(tx)

    async def _sent(
        self, tx: Transaction, current: Fulfilment, vendor_order_id: str, read: Read | None, via: str
    ) -> Fulfilment:
        """The vendor has it; a dispute that began while it was being sent has come too late to hold it back."""
        found = await self._fulfilments.submitted(tx, current, vendor_order_id, read, via)
        if current.state is FulfilmentState.SUBMITTING and await self._is_disputed(tx, found):
            await self._fulfilments.contradicted(tx, found, "sent-while-disputed")
        return found

    async def _is_disputed(self, tx: Transaction, found: Fulfilment) -> bool:
        return self._disputed is not None and await self._disputed(tx, found.order_id)

    async def _gather(self, fulfilment_id: UUID, finish: Finish) -> Order | None:
        async with self._db.transaction() as tx:
            found = await store.lock(tx, fulfilment_id)
            if found is None or found.state is not FulfilmentState.SUBMITTING:
                await finish(tx)
                return None
            recipient = await self._recipients(tx, found.order_id, found.owner_id)
            lines = tuple(await store.lines(tx, found.id))
            if found.begun_at is None and await self._waits(tx, found, lines, finish):
                return None
            why = "recipient-gone"
            try:
                skus = [await self._skus.vendor_sku(tx, x.sku, found.vendor, paper=x.paper) for x in lines]
                if recipient is not None:
                    return Order(found, lines, tuple(skus), recipient)
            except ServiceUnavailable:
                raise
            except DomainError as error:
                why = error.code
            await self._fulfilments.fail(tx, found.id, why)
            await finish(tx)
            return None

    async def _waits(self, tx: Transaction, found: Fulfilment, lines: Sequence[Line], finish: Finish) -> bool:
        """Put it off while one of its photos is flagged or its payment is disputed; the next look begins with asking
        whether the vendor has it all the same."""
        is_flagged = self._held is not None and await self._held(tx, [line.asset_id for line in lines])
        if is_flagged:
            await alerts.alert(tx, "photo-flagged", Severity.WARNING, name_of(found.id))
        elif not await self._is_disputed(tx, found):
            return False
        await finish(tx)
        await self._fulfilments.plan_work(tx, found.id, "submit", after_s=HELD_S)
        return True

    async def _existing(self, found: Fulfilment, existing: Sequence[Read], finish: Finish) -> None:
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            for read in existing:
                current = await self._sent(tx, current, read.seen.vendor_order_id, read, "find")
            await finish(tx)

    async def _check(self, order: Order) -> None:
        """Every file as stored now against what was rendered, and its proportions against the vendor's print area."""
        for line, sku in zip(order.lines, order.skus, strict=True):
            assert line.master is not None
            if not await self._is_intact(line.master):
                await self._block(order.fulfilment, "master-changed")
                raise MasterChanged()
            if not fits(line.master, sku):
                await self._block(order.fulfilment, "master-misfit")
                raise MasterMisfit()

    async def _is_intact(self, master: Master) -> bool:
        site = self._files.of(master)
        try:
            data = await site.store.get(site.buckets.masters, master.key, master.version)
        except ObjectAbsent:
            return False
        digest = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        return len(data) == master.bytes and digest == master.sha256

    async def _block(self, found: Fulfilment, rule: str) -> None:
        async with self._db.transaction() as tx:
            await self._fulfilments.contradicted(tx, found, rule)

    async def _begin(self, order: Order, vendor: Vendor, cost: Money | None, finish: Finish) -> bool:
        """Note, before the call, that the vendor may have it; False when it was cancelled meanwhile, or must wait.

        An earlier call whose answer was lost does not count as sent: the vendor did not know of it just now.
        """
        link_s, found = self._files.link_s, order.fulfilment
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            if current is None or current.state is not FulfilmentState.SUBMITTING:
                return False
            if await self._waits(tx, current, order.lines, finish):
                return False
            now = self._clock.now()
            await store.begin(tx, found.id, now, now + timedelta(seconds=link_s), cost)
            if link_s < vendor.hold_s + FETCHING_S:
                detail = f"{link_s} s against a pause of {vendor.hold_s} s"
                await alerts.alert(tx, "links-too-short", Severity.ERROR, name_of(found.id), detail=detail)
        return True

    def _worded(self, order: Order) -> VendorOrder:
        """The order with fresh links: every attempt signs anew."""
        return VendorOrder(
            key=key_of(order.fulfilment),
            reference=name_of(order.fulfilment.id),
            shipping_option=order.fulfilment.shipping_option,
            recipient=order.recipient,
            items=tuple(self._item(line, sku) for line, sku in zip(order.lines, order.skus, strict=True)),
        )

    def _item(self, line: Line, sku: VendorSku) -> VendorItem:
        master, files = line.master, self._files
        assert master is not None
        site = files.of(master)
        return VendorItem(
            line=facts.reference(line.id),
            sku=sku.sku,
            attributes=sku.attributes,
            copies=line.copies,
            url=site.store.presign_version(
                site.buckets.masters, master.key, version=master.version, expires_s=files.link_s
            ),
            md5=master.md5,
        )

    async def _refused(self, found: Fulfilment, refused: VendorRefused, finish: Finish) -> None:
        async with self._db.transaction() as tx:
            current = await store.lock(tx, found.id)
            assert current is not None
            await alerts.alert(tx, "vendor-refused", Severity.CRITICAL, name_of(found.id), detail=str(refused))
            await self._fulfilments.never_sent(tx, current)
            await self._fulfilments.fail(tx, found.id, "vendor-refused")
            await finish(tx)


async def _cost(vendor: Vendor, order: VendorOrder) -> Money | None:
    """What the vendor says it will charge: kept to hold the charge against, never a reason to wait."""
    try:
        return await vendor.cost(order)
    except (VendorUnavailable, VendorRefused):
        return None


def key_of(found: Fulfilment) -> str:
    """The vendor's idempotency key: a function of the fulfilment and of which order we mean to make for it."""
    return f"{name_of(found.id)}-{found.attempt}"


def fits(master: Master, sku: VendorSku) -> bool:
    """Whether the vendor's own crop is the identity: the proportions agree within half a pixel, either way up."""
    area = sorted((sku.print_width_px, sku.print_height_px))
    file = sorted((master.width, master.height))
    return 2 * abs(file[0] * area[1] - file[1] * area[0]) <= max(area[1], file[1])

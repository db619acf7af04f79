"""Print masters of a paid order: one job a line, its proof kept with the line, the file handed to the fulfilment."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.assets.service import Assets
from app.catalog.service import Catalog
from app.drafts.domain import FrozenItem
from app.fulfilment.domain import Master
from app.fulfilment.service import Fulfilments
from app.kernel import alerts, jobs
from app.kernel.alerts import Severity
from app.kernel.db import Readable, Transaction
from app.kernel.jobs import JobRow, Plan
from app.orders import store
from app.orders.domain import Line, Order
from base import ids, printing
from base.ids import FulfilmentId, OrderLineId
from base.jobs import Outcome, Result
from base.printing import MasterMade, PrintMaster

VENDOR: Final = "prodigi"
HELD: Final = "master_refused"


async def _wanted(
    db: Readable, catalog: Catalog, order: Order, line: Line, item: FrozenItem, fulfilment_id: FulfilmentId
) -> PrintMaster:
    variant = await catalog.variant(db, line.sku, order.catalogue_version)
    at_vendor = await catalog.vendor_sku(db, line.sku, VENDOR, paper=item.paper, version=order.catalogue_version)
    area = (at_vendor.print_width_px, at_vendor.print_height_px)
    is_landscape = item.trim_um[0] > item.trim_um[1]
    return PrintMaster(
        asset=ids.encode("asset", item.asset_id),
        line=ids.encode("order_line", line.id),
        fulfilment=ids.encode("fulfilment", fulfilment_id),
        sha256=item.sha256,
        width=item.width,
        height=item.height,
        class_=variant.output_class,
        trim_um=item.trim_um,
        area_px=(area[1], area[0]) if is_landscape else area,
        part=item.part,
        fit=item.fit,
        focal=item.focal,
        border_um=item.border_um,
    )


class Masters:
    """Plans the jobs and applies what pixel workers answer. A file is made and kept in `region`, near the vendor."""

    def __init__(self, fulfilments: Fulfilments, catalog: Catalog, assets: Assets, region: str) -> None:
        self._fulfilments, self._catalog, self._assets, self._region = fulfilments, catalog, assets, region

    async def planned(
        self, db: Readable, order: Order, lines: Sequence[Line], fulfilment_id: FulfilmentId
    ) -> list[Plan]:
        """A job for each line of an order."""
        items = [msgspec.json.decode(line.print, type=FrozenItem) for line in lines]
        regions, plans = await self._assets.regions(db, [item.asset_id for item in items]), []
        for line, item in zip(lines, items, strict=True):
            wanted = await _wanted(db, self._catalog, order, line, item, fulfilment_id)
            plan = Plan(
                kind=printing.KIND,
                payload=msgspec.structs.replace(wanted, original_region=regions[item.asset_id]),
                owner_id=order.owner_id,
                region=self._region,
                dedupe=_dedupe(line),
            )
            plans.append(plan)
        return plans

    async def stop(self, tx: Transaction, lines: Sequence[Line]) -> None:
        """Lines that are not to be made: their files are not made either, unless a worker is at it."""
        await jobs.withdraw(tx, [_dedupe(line) for line in lines])

    async def apply(self, tx: Transaction, job: JobRow, result: Result) -> None:
        """One answer; with the last master of an order its fulfilment goes on. A refusal holds an order that waits for
        the file. An erased photo's job forgets it."""
        told = msgspec.json.decode(job.payload, type=PrintMaster)
        order = await store.lock_by_line(tx, ids.decode("order_line", told.line))
        if order is not None:
            await self._apply(tx, order, told, job, result)
        if not await self._assets.is_living(tx, ids.decode("asset", told.asset)):
            await jobs.forget(tx, job.id)

    async def _apply(self, tx: Transaction, order: Order, told: PrintMaster, job: JobRow, result: Result) -> None:
        line_id = OrderLineId(ids.decode("order_line", told.line))
        fulfilment_id = ids.decode("fulfilment", told.fulfilment)
        if result.outcome is Outcome.REFUSED:
            if not await self._fulfilments.awaits_files(tx, fulfilment_id):
                return
            await store.hold(tx, order.id, HELD)
            name = ids.encode("order", order.id)
            await alerts.alert(tx, "master-refused", Severity.ERROR, name, detail=f"{told.line}: {result.reason}")
        elif result.outcome is Outcome.OK:
            made = msgspec.json.decode(result.body, type=MasterMade)
            await store.save_manifest(tx, line_id, made)
            await store.keep_file(tx, line_id, job.region, made)
            if await self._fulfilments.masters_ready(tx, fulfilment_id, (_master(line_id, job.region, made),)):
                await store.release_hold(tx, order.id, HELD)  # not for one line's file while another's is refused


def _dedupe(line: Line) -> str:
    return f"{printing.KIND}:{line.id}"


def _master(line_id: OrderLineId, region: str, made: MasterMade) -> Master:
    return Master(
        line_id=line_id,
        region=region,
        key=made.key,
        version=made.version,
        sha256=made.sha256,
        md5=made.md5,
        bytes=made.bytes,
        width=made.width,
        height=made.height,
    )

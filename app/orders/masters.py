"""Print masters of a paid order: one job a line, its proof kept with the line, the file handed to the fulfilment."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.catalog.service import Catalog
from app.drafts.domain import FrozenItem
from app.fulfilment.domain import Master
from app.fulfilment.service import Fulfilments
from app.kernel import alerts
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


async def planned_masters(
    db: Readable, catalog: Catalog, order: Order, lines: Sequence[Line], fulfilment_id: FulfilmentId
) -> list[Plan]:
    """A job for each line of an order."""
    return [await _planned(db, catalog, order, line, fulfilment_id) for line in lines]


async def _planned(db: Readable, catalog: Catalog, order: Order, line: Line, fulfilment_id: FulfilmentId) -> Plan:
    item = msgspec.json.decode(line.print, type=FrozenItem)
    variant = await catalog.variant(db, line.sku, order.catalogue_version)
    at_vendor = await catalog.vendor_sku(db, line.sku, VENDOR, paper=item.paper, version=order.catalogue_version)
    area = (at_vendor.print_width_px, at_vendor.print_height_px)
    is_landscape = item.trim_um[0] > item.trim_um[1]
    return Plan(
        kind=printing.KIND,
        payload=PrintMaster(
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
        ),
        owner_id=order.owner_id,
        dedupe=f"{printing.KIND}:{line.id}",
    )


class Masters:
    """Applies what pixel workers answer."""

    def __init__(self, fulfilments: Fulfilments) -> None:
        self._fulfilments = fulfilments

    async def apply(self, tx: Transaction, job: JobRow, result: Result) -> None:
        """One answer; with the last master of an order its fulfilment goes on. A refusal holds the order."""
        told = msgspec.json.decode(job.payload, type=PrintMaster)
        line_id = OrderLineId(ids.decode("order_line", told.line))
        order = await store.lock_by_line(tx, line_id)
        if order is None:
            return
        if result.outcome is Outcome.REFUSED:
            await store.hold(tx, order.id, HELD)
            name = ids.encode("order", order.id)
            await alerts.alert(tx, "master-refused", Severity.ERROR, name, detail=f"{told.line}: {result.reason}")
        elif result.outcome is Outcome.OK:
            made = msgspec.json.decode(result.body, type=MasterMade)
            await store.save_manifest(tx, line_id, made)
            await store.release_hold(tx, order.id, HELD)
            fulfilment_id = ids.decode("fulfilment", told.fulfilment)
            await self._fulfilments.masters_ready(tx, fulfilment_id, (_master(line_id, made),))


def _master(line_id: OrderLineId, made: MasterMade) -> Master:
    return Master(
        line_id=line_id,
        key=made.key,
        version=made.version,
        sha256=made.sha256,
        md5=made.md5,
        bytes=made.bytes,
        width=made.width,
        height=made.height,
    )

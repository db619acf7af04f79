"""Every lifecycle of ours, for `tirage migrate`, which writes the legal moves into the database."""

from typing import Any, Final

from app.assets import domain as assets
from app.drafts import domain as drafts
from app.fulfilment import domain as fulfilment
from app.kernel import jobs
from app.kernel.states import Machine
from app.orders import domain as orders
from app.payments import domain as payments
from app.pricing import domain as pricing
from app.reconcile import domain as reconcile
from app.uploads import domain as uploads

MACHINES: Final[tuple[Machine[Any], ...]] = (
    jobs.MACHINE,
    uploads.MACHINE,
    assets.MACHINE,
    orders.MACHINE,
    payments.MACHINE,
    payments.REFUNDS,
    drafts.MACHINE,
    fulfilment.MACHINE,
    pricing.MACHINE,
    reconcile.MACHINE,
)

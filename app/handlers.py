"""What record workers run: one table for jobs of our own, one for the answers of pixel workers.

A job handler opens its own transactions and finishes the job in the one that applies its effect; a result applier runs
inside the transaction that closes the job.
"""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Final
from uuid import UUID

import msgspec

from app.drafts.service import Review
from app.fulfilment.service import Work
from app.kernel import events, jobs
from app.kernel.db import Transaction
from app.kernel.jobs import Applier, JobRow
from app.orders.checkout import Checkout, OfOrder
from app.orders.mails import SendMail
from app.payments.facts import AskRefund, Read
from app.reconcile.service import Mend, Scheduled
from app.services import Services
from app.uploads.planning import Assemble, Clean
from app.webhooks.writing import Process
from base.ingest import Analyse
from base.jobs import Outcome, Result


class Attempt:
    """One attempt at a record job."""

    def __init__(self, job: JobRow) -> None:
        self.job = job
        self.finished = False

    async def finish(self, tx: Transaction) -> None:
        """Close the job in this transaction."""
        await jobs.finish(tx, self.job.id)
        self.finished = True


Handler = Callable[[Services, Attempt], Awaitable[None]]
Effect = Callable[[Services, Transaction, JobRow], Awaitable[None]]


def in_one(effect: Effect) -> Handler:
    """A handler whose effect and whose job's end are one transaction."""

    @wraps(effect)
    async def handle(services: Services, attempt: Attempt) -> None:
        async with services.db.transaction() as tx:
            await effect(services, tx, attempt.job)
            await attempt.finish(tx)

    return handle


def counting(use: Callable[[Checkout, Transaction, OfOrder], Awaitable[None]]) -> Handler:
    """A handler that counts an order anew after an event."""

    @in_one
    async def handle(services: Services, tx: Transaction, job: JobRow) -> None:
        await use(services.checkout, tx, msgspec.json.decode(job.payload, type=OfOrder))

    return handle


@in_one
async def make_partitions(services: Services, tx: Transaction, job: JobRow) -> None:
    """Make the event partitions of the coming months."""
    await events.ensure_partitions(tx)


async def sweep_retention(services: Services, attempt: Attempt) -> None:
    """Forget what is kept for a time only; forgetting twice is harmless, so the job is closed afterwards."""
    await services.retention.sweep()


@in_one
async def expire_uploads(services: Services, tx: Transaction, job: JobRow) -> None:
    """Expire upload sessions whose time is over."""
    await services.uploads.expire_overdue(tx)


async def reconcile_uploads(services: Services, attempt: Attempt) -> None:
    """Finish completions that were begun and not ended."""
    await services.sweeper.reconcile()


async def sweep_uploads(services: Services, attempt: Attempt) -> None:
    """Remove what storage holds for nobody."""
    await services.sweeper.sweep()


async def assemble_upload(services: Services, attempt: Attempt) -> None:
    """Put a session's blocks together, then have its asset looked at."""
    told = msgspec.json.decode(attempt.job.payload, type=Assemble)
    await services.sweeper.assemble(told, attempt.finish)


@in_one
async def empty_trash(services: Services, tx: Transaction, job: JobRow) -> None:
    """Erase what has been in the trash long enough."""
    await services.care.empty_trash(tx)


async def moderate_asset(services: Services, attempt: Attempt) -> None:
    """Ask the moderator; asked twice, the flag is one, so the job is closed afterwards."""
    await services.care.moderate(msgspec.json.decode(attempt.job.payload, type=Analyse))


async def purge_edges(services: Services, attempt: Attempt) -> None:
    """Tell edges what they must not serve; told twice, nothing changes, so the job is closed afterwards."""
    await services.denials.tell()


@in_one
async def expire_quotes(services: Services, tx: Transaction, job: JobRow) -> None:
    """Write down which prices hold no longer."""
    await services.quotes.expire_overdue(tx)


@in_one
async def review_drafts(services: Services, tx: Transaction, job: JobRow) -> None:
    """Something happened to a photo: look at the drafts that have it again."""
    wanted = msgspec.json.decode(job.payload, type=Review)
    await services.drafts.review(tx, wanted.asset_id, job.cause)


async def clean_asset(services: Services, attempt: Attempt) -> None:
    """Remove a dead asset's objects; deleting twice is harmless, so the job is closed afterwards."""
    await services.uploads.clean(msgspec.json.decode(attempt.job.payload, type=Clean))


async def send_mail(services: Services, attempt: Attempt) -> None:
    """Send one mail of an order, then record it."""
    wanted = msgspec.json.decode(attempt.job.payload, type=SendMail)
    async with services.db.reading() as db:
        parcels = await services.fulfilments.shipments(db, wanted.order_id)
    tracking = tuple(number for parcel in parcels for number in parcel.urls or parcel.trackings)
    was_sent = await services.mailing.send(wanted, tracking)
    async with services.db.transaction() as tx:
        if was_sent:
            await services.mailing.sent(tx, wanted)
        await attempt.finish(tx)


async def read_payment(services: Services, attempt: Attempt) -> None:
    """Read a payment at Stripe; reading twice is harmless, so the job is closed afterwards."""
    await services.payments.read(msgspec.json.decode(attempt.job.payload, type=Read).payment_id)


async def cancel_payment(services: Services, attempt: Attempt) -> None:
    """Ask Stripe to cancel a payment; asking twice is harmless."""
    await services.payments.ask_cancel(msgspec.json.decode(attempt.job.payload, type=Read).payment_id)


async def ask_refund(services: Services, attempt: Attempt) -> None:
    """Make a refund at Stripe, or read what became of it."""
    await services.payments.ask_refund(msgspec.json.decode(attempt.job.payload, type=AskRefund).refund_id)


@in_one
async def process_webhook(services: Services, tx: Transaction, job: JobRow) -> None:
    """Look at a stored webhook; what it plans and that it was handled are one transaction."""
    await services.inbox.process(tx, msgspec.json.decode(job.payload, type=Process).webhook_id)


@in_one
async def forget_webhooks(services: Services, tx: Transaction, job: JobRow) -> None:
    """Drop bodies of webhooks that nobody needs any more."""
    await services.inbox.forget(tx)


async def forget_prints(services: Services, attempt: Attempt) -> None:
    """Remove print files that are needed no more; an absent one is fine, so the job is closed afterwards."""
    await services.print_files.sweep()


async def submit_fulfilment(services: Services, attempt: Attempt) -> None:
    """Send a fulfilment to its vendor."""
    await services.sending.submit(_fulfilment(attempt), attempt.finish)


async def poll_fulfilment(services: Services, attempt: Attempt) -> None:
    """Look at what a vendor does."""
    await services.watching.poll(_fulfilment(attempt), attempt.finish)


async def cancel_fulfilment(services: Services, attempt: Attempt) -> None:
    """Ask a vendor to cancel."""
    await services.watching.cancel(_fulfilment(attempt), attempt.finish)


@in_one
async def tend_fulfilments(services: Services, tx: Transaction, job: JobRow) -> None:
    """Find fulfilments that nobody looks after."""
    await services.fulfilments.tend(tx)


def _fulfilment(attempt: Attempt) -> UUID:
    return msgspec.json.decode(attempt.job.payload, type=Work).fulfilment_id


@in_one
async def expire_orders(services: Services, tx: Transaction, job: JobRow) -> None:
    """Unpaid orders whose time is over."""
    await services.checkout.expire_overdue(tx)


async def reconcile_all(services: Services, attempt: Attempt) -> None:
    """Compare with Stripe and the printers; comparing twice changes nothing, so the job is closed afterwards."""
    await services.reconciler.scheduled(msgspec.json.decode(attempt.job.payload, type=Scheduled).number)


async def mend_drift(services: Services, attempt: Attempt) -> None:
    """Carry out what mends a difference."""
    told = msgspec.json.decode(attempt.job.payload, type=Mend)
    await services.reconciler.mend(told.finding_id, attempt.job.cause or attempt.job.id, attempt.finish)


async def apply_master(services: Services, tx: Transaction, job: JobRow, result: Result) -> None:
    """A print file is made, or cannot be."""
    await services.masters.apply(tx, job, result)


async def apply_ingest(services: Services, tx: Transaction, job: JobRow, result: Result) -> Outcome | None:
    """One answer of ingest."""
    return await services.uploads.apply_ingest(tx, job, result)


async def apply_analysis(services: Services, tx: Transaction, job: JobRow, result: Result) -> None:
    """What a worker saw on a photo; what it stored of one that was erased meanwhile goes as well."""
    dead = await services.care.apply_analysis(tx, job, result)
    if dead is not None:
        await services.uploads.undo_late(tx, dead, job, result)


async def apply_echo(services: Services, tx: Transaction, job: JobRow, result: Result) -> None:
    """A probe came back; that it did is all there is to know."""


HANDLERS: Final[dict[str, Handler]] = {
    "edges.purge": purge_edges,
    "events.partitions": make_partitions,
    "reconcile.run": reconcile_all,
    "reconcile.mend": mend_drift,
    "retention.sweep": sweep_retention,
    "uploads.expire": expire_uploads,
    "uploads.reconcile": reconcile_uploads,
    "uploads.sweep": sweep_uploads,
    "upload.assemble": assemble_upload,
    "asset.clean": clean_asset,
    "order.mail": send_mail,
    "order.settle": counting(Checkout.settle),
    "order.unpaid": counting(Checkout.unpaid),
    "order.follow": counting(Checkout.follow),
    "order.disputed": counting(Checkout.disputed),
    "order.not_made": counting(Checkout.not_made),
    "order.refunded": counting(Checkout.refunded),
    "orders.expire": expire_orders,
    "asset.moderate": moderate_asset,
    "assets.empty_trash": empty_trash,
    "webhook.process": process_webhook,
    "prints.forget": forget_prints,
    "webhooks.forget": forget_webhooks,
    "payment.read": read_payment,
    "payment.cancel": cancel_payment,
    "payment.refund": ask_refund,
    "drafts.review": review_drafts,
    "fulfilment.submit": submit_fulfilment,
    "fulfilment.poll": poll_fulfilment,
    "fulfilment.cancel": cancel_fulfilment,
    "fulfilment.tend": tend_fulfilments,
    "quotes.expire": expire_quotes,
}

ServiceApplier = Callable[[Services, Transaction, JobRow, Result], Awaitable[Outcome | None]]

APPLIERS: Final[dict[str, ServiceApplier]] = {
    "asset.analyse": apply_analysis,
    "asset.ingest": apply_ingest,
    "print.master": apply_master,
    "pixel.echo": apply_echo,
}


def appliers(services: Services) -> dict[str, Applier]:
    """The applier table bound to a process's services, for `jobs.apply`."""
    return {kind: partial(applier, services) for kind, applier in APPLIERS.items()}

"""The kinds of jobs, and how each is carried: its lane, its time limit, how often it is tried."""

from typing import Final

from app.kernel.jobs import JobKind

KINDS: Final[dict[str, JobKind]] = {
    kind.name: kind
    for kind in (
        JobKind(name="fulfilment.submit", lane="record", time_limit_s=100, max_attempts=60),
        JobKind(name="fulfilment.poll", lane="record", time_limit_s=60, max_attempts=20),
        JobKind(name="fulfilment.cancel", lane="record", time_limit_s=60, max_attempts=60),
        JobKind(name="asset.ingest", lane="preview", time_limit_s=75),  # the worker's own ceilings end before
        # Orders: each answers one event, and counts anew from what is known.
        JobKind(name="order.settle", lane="checkout", time_limit_s=30, max_attempts=60),
        JobKind(name="order.unpaid", lane="checkout", time_limit_s=30, max_attempts=60),
        JobKind(name="order.follow", lane="record", time_limit_s=30, max_attempts=60),
        JobKind(name="order.disputed", lane="record", time_limit_s=30, max_attempts=60),
        JobKind(name="order.not_made", lane="record", time_limit_s=30, max_attempts=60),
        JobKind(name="order.refunded", lane="record", time_limit_s=30, max_attempts=60),
        JobKind(name="orders.expire", lane="sweep", time_limit_s=60),
        JobKind(name="order.mail", lane="record", time_limit_s=60, max_attempts=12),
        JobKind(name="asset.analyse", lane="bulk", time_limit_s=120),
        JobKind(name="asset.moderate", lane="record", time_limit_s=60),
        JobKind(name="print.master", lane="print", time_limit_s=300),
        JobKind(name="upload.assemble", lane="record", time_limit_s=120),
        JobKind(name="drafts.review", lane="record", time_limit_s=60),
        JobKind(name="asset.clean", lane="sweep", time_limit_s=60),
        JobKind(name="edges.purge", lane="record", time_limit_s=120, max_attempts=12),
        JobKind(name="pixel.echo", lane="preview", time_limit_s=10),  # a probe of the way to a worker and back
        # Money: what Stripe is asked; silence is tried again for hours.
        JobKind(name="payment.read", lane="checkout", time_limit_s=60, max_attempts=20),
        JobKind(name="payment.cancel", lane="checkout", time_limit_s=60, max_attempts=20),
        JobKind(name="payment.refund", lane="checkout", time_limit_s=60, max_attempts=20),
        JobKind(name="webhook.process", lane="checkout", time_limit_s=30, max_attempts=12),
        JobKind(name="reconcile.mend", lane="record", time_limit_s=60, max_attempts=20),
        # Housekeeping, planned by the scheduler.
        JobKind(name="fulfilment.tend", lane="sweep", time_limit_s=60),
        JobKind(name="reconcile.run", lane="sweep", time_limit_s=600),
        JobKind(name="events.partitions", lane="sweep", time_limit_s=30),
        JobKind(name="assets.empty_trash", lane="sweep", time_limit_s=60),
        JobKind(name="retention.sweep", lane="sweep", time_limit_s=300),
        JobKind(name="prints.forget", lane="sweep", time_limit_s=300),
        JobKind(name="webhooks.forget", lane="sweep", time_limit_s=300),
        JobKind(name="quotes.expire", lane="sweep", time_limit_s=60),
        JobKind(name="uploads.expire", lane="sweep", time_limit_s=60),
        JobKind(name="uploads.reconcile", lane="sweep", time_limit_s=300),
        JobKind(name="uploads.sweep", lane="sweep", time_limit_s=300),
    )
}

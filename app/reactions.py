"""What an event causes: one literal table. Reading it is reading the workflow."""

from typing import Final

from app.assets import domain as assets
from app.assets.care import planned_analysis
from app.delivery import denials
from app.drafts.service import planned_review
from app.fulfilment import domain as fulfilments
from app.kernel.jobs import JobKind
from app.kernel.spine import Reaction
from app.orders import domain as orders
from app.orders.checkout import answering
from app.orders.mails import planned_confirmation, planned_shipping
from app.payments import domain as payments
from app.payments.service import planned_refund
from app.reconcile import domain as reconcile
from app.reconcile.service import planned_mend
from app.uploads import domain as uploads
from app.uploads.planning import planned_assembly, planned_cleaning, planned_ingest

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
        JobKind(name=denials.KIND, lane="record", time_limit_s=120, max_attempts=12),
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
        JobKind(name="webhooks.forget", lane="sweep", time_limit_s=300),
        JobKind(name="quotes.expire", lane="sweep", time_limit_s=60),
        JobKind(name="uploads.expire", lane="sweep", time_limit_s=60),
        JobKind(name="uploads.reconcile", lane="sweep", time_limit_s=300),
        JobKind(name="uploads.sweep", lane="sweep", time_limit_s=300),
    )
}

_CLEAN: Final = Reaction("asset.clean", planned_cleaning)
_REVIEW: Final = Reaction("drafts.review", planned_review)

_FOLLOW: Final = Reaction("order.follow", answering("order.follow"))

REACTIONS: Final[dict[str, tuple[Reaction, ...]]] = {
    assets.AssetCreated.type: (
        Reaction("asset.ingest", planned_ingest),
        Reaction("upload.assemble", planned_assembly),
    ),
    payments.PaymentSecured.type: (Reaction("order.settle", answering("order.settle")),),
    payments.PaymentCancelled.type: (Reaction("order.unpaid", answering("order.unpaid")),),
    payments.RefundSucceeded.type: (Reaction("order.refunded", answering("order.refunded")),),
    fulfilments.FulfilmentInProduction.type: (_FOLLOW,),
    fulfilments.FulfilmentShipped.type: (_FOLLOW, Reaction("order.mail", planned_shipping)),
    fulfilments.FulfilmentLinesCancelled.type: (_FOLLOW,),
    fulfilments.FulfilmentCancelled.type: (_FOLLOW,),
    fulfilments.FulfilmentFailed.type: (Reaction("order.not_made", answering("order.not_made")),),
    orders.OrderPaid.type: (Reaction("order.mail", planned_confirmation),),
    reconcile.DriftFound.type: (Reaction("reconcile.mend", planned_mend),),
    payments.RefundRequested.type: (Reaction("payment.refund", planned_refund),),
    assets.AssetReady.type: (Reaction("asset.analyse", planned_analysis), _REVIEW),
    assets.AssetAnalysed.type: (_REVIEW,),
    assets.AssetTrashed.type: (_REVIEW,),
    assets.AssetRestored.type: (_REVIEW,),
    assets.AssetFlagged.type: (_REVIEW,),
    assets.AssetCleared.type: (_REVIEW,),
    assets.AssetDuplicateFound.type: (_CLEAN, _REVIEW),
    assets.AssetRejected.type: (_CLEAN, _REVIEW),
    assets.AssetErased.type: (_CLEAN, Reaction(denials.KIND, denials.planned_purge), _REVIEW),
    uploads.UploadAborted.type: (_CLEAN,),
    uploads.UploadExpired.type: (_CLEAN,),
}

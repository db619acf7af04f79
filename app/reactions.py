"""What an event causes: one literal table. Reading it is reading the workflow."""

from typing import Final

from app.assets import domain as assets
from app.assets.care import planned_analysis
from app.delivery import denials
from app.drafts.service import planned_review
from app.fulfilment import domain as fulfilments
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
    payments.PaymentDisputed.type: (Reaction("order.disputed", answering("order.disputed")),),
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

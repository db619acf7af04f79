"""What becomes of a session with its asset."""

from typing import Final
from uuid import UUID

from app.assets.domain import Asset, AssetState
from app.kernel.db import Transaction
from app.kernel.events import Origin
from app.kernel.spine import Spine
from app.uploads import store
from app.uploads.domain import (
    Upload,
    UploadAborted,
    UploadCompleted,
    UploadRejected,
    UploadState,
    warning_of,
)
from base import ingest
from base.jobs import Result

SYSTEM: Final = Origin(actor="system")


async def settle(spine: Spine, tx: Transaction, upload: Upload, asset: Asset, result: Result) -> None:
    """Rejected with its asset; completed as soon as that is known to be a photo."""
    digest = ingest.digest_in(result)
    if digest is not None:
        await store.save_digest(tx, upload.id, digest)
    if asset.state is AssetState.REJECTED:
        reason = asset.reason or "unusable"
        await store.save_reason(tx, upload.id, reason)
        rejected = UploadRejected(upload_id=upload.id, asset_id=asset.id, reason=reason)
        await store.transition(tx, spine, upload, UploadState.REJECTED, rejected, SYSTEM)
    elif asset.sha256 is not None or asset.state is AssetState.DUPLICATE:
        warning = warning_of(upload, asset.width, asset.height)
        if warning is not None:
            await store.save_warning(tx, upload.id, warning)
        completed = UploadCompleted(upload_id=upload.id, asset_id=asset.id)
        await store.transition(tx, spine, upload, UploadState.COMPLETED, completed, SYSTEM)


async def end_erased(spine: Spine, tx: Transaction, asset_id: UUID) -> None:
    """Forget what was said of an asset that is being erased; end its session if nobody has looked at it yet."""
    upload = await store.lock_by_asset(tx, asset_id)
    if upload is None:
        return
    await store.forget_one(tx, upload.id)
    if upload.state is UploadState.VERIFYING:
        await store.transition(tx, spine, upload, UploadState.ABORTED, UploadAborted(upload_id=upload.id), SYSTEM)

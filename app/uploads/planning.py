"""What an upload's events cause: the jobs' payloads and the planners that `app/reactions.py` names."""

from datetime import datetime
from uuid import UUID

import msgspec

from app.kernel.db import Transaction
from app.kernel.events import Recorded
from app.kernel.jobs import Plan
from app.uploads import store
from app.uploads.domain import GRACE, Upload, UploadState
from base import ids, ingest


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """Remove every object of an asset, if nothing living needs it any more."""

    asset_id: UUID


class Assemble(msgspec.Struct, frozen=True, kw_only=True):
    """Put a session's blocks together; then the asset is looked at."""

    upload_id: UUID


async def planned_ingest(tx: Transaction, happened: Recorded) -> Plan | None:
    """The ingest job of an asset that was just created."""
    upload = await store.lock_by_asset(tx, happened.aggregate_id)
    return None if upload is None or upload.appended else ingest_of(upload)


def ingest_of(upload: Upload) -> Plan:
    """The ingest job of a session's asset."""
    asset = ids.encode("asset", upload.asset_id)
    return Plan(
        kind=ingest.KIND,
        payload=ingest.Ingest(asset=asset, bytes=upload.bytes, sha256=upload.sha256),
        owner_id=upload.owner_id,
        region=upload.region,
        dedupe=f"{ingest.KIND}:{asset}",
    )


async def planned_assembly(tx: Transaction, happened: Recorded) -> Plan | None:
    """The assembly of an asset whose session has blocks."""
    upload = await store.lock_by_asset(tx, happened.aggregate_id)
    if upload is None or not upload.appended:
        return None
    return Plan(
        kind="upload.assemble",
        payload=Assemble(upload_id=upload.id),
        owner_id=upload.owner_id,
        dedupe=f"upload.assemble:{upload.id}",
    )


async def planned_cleaning(tx: Transaction, happened: Recorded) -> Plan | None:
    """The removal of a dead asset's objects; of an expired session's only after its grace time."""
    upload = await store.get_any(tx, happened.aggregate_id)
    if upload is None:
        return None
    not_before = upload.expires_at + GRACE if upload.state is UploadState.EXPIRED else None
    due = "" if not_before is None else f":{not_before.isoformat()}"
    dedupe = f"asset.clean:{upload.asset_id}{due}"  # one that is due later does not stand for one that is due now
    return cleaning(upload.asset_id, upload.owner_id, dedupe, not_before)


def cleaning(
    asset_id: UUID, owner_id: UUID | None, dedupe: str | None = None, not_before: datetime | None = None
) -> Plan:
    """The removal of whatever a dead asset has; one that runs already may have looked before, so by default anew."""
    payload = Clean(asset_id=asset_id)
    return Plan(kind="asset.clean", payload=payload, owner_id=owner_id, not_before=not_before, dedupe=dedupe)

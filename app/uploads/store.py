"""All SQL of uploads."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from app.uploads.domain import MACHINE, Declared, Sent, Upload, UploadState
from base.ids import AssetId, OwnerId, UploadId

_FIELDS: Final = ", ".join(Upload.__struct_fields__)
INSERT: Final = """
INSERT INTO uploads (id, owner_id, asset_id, state, bytes, content_type, sha256, client_reference, source_id,
                     source_modified_at, pixel_width, pixel_height, part_bytes, rate, expires_at, region, metadata)
VALUES ($1, $2, $3, 'open', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (owner_id, client_reference) WHERE client_reference IS NOT NULL AND state IN ('open', 'verifying')
DO NOTHING
RETURNING id
"""
LATEST_RATE: Final = """
SELECT rate FROM uploads WHERE owner_id = $1 AND rate IS NOT NULL AND created_at > now() - interval '1 hour'
ORDER BY id DESC LIMIT 1
"""
CLAIM: Final = """
UPDATE uploads SET storage_id = $2, addressed_at = now()
WHERE id = $1 AND storage_id IS NOT DISTINCT FROM $3 AND token = $4 AND state IN ('open', 'verifying')
RETURNING id
"""
JOURNAL: Final = """
UPDATE uploads SET completing_at = now(), by_blocks = by_blocks OR $2,
       rate = coalesce($3::bigint / greatest(1, extract(epoch FROM $4::timestamptz - addressed_at)::bigint), rate)
WHERE id = $1 AND state = 'open'
"""
REOPEN: Final = "UPDATE uploads SET completing_at = NULL WHERE id = $1 AND completing_at = $2 AND state = 'open'"
RENEW: Final = """
UPDATE uploads SET token = gen_random_uuid(), storage_id = NULL, received_sha256 = NULL WHERE id = $1 RETURNING token
"""
TURN: Final = """
UPDATE uploads SET gathered_until = now() + $2 WHERE id = $1 AND (gathered_until IS NULL OR gathered_until < now())
RETURNING gathered_until
"""
RENEW_TURN: Final = """
UPDATE uploads SET gathered_until = now() + $3 WHERE id = $1 AND gathered_until = $2 RETURNING gathered_until
"""
END_TURN: Final = "UPDATE uploads SET gathered_until = NULL WHERE id = $1 AND gathered_until = $2"
UNFINISHED: Final = """
SELECT id, owner_id, completing_at FROM uploads WHERE state = 'open' AND region = $1 AND completing_at < $2
ORDER BY completing_at LIMIT $3
"""
VERIFYING: Final = "SELECT id, asset_id FROM uploads WHERE state = 'verifying' AND id > $1 ORDER BY id LIMIT $2"
APPENDED: Final = "UPDATE uploads SET appended = true WHERE id = $1 AND state = 'open'"
RATE: Final = "UPDATE uploads SET rate = $2 WHERE id = $1"
RECEIVED: Final = """
UPDATE uploads SET received_sha256 = $2, completing_at = now(), rate = $3 WHERE id = $1 AND state = 'open'
"""
DIGEST: Final = "UPDATE uploads SET received_sha256 = $2 WHERE id = $1"
SWEEP: Final = "SELECT cursor FROM sweeps WHERE name = $1"
SWEPT: Final = """
INSERT INTO sweeps (name, cursor) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor, moved_at = now()
"""
WARN: Final = "UPDATE uploads SET warning = $2 WHERE id = $1"
GET: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 AND owner_id = $2"  # noqa: S608
LOCK: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 AND owner_id = $2 FOR UPDATE"  # noqa: S608
LOCK_BY_ASSET: Final = f"SELECT {_FIELDS} FROM uploads WHERE asset_id = $1 FOR UPDATE"  # noqa: S608
GET_ANY: Final = f"SELECT {_FIELDS} FROM uploads WHERE id = $1 OR asset_id = $1"  # noqa: S608
BY_REFERENCE: Final = f"""
SELECT {_FIELDS} FROM uploads WHERE owner_id = $1 AND client_reference = $2 AND state IN ('open', 'verifying')
"""  # noqa: S608
REASON: Final = "UPDATE uploads SET reason = $2 WHERE id = $1"
EXPIRES: Final = "UPDATE uploads SET expires_at = $2 WHERE id = $1"
OVERDUE: Final = f"""
SELECT {_FIELDS} FROM uploads WHERE state = 'open' AND expires_at < $1 ORDER BY expires_at LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608
SENT: Final = """
SELECT id, asset_id, state, reason, sha256, source_id, source_modified_at FROM uploads
WHERE owner_id = $1 AND ((sha256 = ANY($2::text[]) AND state IN ('open', 'verifying'))
                         OR (source_id = ANY($3::text[]) AND state IN ('open', 'verifying', 'completed', 'rejected')))
ORDER BY state <> 'rejected', id
"""
OPEN_BYTES: Final = "SELECT coalesce(sum(bytes), 0)::bigint FROM uploads WHERE owner_id = $1 AND state = 'open'"
OPEN_OF_OWNER: Final = f"SELECT {_FIELDS} FROM uploads WHERE owner_id = $1 AND state = 'open' FOR UPDATE"  # noqa: S608
_FORGET: Final = """
UPDATE uploads SET client_reference = NULL, sha256 = NULL, received_sha256 = NULL, source_id = NULL,
       source_modified_at = NULL, pixel_width = NULL, pixel_height = NULL, metadata = NULL
"""
FORGET: Final = _FORGET + "WHERE owner_id = $1"
FORGET_ONE: Final = _FORGET + "WHERE id = $1"


async def insert(
    tx: Transaction,
    upload_id: UploadId,
    owner_id: OwnerId,
    asset_id: AssetId,
    declared: Declared,
    part_bytes: int,
    rate: int | None,
    expires_at: datetime,
    region: str,
) -> bool:
    """Write a new session; False when a living one has the same client reference."""
    made = await tx.value(
        INSERT,
        upload_id,
        owner_id,
        asset_id,
        declared.bytes,
        declared.content_type,
        declared.sha256,
        declared.client_reference,
        declared.source_id,
        declared.source_modified_at,
        declared.pixel_width,
        declared.pixel_height,
        part_bytes,
        rate,
        expires_at,
        region,
        declared.metadata,
    )
    return made is not None


async def latest_rate(tx: Transaction, owner_id: OwnerId) -> int | None:
    """Bytes a second of the owner's network, as last observed within the hour."""
    rate: int | None = await tx.value(LATEST_RATE, owner_id)
    return rate


async def claim_storage(tx: Transaction, upload: Upload, new: str | None) -> bool:
    """Give a session another multipart upload; False when somebody else did first, or its token was renewed."""
    return await tx.value(CLAIM, upload.id, new, upload.storage_id, upload.token) is not None


async def journal(tx: Transaction, upload: Upload, by_blocks: bool = False, last_part: datetime | None = None) -> None:
    """Note that the bytes are being put together (for whoever must finish it), and how fast they came.

    `by_blocks`: they alone are the file. That once true stays so, and is never taken back.
    """
    sent = None if last_part is None or by_blocks else upload.bytes
    await tx.execute(JOURNAL, upload.id, by_blocks, sent, last_part)


async def reopen(tx: Transaction, upload_id: UUID, noted: datetime) -> None:
    """Take the note of that time back, and no later one: something is missing after all."""
    await tx.execute(REOPEN, upload_id, noted)


async def renew(tx: Transaction, upload_id: UUID) -> UUID:
    """Give a session a new token and no multipart upload: nothing addressed before can be its bytes; the token."""
    token: UUID = await tx.value(RENEW, upload_id)
    return token


async def take_turn(tx: Transaction, upload_id: UUID, lasts: timedelta) -> datetime | None:
    """Have the only turn to make parts of a session's blocks: until when; None while somebody else has it."""
    until: datetime | None = await tx.value(TURN, upload_id, lasts)
    return until


async def renew_turn(tx: Transaction, upload_id: UUID, until: datetime, lasts: timedelta) -> datetime | None:
    """Keep a turn that one has until then: until when now; None when somebody else has it."""
    renewed: datetime | None = await tx.value(RENEW_TURN, upload_id, until, lasts)
    return renewed


async def end_turn(tx: Transaction, upload_id: UUID, until: datetime) -> None:
    """Let others have the turn, unless somebody has it already."""
    await tx.execute(END_TURN, upload_id, until)


async def unfinished(
    tx: Transaction, region: str, before: datetime, limit: int
) -> list[tuple[UploadId, OwnerId, datetime]]:
    """A region's open sessions that somebody began to put together before a time: (id, owner, when)."""
    return [(r["id"], r["owner_id"], r["completing_at"]) for r in await tx.fetch(UNFINISHED, region, before, limit)]


async def verifying(tx: Transaction, after: UUID, limit: int) -> dict[UUID, UUID]:
    """Sessions whose bytes are being looked at, by id, and their assets."""
    return {r["id"]: r["asset_id"] for r in await tx.fetch(VERIFYING, after, limit)}


async def mark_appended(tx: Transaction, upload_id: UUID) -> None:
    """Note that the session has blocks."""
    await tx.execute(APPENDED, upload_id)


async def save_rate(tx: Transaction, upload_id: UUID, rate: int) -> None:
    """Note how fast bytes came."""
    await tx.execute(RATE, upload_id, rate)


async def save_received(tx: Transaction, upload_id: UUID, sha256: str, rate: int) -> None:
    """Note the hash of bytes that came through us and are in storage now, if they came in time."""
    await tx.execute(RECEIVED, upload_id, sha256, rate)


async def save_digest(tx: Transaction, upload_id: UUID, sha256: str) -> None:
    """Note the hash of a session's bytes, as a worker read them."""
    await tx.execute(DIGEST, upload_id, sha256)


async def sweep_cursor(tx: Transaction, name: str) -> str:
    """Where a sweep of this name goes on; empty at the beginning."""
    return str(await tx.value(SWEEP, name) or "")


async def move_sweep(tx: Transaction, name: str, cursor: str) -> None:
    """Note where a sweep stopped."""
    await tx.execute(SWEPT, name, cursor)


async def save_warning(tx: Transaction, upload_id: UUID, warning: str) -> None:
    """Note what the owner should know of the bytes that came."""
    await tx.execute(WARN, upload_id, warning)


async def transition(
    tx: Transaction, spine: Spine, upload: Upload, new: UploadState, told: Event, origin: Origin
) -> None:
    """Move a session and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, upload.id, upload.state, new)
    await spine.record(tx, told, aggregate_id=upload.id, owner_id=upload.owner_id, origin=origin)


async def get(tx: Readable, upload_id: UUID, owner_id: UUID) -> Upload | None:
    """An owner's session."""
    return _upload(await tx.one(GET, upload_id, owner_id))


async def lock(tx: Transaction, upload_id: UUID, owner_id: UUID) -> Upload | None:
    """An owner's session, locked until the transaction ends."""
    return _upload(await tx.one(LOCK, upload_id, owner_id))


async def lock_by_asset(tx: Transaction, asset_id: UUID) -> Upload | None:
    """The session that brought an asset, locked."""
    return _upload(await tx.one(LOCK_BY_ASSET, asset_id))


async def get_any(tx: Readable, upload_or_asset_id: UUID) -> Upload | None:
    """The session with this id, or the one that brought the asset with this id."""
    return _upload(await tx.one(GET_ANY, upload_or_asset_id))


async def by_reference(tx: Transaction, owner_id: UUID, reference: str) -> Upload | None:
    """The living session with a client reference."""
    return _upload(await tx.one(BY_REFERENCE, owner_id, reference))


async def save_reason(tx: Transaction, upload_id: UploadId, reason: str) -> None:
    """Say why a session was rejected."""
    await tx.execute(REASON, upload_id, reason)


async def set_expiry(tx: Transaction, upload_id: UploadId, when: datetime) -> None:
    """Move the end of a session."""
    await tx.execute(EXPIRES, upload_id, when)


async def sent(tx: Transaction, owner_id: UUID, digests: list[str], sources: list[str]) -> list[Sent]:
    """An owner's sessions of these digests that run, and of these sources that run or were looked at.

    Rejected ones first, then the oldest.
    """
    rows = [dict(row) for row in await tx.fetch(SENT, owner_id, digests, sources)]
    return [Sent(**{**row, "state": UploadState(row["state"])}) for row in rows]


async def overdue(tx: Transaction, now: datetime, limit: int) -> list[Upload]:
    """Open sessions whose time is over, locked."""
    return [u for r in await tx.fetch(OVERDUE, now, limit) if (u := _upload(r)) is not None]


async def open_bytes(tx: Transaction, owner_id: UUID) -> int:
    """How many bytes an owner's open sessions declared."""
    return int(await tx.value(OPEN_BYTES, owner_id))


async def open_of_owner(tx: Transaction, owner_id: UUID) -> list[Upload]:
    """An owner's open sessions, locked."""
    return [u for r in await tx.fetch(OPEN_OF_OWNER, owner_id) if (u := _upload(r)) is not None]


async def forget(tx: Transaction, owner_id: UUID) -> None:
    """Empty what an owner's device said of their photos."""
    await tx.execute(FORGET, owner_id)


async def forget_one(tx: Transaction, upload_id: UUID) -> None:
    """Empty what its owner's device said of the photo of one session, and the hash of its bytes."""
    await tx.execute(FORGET_ONE, upload_id)


def _upload(row: Any | None) -> Upload | None:
    if row is None:
        return None
    fields = dict(row)
    return Upload(**{**fields, "state": UploadState(fields["state"])})

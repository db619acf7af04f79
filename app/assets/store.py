"""All SQL of assets."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.assets.domain import (
    MACHINE,
    Alike,
    Asset,
    AssetState,
    Brought,
    Found,
    Hold,
    HoldKind,
    Known,
    Preview,
    Provenance,
    Seen,
    StepRun,
)
from app.kernel import states
from app.kernel.db import Database, Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.gathered import NTH, Gathered
from app.kernel.spine import Spine
from base import ids, ingest
from base.ids import AssetId, OwnerId, UploadId
from base.ingest import Analysed, PrintFit, Rendition, Suited
from imagecore.findings import Analysis

_FIELDS: Final = """id, owner_id, region, state, bytes, declared_type, sha256, format, width, height, notes, thumbhash,
    engine, duplicate_of, reason, created_at, COALESCE(facts->>'transfer', 'sdr') <> 'sdr' AS hdr,
    (SELECT until FROM asset_holds h WHERE h.asset_id = assets.id AND h.kind = 'trash') AS trashed_until,
    (SELECT h.reason FROM asset_holds h WHERE h.asset_id = assets.id AND h.kind = 'flagged') AS flagged"""
INSERT: Final = """
INSERT INTO assets (id, owner_id, state, region, bytes, declared_type) VALUES ($1, $2, 'processing', $3, $4, $5)
"""
GET: Final = f"""
SELECT {_FIELDS}, {NTH} FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS wanted (asset, owner, {NTH})
JOIN assets ON id = wanted.asset AND owner_id = wanted.owner AND state <> 'erased'
"""  # noqa: S608
LOCK: Final = f"SELECT {_FIELDS} FROM assets WHERE id = $1 FOR UPDATE"  # noqa: S608
LOCK_OWN: Final = f"SELECT {_FIELDS} FROM assets WHERE id = $1 AND owner_id = $2 FOR UPDATE"  # noqa: S608
PEEK: Final = f"SELECT {_FIELDS} FROM assets WHERE id = $1"  # noqa: S608
REGIONS: Final = "SELECT id, region FROM assets WHERE id = ANY($1::uuid[])"
STATE: Final = "SELECT state FROM assets WHERE id = $1"
PAGE: Final = f"""
SELECT {_FIELDS} FROM assets WHERE owner_id = $1 AND state <> 'erased' AND ($2::uuid IS NULL OR id < $2)
    AND $4 = EXISTS (SELECT FROM asset_holds h WHERE h.asset_id = assets.id AND h.kind = 'trash')
ORDER BY id DESC LIMIT $3
"""  # noqa: S608
FIRST: Final = """
SELECT id FROM assets
WHERE owner_id = $1 AND sha256 = $2 AND id <> $3 AND state IN ('processing', 'preview_ready', 'ready')
"""
FOUND: Final = """
UPDATE assets SET sha256 = $2, format = $3, width = $4, height = $5, notes = $6, engine = $7, facts = $8::jsonb
WHERE id = $1
"""
DUPLICATE: Final = "UPDATE assets SET duplicate_of = $2 WHERE id = $1"
REASON: Final = "UPDATE assets SET reason = $2 WHERE id = $1"
NOTES: Final = "UPDATE assets SET notes = $2 WHERE id = $1 AND notes <> $2"
THUMBHASH: Final = "UPDATE assets SET thumbhash = $2 WHERE id = $1"
RENDITION: Final = """
INSERT INTO renditions (asset_id, recipe, extension, width, height, bytes, sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""
KNOWN: Final = """
SELECT id, sha256, bytes,
    EXISTS (SELECT FROM asset_holds h WHERE h.asset_id = assets.id AND h.kind = 'trash') AS in_trash,
    ARRAY(SELECT d.id FROM assets d WHERE d.id = ANY($3::uuid[]) AND d.duplicate_of = assets.id) AS duplicates
FROM assets
WHERE owner_id = $1 AND state IN ('processing', 'preview_ready', 'ready')
  AND (sha256 = ANY($2::text[]) OR bytes = ANY($4::bigint[]) OR id = ANY(
       $3::uuid[] || ARRAY(SELECT d.duplicate_of FROM assets d WHERE d.id = ANY($3::uuid[]) AND d.owner_id = $1)))
"""
SEEN: Final = f"""
SELECT {_FIELDS}, analysis::text AS analysis,
       ARRAY(SELECT kind FROM asset_holds WHERE asset_id = assets.id) AS holds
FROM assets WHERE owner_id = $1 AND id = ANY($2::uuid[]) ORDER BY id
"""  # noqa: S608
HELD: Final = f"{SEEN} FOR SHARE OF assets"
OF_OWNER: Final = "SELECT id, state FROM assets WHERE owner_id = $1 AND state <> 'erased' FOR UPDATE"
FORGET: Final = """
UPDATE assets SET sha256 = NULL, facts = NULL, thumbhash = NULL, notes = '{}', analysis = NULL, fingerprint = NULL,
    fingerprint_quality = NULL, prints = NULL
WHERE id = $1
"""
FORGET_RENDITIONS: Final = "DELETE FROM renditions WHERE asset_id = $1"
RELEASE_ALL: Final = "DELETE FROM asset_holds WHERE asset_id = $1"
HOLD: Final = """
INSERT INTO asset_holds (asset_id, kind, reason, until) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
RELEASE: Final = "DELETE FROM asset_holds WHERE asset_id = $1 AND kind = $2"
HOLDS: Final = """
SELECT asset_id, kind, reason, since, until FROM asset_holds WHERE asset_id = ANY($1::uuid[]) AND kind = $2
ORDER BY asset_id
"""
OVERDUE: Final = """
SELECT a.id FROM asset_holds h JOIN assets a ON a.id = h.asset_id
WHERE h.kind = 'trash' AND h.until <= $1 ORDER BY h.until LIMIT $2 FOR UPDATE OF a SKIP LOCKED
"""
ANALYSIS: Final = "SELECT analysis::text FROM assets WHERE id = $1"
ANALYSED: Final = """
UPDATE assets SET analysis = $2::jsonb, fingerprint = $3, fingerprint_quality = $4 WHERE id = $1
"""
SUITED: Final = "UPDATE assets SET prints = $2::jsonb WHERE id = $1"
PRINTS: Final = "SELECT prints::text FROM assets WHERE id = $1"
ALIKE: Final = """
SELECT other.id, bit_count((other.fingerprint # mine.fingerprint)::bit(64)) AS distance
FROM assets mine JOIN assets other ON other.owner_id = mine.owner_id AND other.id <> mine.id
WHERE mine.id = $1 AND mine.fingerprint_quality >= $3 AND other.fingerprint_quality >= $3
    AND other.state IN ('processing', 'preview_ready', 'ready')
    AND bit_count((other.fingerprint # mine.fingerprint)::bit(64)) <= $2
ORDER BY distance, other.id LIMIT 50
"""
BROUGHT_BY: Final = "SELECT data->>'upload_id' FROM events WHERE aggregate_id = $1 AND type = 'asset.created'"
STEPS: Final = """
SELECT run.step, run.attempt, run.outcome, run.reason, run.ms, run.engine, run.recorded_at AS at
FROM jobs JOIN step_runs run ON run.job_id = jobs.id
WHERE jobs.dedupe_key = ANY($1::text[])
ORDER BY run.recorded_at, run.step
"""
PREVIEWS: Final = """
SELECT recipe, extension, width, height, bytes, sha256 FROM renditions WHERE asset_id = $1 ORDER BY width, recipe
"""
SERIALISE: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text || $2, 0))"


async def known(
    tx: Readable, owner_id: UUID, digests: Sequence[str], asset_ids: Sequence[UUID], sizes: Sequence[int]
) -> list[Known]:
    """An owner's living assets with one of these digests, ids (or a duplicate's of these) or sizes."""
    rows = await tx.fetch(KNOWN, owner_id, list(digests), list(asset_ids), list(sizes))
    return [Known(**{**dict(row), "duplicates": tuple(row["duplicates"])}) for row in rows]


async def insert(tx: Transaction, asset_id: AssetId, owner_id: OwnerId, brought: Brought) -> None:
    """Write a new asset in its first state."""
    await tx.execute(INSERT, asset_id, owner_id, brought.region, brought.bytes, brought.declared_type)


async def regions(db: Readable, asset_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Which region keeps each of these assets."""
    return {row["id"]: row["region"] for row in await db.fetch(REGIONS, list(asset_ids))}


async def transition(tx: Transaction, spine: Spine, asset: Asset, new: AssetState, told: Event, origin: Origin) -> None:
    """Move an asset and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, asset.id, asset.state, new)
    await spine.record(tx, told, aggregate_id=asset.id, owner_id=asset.owner_id, origin=origin)


async def get(tx: Readable, asset_id: UUID, owner_id: UUID) -> Asset | None:
    """An owner's asset."""
    row = await tx.one(GET, [asset_id], [owner_id])
    return None if row is None else _asset(row)


def reader(db: Database) -> Gathered[Asset | None]:
    """`get` by asset and owner, for many at once."""
    return Gathered(db, GET, lambda rows: _asset(rows[0]) if rows else None)


async def lock(tx: Transaction, asset_id: UUID) -> Asset | None:
    """An asset, locked until the transaction ends."""
    row = await tx.one(LOCK, asset_id)
    return None if row is None else _asset(row)


async def lock_own(tx: Transaction, asset_id: UUID, owner_id: UUID) -> Asset | None:
    """An owner's asset, locked until the transaction ends; somebody else's is not waited for."""
    row = await tx.one(LOCK_OWN, asset_id, owner_id)
    return None if row is None else _asset(row)


async def state(tx: Transaction, asset_id: UUID) -> AssetState | None:
    """An asset's state, or None when there is no such asset."""
    found = await tx.value(STATE, asset_id)
    return None if found is None else AssetState(found)


async def peek(tx: Readable, asset_id: UUID) -> Asset | None:
    """An asset, not locked."""
    row = await tx.one(PEEK, asset_id)
    return None if row is None else _asset(row)


async def page(tx: Readable, owner_id: UUID, before: UUID | None, limit: int, trash: bool) -> list[Asset]:
    """An owner's assets, newest first, older than `before`: those in the trash, or those outside."""
    return [_asset(r) for r in await tx.fetch(PAGE, owner_id, before, limit, trash)]


async def living_twin(tx: Transaction, asset: Asset, sha256: str) -> AssetId | None:
    """The owner's other living asset with these bytes; the caller's view stays true until its transaction ends."""
    await tx.execute(SERIALISE, asset.owner_id, sha256)
    found: UUID | None = await tx.value(FIRST, asset.owner_id, sha256, asset.id)
    return None if found is None else AssetId(found)


async def save_found(tx: Transaction, asset_id: AssetId, found: Found) -> None:
    """Store what validation found."""
    await tx.execute(
        FOUND,
        asset_id,
        found.sha256,
        found.format,
        found.width,
        found.height,
        list(found.notes),
        found.engine,
        found.facts.decode(),
    )


async def save_duplicate(tx: Transaction, asset_id: AssetId, first: AssetId) -> None:
    """Name the first asset with the same bytes."""
    await tx.execute(DUPLICATE, asset_id, first)


async def save_reason(tx: Transaction, asset_id: AssetId, reason: str) -> None:
    """Say why an asset was rejected."""
    await tx.execute(REASON, asset_id, reason)


async def save_previews(
    tx: Transaction, asset_id: AssetId, renditions: tuple[Rendition, ...], thumbhash: str | None
) -> None:
    """Store which renditions exist; storing them again changes nothing."""
    await tx.many(
        RENDITION,
        [(asset_id, r.recipe, r.extension, r.width, r.height, r.bytes, r.sha256) for r in renditions],
    )
    if thumbhash is not None:
        await tx.execute(THUMBHASH, asset_id, thumbhash)


async def save_notes(tx: Transaction, asset_id: AssetId, notes: tuple[str, ...]) -> None:
    """Put these notes in place of the asset's."""
    await tx.execute(NOTES, asset_id, list(notes))


async def seen(db: Readable, owner_id: UUID, asset_ids: Sequence[UUID], *, held: bool) -> list[Seen]:
    """An owner's assets among these, erased ones too; `held` keeps their states until the transaction ends."""
    return [_seen(row) for row in await db.fetch(HELD if held else SEEN, owner_id, list(asset_ids))]


async def of_owner(tx: Transaction, owner_id: UUID) -> list[tuple[UUID, AssetState]]:
    """Everything an owner has, locked."""
    return [(r["id"], AssetState(r["state"])) for r in await tx.fetch(OF_OWNER, owner_id)]


async def forget(tx: Transaction, asset_id: UUID) -> None:
    """Empty the fields that tell something of a picture; nothing holds it any more."""
    await tx.execute(FORGET, asset_id)
    await tx.execute(FORGET_RENDITIONS, asset_id)
    await tx.execute(RELEASE_ALL, asset_id)


async def hold(tx: Transaction, asset_id: AssetId, kind: HoldKind, reason: str, until: datetime | None) -> bool:
    """Hold an asset; False when it is held so already."""
    return await tx.execute(HOLD, asset_id, kind, reason, until) == 1


async def release(tx: Transaction, asset_id: AssetId, kind: HoldKind) -> bool:
    """End a hold; False when there was none."""
    return await tx.execute(RELEASE, asset_id, kind) == 1


async def holds(db: Readable, asset_ids: Sequence[UUID], kind: HoldKind) -> list[Hold]:
    """The holds of one kind on these assets."""
    rows = await db.fetch(HOLDS, list(asset_ids), kind)
    return [Hold(**{**dict(row), "kind": HoldKind(row["kind"])}) for row in rows]


async def overdue_trash(tx: Transaction, now: datetime, limit: int) -> list[UUID]:
    """Assets whose time in the trash was over a moment ago, locked; those that somebody works on are left out."""
    return [row["id"] for row in await tx.fetch(OVERDUE, now, limit)]


async def analysis(tx: Transaction, asset_id: UUID) -> Analysis | None:
    """What was seen on an asset, or None when nobody looked."""
    found = await tx.value(ANALYSIS, asset_id)
    return None if found is None else msgspec.json.decode(found, type=Analysis)


async def save_analysis(tx: Transaction, asset_id: AssetId, found: Analysed) -> None:
    """Keep what a worker saw; the fingerprint as a signed number of the same 64 bits."""
    bits = found.fingerprint - (1 << 64) if found.fingerprint >= 1 << 63 else found.fingerprint
    await tx.execute(ANALYSED, asset_id, bytes(found.analysis).decode(), bits, found.fingerprint_quality)


async def save_prints(tx: Transaction, asset_id: AssetId, found: Suited) -> None:
    """Keep how a photo suits every target size."""
    await tx.execute(SUITED, asset_id, msgspec.json.encode(found.prints).decode())


async def prints(db: Readable, asset_id: UUID) -> tuple[PrintFit, ...] | None:
    """How a photo suits every target size, or None when nobody looked."""
    found = await db.value(PRINTS, asset_id)
    return None if found is None else msgspec.json.decode(found, type=tuple[PrintFit, ...])


async def alike(tx: Transaction, asset: Asset, bits: int, least_quality: int) -> list[Alike]:
    """The owner's living assets that look like this one, nearest first."""
    rows = await tx.fetch(ALIKE, asset.id, bits, least_quality)
    return [Alike(asset_id=AssetId(row["id"]), distance=row["distance"]) for row in rows]


async def provenance(tx: Transaction, asset: Asset) -> Provenance:
    """What events, steps and renditions tell of an asset."""
    upload = await tx.value(BROUGHT_BY, asset.id)
    name = ids.encode("asset", asset.id)
    steps = await tx.fetch(STEPS, [f"{ingest.KIND}:{name}", f"{ingest.ANALYSE}:{name}"])
    return Provenance(
        asset=asset,
        upload_id=None if upload is None else UploadId(UUID(upload)),
        steps=tuple(StepRun(**dict(row)) for row in steps),
        previews=tuple(await previews(tx, asset.id)),
    )


async def previews(db: Readable, asset_id: UUID) -> list[Preview]:
    """The stored renditions of an asset, lightest first."""
    return [Preview(**dict(row)) for row in await db.fetch(PREVIEWS, asset_id)]


def _seen(row: Any) -> Seen:
    fields = dict(row)
    analysis, holds = fields.pop("analysis"), fields.pop("holds")
    return Seen(
        asset=_asset(fields),
        analysis=None if analysis is None else msgspec.json.decode(analysis, type=Analysis),
        holds=frozenset(HoldKind(kind) for kind in holds),
    )


def _asset(row: Any) -> Asset:
    return msgspec.convert(dict(row), Asset)

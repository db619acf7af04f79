"""All SQL of assets."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from app.assets.domain import MACHINE, Asset, AssetState, Found, Known
from app.kernel import states
from app.kernel.db import Readable, Transaction
from app.kernel.events import Event, Origin
from app.kernel.spine import Spine
from base.ids import AssetId, OwnerId
from base.ingest import Rendition

_FIELDS: Final = """id, owner_id, state, bytes, declared_type, sha256, format, width, height, notes, thumbhash, engine,
    duplicate_of, reason, created_at"""
INSERT: Final = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type) VALUES ($1, $2, 'processing', $3, $4)
"""
GET: Final = f"SELECT {_FIELDS} FROM assets WHERE id = $1 AND owner_id = $2 AND state <> 'erased'"  # noqa: S608
LOCK: Final = f"SELECT {_FIELDS} FROM assets WHERE id = $1 FOR UPDATE"  # noqa: S608
STATE: Final = "SELECT state FROM assets WHERE id = $1"
PAGE: Final = f"""
SELECT {_FIELDS} FROM assets WHERE owner_id = $1 AND state <> 'erased' AND ($2::uuid IS NULL OR id < $2)
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
THUMBHASH: Final = "UPDATE assets SET thumbhash = $2 WHERE id = $1"
RENDITION: Final = """
INSERT INTO renditions (asset_id, recipe, extension, width, height, bytes, sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""
KNOWN: Final = """
SELECT id, sha256, bytes, false AS in_trash FROM assets
WHERE owner_id = $1 AND state IN ('processing', 'preview_ready', 'ready')
  AND (sha256 = ANY($2::text[]) OR id = ANY($3::uuid[]) OR bytes = ANY($4::bigint[]))
"""
OF_OWNER: Final = "SELECT id, state FROM assets WHERE owner_id = $1 AND state <> 'erased' FOR UPDATE"
FORGET: Final = "UPDATE assets SET facts = NULL, thumbhash = NULL, notes = '{}' WHERE id = $1"
SERIALISE: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text || $2, 0))"


async def known(
    tx: Readable, owner_id: UUID, digests: Sequence[str], asset_ids: Sequence[UUID], sizes: Sequence[int]
) -> list[Known]:
    """An owner's living assets with one of these digests, ids or sizes."""
    rows = await tx.fetch(KNOWN, owner_id, list(digests), list(asset_ids), list(sizes))
    return [Known(**dict(row)) for row in rows]


async def insert(tx: Transaction, asset_id: AssetId, owner_id: OwnerId, size: int, declared_type: str) -> None:
    """Write a new asset in its first state."""
    await tx.execute(INSERT, asset_id, owner_id, size, declared_type)


async def transition(tx: Transaction, spine: Spine, asset: Asset, new: AssetState, told: Event, origin: Origin) -> None:
    """Move an asset and tell of it: the only writer of its state."""
    await states.compare_and_set(tx, MACHINE, asset.id, asset.state, new)
    await spine.record(tx, told, aggregate_id=asset.id, owner_id=asset.owner_id, origin=origin)


async def get(tx: Readable, asset_id: UUID, owner_id: UUID) -> Asset | None:
    """An owner's asset."""
    row = await tx.one(GET, asset_id, owner_id)
    return None if row is None else _asset(row)


async def lock(tx: Transaction, asset_id: UUID) -> Asset | None:
    """An asset, locked until the transaction ends."""
    row = await tx.one(LOCK, asset_id)
    return None if row is None else _asset(row)


async def state(tx: Transaction, asset_id: UUID) -> AssetState | None:
    """An asset's state, or None when there is no such asset."""
    found = await tx.value(STATE, asset_id)
    return None if found is None else AssetState(found)


async def page(tx: Readable, owner_id: UUID, before: UUID | None, limit: int) -> list[Asset]:
    """An owner's assets, newest first, older than `before`."""
    return [_asset(r) for r in await tx.fetch(PAGE, owner_id, before, limit)]


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


async def of_owner(tx: Transaction, owner_id: UUID) -> list[tuple[UUID, AssetState]]:
    """Everything an owner has, locked."""
    return [(r["id"], AssetState(r["state"])) for r in await tx.fetch(OF_OWNER, owner_id)]


async def forget(tx: Transaction, asset_id: UUID) -> None:
    """Empty the fields that tell something of a picture."""
    await tx.execute(FORGET, asset_id)


def _asset(row: Any) -> Asset:
    fields = dict(row)
    return Asset(**{**fields, "state": AssetState(fields["state"]), "notes": tuple(fields["notes"])})

"""The five invariants of uploads, read from Postgres and storage when everything that was planned is done.

Acknowledged bytes are there; a session that has its bytes has its asset, one an owner and hash; the hash is the
source's; a session is open only where the row says so; storage holds what living assets have, and nothing else.
"""

import hashlib
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from base import ids, keys
from imagecore import analyse, measuring

if TYPE_CHECKING:
    from tests.app.uploads.conftest import Bench, Phone

ASSETS: Final[dict[str, set[str | None]]] = {
    "open": {None},
    "expired": {None},
    "aborted": {None, "erased"},
    "completed": {"ready", "duplicate", "erased"},
    "rejected": {"rejected", "erased"},
}
"""What becomes of the asset of a session in each state it may stay in."""


class Found(msgspec.Struct, frozen=True):
    """Sessions by TypeID, assets by id, and the recipes of each asset's stored renditions, as rows."""

    uploads: dict[str, Any]
    assets: dict[UUID, Any]
    renditions: dict[UUID, set[str]]

    def holder(self, upload: Any) -> Any | None:
        """The living asset that has a session's bytes: its own, or the one that this is a duplicate of."""
        asset = self.assets.get(upload["asset_id"])
        if asset is not None and asset["state"] == "duplicate":
            asset = self.assets.get(asset["duplicate_of"])
        return asset if asset is not None and asset["state"] == "ready" else None


async def hold(bench: "Bench") -> None:
    """Let what is planned be done, then look; every owner of the row, every bucket."""
    bench.faults.clear()
    await bench.work()
    found = await _found(bench)
    for phone in bench.phones:
        for upload, acknowledged in phone.acknowledged.items():
            await _nothing_lost(bench, phone, found, upload, acknowledged)
    _every_session_has_its_asset(bench, found)
    await _bytes_are_the_sources(bench, found)
    await _nothing_for_nobody(bench, found)


async def _found(bench: "Bench") -> Found:
    owners = [ids.decode("owner", phone.owner) for phone in bench.phones]
    async with bench.services.db.reading() as db:
        uploads = await db.fetch("SELECT * FROM uploads WHERE owner_id = ANY($1)", owners)
        assets = await db.fetch("SELECT * FROM assets WHERE owner_id = ANY($1)", owners)
        made = await db.fetch("SELECT * FROM renditions WHERE asset_id = ANY($1)", [row["id"] for row in assets])
    renditions: dict[UUID, set[str]] = {row["id"]: set() for row in assets}
    for row in made:
        renditions[row["asset_id"]].add(
            keys.derivative(ids.encode("asset", row["asset_id"]), row["recipe"], row["extension"])
        )
    return Found({ids.encode("upload", row["id"]): row for row in uploads}, {r["id"]: r for r in assets}, renditions)


async def _nothing_lost(bench: "Bench", phone: "Phone", found: Found, upload: str, acknowledged: int) -> None:
    """Of every session that has not ended without its photo: in an open one they are listed, else they are stored."""
    row = found.uploads[upload]
    if row["state"] == "open":
        assert (await phone.read(upload))["arrivedBytes"] >= acknowledged, "acknowledged bytes are there"
    elif row["state"] == "completed" and found.assets[row["asset_id"]]["state"] != "erased":
        holder = found.holder(row)
        assert holder is not None, "a completed session's bytes belong to a living asset"
        key = keys.original(ids.encode("asset", holder["id"]))
        head = await bench.services.store.head(bench.buckets.originals, key)
        assert head.size == row["bytes"] >= acknowledged, "acknowledged bytes are stored"


def _every_session_has_its_asset(bench: "Bench", found: Found) -> None:
    for name, row in found.uploads.items():
        asset = found.assets.get(row["asset_id"])
        state = None if asset is None else asset["state"]
        assert state in ASSETS.get(row["state"], set()), f"{name}: {row['state']} with an asset that is {state}"
    still = {name for name, row in found.uploads.items() if row["state"] == "open"}
    assert still == bench.unfinished & set(found.uploads), "open are the sessions that the row leaves open"
    living = [(row["owner_id"], row["sha256"]) for row in found.assets.values() if row["state"] == "ready"]
    assert len(living) == len(set(living)), "one asset an owner and hash"


async def _bytes_are_the_sources(bench: "Bench", found: Found) -> None:
    for phone in bench.phones:
        for upload, data in phone.sources.items():
            holder = found.holder(found.uploads[upload])
            if holder is not None:
                digest = hashlib.sha256(data).hexdigest()
                key = keys.original(ids.encode("asset", holder["id"]))
                assert holder["sha256"] == digest, "the asset's hash is the source's"
                assert await bench.services.store.digest(bench.buckets.originals, key) == digest


async def _nothing_for_nobody(bench: "Bench", found: Found) -> None:
    """After the end of open sessions and a sweep, storage holds what living assets have, and nothing else."""
    async with bench.services.db.transaction() as tx:
        await tx.execute(
            "UPDATE uploads SET expires_at = now() - interval '30 days' WHERE id = ANY($1) AND state = 'open'",
            [row["id"] for row in found.uploads.values()],
        )
        await bench.services.uploads.expire_overdue(tx)
    await bench.work()
    names = {ids.encode("asset", row["asset_id"]): row["asset_id"] for row in found.uploads.values()}
    await bench.sweep(set(names) | set(found.uploads))
    store, kept = bench.services.store, bench.buckets
    for name, asset_id in names.items():
        asset = found.assets.get(asset_id)
        living = asset if asset is not None and asset["state"] == "ready" else None
        assert await store.multiparts(kept.originals, name) == [], "no multipart upload is left"
        stored = [set(await store.list_keys(b, name)) for b in (kept.originals, kept.ancestors, kept.derivatives)]
        wanted = (
            [{keys.original(name)}, _ancestors(name, living["engine"]), found.renditions[asset_id]]
            if living
            else [set()] * 3
        )
        assert stored[0] == wanted[0], "originals are of living assets"
        assert stored[1] - wanted[1] == set(), "ancestors are of living assets, one set each"
        assert stored[2] == wanted[2], "derivatives are those that are recorded"
    for upload in found.uploads:
        assert await store.list_keys(kept.staging, upload) == [], "no block is left"


def _ancestors(name: str, engine: str) -> set[str]:
    """What may stand in the ancestors bucket for one asset."""
    return {
        keys.ancestor(name, engine),
        keys.half(name, engine),
        keys.facts(name, engine),
        keys.quality(name, engine, measuring.REVISION),
        keys.analysis(name, engine, analyse.REVISION),
    }

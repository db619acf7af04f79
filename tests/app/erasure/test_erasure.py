"""Erasing a person: everything goes or is named in the receipt, whatever still runs."""

import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec

from app.erasure.tables import KEPT, OWNED, TABLES, Fate
from app.handlers import appliers
from app.kernel import jobs
from app.kernel.db import Database
from app.services import Services
from app.uploads.service import Clean
from base import ids, ingest, keys
from base.jobs import Outcome, Result, signed
from base.objects import Buckets, ObjectStore

Guest = Callable[[], Awaitable[dict[str, Any]]]
MARK = "MARKED-CAMERA-7f3a"
FOUND = "5e" * 32


async def test_every_table_with_an_owner_says_how_it_goes(db: Database) -> None:
    sql = """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'owner_id' AND NOT a.attisdropped
               AND c.relnamespace = 'public'::regnamespace"""
    async with db.transaction() as tx:
        assert {row["relname"] for row in await tx.fetch(sql)} == OWNED


async def test_every_table_says_what_becomes_of_it(db: Database) -> None:
    sql = """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
             AND relnamespace = 'public'::regnamespace"""
    async with db.transaction() as tx:
        assert {row["relname"] for row in await tx.fetch(sql)} == set(TABLES)
    named = {name for table in TABLES.values() for name in table.named}
    assert named - {"print-file"} < {one.what for one in KEPT}
    for name, table in TABLES.items():
        assert bool(table.named) == (table.fate not in (Fate.GONE, Fate.NOBODY)), name
        assert bool(table.holds) == (table.fate is not Fate.NOBODY), name
        assert table.kept, name


async def upload(client: httpx.AsyncClient, auth: dict[str, str], data: bytes, reference: str) -> dict[str, Any]:
    body = {
        "bytes": len(data),
        "contentType": "image/jpeg",
        "sha256": hashlib.sha256(data).hexdigest(),
        "clientReference": reference,
    }
    headers = {**auth, "Idempotency-Key": uuid4().hex}
    made: dict[str, Any] = (await client.post("/v1/uploads", json=body, headers=headers)).json()
    part = (await client.post(f"/v1/uploads/{made['id']}/parts", headers=auth)).json()["parts"][0]
    async with httpx.AsyncClient() as storage:
        sent = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        assert (await storage.put(part["url"], content=data, headers=sent)).status_code == 200
    return made


async def answer(services: Services, asset: str) -> None:
    """The first answer of a pixel worker, with marked facts."""
    async with services.db.transaction() as tx:
        sql = "SELECT id FROM jobs WHERE kind = 'asset.ingest' AND payload->>'asset' = $1"
        row = await jobs.lock(tx, await tx.value(sql, asset))
    assert row is not None
    found = ingest.Validated(
        sha256=FOUND,
        bytes=5,
        format="jpeg",
        width=4,
        height=3,
        notes=(),
        facts=msgspec.Raw(msgspec.json.encode({"camera": MARK})),
    )
    result = Result(
        job_id=row.id,
        kind=row.kind,
        attempt=1,
        step="validate",
        index=0,
        last=False,
        outcome=Outcome.OK,
        reason=None,
        ms=1,
        engine="engine1",
        body=msgspec.json.encode(found),
    )
    secret = services.settings.result_key.reveal()
    async with services.db.transaction() as tx:
        await jobs.apply(tx, secret, signed(secret, row.nonce, result), appliers(services))


async def clean(services: Services) -> None:
    async with services.db.transaction() as tx:
        rows = await tx.fetch("SELECT payload::text AS payload FROM jobs WHERE kind = 'asset.clean'")
    for row in rows:
        await services.uploads.clean(msgspec.json.decode(row["payload"], type=Clean))


async def occurrences(db: Database, words: list[str]) -> list[tuple[str, str]]:
    """Every table that holds one of the words anywhere in a row."""
    found = []
    async with db.transaction() as tx:
        tables = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for table in (t["relname"] for t in tables):
            for word in words:
                sql = f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE $1'
                if await tx.value(sql, f"%{word}%"):
                    found.append((table, word))
    return found


async def test_nothing_of_a_person_stays_but_what_the_receipt_names(
    client: httpx.AsyncClient,
    guest: Guest,
    services: Services,
    db: Database,
    record_store: ObjectStore,
    buckets: Buckets,
) -> None:
    me, other = await guest(), await guest()
    data = os.urandom(5000)
    digest = hashlib.sha256(data).hexdigest()
    done = await upload(client, me["auth"], data, "holiday-marked")
    headers = {**me["auth"], "Idempotency-Key": uuid4().hex}
    assert (await client.post(f"/v1/uploads/{done['id']}/complete", headers=headers)).status_code == 202
    await answer(services, done["assetId"])
    half = await upload(client, me["auth"], data + b"x", "unfinished-marked")
    theirs = await upload(client, other["auth"], data[::-1], "theirs")
    words = [MARK, FOUND, digest, "holiday-marked", "unfinished-marked"]
    assert {word for _, word in await occurrences(db, words)} == set(words)

    receipt = await client.delete("/v1/me", headers=me["auth"])
    assert receipt.status_code == 200, receipt.text
    assert receipt.json()["assets"] == 1
    told = {kept["what"] for kept in receipt.json()["kept"]}
    assert told == {"events", "receipt", "ids-sizes-and-states-of-photos", "ids-at-edges", "finished-work"}
    assert (await client.delete("/v1/me", headers=me["auth"])).json() == receipt.json()

    await clean(services)
    assert await occurrences(db, words) == []
    owner = ids.decode("owner", me["ownerId"])
    tables = {table for table, _ in await occurrences(db, [str(owner)])}
    named = {t for t in tables if not t.startswith("events_")}
    assert named == {"owners", "erasures", "assets", "uploads", "jobs", "event_heads"}
    for bucket in (buckets.originals, buckets.ancestors, buckets.derivatives):
        for asset in (done["assetId"], half["assetId"]):
            assert await record_store.list_keys(bucket, asset + "/") == []
    assert await record_store.multiparts(buckets.originals, half["assetId"]) == []
    assert len(await record_store.multiparts(buckets.originals, theirs["assetId"])) == 1
    assert digest not in receipt.text

    assert (await client.get("/v1/assets", headers=me["auth"])).json()["assets"] == []
    assert (await client.get(f"/v1/assets/{done['assetId']}", headers=me["auth"])).status_code == 404
    refused = await client.post("/v1/tokens", json={"refreshToken": me["refreshToken"]})
    assert refused.status_code == 401
    body = {"bytes": 5, "contentType": "image/jpeg"}
    again = await client.post("/v1/uploads", json=body, headers={**me["auth"], "Idempotency-Key": uuid4().hex})
    assert (again.status_code, again.json()["code"]) == (410, "person-erased")


async def test_a_worker_that_answers_late_leaves_nothing(
    client: httpx.AsyncClient,
    guest: Guest,
    services: Services,
    db: Database,
    record_store: ObjectStore,
    buckets: Buckets,
) -> None:
    me = await guest()
    made = await upload(client, me["auth"], os.urandom(3000), "late")
    headers = {**me["auth"], "Idempotency-Key": uuid4().hex}
    await client.post(f"/v1/uploads/{made['id']}/complete", headers=headers)
    assert (await client.delete("/v1/me", headers=me["auth"])).status_code == 200
    await clean(services)
    await record_store.put(buckets.ancestors, keys.ancestor(made["assetId"], "engine1"), b"late", "image/jpeg")
    await answer(services, made["assetId"])
    assert await occurrences(db, [MARK]) == []
    await clean(services)
    assert await record_store.list_keys(buckets.ancestors, made["assetId"] + "/") == []


async def test_nobody_elses_key_goes(client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
    me, other = await guest(), await guest()
    await client.delete("/v1/me", headers=me["auth"])
    async with db.transaction() as tx:
        left: list[UUID] = [row["owner_id"] for row in await tx.fetch("SELECT owner_id FROM person_keys")]
    assert left == [ids.decode("owner", other["ownerId"])]

"""What is left of somebody who has bought something: what the receipt names, and nothing else, wherever one looks."""

import asyncio
import contextlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.erasure.tables import TABLES
from app.fulfilment import forgetting
from app.orders.printfiles import NEEDED
from base import ids, keys, printing
from base.ids import UploadId
from base.objects import ObjectAbsent, ObjectLocked
from devstack.s3 import client
from tests.app.orders.invariants import broken
from tests.app.orders.test_erasing import erase, until
from tests.app.orders.test_stories import MOST_S, money, paid, pass_time, view
from tests.app.orders.world import HOME, SKU, Bought, World

NAME, STREET, MAIL = "Mark-Name-7a1c", "9 Mark-Street-7a1c", "mark-7a1c@example.org"
NOTE, REFERENCE = "mark-note-7a1c", "mark-reference-7a1c"
PHOTO = b"mark-photo-7a1c"
TRACKING = "track.example"
UPLOAD = """
INSERT INTO uploads (id, owner_id, asset_id, state, bytes, content_type, expires_at, client_reference, source_id)
VALUES ($1, $2, $3, 'completed', 1000, 'image/jpeg', now(), $4, $4)
"""
COLUMNS = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""


async def found_in(world: World, word: str) -> set[str]:
    """Tables of which a row has the word, in whatever column: as text, in JSON, or as bytes."""
    found = set()
    async with world.services.db.reading() as db:
        for table in [row["relname"] for row in await db.fetch(COLUMNS)]:
            sql = f'SELECT count(*) FROM "{table}" t WHERE t::text ILIKE $1 OR t::text LIKE $2'
            if await db.value(sql, f"%{word}%", f"%{word.encode().hex()}%"):
                found.add(re.sub(r"^events_.*", "events", table))
    return found


async def found_in_buckets(world: World, *words: bytes) -> set[str]:
    """Keys of objects, every version of them, whose key or bytes have one of the words."""
    store, buckets = world.services.store, world.services.settings.buckets
    found = set()
    for bucket in (buckets.originals, buckets.ancestors, buckets.derivatives, buckets.masters, buckets.staging):
        every = {(one.key, one.version) for one in await store.versions(bucket)}
        every |= {(one.key, None) for one in await store.listing(bucket, "")}
        for key, version in every:
            with contextlib.suppress(ObjectAbsent):  # of another test, and gone since it was listed
                data = await store.get(bucket, key, None if version == "null" else version)
                if any(word in data or word in key.encode() for word in words):
                    found.add(key)
    return found


async def mark(world: World) -> None:
    """The person's photo is in every bucket that has photos, and came by an upload that said something of it."""
    store, buckets, asset = world.services.store, world.services.settings.buckets, ids.encode("asset", world.asset)
    async with world.services.db.transaction() as tx:
        await tx.execute("ALTER TABLE uploads DISABLE TRIGGER USER")
        await tx.execute(UPLOAD, UploadId(ids.new_id()), world.owner, world.asset, REFERENCE)
        await tx.execute("ALTER TABLE uploads ENABLE TRIGGER USER")
    await store.put(buckets.originals, keys.original(asset), PHOTO, "image/jpeg")
    await store.put(buckets.ancestors, keys.ancestor(asset, "engine1"), PHOTO, "image/jpeg")
    await store.put(buckets.derivatives, f"{asset}/small.jpg", PHOTO, "image/jpeg")


async def bought(world: World) -> Bought:
    """Prints with a note, for somebody with a name, paid."""
    item = {"assetId": ids.encode("asset", world.asset), "sku": SKU, "copies": 1, "giftNote": NOTE}
    draft = (await world.call("POST", "/v1/drafts", {"items": [item]})).json()["id"]
    asked = {"draftId": draft, "currency": "GBP", "country": "GB", "postcode": HOME["postcode"]}
    quote = (await world.call("POST", "/v1/quotes", asked)).json()
    recipient = {**HOME, "name": NAME, "line1": STREET, "email": MAIL}
    told = await world.call("POST", "/v1/orders", {"quoteId": quote["id"], "recipient": recipient})
    assert told.status_code == 201, told.text
    order = Bought(id=told.json()["id"], total=quote["total"], copies=[1])
    world.orders.append(order)
    await world.pay(order, 1)
    await world.confirm(order, "pm_card_visa")
    return order


async def tracking_of(world: World, order: Bought) -> str:
    async with world.services.db.reading() as db:
        (parcel,) = await world.services.fulfilments.shipments(db, ids.decode("order", order.id))
    (number,) = parcel.trackings
    return number


async def line_of(world: World, order: Bought) -> str:
    return ids.encode("order_line", (await view(world, order)).lines[0].id)


async def test_what_is_left_of_a_buyer_is_named(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    await mark(world)
    order = await bought(world)
    share = await world.call("POST", "/v1/shares", {"assetIds": [ids.encode("asset", world.asset)]})
    assert share.status_code == 201, share.text
    await world.deliver()
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    await world.deliver()
    await pass_time(world, 5)
    assert (await view(world, order)).shown.state == "shipped"
    number = await tracking_of(world, order)
    words = [NAME, STREET, MAIL, NOTE, REFERENCE, number, TRACKING, HOME["postcode"]]
    seen = {word: await found_in(world, word) for word in words}
    assert {word for word, tables in seen.items() if tables} == {REFERENCE, number, TRACKING, HOME["postcode"]}
    assert seen[number] == {"fulfilments", "shipment_trackings", "vendor_facts"}
    async with world.services.db.reading() as db:
        assert await db.value("SELECT count(DISTINCT source) FROM webhooks WHERE sealed IS NOT NULL") == 2
    assert len(await found_in_buckets(world, PHOTO)) == 3
    line, view_ = await line_of(world, order), await view(world, order)

    receipt = await erase(world)
    await pass_time(world, 5, MOST_S)
    names = {kept["what"] for kept in receipt["kept"]}
    assert {"orders-without-recipients", "payments-and-refunds", "digests-of-ordered-photos"} < names
    assert {"order-at-the-printer", "payment-at-stripe", "ids-at-edges", f"print-file-of-{line}"} < names
    assert {word: tables for word in words if (tables := await found_in(world, word))} == {}
    assert await found_in_buckets(world, PHOTO) == set()
    told = capfd.readouterr()
    assert [word for word in (*words, "b" * 64) if word in told.out + told.err] == []

    tables = await found_in(world, "b" * 64)  # the photo's digest
    assert tables
    assert {table for table in tables if "digests-of-ordered-photos" not in TABLES[table].named} == set()
    every = [world.owner, world.asset, view_.order.id, view_.order.draft_id, view_.order.quote_id, view_.lines[0].id]
    kinds = ("owner", "asset", "order", "draft", "quote", "order_line")
    spelled = [*map(str, every), *(ids.encode(kind, one) for kind, one in zip(kinds, every, strict=True))]
    tables = set().union(*[await found_in(world, word) for word in spelled])
    short = {"print-file" if name.startswith("print-file-of-") else name for name in names}
    assert {table: TABLES[table].named for table in tables if not short & set(TABLES[table].named)} == {}
    assert {"orders", "payments", "fulfilments", "webhooks", "print_files", "order_manifests"} < tables
    assert await broken(world) == []


async def test_a_locked_print_file_is_named_until_its_lock_has_ended(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    line = await line_of(world, order)
    receipt = await erase(world)
    (named,) = [kept for kept in receipt["kept"] if kept["what"].startswith("print-file")]
    assert (named["what"], named["reason"]) == (f"print-file-of-{line}", "locked-against-removal")
    file = await world.places.file(world.services)
    locked = await world.services.store.locked_until(world.services.settings.buckets.masters, file.key, file.version)
    assert locked is not None
    assert locked.date() < date.fromisoformat(named["until"]) <= locked.date() + timedelta(days=2)
    assert (await world.call("DELETE", "/v1/me")).json() == receipt
    async with world.services.db.transaction() as tx:
        await tx.execute("UPDATE print_files SET locked_until = now() - interval '1 day'")
    assert await world.services.print_files.sweep() == 0  # the store refuses, and says until when
    async with world.services.db.reading() as db:
        assert await db.value("SELECT locked_until FROM print_files") == locked


async def test_a_print_file_that_is_being_made_is_named(world: World) -> None:
    order = await paid(world, [1])
    await world.later(5)
    await until(world, printing.KIND)
    async with world.services.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET state = 'published' WHERE kind = $1", printing.KIND)
    receipt = await erase(world)
    assert f"print-file-of-{await line_of(world, order)}" in {kept["what"] for kept in receipt["kept"]}


@pytest.mark.parametrize("is_erased", [True, False])
async def test_a_print_file_goes_when_it_is_not_locked_and_not_needed(world: World, is_erased: bool) -> None:
    """An erased person's as soon as its lock has ended, another's when nobody can complain any more."""
    await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    services, env = world.services, world.places.env
    key, bucket = f"{ids.encode('asset', world.asset)}/{uuid4().hex}.jpg", services.settings.buckets.masters
    s3 = client(env["TIRAGE_S3_ENDPOINT"], (env["TIRAGE_S3_RECORD_ACCESS_KEY"], env["TIRAGE_S3_RECORD_SECRET_KEY"]))
    until_ = datetime.now(UTC) + timedelta(seconds=2)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until_}
    version = s3.put_object(Bucket=bucket, Key=key, Body=b"x", **lock)["VersionId"]
    async with services.db.transaction() as tx:
        sql = "UPDATE print_files SET key = $1, version = $2, locked_until = $3"
        await tx.execute(sql, key, version, until_)
    if is_erased:
        await erase(world)
    await asyncio.sleep(max(0.0, (until_ - datetime.now(UTC)).total_seconds()) + 1.1)
    assert await services.print_files.sweep() == is_erased
    world.clock.ahead += NEEDED + timedelta(hours=2)
    assert await services.print_files.sweep() == (not is_erased)
    assert [one for one in await services.store.versions(bucket) if one.key == key] == []
    async with services.db.reading() as db:
        assert await db.value("SELECT count(*) FROM print_files") == 0
        assert await db.value("SELECT count(*) FROM order_manifests") == 1


async def test_a_print_file_that_the_store_refuses_to_remove_stays_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of a right, say: nothing tells until when, and the file is not believed to be gone."""
    await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    await erase(world)

    async def refused(*_: object) -> None:
        raise ObjectLocked()

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(world.services.store, "delete_version", refused)
    monkeypatch.setattr(world.services.store, "locked_until", nothing)
    async with world.services.db.transaction() as tx:
        await tx.execute("UPDATE print_files SET locked_until = now() - interval '1 day'")
    assert await world.services.print_files.sweep() == 0
    async with world.services.db.reading() as db:
        assert await db.value("SELECT count(*) FROM print_files") == 1


async def test_a_parcel_that_leaves_after_the_erasure_is_not_followed(world: World) -> None:
    await world.turn_printer(produce_s=3_600)
    order = await paid(world, [1])
    await pass_time(world, 5, 900)
    await erase(world)
    await pass_time(world, 60, 3_600, MOST_S, MOST_S)
    assert (await view(world, order)).shown.state == "shipped"
    assert await money(world, order) == (1, order.total, 0)
    assert await found_in(world, TRACKING) == set()
    async with world.services.db.reading() as db:
        told: list[Any] = await db.fetch("SELECT sealed FROM vendor_facts WHERE seen::text LIKE '%shipped%'")
    assert told
    assert {row["sealed"] for row in told} == {None}
    assert await broken(world) == []


async def test_old_parcels_are_forgotten_and_counted_as_before(world: World) -> None:
    order = await paid(world, [1])
    await pass_time(world, 5, 900, 60, MOST_S, MOST_S)
    assert await found_in(world, TRACKING) == {"fulfilments", "shipment_trackings", "vendor_facts"}
    async with world.services.db.transaction() as tx:
        assert await forgetting.forget_old(tx, datetime.now(UTC) - timedelta(days=1)) == 0
        assert await forgetting.forget_old(tx, datetime.now(UTC) + timedelta(days=1)) == 1
        assert await forgetting.forget_old(tx, datetime.now(UTC) + timedelta(days=1)) == 0
    assert await found_in(world, TRACKING) == set()
    assert (await view(world, order)).shown.state == "shipped"
    assert await broken(world) == []

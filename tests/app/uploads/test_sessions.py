"""Sessions of several parts, what storage holds of them, and asking before sending."""

import asyncio
import hashlib
import os
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.kernel.db import Database
from app.services import Services
from app.uploads.planning import Clean
from app.uploads.service import Uploads
from app.uploads.sweep import Sweeper, Swept
from base import ids, keys
from base.ingest import Refused
from base.jobs import Outcome
from base.objects import Buckets, ObjectStore, ObjectStoreSettings, Site, Sites, SiteSettings
from tests.app.conftest import Guest
from tests.app.uploads.conftest import ANY_AGE, sweeper_of
from tests.app.uploads.test_routes import BYTES, DIGEST, answer_ingest, complete, create, send, sent, validated

MIB = 1024 * 1024
LARGE = os.urandom(17 * MIB)


async def addresses(
    client: httpx.AsyncClient, auth: dict[str, str], upload: str, *numbers: int, digest: str | None = None
) -> dict[str, Any]:
    body = {"parts": [{"number": n, "sha256": digest} for n in numbers]} if numbers else None
    answer = await client.post(f"/v1/uploads/{upload}/parts", json=body, headers=auth)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def put(part: dict[str, Any], data: bytes) -> int:
    headers = {name: value for name, value in part["headers"].items() if name != "Content-Length"}
    async with httpx.AsyncClient(timeout=30) as storage:
        return (await storage.put(part["url"], content=data, headers=headers)).status_code


def piece(part: dict[str, Any]) -> bytes:
    return LARGE[part["firstByte"] : part["firstByte"] + part["bytes"]]


async def large(client: httpx.AsyncClient, auth: dict[str, str], **changes: Any) -> dict[str, Any]:
    return await create(client, auth, bytes=len(LARGE), sha256=hashlib.sha256(LARGE).hexdigest(), **changes)


async def test_parts_in_any_order_become_one_object(
    client: httpx.AsyncClient, guest: Guest, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    upload = await large(client, auth)
    assert upload["next"] == {"path": "direct", "partBytes": 8 * MIB, "parallel": 2}
    told = await addresses(client, auth, upload["id"])
    assert [(p["number"], p["firstByte"], p["bytes"]) for p in told["parts"]] == [
        (1, 0, 8 * MIB),
        (2, 8 * MIB, 8 * MIB),
        (3, 16 * MIB, MIB),
    ]
    for number in (3, 1, 1):  # the same part again is the same
        assert await put(told["parts"][number - 1], piece(told["parts"][number - 1])) == 200
    progress = (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()
    assert progress["arrivedBytes"] == 9 * MIB
    assert progress["missing"] == [{"firstByte": 8 * MIB, "bytes": 8 * MIB}]
    early = await complete(client, auth, upload["id"])
    assert (early.status_code, early.json()["code"]) == (409, "upload-incomplete")
    assert f"{8 * MIB}-{16 * MIB - 1}" in early.json()["detail"]
    again = await addresses(client, auth, upload["id"])
    assert [p["number"] for p in again["parts"]] == [2]
    assert await put(again["parts"][0], piece(again["parts"][0])) == 200
    assert (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()["upload"]["next"]["path"] == (
        "complete"
    )
    assert (await complete(client, auth, upload["id"])).status_code == 202
    asset = keys.original(upload["assetId"])
    assert await record_store.digest(buckets.originals, asset) == hashlib.sha256(LARGE).hexdigest()
    assert await put(again["parts"][0], piece(again["parts"][0])) == 404  # nothing can be put in its place
    assert await record_store.multiparts(buckets.originals, asset) == []


async def test_a_part_with_a_digest_takes_no_other_bytes(client: httpx.AsyncClient, guest: Guest) -> None:
    auth = (await guest())["auth"]
    upload = await large(client, auth)
    digest = hashlib.sha256(LARGE[: 8 * MIB]).hexdigest()
    (part,) = (await addresses(client, auth, upload["id"], 1, digest=digest))["parts"]
    assert await put(part, bytes(8 * MIB)) == 400
    assert await put(part, piece(part)) == 200
    answer = await client.post(f"/v1/uploads/{upload['id']}/parts", json={"parts": [{"number": 4}]}, headers=auth)
    assert answer.status_code == 422


async def test_parts_asked_for_at_once_are_of_one_multipart_upload(
    client: httpx.AsyncClient, guest: Guest, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    upload = await large(client, auth)
    await asyncio.gather(*(addresses(client, auth, upload["id"]) for _ in range(8)))
    assert len(await record_store.multiparts(buckets.originals, upload["assetId"])) == 1


async def test_storage_that_lost_the_parts_is_told_and_begun_anew(
    client: httpx.AsyncClient, guest: Guest, record_store: ObjectStore, buckets: Buckets
) -> None:
    auth = (await guest())["auth"]
    upload = await create(client, auth)
    (part,) = (await addresses(client, auth, upload["id"]))["parts"]
    assert await put(part, BYTES) == 200
    asset = keys.original(upload["assetId"])
    for found in await record_store.multiparts(buckets.originals, asset):
        await record_store.abort_multipart(buckets.originals, asset, found.upload or "")
    answer = await complete(client, auth, upload["id"])
    assert (answer.status_code, answer.json()["code"]) == (410, "upload-storage-lost")
    assert (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()["arrivedBytes"] == 0
    (part,) = (await addresses(client, auth, upload["id"]))["parts"]
    assert await put(part, BYTES) == 200
    assert (await complete(client, auth, upload["id"])).status_code == 202


class TestReconcile:
    async def test_what_was_begun_is_finished_by_somebody_else(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
    ) -> None:
        """The process died between the object and the row."""
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        await send(client, auth, upload["id"])
        async with db.transaction() as tx:
            owner = await tx.value("SELECT owner_id FROM uploads")
        await services.uploads.arrived(owner, ids.decode("upload", upload["id"]))
        assert await services.sweeper.reconcile() == 0  # it may still be running
        async with db.transaction() as tx:
            await tx.execute("UPDATE uploads SET completing_at = now() - interval '5 minutes'")
        assert await services.sweeper.reconcile() == 1
        async with db.transaction() as tx:
            assert await tx.value("SELECT state FROM uploads") == "verifying"
            assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'asset.ingest'") == 1
        assert (await complete(client, auth, upload["id"])).status_code == 202
        assert await services.sweeper.reconcile() == 0

    async def test_a_region_that_is_away_keeps_nobody_else_waiting(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
    ) -> None:
        """Its sessions are older and more than one run takes; those of home are finished, its own when it is back."""
        auth, told = (await guest())["auth"], []
        for _ in range(3):
            told.append(await create(client, auth))
            await send(client, auth, told[-1]["id"])
        home = ids.decode("upload", told[-1]["id"])
        async with db.transaction() as tx:
            await tx.execute("UPDATE uploads SET completing_at = now() - interval '5 minutes'")
            await tx.execute(
                "UPDATE uploads SET region = 'west', completing_at = now() - interval '1 day' WHERE id <> $1", home
            )
        here, settings = Site(services.store, services.settings.buckets), services.settings.store
        away = msgspec.structs.replace(settings, endpoint="http://127.0.0.1:1", connect_timeout_s=1)

        async def states(west: ObjectStoreSettings) -> list[str]:
            others = {"west": SiteSettings(store=west, buckets=services.settings.buckets)}
            sites = Sites("home", here, others)
            uploads = Uploads(
                *(db, services.spine, services.persons, sites, services.assets, services.clock),
                *(services.settings.policy, services.settings.uploads),
            )
            worker = Sweeper(db, services.spine, sites, services.assets, uploads, services.clock)
            await worker.reconcile(limit=2)
            async with db.reading() as reading:
                return [r["state"] for r in await reading.fetch("SELECT state FROM uploads ORDER BY region, id")]

        assert await states(away) == ["verifying", "open", "open"]
        assert await states(settings) == ["verifying"] * 3


class TestSweep:
    async def test_orphans_of_every_kind_go_and_nothing_else(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
    ) -> None:
        auth = (await guest())["auth"]
        kept = await sent(client, auth)
        running = await large(client, auth)
        await addresses(client, auth, running["id"])
        nobody, session = ids.encode("asset", uuid4()), ids.encode("upload", uuid4())
        for bucket in (buckets.originals, buckets.ancestors, buckets.derivatives):
            await record_store.put(bucket, f"{nobody}/thing", b"x", "image/jpeg")
        await record_store.put(buckets.staging, f"{session}/000000000000", b"x", "image/jpeg")
        await record_store.begin_multipart(buckets.originals, f"{nobody}/original", "image/jpeg", {})
        mine = {kept["assetId"], running["assetId"], nobody, session}
        sweeper = sweeper_of(services, mine)
        assert await sweeper.sweep() == Swept(multiparts=0, blocks=0, objects=0)  # all are young
        assert await sweeper.sweep(ANY_AGE) == Swept(multiparts=1, blocks=1, objects=3)
        for bucket in (buckets.originals, buckets.ancestors, buckets.derivatives):
            assert await record_store.list_keys(bucket, nobody) == []
        assert await record_store.list_keys(buckets.originals, kept["assetId"]) == [keys.original(kept["assetId"])]
        assert len(await record_store.multiparts(buckets.originals, running["assetId"])) == 1
        assert await record_store.multiparts(buckets.originals, nobody) == []

    async def test_an_expired_session_keeps_its_bytes_while_it_can_be_revived(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        await send(client, auth, upload["id"])
        sweeper = sweeper_of(services, {upload["id"], upload["assetId"]})
        wanted = Clean(asset_id=ids.decode("asset", upload["assetId"]))
        for age, left in (("6 days", 1), ("8 days", 0)):
            async with services.db.transaction() as tx:
                await tx.execute(f"UPDATE uploads SET expires_at = now() - interval '{age}'")
                await services.uploads.expire_overdue(tx)
            await services.uploads.clean(wanted)
            assert len(await record_store.multiparts(buckets.originals, upload["assetId"])) == left
            assert await sweeper.sweep(ANY_AGE) == Swept(multiparts=0, blocks=0, objects=0)


class TestCheck:
    async def ask(self, client: httpx.AsyncClient, auth: dict[str, str], *photos: dict[str, Any]) -> list[Any]:
        answer = await client.post("/v1/uploads/check", json={"photos": photos}, headers=auth)
        assert answer.status_code == 200, answer.text
        return [(one["action"], one["reason"]) for one in answer.json()["photos"]]

    async def test_every_reason(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth, other = (await guest())["auth"], (await guest())["auth"]
        when = "2026-01-02T03:04:05Z"
        here = await sent(client, auth, sourceId="L/1", sourceModifiedAt=when)
        await answer_ingest(services, here["assetId"], validated())
        await create(client, auth, sha256="a" * 64, sourceId="L/2", sourceModifiedAt=when)
        photos = [
            {"sha256": DIGEST},
            {"sourceId": "L/1", "sourceModifiedAt": when},
            {"sourceId": "L/1", "sourceModifiedAt": when, "sha256": "b" * 64},
            {"sourceId": "L/1", "sourceModifiedAt": "2026-02-02T03:04:05Z"},
            {"sha256": "a" * 64},
            {"sourceId": "L/2", "sourceModifiedAt": when},
            {"bytes": len(BYTES)},
            {"bytes": 5},
            {"sha256": "c" * 64},
            {},
        ]
        assert await self.ask(client, auth, *photos) == [
            ("skip", "exact"),
            ("skip", "same_source"),
            ("hash", "client_hash_stale"),
            ("send", None),
            ("skip", "uploading_now"),
            ("skip", "uploading_now"),
            ("hash", None),
            ("send", None),
            ("send", None),
            ("send", None),
        ]
        assert set(await self.ask(client, other, *photos)) == {("send", None)}
        assert (await client.delete(f"/v1/assets/{here['assetId']}", headers=auth)).status_code == 204
        assert await self.ask(client, auth, *photos[:2]) == [("skip", "in_trash"), ("skip", "in_trash")]

    async def test_a_source_whose_photo_is_another_sources(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        """Two copies in one library are one photo here; neither is sent again."""
        auth, when = (await guest())["auth"], "2026-01-02T03:04:05Z"
        first, second = [await sent(client, auth, sourceId=source, sourceModifiedAt=when) for source in ("L/1", "L/2")]
        for upload in (first, second):
            await answer_ingest(services, upload["assetId"], validated())
        asked = {"sourceId": "L/2", "sourceModifiedAt": when}
        assert await self.ask(client, auth, asked) == [("skip", "same_source")]
        assert await self.ask(client, auth, {**asked, "sha256": "b" * 64}) == [("hash", "client_hash_stale")]
        assert (await client.delete(f"/v1/assets/{first['assetId']}", headers=auth)).status_code == 204
        assert await self.ask(client, auth, asked) == [("skip", "in_trash")]
        gone = await client.delete(f"/v1/assets/{first['assetId']}?permanently=true", headers=auth)
        assert gone.status_code == 204
        assert await self.ask(client, auth, asked) == [("send", None)]

    @pytest.mark.parametrize(
        ("reason", "told"), [("corrupt", ("skip", "rejected")), ("file-digest-mismatch", ("send", None))]
    )
    async def test_a_source_that_was_rejected(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, reason: str, told: tuple[str, str | None]
    ) -> None:
        auth, when = (await guest())["auth"], "2026-01-02T03:04:05Z"
        asked = {"sourceId": "L/1", "sourceModifiedAt": when}
        upload = await sent(client, auth, **asked)
        refusal = ("validate", Outcome.REFUSED, reason, Refused(sha256=None, bytes=len(BYTES)))
        await answer_ingest(services, upload["assetId"], refusal)
        assert await self.ask(client, auth, asked) == [told]
        assert await self.ask(client, auth, {**asked, "sourceModifiedAt": "2026-02-02T03:04:05Z"}) == [("send", None)]
        assert await self.ask(client, auth, {**asked, "sha256": "b" * 64}) == [("send", None)]
        again = await sent(client, auth, **asked)
        await answer_ingest(services, again["assetId"], validated())
        assert await self.ask(client, auth, asked) == [("skip", "same_source")]

    async def test_a_thousand_and_not_one_more(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        photos = [{"sha256": f"{n:064x}", "sourceId": f"S{n}"} for n in range(1000)]
        assert set(await self.ask(client, auth, *photos)) == {("send", None)}
        answer = await client.post("/v1/uploads/check", json={"photos": [*photos, {}]}, headers=auth)
        assert answer.status_code == 422


@pytest.mark.parametrize(("width", "warning"), [(40, None), (4032, "low-resolution-representation")])
async def test_fewer_pixels_than_declared_are_told(
    client: httpx.AsyncClient, guest: Guest, services: Services, width: int, warning: str | None
) -> None:
    auth = (await guest())["auth"]
    upload = await sent(client, auth, pixelWidth=width, pixelHeight=30)
    await answer_ingest(services, upload["assetId"], validated())
    told = (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()["upload"]
    assert (told["state"], told["warning"]) == ("completed", warning)

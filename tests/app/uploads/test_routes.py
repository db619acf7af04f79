"""An upload as an app does it: session, address, bytes to real storage, completion; and what may go wrong."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.handlers import appliers
from app.kernel import alerts, jobs
from app.kernel.db import Database
from app.services import Services
from app.uploads.service import Clean
from base import ids, ingest, keys
from base.jobs import Outcome, Result, signed
from base.objects import Buckets, ObjectStore
from imagecore import recipe as recipes

Guest = Callable[[], Awaitable[dict[str, Any]]]
BYTES = os.urandom(70_000)
DIGEST = hashlib.sha256(BYTES).hexdigest()


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


async def create(client: httpx.AsyncClient, auth: dict[str, str], **changes: Any) -> dict[str, Any]:
    body = {"bytes": len(BYTES), "contentType": "image/jpeg", "sha256": DIGEST, **changes}
    answer = await client.post("/v1/uploads", json=body, headers={**auth, **key()})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def send(client: httpx.AsyncClient, auth: dict[str, str], upload: str, data: bytes = BYTES) -> httpx.Response:
    answer = await client.post(f"/v1/uploads/{upload}/parts", headers=auth)
    assert answer.status_code == 200, answer.text
    part = answer.json()["parts"][0]
    async with httpx.AsyncClient() as storage:
        headers = {name: value for name, value in part["headers"].items() if name.lower() != "content-length"}
        return await storage.put(part["url"], content=data, headers=headers)


async def complete(client: httpx.AsyncClient, auth: dict[str, str], upload: str) -> httpx.Response:
    return await client.post(f"/v1/uploads/{upload}/complete", headers={**auth, **key()})


async def sent(client: httpx.AsyncClient, auth: dict[str, str], **changes: Any) -> dict[str, Any]:
    upload = await create(client, auth, **changes)
    assert (await send(client, auth, upload["id"])).status_code == 200
    assert (await complete(client, auth, upload["id"])).status_code == 202
    return upload


class TestComplete:
    async def test_a_repetition_reads_the_key_and_nothing_else(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        await send(client, auth, upload["id"])
        path, headers = f"/v1/uploads/{upload['id']}/complete", {**auth, **key()}
        first = await client.post(path, headers=headers)
        async with db.transaction() as tx:
            await tx.execute("DELETE FROM uploads")
        again = await client.post(path, headers=headers)
        assert (again.status_code, again.content) == (202, first.content)
        assert again.headers["idempotency-replayed"] == "true"

    async def test_bytes_become_an_asset_and_one_job(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        assert upload["state"] == "open"
        assert (await send(client, auth, upload["id"])).status_code == 200
        progress = (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()
        assert progress["arrivedBytes"] == len(BYTES)
        answer = await complete(client, auth, upload["id"])
        assert answer.status_code == 202
        assert answer.json()["state"] == "verifying"
        asset = (await client.get(f"/v1/assets/{upload['assetId']}", headers=auth)).json()
        assert asset["state"] == "processing"
        async with db.transaction() as tx:
            planned = await tx.fetch("SELECT kind, payload::text AS payload FROM jobs")
        told = msgspec.json.decode(planned[0]["payload"], type=ingest.Ingest)
        assert [row["kind"] for row in planned] == ["asset.ingest"]
        assert told == ingest.Ingest(asset=upload["assetId"], bytes=len(BYTES), sha256=DIGEST)

    async def test_again_and_at_once_is_one_asset(self, client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        await send(client, auth, upload["id"])
        answers = await asyncio.gather(*(complete(client, auth, upload["id"]) for _ in range(20)))
        assert {a.status_code for a in answers} == {202}
        assert {a.json()["assetId"] for a in answers} == {upload["assetId"]}
        async with db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM assets") == 1
            assert await tx.value("SELECT count(*) FROM jobs") == 1

    async def test_before_the_bytes_is_refused_and_changes_nothing(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        answer = await complete(client, auth, upload["id"])
        assert answer.status_code == 409
        assert answer.json()["code"] == "upload-incomplete"
        async with db.transaction() as tx:
            assert await tx.value("SELECT state FROM uploads") == "open"
            assert await tx.value("SELECT count(*) FROM assets") == 0

    async def test_without_a_key_is_refused(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        answer = await client.post(f"/v1/uploads/{upload['id']}/complete", headers=auth)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-missing")


class TestStorageRefuses:
    async def test_other_bytes_than_declared(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        other = bytes(len(BYTES))
        assert (await send(client, auth, upload["id"], other)).status_code == 400
        assert (await complete(client, auth, upload["id"])).status_code == 409

    @pytest.mark.parametrize("change", [-1, 1])
    async def test_another_length_than_declared(self, client: httpx.AsyncClient, guest: Guest, change: int) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth, sha256=None)
        data = BYTES[:-1] if change < 0 else BYTES + b"x"
        assert (await send(client, auth, upload["id"], data)).status_code == 403
        assert (await complete(client, auth, upload["id"])).status_code == 409


class TestCreate:
    async def test_client_reference_finds_the_open_session(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        one, two = [await create(client, auth, clientReference="IMG_1/7") for _ in range(2)]
        assert one["id"] == two["id"]
        body = {"bytes": 5, "contentType": "image/jpeg", "clientReference": "IMG_1/7"}
        answer = await client.post("/v1/uploads", json=body, headers={**auth, **key()})
        assert (answer.status_code, answer.json()["code"]) == (409, "upload-reference-reused")

    async def test_lost_answer_is_given_again(self, client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
        auth, once = (await guest())["auth"], key()
        body = {"bytes": 5, "contentType": "image/jpeg"}
        answers = [await client.post("/v1/uploads", json=body, headers={**auth, **once}) for _ in range(3)]
        assert {a.content for a in answers} == {answers[0].content}
        async with db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM uploads") == 1

    async def test_too_large_is_refused(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        body = {"bytes": 2**33, "contentType": "image/jpeg"}
        answer = await client.post("/v1/uploads", json=body, headers={**auth, **key()})
        assert (answer.status_code, answer.json()["code"]) == (413, "upload-too-large")


class TestOwner:
    async def test_anothers_things_are_not_there(self, client: httpx.AsyncClient, guest: Guest) -> None:
        mine, other = (await guest())["auth"], (await guest())["auth"]
        upload = await sent(client, mine)
        paths = [
            ("GET", f"/v1/uploads/{upload['id']}"),
            ("POST", f"/v1/uploads/{upload['id']}/parts"),
            ("POST", f"/v1/uploads/{upload['id']}/complete"),
            ("POST", f"/v1/uploads/{upload['id']}/revive"),
            ("DELETE", f"/v1/uploads/{upload['id']}"),
            ("GET", f"/v1/assets/{upload['assetId']}"),
            ("DELETE", f"/v1/assets/{upload['assetId']}"),
        ]
        for method, path in paths:
            answer = await client.request(method, path, headers={**other, **key()})
            assert answer.status_code == 404, path
        body = {"assetIds": [upload["assetId"]], "sides": [200]}
        assert (await client.post("/v1/images", json=body, headers=other)).status_code == 404
        assert (await client.get("/v1/assets", headers=other)).json()["assets"] == []


class TestAbort:
    async def test_bytes_go_and_the_session_stays_closed(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, record_store: ObjectStore, buckets: Buckets
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        await send(client, auth, upload["id"])
        for _ in range(2):
            assert (await client.delete(f"/v1/uploads/{upload['id']}", headers=auth)).status_code == 204
        assert (await complete(client, auth, upload["id"])).json()["code"] == "upload-given-up"
        await clean(services)
        assert await record_store.list_keys(buckets.originals, upload["assetId"] + "/") == []


async def clean(services: Services) -> int:
    """Run the planned removals, as a record worker would."""
    async with services.db.transaction() as tx:
        rows = await tx.fetch("SELECT id, payload::text AS payload FROM jobs WHERE kind = 'asset.clean'")
    for row in rows:
        await services.uploads.clean(msgspec.json.decode(row["payload"], type=Clean))
    return len(rows)


async def answer_ingest(
    services: Services, asset: str, *results: tuple[str, Outcome, str | None, msgspec.Struct]
) -> None:
    """Answer the ingest job of an asset as a pixel worker would."""
    steps = ("validate", "first_previews", "previews")
    async with services.db.transaction() as tx:
        sql = "SELECT id FROM jobs WHERE kind = 'asset.ingest' AND payload->>'asset' = $1"
        row = await jobs.lock(tx, await tx.value(sql, asset))
    assert row is not None
    secret = services.settings.result_key.reveal()
    for step, outcome, reason, body in results:
        result = Result(
            job_id=row.id,
            kind=row.kind,
            attempt=1,
            step=step,
            index=steps.index(step),
            last=step == steps[-1] or outcome is not Outcome.OK,
            outcome=outcome,
            reason=reason,
            ms=1,
            engine="engine1",
            body=msgspec.json.encode(body),
        )
        async with services.db.transaction() as tx:
            await jobs.apply(tx, secret, signed(secret, row.nonce, result), appliers(services))


class Nothing(msgspec.Struct, frozen=True):
    """The body of an answer that tells nothing."""


def validated(sha256: str = DIGEST) -> tuple[str, Outcome, None, msgspec.Struct]:
    facts = msgspec.Raw(b'{"width":40}')
    body = ingest.Validated(
        sha256=sha256, bytes=len(BYTES), format="jpeg", width=40, height=30, notes=("apply-orientation",), facts=facts
    )
    return ("validate", Outcome.OK, None, body)


def previews(step: str) -> tuple[str, Outcome, None, msgspec.Struct]:
    recipe = recipes.text(recipes.rung({"first_previews": 200, "previews": 800}[step], "engine1"))
    made = ingest.Rendition(recipe=recipe, extension="jpg", width=4, height=3, bytes=9, sha256=DIGEST)
    return (step, Outcome.OK, None, ingest.Previews(renditions=(made,), thumbhash="aGk="))


class TestIngestAnswers:
    async def test_photo_becomes_preview_ready_then_ready(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        upload = await sent(client, auth)
        path, asset = f"/v1/assets/{upload['assetId']}", upload["assetId"]
        await answer_ingest(services, asset, validated())
        assert (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()["upload"]["state"] == "completed"
        await answer_ingest(services, asset, previews("first_previews"))
        shown = (await client.get(path, headers=auth)).json()
        assert (shown["state"], shown["thumbhash"], shown["notes"]) == ("preview_ready", "aGk=", ["apply-orientation"])
        await answer_ingest(services, asset, previews("previews"))
        assert (await client.get(path, headers=auth)).json()["state"] == "ready"
        body = {"assetIds": [asset], "sides": [400, 200, 400], "format": "webp"}
        one, two = [(await client.post("/v1/images", json=body, headers=auth)).json() for _ in range(2)]
        variants = one["images"][0]["variants"]
        assert [(v["side"], v["width"], v["height"]) for v in variants] == [(200, 40, 30), (400, 40, 30)]
        assert [v["url"] for v in variants] == [v["url"] for v in two["images"][0]["variants"]]

    async def test_same_bytes_again_are_a_duplicate(
        self,
        client: httpx.AsyncClient,
        guest: Guest,
        services: Services,
        record_store: ObjectStore,
        buckets: Buckets,
    ) -> None:
        auth = (await guest())["auth"]
        first, second = [await sent(client, auth) for _ in range(2)]
        await answer_ingest(services, first["assetId"], validated())
        await answer_ingest(services, second["assetId"], validated())
        twin = (await client.get(f"/v1/assets/{second['assetId']}", headers=auth)).json()
        assert (twin["state"], twin["duplicateOf"]) == ("duplicate", first["assetId"])
        assert await clean(services) == 1
        assert await record_store.list_keys(buckets.originals, second["assetId"] + "/") == []
        assert await record_store.list_keys(buckets.originals, first["assetId"] + "/") == [
            keys.original(first["assetId"])
        ]

    async def test_a_duplicates_worker_that_goes_on_leaves_nothing(
        self,
        client: httpx.AsyncClient,
        guest: Guest,
        services: Services,
        record_store: ObjectStore,
        buckets: Buckets,
    ) -> None:
        """It hears of no duplicate: it makes all previews, each after the removal of what was there before."""
        auth = (await guest())["auth"]
        first, second = [await sent(client, auth) for _ in range(2)]
        await answer_ingest(services, first["assetId"], validated())
        await answer_ingest(services, second["assetId"], validated())
        planned = await clean(services)
        key = keys.derivative(second["assetId"], "r", "jpg")
        for step in ("first_previews", "previews"):
            await record_store.put(buckets.derivatives, key, b"late", "image/jpeg")
            await answer_ingest(services, second["assetId"], previews(step))
            planned += 1
            assert await clean(services) == planned
            assert await record_store.list_keys(buckets.derivatives, second["assetId"] + "/") == []

    async def test_another_owner_with_the_same_bytes_is_no_duplicate(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        for auth in [(await guest())["auth"] for _ in range(2)]:
            upload = await sent(client, auth)
            await answer_ingest(services, upload["assetId"], validated())
            assert (await client.get(f"/v1/assets/{upload['assetId']}", headers=auth)).json()["state"] == "processing"

    async def test_rejection_reaches_asset_and_upload(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        upload = await sent(client, auth)
        refused = ("validate", Outcome.REFUSED, "not-an-image", ingest.Refused(sha256=None, bytes=1))
        await answer_ingest(services, upload["assetId"], refused)
        asset = (await client.get(f"/v1/assets/{upload['assetId']}", headers=auth)).json()
        session = (await client.get(f"/v1/uploads/{upload['id']}", headers=auth)).json()["upload"]
        assert (asset["state"], asset["reason"]) == ("rejected", "not-an-image")
        assert (session["state"], session["reason"]) == ("rejected", "not-an-image")

    @pytest.mark.parametrize("done", [0, 1, 2])
    async def test_photo_that_kills_its_workers_is_parked_and_waits(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, done: int
    ) -> None:
        """Killed in any step: an operator is told, and a later attempt still succeeds."""
        auth = (await guest())["auth"]
        upload = await sent(client, auth)
        answers = [validated(), previews("first_previews"), previews("previews")]
        await answer_ingest(services, upload["assetId"], *answers[:done])
        await answer_ingest(services, upload["assetId"], (answers[done][0], Outcome.LOST, "worker-lost", Nothing()))
        async with services.db.transaction() as tx:
            assert await tx.value("SELECT state FROM jobs WHERE kind = 'asset.ingest'") == "parked"
            assert [a.rule for a in await alerts.open_alerts(tx)] == ["job-parked"]
        await answer_ingest(services, upload["assetId"], *answers[done:])
        assert (await client.get(f"/v1/assets/{upload['assetId']}", headers=auth)).json()["state"] == "ready"

    async def test_erased_photo_is_gone_and_late_answers_change_nothing(
        self,
        client: httpx.AsyncClient,
        guest: Guest,
        services: Services,
        record_store: ObjectStore,
        buckets: Buckets,
    ) -> None:
        auth = (await guest())["auth"]
        upload = await sent(client, auth)
        path = f"/v1/assets/{upload['assetId']}"
        assert (await client.delete(path + "?permanently=true", headers=auth)).status_code == 204
        await answer_ingest(services, upload["assetId"], validated(), previews("first_previews"))
        assert (await client.get(path, headers=auth)).status_code == 404
        await clean(services)
        assert await record_store.list_keys(buckets.originals, upload["assetId"] + "/") == []


class TestExpiry:
    async def test_expired_session_can_be_revived(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
    ) -> None:
        auth = (await guest())["auth"]
        upload = await create(client, auth)
        async with db.transaction() as tx:
            await tx.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
            assert await services.uploads.expire_overdue(tx) == 1
        assert (await complete(client, auth, upload["id"])).status_code == 410
        assert await clean(services) == 1  # planned for after the grace time
        revived = await client.post(f"/v1/uploads/{upload['id']}/revive", headers=auth)
        assert (revived.status_code, revived.json()["state"]) == (200, "open")
        await send(client, auth, upload["id"])
        assert await clean(services) == 1
        assert (await complete(client, auth, upload["id"])).status_code == 202


def test_ids_of_assets_name_keys() -> None:
    asset = ids.encode("asset", uuid4())
    assert keys.original(asset).startswith(f"{asset}/")

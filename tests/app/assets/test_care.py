"""The care of photos over HTTP: trash and purge, the original, another run, readiness, likeness, flags, provenance."""

import asyncio
import hashlib
import os
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.assets import store
from app.assets.care import AssetCare
from app.assets.domain import AssetState, HoldKind
from app.assets.moderation import Looked
from app.assets.service import flagged
from app.handlers import appliers
from app.kernel import jobs
from app.services import Services
from app.uploads.planning import Clean
from base import ids, ingest
from base.ids import AssetId
from base.jobs import Outcome, Result, signed
from imagecore import recipe as recipes
from imagecore.findings import Analysis, Box
from tests.app.locks import WAITING, beside, until_waiting, without_waiting

Guest = Callable[[], Awaitable[dict[str, Any]]]
RECIPE = recipes.text(recipes.rung(200, "engine1"))
FIT = ingest.PrintFit(
    output="standard", width_um=152_000, height_um=102_000, ppi=490, lost=7, level="note", findings=("text-unknown",)
)
LIKE = 0xF0F0_F0F0_F0F0_F0F0


class Later:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class Strict:
    """A moderator with one opinion."""

    def __init__(self, reason: str | None) -> None:
        self.asked: list[str] = []
        self._reason = reason

    async def look(self, asset: str, sha256: str) -> Looked:
        self.asked.append(sha256)
        return Looked(reason=self._reason)


async def upload(client: httpx.AsyncClient, auth: dict[str, str], data: bytes) -> dict[str, Any]:
    """Send a file and complete its session."""
    body = {"bytes": len(data), "contentType": "image/jpeg", "sha256": hashlib.sha256(data).hexdigest()}
    made: dict[str, Any] = (
        await client.post("/v1/uploads", json=body, headers={**auth, "Idempotency-Key": uuid4().hex})
    ).json()
    part = (await client.post(f"/v1/uploads/{made['id']}/parts", headers=auth)).json()["parts"][0]
    async with httpx.AsyncClient() as storage:
        sent = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        assert (await storage.put(part["url"], content=data, headers=sent)).status_code == 200
    headers = {**auth, "Idempotency-Key": uuid4().hex}
    assert (await client.post(f"/v1/uploads/{made['id']}/complete", headers=headers)).status_code == 202
    return made


async def answer(
    services: Services, kind: str, asset: str, steps: list[tuple[str, msgspec.Struct]], refused: str | None = None
) -> None:
    """Answer the latest job of a kind as a pixel worker would."""
    async with services.db.transaction() as tx:
        sql = "SELECT id FROM jobs WHERE kind = $1 AND payload->>'asset' = $2 ORDER BY position DESC LIMIT 1"
        row = await jobs.lock(tx, await tx.value(sql, kind, asset))
    assert row is not None
    secret = services.settings.result_key.reveal()
    for index, (step, body) in enumerate(steps):
        result = Result(
            job_id=row.id,
            kind=kind,
            attempt=1,
            step=step,
            index=index,
            last=index == len(steps) - 1,
            outcome=Outcome.OK if refused is None else Outcome.REFUSED,
            reason=refused,
            ms=7,
            engine="engine1",
            body=msgspec.json.encode(body),
        )
        async with services.db.transaction() as tx:
            await jobs.apply(tx, secret, signed(secret, row.nonce, result), appliers(services))


async def ready(services: Services, client: httpx.AsyncClient, auth: dict[str, str], facts: bytes = b"{}") -> str:
    """A photo of 3000 x 2000 that went through ingest."""
    data = os.urandom(2000)
    asset: str = (await upload(client, auth, data))["assetId"]
    digest = hashlib.sha256(data).hexdigest()
    found = ingest.Validated(
        sha256=digest, bytes=2000, format="jpeg", width=3000, height=2000, notes=(), facts=msgspec.Raw(facts)
    )
    made = ingest.Rendition(recipe=RECIPE, extension="jpg", width=4, height=3, bytes=9, sha256=digest)
    shown = ingest.Previews(renditions=(made,), thumbhash="aGk=")
    await answer(
        services,
        ingest.KIND,
        asset,
        [("validate", found), ("first_previews", shown), ("previews", ingest.Previews(renditions=()))],
    )
    return asset


async def looked_at(services: Services, asset: str, bits: int, faces: tuple[Box, ...] = ()) -> None:
    seen = Analysis(revision=1, faces=faces, text=(), quality=None)
    body = ingest.Analysed(analysis=msgspec.Raw(msgspec.json.encode(seen)), fingerprint=bits, fingerprint_quality=80)
    await answer(services, ingest.ANALYSE, asset, [("analyse", body), ("readiness", ingest.Suited(prints=(FIT,)))])


async def told(services: Services, asset: str) -> list[str]:
    async with services.db.transaction(readonly=True) as tx:
        sql = "SELECT type FROM events WHERE aggregate_id = $1 ORDER BY seq"
        return [row["type"] for row in await tx.fetch(sql, ids.decode("asset", asset))]


async def trashed(services: Services, client: httpx.AsyncClient, auth: dict[str, str]) -> tuple[str, AssetCare]:
    """A photo whose time in the trash is over by the clock of whoever takes care of it."""
    asset = await ready(services, client, auth)
    assert (await client.delete(f"/v1/assets/{asset}", headers=auth)).status_code == 204
    clock = Later(services.clock.now() + timedelta(days=31))
    return asset, AssetCare(services.db, services.spine, services.sites, services.assets, clock)


class TestTrash:
    async def test_there_and_back(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        for _ in range(2):
            assert (await client.delete(f"/v1/assets/{asset}", headers=auth)).status_code == 204
        assert (await client.get("/v1/assets", headers=auth)).json()["assets"] == []
        (trashed,) = (await client.get("/v1/assets?trash=true", headers=auth)).json()["assets"]
        assert (trashed["id"], trashed["state"]) == (asset, "ready")
        assert trashed["trashedUntil"] is not None
        for _ in range(2):
            back = await client.post(f"/v1/assets/{asset}/restore", headers=auth)
            assert (back.status_code, back.json()["trashedUntil"]) == (200, None)
        assert len((await client.get("/v1/assets", headers=auth)).json()["assets"]) == 1
        assert (await told(services, asset))[-2:] == ["asset.trashed", "asset.restored"]

    async def test_emptied_when_its_time_is_over(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        await client.delete(f"/v1/assets/{asset}", headers=auth)
        clock = Later(services.clock.now() + timedelta(days=29))
        care = AssetCare(services.db, services.spine, services.sites, services.assets, clock)
        for days, count in ((0, 0), (2, 1), (0, 0)):
            clock.advance(timedelta(days=days))
            async with services.db.transaction() as tx:
                assert await care.empty_trash(tx) == count
        assert (await client.get(f"/v1/assets/{asset}", headers=auth)).status_code == 404
        async with services.db.transaction(readonly=True) as tx:
            assert await tx.value("SELECT state FROM assets") == AssetState.ERASED
            assert await tx.value("SELECT count(*) FROM asset_holds") == 0
            assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'asset.clean'") == 1

    async def test_for_good_at_once(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        assert (await client.delete(f"/v1/assets/{asset}?permanently=true", headers=auth)).status_code == 204
        assert (await client.delete(f"/v1/assets/{asset}", headers=auth)).status_code == 404
        assert (await client.post(f"/v1/assets/{asset}/restore", headers=auth)).status_code == 404

    async def test_restored_just_before_it_is_emptied(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset, care = await trashed(services, client, auth)

        async def empty() -> int:
            async with services.db.transaction() as tx:
                return await care.empty_trash(tx)

        async with services.db.transaction() as held:
            await store.lock(held, ids.decode("asset", asset))
            restoring = beside(client.post(f"/v1/assets/{asset}/restore", headers=auth))
            await until_waiting(held)
            emptying = beside(empty())
            while not emptying.done() and await held.value(WAITING) < 2:
                await asyncio.sleep(0.01)
        assert (await restoring).status_code == 200
        assert await emptying == 0
        assert (await client.get(f"/v1/assets/{asset}", headers=auth)).json()["trashedUntil"] is None

    async def test_restored_just_after_it_is_emptied(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset, care = await trashed(services, client, auth)
        async with services.db.transaction() as tx:
            assert await care.empty_trash(tx) == 1
            restoring = beside(client.post(f"/v1/assets/{asset}/restore", headers=auth))
            await until_waiting(tx)
        answer_ = await restoring
        assert (answer_.status_code, answer_.json()["code"]) == (404, "asset-not-found")


class TestOriginal:
    async def test_link_gives_the_bytes_that_were_sent(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth, data = (await guest())["auth"], os.urandom(5000)
        asset = (await upload(client, auth, data))["assetId"]
        link = (await client.post(f"/v1/assets/{asset}/original-link", headers=auth)).json()
        assert link["expiresInS"] <= 300
        async with httpx.AsyncClient() as storage:
            given = await storage.get(link["url"])
            assert given.content == data
            assert given.headers["content-disposition"] == f'attachment; filename="{asset}.bin"'
            assert (await storage.get(link["url"].replace("X-Amz-Expires=300", "X-Amz-Expires=900"))).status_code == 403

    async def test_gone(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth = (await guest())["auth"]
        asset = (await upload(client, auth, b"x" * 100))["assetId"]
        await services.store.delete(services.settings.buckets.originals, f"{asset}/original")
        answer_ = await client.post(f"/v1/assets/{asset}/original-link", headers=auth)
        assert (answer_.status_code, answer_.json()["code"]) == (410, "original-gone")


class TestAgain:
    async def test_planned_once_while_it_runs(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        for _ in range(2):
            headers = {**auth, "Idempotency-Key": uuid4().hex}
            assert (await client.post(f"/v1/assets/{asset}/processing", headers=headers)).status_code == 202
        async with services.db.transaction(readonly=True) as tx:
            states = await tx.fetch("SELECT state FROM jobs WHERE kind = 'asset.ingest' ORDER BY position")
        assert [row["state"] for row in states] == ["done", "queued"]

    async def test_answers_of_a_second_run_change_no_state(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        headers = {**auth, "Idempotency-Key": uuid4().hex}
        await client.post(f"/v1/assets/{asset}/processing", headers=headers)
        sha = (await client.get(f"/v1/assets/{asset}", headers=auth)).json()["sha256"]
        found = ingest.Validated(
            sha256=sha, bytes=2000, format="jpeg", width=3001, height=2000, notes=(), facts=msgspec.Raw(b"{}")
        )
        empty = ingest.Previews(renditions=())
        await answer(
            services, ingest.KIND, asset, [("validate", found), ("first_previews", empty), ("previews", empty)]
        )
        shown = (await client.get(f"/v1/assets/{asset}", headers=auth)).json()
        assert (shown["state"], shown["width"]) == ("ready", 3001)

    async def test_a_refusal_leaves_a_ready_photo_as_it_is(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        before = (await client.get(f"/v1/assets/{asset}", headers=auth)).json()
        headers = {**auth, "Idempotency-Key": uuid4().hex}
        await client.post(f"/v1/assets/{asset}/processing", headers=headers)
        await answer(
            services,
            ingest.KIND,
            asset,
            [("validate", ingest.Refused(sha256=None, bytes=2000))],
            refused="needs-too-much-time",
        )
        async with services.db.transaction(readonly=True) as tx:
            job = await tx.one(
                "SELECT state, outcome, last_reason FROM jobs WHERE kind = $1 AND attempt = 1 "
                "ORDER BY position DESC LIMIT 1",
                ingest.KIND,
            )
        assert job is not None
        assert tuple(job) == ("done", "refused", "needs-too-much-time")
        assert (await client.get(f"/v1/assets/{asset}", headers=auth)).json() == before
        assert (await told(services, asset))[-1] == "asset.ready"

    async def test_a_duplicate_is_refused(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth = (await guest())["auth"]
        first = await ready(services, client, auth)
        sha = (await client.get(f"/v1/assets/{first}", headers=auth)).json()["sha256"]
        again = (await upload(client, auth, b"y" * 100))["assetId"]
        found = ingest.Validated(
            sha256=sha, bytes=100, format="jpeg", width=1, height=1, notes=(), facts=msgspec.Raw(b"{}")
        )
        await answer(services, ingest.KIND, again, [("validate", found)])  # turns out to be the first one's twin
        headers = {**auth, "Idempotency-Key": uuid4().hex}
        answer_ = await client.post(f"/v1/assets/{again}/processing", headers=headers)
        assert (answer_.status_code, answer_.json()["code"]) == (409, "asset-not-processable")


class TestReadiness:
    @pytest.mark.parametrize(
        ("class_", "trim", "ppi", "printable"),
        [("standard", (150_000, 100_000), 488, True), ("poster", (900_000, 600_000), 83, True)],
    )
    async def test_numbers(
        self,
        client: httpx.AsyncClient,
        guest: Guest,
        services: Services,
        class_: str,
        trim: tuple[int, int],
        ppi: int,
        printable: bool,
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        for across, down in (trim, trim[::-1]):  # a print is turned to suit its photo
            query = {"class": class_, "widthUm": across, "heightUm": down}
            shown = (await client.get(f"/v1/assets/{asset}/readiness", params=query, headers=auth)).json()
            assert (shown["ppi"], shown["printable"], shown["analysed"]) == (ppi, printable, False)
            assert {"faces-unknown", "text-unknown"} <= {finding["code"] for finding in shown["findings"]}

    async def test_too_small_is_rejected_before_money(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        query = {"class": "standard", "widthUm": 900_000, "heightUm": 600_000}
        shown = (await client.get(f"/v1/assets/{asset}/readiness", params=query, headers=auth)).json()
        assert shown["printable"] is False
        assert ("low-resolution", "reject") in {(f["code"], f["level"]) for f in shown["findings"]}

    async def test_hdr_is_rejected_before_money(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth, b'{"transfer":"hlg"}')
        query = {"class": "standard", "widthUm": 150_000, "heightUm": 100_000}
        shown = (await client.get(f"/v1/assets/{asset}/readiness", params=query, headers=auth)).json()
        assert shown["printable"] is False
        assert ("hdr-not-printable", "reject") in {(f["code"], f["level"]) for f in shown["findings"]}

    async def test_what_was_seen_counts(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        query = {"class": "square", "widthUm": 200_000, "heightUm": 200_000}
        path = f"/v1/assets/{asset}/readiness"
        before = (await client.get(path, params=query, headers=auth)).json()
        await looked_at(services, asset, LIKE, (Box(8000, 4000, 9000, 6000),))
        after = (await client.get(path, params=query, headers=auth)).json()
        assert after["analysed"] is True
        assert before["part"]["x"] == 500  # the middle
        assert after["part"]["x"] > 700  # moved to the face
        assert (await told(services, asset))[-1] == "asset.analysed"

    async def test_not_validated_yet(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        asset = (await upload(client, auth, b"z" * 100))["assetId"]
        query = {"class": "standard", "widthUm": 150_000, "heightUm": 100_000}
        answer_ = await client.get(f"/v1/assets/{asset}/readiness", params=query, headers=auth)
        assert (answer_.status_code, answer_.json()["code"]) == (409, "asset-not-ready")


class TestAlike:
    async def test_advice_within_the_owner(self, client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
        auth, other = (await guest())["auth"], (await guest())["auth"]
        one, near, far = [await ready(services, client, auth) for _ in range(3)]
        foreign = await ready(services, client, other)
        await looked_at(services, one, LIKE)
        await looked_at(services, near, LIKE ^ 0b111)
        await looked_at(services, far, LIKE ^ 0xFFFF)
        await looked_at(services, foreign, LIKE)
        found = (await client.get(f"/v1/assets/{one}/alike", headers=auth)).json()["alike"]
        assert found == [{"assetId": near, "distance": 3}]
        assert (await client.get(f"/v1/assets/{foreign}/alike", headers=other)).json()["alike"] == []
        assert (await client.get(f"/v1/assets/{foreign}/alike", headers=auth)).status_code == 404
        await client.delete(f"/v1/assets/{near}?permanently=true", headers=auth)
        assert (await client.get(f"/v1/assets/{one}/alike", headers=auth)).json()["alike"] == []


class TestFlags:
    async def test_flagged_work_can_be_held_back(
        self, client: httpx.AsyncClient, guest: Guest, services: Services
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        asset_id = ids.decode("asset", asset)
        for _ in range(2):
            await services.care.flag(asset_id, "needs-a-look")
        assert (await client.get(f"/v1/assets/{asset}", headers=auth)).json()["flagged"] == "needs-a-look"
        async with services.db.transaction() as tx:
            (hold,) = await flagged(tx, [asset_id])
        assert (hold.kind, hold.reason) == (HoldKind.FLAGGED, "needs-a-look")
        await services.care.clear(asset_id)
        async with services.db.transaction() as tx:
            assert await flagged(tx, [asset_id]) == []
        assert (await told(services, asset))[-2:] == ["asset.flagged", "asset.cleared"]

    async def test_an_operator_flags_and_clears_at_the_command_line(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, env: dict[str, str]
    ) -> None:
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)

        async def run(*words: str) -> int:
            command = [Path(sysconfig.get_path("scripts")) / "tirage", "photos", *words]
            return (
                await asyncio.to_thread(subprocess.run, command, env={**env, "PATH": os.environ["PATH"]})
            ).returncode

        for words, code, reason in (
            (("flag", asset, "--reason", "Not a code"), 2, None),
            (("flag", asset, "--reason", "needs-a-look"), 0, "needs-a-look"),
            (("clear", asset), 0, None),
            (("clear", "ast_01m86bj0xee1ere2xz744049w7"), 1, None),
        ):
            assert await run(*words) == code
            assert (await client.get(f"/v1/assets/{asset}", headers=auth)).json()["flagged"] == reason

    @pytest.mark.parametrize("reason", [None, "nudity"])
    async def test_a_moderator_is_asked_once_it_was_looked_at(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, reason: str | None
    ) -> None:
        strict = Strict(reason)
        auth = (await guest())["auth"]
        asset = await ready(services, client, auth)
        quiet, services.care = (
            services.care,
            AssetCare(
                services.db,
                services.spine,
                services.sites,
                services.assets,
                services.clock,
                strict,
            ),
        )
        try:
            await looked_at(services, asset, LIKE)
            async with services.db.transaction(readonly=True) as tx:
                assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'asset.moderate'") == 1
            await services.care.moderate(ingest.Analyse(asset=asset, engine="engine1"))
        finally:
            services.care = quiet
        shown = (await client.get(f"/v1/assets/{asset}", headers=auth)).json()
        assert shown["flagged"] == reason
        assert shown["sha256"] in strict.asked


async def test_what_it_can_be_printed_as(client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
    auth = (await guest())["auth"]
    asset = await ready(services, client, auth)
    early = await client.get(f"/v1/assets/{asset}/prints", headers=auth)
    assert (early.status_code, early.json()["code"]) == (409, "asset-not-ready")
    await looked_at(services, asset, LIKE)
    (found,) = (await client.get(f"/v1/assets/{asset}/prints", headers=auth)).json()["prints"]
    assert (found["output"], found["ppi"], found["level"], found["findings"]) == (
        *("standard", 490, "note"),
        ["text-unknown"],
    )
    assert (await told(services, asset))[-1] == "asset.analysed"


async def test_a_lighter_stand_in_is_said_so_until_the_wanted_one_is_there(
    client: httpx.AsyncClient, guest: Guest, services: Services
) -> None:
    auth = (await guest())["auth"]
    asset = await ready(services, client, auth)

    def made(side: int, *, lighter: bool) -> ingest.Previews:
        wanted = recipes.rung(side, "engine1")
        recipe = recipes.text(recipes.fallback(wanted) if lighter else wanted)
        one = ingest.Rendition(recipe=recipe, extension="jpg", width=side, height=3, bytes=9, sha256="5e" * 32)
        return ingest.Previews(renditions=(one,))

    async def shown() -> tuple[list[str], list[tuple[int, bool, str]]]:
        notes = (await client.get(f"/v1/assets/{asset}", headers=auth)).json()["notes"]
        wanted = {"assetIds": [asset], "sides": [400, 1600]}
        (image,) = (await client.post("/v1/images", json=wanted, headers=auth)).json()["images"]
        return notes, [(v["side"], v["fallback"], v["url"].split("/")[-2].split("_")[1]) for v in image["variants"]]

    assert await shown() == ([], [(400, False, "preview"), (1600, False, "preview")])
    found = ingest.Validated(
        sha256="5e" * 32, bytes=2000, format="jpeg", width=3000, height=2000, notes=(), facts=msgspec.Raw(b"{}")
    )
    for lighter in (True, False):
        again = await client.post(f"/v1/assets/{asset}/processing", headers={**auth, "Idempotency-Key": uuid4().hex})
        assert again.status_code == 202
        first = made(400, lighter=False)
        steps = [("validate", found), ("first_previews", first), ("previews", made(1600, lighter=lighter))]
        await answer(services, ingest.KIND, asset, steps)
        kind = "fallback" if lighter else "preview"
        assert await shown() == (["fallback-1600"] if lighter else [], [(400, False, "preview"), (1600, lighter, kind)])


async def test_provenance(client: httpx.AsyncClient, guest: Guest, services: Services) -> None:
    auth = (await guest())["auth"]
    asset = await ready(services, client, auth)
    await looked_at(services, asset, LIKE)
    shown = (await client.get(f"/v1/assets/{asset}/provenance", headers=auth)).json()
    ingest_steps = ["validate", "first_previews", "previews"]
    assert shown["uploadId"].startswith("upl_")
    assert [step["step"] for step in shown["steps"]] == [*ingest_steps, "analyse", "readiness"]
    assert {(step["attempt"], step["outcome"], step["ms"], step["engine"]) for step in shown["steps"]} == {
        (1, "ok", 7, "engine1")
    }
    assert [preview["recipe"] for preview in shown["previews"]] == [RECIPE]
    assert {kind["name"] for kind in shown["artifacts"]} == {"original", "ancestor", "preview", "master"}


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("DELETE", ""),
        ("POST", "/restore"),
        ("POST", "/original-link"),
        ("POST", "/processing"),
        ("GET", "/readiness?class=standard&widthUm=150000&heightUm=100000"),
        ("GET", "/alike"),
        ("DELETE", "?permanently=true"),
        ("GET", "/prints"),
        ("GET", "/provenance"),
    ],
)
async def test_somebody_elses_photo_is_not_there(
    client: httpx.AsyncClient, guest: Guest, services: Services, method: str, tail: str
) -> None:
    mine, other = (await guest())["auth"], (await guest())["auth"]
    asset = await ready(services, client, mine)
    headers = {**other, "Idempotency-Key": uuid4().hex}
    async with services.db.transaction() as tx:  # as while its owner, or a worker's answer, does something to it
        await store.lock(tx, ids.decode("asset", asset))
        answer_ = await without_waiting(tx, client.request(method, f"/v1/assets/{asset}{tail}", headers=headers))
    assert (answer_.status_code, answer_.json()["code"]) == (404, "asset-not-found")


async def test_what_was_seen_on_an_erased_photo_goes_as_well(
    services: Services, client: httpx.AsyncClient, guest: Guest
) -> None:
    """The worker stores it before it answers, and the removal after the erasure may have run already."""
    me = (await guest())["auth"]
    asset = await ready(services, client, me)
    bucket, key = services.settings.buckets.ancestors, f"{asset}/engine/analysis-1.json"
    removed = await client.delete(f"/v1/assets/{asset}", params={"permanently": "true"}, headers=me)
    assert removed.status_code == 204
    wanted = Clean(asset_id=AssetId(ids.decode("asset", asset)))
    await services.uploads.clean(wanted)
    await services.store.put(bucket, key, b"{}", "application/json")
    await looked_at(services, asset, 1)
    async with services.db.transaction(readonly=True) as tx:
        rows = await tx.fetch("SELECT dedupe_key FROM jobs WHERE kind = 'asset.clean' AND dedupe_key LIKE '%.late:%'")
        kept = await tx.value("SELECT count(*) FROM assets WHERE id = $1 AND analysis IS NOT NULL", wanted.asset_id)
    assert [row["dedupe_key"].rpartition(":")[2] for row in rows] == ["analyse", "readiness"]
    assert kept == 0
    await services.uploads.clean(wanted)
    assert await services.store.list_keys(bucket, f"{asset}/") == []

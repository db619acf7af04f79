"""Drafts as apps use them: versions, checks, previews, and states that follow what happens to photos."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.assets import store as asset_store
from app.assets.domain import (
    AssetDuplicateFound,
    AssetErased,
    AssetPreviewReady,
    AssetReady,
    AssetRejected,
    AssetState,
    Brought,
    Found,
)
from app.drafts import store as draft_store
from app.drafts.domain import MOST_COPIES, DraftState, digest_of
from app.drafts.errors import DraftClosed, DraftNotReady, QuoteStale
from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.kernel.db import Database
from app.kernel.events import Origin
from app.services import Services
from base import ids
from base.ids import AssetId, OwnerId, UploadId, new_id
from base.ingest import Analysed
from imagecore import engine
from imagecore.findings import Analysis, Box
from imagecore.recipe import parse
from tests.app.conftest import Guest
from tests.app.locks import without_waiting

SYSTEM = Origin(actor="system")
SKU = "photo-10x15-standard"


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


class Shop:
    """One guest with photos in any state, and calls on drafts."""

    def __init__(self, client: httpx.AsyncClient, services: Services, grant: dict[str, Any]) -> None:
        self.client, self.services, self.auth = client, services, grant["auth"]
        self.owner = OwnerId(ids.decode("owner", grant["ownerId"]))

    async def photo(
        self, *states: AssetState, size: tuple[int, int] = (3000, 4500), facts: bytes = b"{}", **analysis: Any
    ) -> str:
        """A photo that went through these states; its id."""
        asset_id = AssetId(new_id())
        async with self.services.db.transaction() as tx:
            brought = Brought(upload_id=UploadId(new_id()), region="home", bytes=5, declared_type="image/jpeg")
            await self.services.assets.create(tx, asset_id, self.owner, brought)
            if states:
                found = Found(
                    sha256=uuid4().hex * 2,
                    format="jpeg",
                    width=size[0],
                    height=size[1],
                    notes=(),
                    engine=engine.revision(),
                    facts=facts,
                )
                await asset_store.save_found(tx, asset_id, found)
            if analysis:
                raw = msgspec.Raw(msgspec.json.encode(analysis_of(**analysis)))
                seen = Analysed(analysis=raw, fingerprint=1, fingerprint_quality=1)
                await asset_store.save_analysis(tx, asset_id, seen)
        for state in states:
            await self.move(ids.encode("asset", asset_id), state)
        return ids.encode("asset", asset_id)

    async def ready(self, **more: Any) -> str:
        return await self.photo(AssetState.PREVIEW_READY, AssetState.READY, **more)

    async def move(self, asset: str, state: AssetState, first: str | None = None) -> None:
        """What a worker's answer, or the owner, does to a photo."""
        asset_id = AssetId(ids.decode("asset", asset))
        async with self.services.db.transaction() as tx:
            found = await asset_store.lock(tx, asset_id)
            assert found is not None
            told: Any = {
                AssetState.PREVIEW_READY: lambda: AssetPreviewReady(asset_id=asset_id),
                AssetState.READY: lambda: AssetReady(asset_id=asset_id),
                AssetState.REJECTED: lambda: AssetRejected(asset_id=asset_id, reason="unusable"),
                AssetState.ERASED: lambda: AssetErased(asset_id=asset_id),
                AssetState.DUPLICATE: lambda: AssetDuplicateFound(
                    asset_id=asset_id, first_id=AssetId(ids.decode("asset", first or ""))
                ),
            }[state]()
            if first:
                await asset_store.save_duplicate(tx, asset_id, AssetId(ids.decode("asset", first)))
            await asset_store.transition(tx, self.services.spine, found, state, told, SYSTEM)

    async def work(self) -> int:
        """Run every planned look at drafts, as a record worker does; how many there were."""
        async with self.services.db.transaction() as tx:
            found = await tx.fetch("SELECT id FROM jobs WHERE kind = 'drafts.review' AND state = 'queued'")
            rows = [await jobs.lock(tx, row["id"]) for row in found]
        for row in rows:
            assert row is not None
            attempt = Attempt(row)
            await HANDLERS["drafts.review"](self.services, attempt)
            assert attempt.finished
        return len(rows)

    async def call(self, method: str, path: str, expected: int, body: Any = None, **headers: str) -> Any:
        given = {**self.auth, **(key() if method == "POST" else {}), **headers}
        answer = await self.client.request(method, path, json=body, headers=given)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    async def draft(self, *items: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = await self.call("POST", "/v1/drafts", 201, {"items": list(items)})
        return made

    async def state(self, draft: str) -> str:
        return str((await self.call("GET", f"/v1/drafts/{draft}", 200))["state"])

    async def codes(self, draft: str) -> dict[str, str]:
        found = await self.call("GET", f"/v1/drafts/{draft}/checks", 200)
        return {check["code"]: check["severity"] for item in found["items"] for check in item["checks"]}


def analysis_of(**fields: Any) -> Analysis:
    return Analysis(**{"revision": 1, "faces": (), "text": (), "quality": None, **fields})


def item(asset: str, **more: Any) -> dict[str, Any]:
    return {"assetId": asset, "sku": SKU, **more}


@pytest.fixture
async def shop(client: httpx.AsyncClient, guest: Guest, services: Services) -> Shop:
    return Shop(client, services, await guest())


class TestVersions:
    async def test_a_change_names_the_version_it_changes(self, shop: Shop) -> None:
        photo = await shop.ready()
        draft = await shop.draft(item(photo, copies=2, giftNote="For Ada"))
        assert (draft["state"], draft["version"]) == ("ready_for_checkout", 1)
        path, kept = f"/v1/drafts/{draft['id']}", draft["items"][0]["id"]
        body = {"items": [item(photo, id=kept, copies=3), item(photo, paper="gloss")]}
        assert (await shop.call("PATCH", path, 400, body))["code"] == "version-missing"
        for stale in ('"2"', "2", "*", '"x"'):
            assert (await shop.call("PATCH", path, 412, body, **{"If-Match": stale}))["code"] == "version-moved"
        answer = await shop.client.patch(path, json=body, headers={**shop.auth, "If-Match": '"1"'})
        changed = answer.json()
        assert (answer.status_code, answer.headers["etag"], changed["version"]) == (200, '"2"', 2)
        assert [i["copies"] for i in changed["items"]] == [3, 1]
        assert [i["giftNote"] for i in changed["items"]] == [None, None]
        assert changed["items"][0]["id"] == kept
        assert (await shop.call("GET", path, 200)) == changed

    async def test_of_many_changes_at_once_one_wins(self, shop: Shop) -> None:
        photo = await shop.ready()
        draft = await shop.draft(item(photo))
        bodies = [{"items": [item(photo, copies=n)]} for n in range(1, 9)]
        answers = await asyncio.gather(
            *(
                shop.client.patch(f"/v1/drafts/{draft['id']}", json=b, headers={**shop.auth, "If-Match": '"1"'})
                for b in bodies
            )
        )
        assert sorted(a.status_code for a in answers) == [200] + [412] * 7

    async def test_a_lost_answer_makes_one_draft(self, shop: Shop, db: Database) -> None:
        body, once = {"items": [item(await shop.ready())]}, key()
        answers = [await shop.client.post("/v1/drafts", json=body, headers={**shop.auth, **once}) for _ in range(3)]
        assert {a.content for a in answers} == {answers[0].content}
        async with db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM drafts") == 1

    async def test_bounds(self, shop: Shop) -> None:
        photo = await shop.ready()
        for more in ({"copies": 0}, {"copies": MOST_COPIES + 1}, {"giftNote": "x" * 301}, {"giftNote": ""},
                     {"borderUm": 50_001}, {"focal": {"x": 10_001, "y": 0}}, {"crop": {"x": 0}}):  # fmt: skip
            await shop.call("POST", "/v1/drafts", 422, {"items": [item(photo, **more)]})
        await shop.call("POST", "/v1/drafts", 422, {"items": [item(photo)] * 201})
        many = await shop.call("POST", "/v1/drafts", 409, {"items": [item(photo, copies=500)] * 5})
        assert many["code"] == "too-many-copies"
        unknown = await shop.call("POST", "/v1/drafts", 404, {"items": [{"assetId": photo, "sku": "x"}]})
        assert unknown["code"] == "variant-unknown"
        other = await shop.draft(item(photo))
        foreign = {"items": [item(photo, id=other["items"][0]["id"])]}
        assert (await shop.call("POST", "/v1/drafts", 404, foreign))["code"] == "item-unknown"

    async def test_others_see_nothing(self, shop: Shop, client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
        photo = await shop.ready()
        draft = await shop.draft(item(photo))
        other = Shop(client, shop.services, await guest())
        path = f"/v1/drafts/{draft['id']}"
        for method, at, body in (
            ("GET", path, None),
            ("GET", path + "/checks", None),
            ("POST", path + "/preview", {}),
            ("DELETE", path, None),
            ("PATCH", path, {"items": []}),
        ):
            async with db.transaction() as tx:
                await draft_store.lock(tx, ids.decode("draft", draft["id"]))
                answer = await without_waiting(tx, other.call(method, at, 404, body))
            assert answer["code"] == "draft-not-found"
        assert (await other.call("POST", "/v1/drafts", 404, {"items": [item(photo)]}))["code"] == "asset-not-found"

    async def test_given_up_it_is_gone(self, shop: Shop) -> None:
        draft = await shop.draft()
        assert draft["state"] == "editing"
        await shop.call("DELETE", f"/v1/drafts/{draft['id']}", 204)
        await shop.call("GET", f"/v1/drafts/{draft['id']}", 404)


class TestPhotos:
    """`ready_for_checkout` is reached and lost by events."""

    async def test_reached_when_the_last_photo_is_ready(self, shop: Shop) -> None:
        done, coming = await shop.ready(), await shop.photo()
        draft = (await shop.draft(item(done), item(coming)))["id"]
        assert await shop.state(draft) == "editing"
        assert (await shop.codes(draft))["photo-processing"] == "wait"
        async with shop.services.db.transaction() as tx:
            found = Found(sha256="1" * 64, format="jpeg", width=3000, height=2000, notes=(), engine="x", facts=b"{}")
            await asset_store.save_found(tx, AssetId(ids.decode("asset", coming)), found)
        await shop.move(coming, AssetState.PREVIEW_READY)
        assert await shop.work() == 0
        await shop.move(coming, AssetState.READY)
        assert await shop.work() == 1
        assert await shop.state(draft) == "ready_for_checkout"

    @pytest.mark.parametrize(
        ("end", "code"), [(AssetState.ERASED, "photo-gone"), (AssetState.REJECTED, "photo-rejected")]
    )
    async def test_lost_when_a_photo_goes(self, shop: Shop, end: AssetState, code: str) -> None:
        states = (AssetState.PREVIEW_READY, AssetState.READY) if end is AssetState.ERASED else ()
        photo = await shop.photo(*states)
        draft = (await shop.draft(item(photo)))["id"]
        await shop.move(photo, end)
        assert await shop.work() == 1
        assert await shop.state(draft) == "editing"
        assert (await shop.codes(draft))[code] == "reject"

    @pytest.mark.parametrize(
        ("does", "undoes", "code", "severity"),
        [("trash", "restore", "photo-in-trash", "reject"), ("flag", "clear", "photo-held", "wait")],
    )
    async def test_lost_while_a_photo_is_held(
        self, shop: Shop, does: str, undoes: str, code: str, severity: str
    ) -> None:
        photo = await shop.ready()
        draft = (await shop.draft(item(photo)))["id"]
        asset_id, care = ids.decode("asset", photo), shop.services.care
        await (care.trash(shop.owner, asset_id) if does == "trash" else care.flag(asset_id, "asked"))
        assert await shop.work() == 1
        assert await shop.state(draft) == "editing"
        assert (await shop.codes(draft))[code] == severity
        await (care.restore(shop.owner, asset_id) if undoes == "restore" else care.clear(asset_id))
        assert await shop.work() == 1
        assert await shop.state(draft) == "ready_for_checkout"

    async def test_a_duplicate_gives_way_to_the_first(self, shop: Shop) -> None:
        first, again = await shop.ready(), await shop.photo()
        draft = await shop.draft(item(again, giftNote="hello"))
        await shop.move(again, AssetState.DUPLICATE, first)
        assert await shop.work() == 1
        now = await shop.call("GET", f"/v1/drafts/{draft['id']}", 200)
        assert (now["state"], now["version"]) == ("ready_for_checkout", 2)
        assert (now["items"][0]["assetId"], now["items"][0]["giftNote"]) == (first, "hello")

    async def test_becoming_ready_while_a_draft_is_written_is_not_missed(self, shop: Shop) -> None:
        photos = [await shop.photo(AssetState.PREVIEW_READY) for _ in range(6)]
        moves = [shop.move(photo, AssetState.READY) for photo in photos]
        drafts = [shop.draft(item(photo)) for photo in photos]
        made = await asyncio.gather(*(each for pair in zip(drafts, moves, strict=True) for each in pair))
        await shop.work()
        states = [await shop.state(one["id"]) for one in made if one]
        assert states == ["ready_for_checkout"] * 6


class TestChecks:
    async def test_codes_and_severities(self, shop: Shop) -> None:
        face, lines = (
            Box(3000, 100, 6000, 1500),
            tuple(Box(100, 9000 + 300 * n, 9900, 9250 + 300 * n) for n in range(3)),
        )
        small = await shop.ready(size=(200, 1000))
        portrait = await shop.ready(size=(2000, 3000), faces=(face,), text=lines)
        gone = {"crop": {"x": 0, "y": 1200, "width": 2000, "height": 1400}}
        cases: list[tuple[dict[str, Any], dict[str, str]]] = [
            (item(small), {"low-resolution": "reject", "extreme-aspect": "soft", "crop-loss": "strong"}),
            (item(portrait, orientation="landscape", focal={"x": 5000, "y": 5000}), {"face-left-out": "soft"}),
            (item(portrait, crop={"x": 0, "y": 150, "width": 2000, "height": 2850}), {"face-cut": "strong"}),
            (item(portrait, crop={"x": 0, "y": 0, "width": 2000, "height": 2900}), {"text-cut": "strong"}),
            (item(portrait, **gone), {"face-left-out": "soft"}),
            (item(portrait, crop={"x": 1, "y": 0, "width": 2000, "height": 100}), {"crop-outside": "reject"}),
            (item(portrait, borderUm=40_000), {"border-too-wide": "reject"}),
            (item(portrait, paper="papyrus"), {"paper-not-offered": "reject"}),
        ]
        for wanted, expected in cases:
            draft = (await shop.draft(wanted))["id"]
            found = await shop.codes(draft)
            assert expected.items() <= found.items(), (wanted, found)
            stops = {"reject", "wait"} & set(found.values())
            assert await shop.state(draft) == ("editing" if stops else "ready_for_checkout")

    async def test_what_was_not_looked_at_is_unknown_not_fine(self, shop: Shop) -> None:
        draft = (await shop.draft(item(await shop.ready())))["id"]
        assert {"faces-unknown", "text-unknown", "quality-unknown"} <= set(await shop.codes(draft))

    async def test_a_suggestion_keeps_the_face_and_is_not_used(self, shop: Shop) -> None:
        photo = await shop.ready(size=(2000, 3000), faces=(Box(3000, 200, 6000, 1800),))
        draft = (await shop.draft(item(photo, orientation="landscape")))["id"]
        found = (await shop.call("GET", f"/v1/drafts/{draft}/checks", 200))["items"][0]
        best = found["suggestion"]
        assert best["keepsFaces"]
        assert best["crop"]["y"] == 0
        assert (await shop.call("GET", f"/v1/drafts/{draft}", 200))["items"][0]["crop"] is None
        crop = {"crop": best["crop"]}
        better = (await shop.draft(item(photo, orientation="landscape", **crop)))["id"]
        assert not {"face-cut", "face-left-out"} & set(await shop.codes(better))


class TestPreview:
    @pytest.mark.parametrize("fit", ["cover", "whole"])
    @pytest.mark.parametrize("border", [0, 5_000])
    async def test_it_shows_what_is_left_after_cutting(self, shop: Shop, fit: str, border: int) -> None:
        photo = await shop.ready(size=(4000, 3000))
        draft = (await shop.draft(item(photo, fit=fit, borderUm=border)))["id"]
        shown = await shop.call("POST", f"/v1/drafts/{draft}/preview", 200, {"side": 800, "proof": True})
        one = shown["items"][0]
        assert (one["paperWidth"], one["paperHeight"]) == (800, 537)
        recipe = parse(one["url"].split("/")[7])
        assert (recipe.class_, recipe.chroma) == ("proof", "444")
        placed = one["placed"]
        assert (recipe.width, recipe.height) == (placed["width"], placed["height"])
        assert recipe.crop is not None
        lies_free = fit == "whole" or border > 0
        assert ((placed["width"], placed["height"]) == (800, 537)) != lies_free
        if fit == "whole":
            assert (recipe.crop.width, recipe.crop.height) == (4000, 3000)
        # The picture keeps its shape, to a pixel.
        assert abs(recipe.crop.width * recipe.height - recipe.crop.height * recipe.width) <= 3 * max(
            recipe.crop.width, 1
        )

    @pytest.mark.parametrize(
        ("sku", "asked", "proof", "white"),
        [
            ("photo-10x15-standard", {"proof": True, "paperWhite": True}, "srgb", False),
            ("photo-a3-poster", {"proof": True}, "fogra39", False),
            ("photo-a3-poster", {"proof": True, "paperWhite": True}, "fogra39", True),
            ("art-a4-matte", {"proof": True, "paperWhite": True}, "fogra39", True),
            ("photo-a3-poster", {"proof": False, "paperWhite": True}, None, False),
        ],
    )
    async def test_a_proof_goes_through_the_class_s_printing(
        self, shop: Shop, sku: str, asked: dict[str, bool], proof: str | None, white: bool
    ) -> None:
        draft = (await shop.draft(item(await shop.ready(), sku=sku)))["id"]
        shown = await shop.call("POST", f"/v1/drafts/{draft}/preview", 200, {"side": 400, **asked})
        recipe = parse(shown["items"][0]["url"].split("/")[7])
        assert (recipe.proof, recipe.white) == (proof, white)
        told = shown["items"][0]
        assert (told["proof"], told["proofDeclared"]) == (proof, False if proof else None)  # no printer has said

    async def test_what_cannot_be_shown_says_why(self, shop: Shop) -> None:
        coming, done = await shop.photo(), await shop.ready()
        outside = {"crop": {"x": 9000, "y": 0, "width": 5, "height": 5}}
        draft = (await shop.draft(item(coming), item(done, **outside), item(done)))["id"]
        shown = await shop.call("POST", f"/v1/drafts/{draft}/preview", 200, {})
        assert [one["reason"] for one in shown["items"]] == ["not-viewable", "not-placed", None]
        assert [one["url"] is None for one in shown["items"]] == [True, True, False]


class TestOrders:
    """What the order slice calls."""

    async def test_frozen_it_is_final_and_released_it_is_not(self, shop: Shop) -> None:
        photo = await shop.ready(size=(4000, 3000))
        draft = await shop.draft(
            item(photo, copies=2, giftNote="For Ada", crop={"x": 10, "y": 0, "width": 3000, "height": 2000})
        )
        draft_id, drafts = ids.decode("draft", draft["id"]), shop.services.drafts
        async with shop.services.db.transaction() as tx:
            with pytest.raises(QuoteStale):
                await drafts.freeze(tx, shop.owner, draft_id, 2)
        async with shop.services.db.transaction() as tx:
            frozen = await drafts.freeze(tx, shop.owner, draft_id, 1)
            notes = await drafts.gift_notes(tx, draft_id)
        assert frozen.digest == digest_of(frozen.items)
        one = frozen.items[0]
        assert (one.part, one.trim_um, one.has_gift_note) == ((10, 0, 3000, 2000), (152_000, 102_000), True)
        assert list(notes.values()) == ["For Ada"]
        assert "Ada" not in msgspec.json.encode(frozen).decode()
        path = f"/v1/drafts/{draft['id']}"
        assert (await shop.call("PATCH", path, 409, {"items": []}, **{"If-Match": '"1"'}))["code"] == "draft-closed"
        assert (await shop.call("DELETE", path, 409))["code"] == "draft-closed"
        async with shop.services.db.transaction() as tx:
            with pytest.raises(DraftClosed):
                await drafts.freeze(tx, shop.owner, draft_id, 1)
        for _ in range(2):
            async with shop.services.db.transaction() as tx:
                await drafts.release(tx, draft_id)
        assert await shop.state(draft["id"]) == "ready_for_checkout"

    async def test_a_change_that_was_first_makes_the_version_stale(self, shop: Shop, db: Database) -> None:
        """Freezing waits for it, and does not take the items that it had seen before."""
        draft = await shop.draft(item(await shop.ready()))
        draft_id, drafts = ids.decode("draft", draft["id"]), shop.services.drafts

        locked = asyncio.Event()

        async def freeze() -> None:
            await locked.wait()
            async with shop.services.db.transaction() as tx:
                await drafts.freeze(tx, shop.owner, draft_id, 1)

        freezing = asyncio.create_task(freeze())
        async with db.transaction() as tx:
            await draft_store.lock(tx, draft_id)
            locked.set()
            while not await tx.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
            await draft_store.replace_items(tx, draft_id, [])
        with pytest.raises(QuoteStale):
            await freezing

    @pytest.mark.parametrize("transfer", ["pq", "hlg"])
    async def test_hdr_comes_to_no_checkout(self, shop: Shop, transfer: str) -> None:
        """Whether anybody has looked at it or not: its master would be refused."""
        facts = msgspec.json.encode({"transfer": transfer})
        for seen in ({}, {"faces": ()}):
            draft = await shop.draft(item(await shop.ready(facts=facts, **seen)))
            assert (await shop.codes(draft["id"]))["hdr-not-printable"] == "reject"
            assert await shop.state(draft["id"]) == "editing"
            async with shop.services.db.transaction() as tx:
                with pytest.raises(DraftNotReady):
                    await shop.services.drafts.freeze(tx, shop.owner, ids.decode("draft", draft["id"]), 1)

    async def test_what_is_not_ready_cannot_be_frozen(self, shop: Shop) -> None:
        draft = await shop.draft(item(await shop.photo()))
        async with shop.services.db.transaction() as tx:
            with pytest.raises(DraftNotReady):
                await shop.services.drafts.freeze(tx, shop.owner, ids.decode("draft", draft["id"]), 1)

    async def test_gift_notes_are_sealed_and_in_no_event(self, shop: Shop, db: Database) -> None:
        await shop.draft(item(await shop.ready(), giftNote="MARKED-7f3a"))
        async with db.transaction() as tx:
            for row in await tx.fetch("SELECT gift_note FROM draft_items"):
                assert b"MARKED" not in row["gift_note"]
            assert await tx.value("SELECT count(*) FROM events WHERE data::text LIKE '%MARKED%'") == 0

    async def test_erased_people_leave_no_draft(self, shop: Shop, db: Database) -> None:
        await shop.draft(item(await shop.ready(), giftNote="MARKED-7f3a"))
        await shop.call("DELETE", "/v1/me", 200)
        async with db.transaction() as tx:
            assert await tx.value("SELECT state FROM drafts") == DraftState.ABANDONED.value
            assert await tx.value("SELECT count(*) FROM person_keys") == 0

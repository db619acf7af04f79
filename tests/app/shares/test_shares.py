"""Shares and public pictures: from a call to a real edge, and back to its receipt."""

import hashlib
import os
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.delivery.denials import Denials
from app.kernel.access import AccessTokens
from app.services import Services
from base import ids, ingest, keys
from base.clock import SystemClock
from base.edges import EdgeClient
from base.settings import Reader
from imagecore import recipe as recipes
from imagecore.signing import Lifetime
from tests.app.assets.test_care import answer, upload
from tests.app.conftest import Guest

ENGINE = "engine1"
DATA = bytes(range(256)) * 40


async def ready(services: Services, client: httpx.AsyncClient, auth: dict[str, str], rungs: Any = recipes.RUNGS) -> str:
    """A photo of 3000 x 2000 whose ladder is stored."""
    data = os.urandom(2000)
    asset: str = (await upload(client, auth, data))["assetId"]
    digest = hashlib.sha256(data).hexdigest()
    found = ingest.Validated(
        sha256=digest, bytes=2000, format="jpeg", width=3000, height=2000, notes=(), facts=msgspec.Raw(b"{}")
    )
    made = tuple(
        ingest.Rendition(
            recipe=recipes.text(recipes.rung(side, ENGINE)),
            extension="jpg",
            width=side,
            height=(2 * side + 1) // 3,
            bytes=9,
            sha256=digest,
        )
        for side in rungs
    )
    first, rest = ingest.Previews(renditions=made[:2], thumbhash="aGk="), ingest.Previews(renditions=made[2:])
    await answer(services, ingest.KIND, asset, [("validate", found), ("first_previews", first), ("previews", rest)])
    return asset


async def share(client: httpx.AsyncClient, auth: dict[str, str], *assets: str, key: str | None = None) -> Any:
    headers = {**auth, "Idempotency-Key": key or uuid4().hex}
    return await client.post("/v1/shares", json={"assetIds": list(assets)}, headers=headers)


@pytest.fixture
def operator(env: dict[str, str]) -> dict[str, str]:
    tokens = AccessTokens(Reader(env).keys("TIRAGE_TOKEN_KEYS"), SystemClock())
    return {"Authorization": "Bearer " + tokens.operator("op:kim", timedelta(hours=1))[0]}


class AtEdge:
    """One edge of this home, which pushes and tells it."""

    def __init__(self, services: Services, edge: Any) -> None:
        self.edge = edge
        self._pushing = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PUSH_KEYS"))
        client = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PURGE_KEYS"))
        self.denials = Denials(services.db, services.spine, {edge.url: client})

    async def push(self, asset: str, side: int = 400) -> None:
        assert await self._pushing.push(asset, recipes.text(recipes.rung(side, ENGINE)), "jpg", DATA)

    def status(self, url: str) -> int:
        """What this edge says to a path that was minted for the stack's own."""
        return httpx.get(self.edge.url + httpx.URL(url).raw_path.decode()).status_code


@pytest.fixture(scope="module")
def edge(start: Any) -> Any:
    return start("edge")


@pytest.fixture
def at_edge(services: Services, edge: Any) -> AtEdge:
    return AtEdge(services, edge)


class TestShares:
    async def test_from_a_share_to_the_edge_and_its_end(
        self, services: Services, client: httpx.AsyncClient, guest: Guest, at_edge: AtEdge
    ) -> None:
        me = (await guest())["auth"]
        asset = await ready(services, client, me)
        await at_edge.push(asset)
        made = (await share(client, me, asset, asset)).json()
        assert (made["assetIds"], made["revokedAt"]) == ([asset], None)
        opened = (await client.get(f"/v1/shares/{made['id']}", headers=me)).json()
        (photo,) = opened["photos"]
        assert [(v["side"], v["width"], v["height"]) for v in photo["variants"]] == [
            *((200, 200, 133), (400, 400, 267), (800, 800, 533))
        ]
        url = photo["variants"][1]["url"]
        assert "/s/" in url
        assert made["id"] in url
        assert at_edge.status(url) == 503  # this edge was not told yet what is revoked
        await at_edge.denials.tell()
        assert at_edge.status(url) == 200
        for _ in range(2):
            assert (await client.delete(f"/v1/shares/{made['id']}", headers=me)).status_code == 204
        await at_edge.denials.tell()
        assert at_edge.status(url) == 410
        ended = (await client.get(f"/v1/shares/{made['id']}", headers=me)).json()
        assert ended["photos"] == []
        assert [one["node"] for one in ended["receipts"]] == [at_edge.edge.url.removeprefix("http://")]
        async with services.db.transaction(readonly=True) as tx:
            told = await tx.fetch("SELECT type FROM events WHERE aggregate_id = $1", ids.decode("share", made["id"]))
            assert [row["type"] for row in told] == ["share.created", "share.revoked"]
            assert await tx.value("SELECT count(*) FROM jobs WHERE kind = 'edges.purge'") == 1

    async def test_only_ones_own_and_what_can_be_seen(
        self, services: Services, client: httpx.AsyncClient, guest: Guest
    ) -> None:
        me, other = (await guest())["auth"], (await guest())["auth"]
        mine, theirs = await ready(services, client, me), await ready(services, client, other)
        waiting = (await upload(client, me, os.urandom(100)))["assetId"]
        assert (await share(client, me, mine, theirs)).status_code == 404
        made = (await share(client, me, mine, waiting)).json()
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"/v1/shares/{made['id']}", headers=other)
            assert (answer.status_code, answer.json()["code"]) == (404, "share-not-found")

        async def shown() -> list[str]:
            opened = (await client.get(f"/v1/shares/{made['id']}", headers=me)).json()
            return [photo["assetId"] for photo in opened["photos"]]

        assert await shown() == [mine]
        await client.delete(f"/v1/assets/{mine}", headers=me)  # into the trash
        assert await shown() == []
        assert (await client.get("/v1/shares", headers=other)).json() == {"shares": [], "next": None}
        assert [s["id"] for s in (await client.get("/v1/shares", headers=me)).json()["shares"]] == [made["id"]]

    async def test_made_once_a_key(self, services: Services, client: httpx.AsyncClient, guest: Guest) -> None:
        me = (await guest())["auth"]
        asset = await ready(services, client, me)
        answers = [await share(client, me, asset, key="one-key-twice") for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert b"/s/" not in answers[0].content  # stored answers hold no address
        assert len((await client.get("/v1/shares", headers=me)).json()["shares"]) == 1

    async def test_erasing_a_person_ends_their_shares(
        self, services: Services, client: httpx.AsyncClient, guest: Guest
    ) -> None:
        me = (await guest())["auth"]
        made = (await share(client, me, await ready(services, client, me))).json()
        assert (await client.delete("/v1/me", headers=me)).status_code == 200
        async with services.db.transaction(readonly=True) as tx:
            assert await tx.value("SELECT count(*) FROM shares") == 0
            assert await tx.value("SELECT count(*) FROM edge_denials WHERE subject = $1", made["id"]) == 1


class TestPictures:
    async def test_from_publishing_to_withdrawal(
        self,
        services: Services,
        client: httpx.AsyncClient,
        guest: Guest,
        operator: dict[str, str],
        at_edge: AtEdge,
    ) -> None:
        me = (await guest())["auth"]
        asset = await ready(services, client, me)
        await at_edge.push(asset)
        answers = [await client.post("/ops/pictures", json={"assetId": asset}, headers=operator) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        published = answers[0].json()
        assert published == answers[1].json()
        assert published["picture"]["publishedBy"] == "op:kim"
        assert [v["side"] for v in published["variants"]] == [200, 400, 800, 1600]
        url = published["variants"][1]["url"]
        images = await client.post("/v1/images", json={"assetIds": [asset], "sides": [400]}, headers=me)
        own = images.json()["images"][0]["variants"][0]["url"]
        assert ["/d/" in url, "/e/" in own] == [True, True]
        assert [at_edge.status(one) for one in (url, own)] == [200, 200]
        assert (await client.delete(f"/ops/pictures/{asset}", headers=operator)).status_code == 204
        await at_edge.denials.tell()
        assert [at_edge.status(one) for one in (url, own)] == [410, 200]
        ended = (await client.get(f"/ops/pictures/{asset}", headers=operator)).json()
        assert (ended["variants"], len(ended["receipts"])) == ([], 1)
        again = await client.post("/ops/pictures", json={"assetId": asset}, headers=operator)
        assert (again.status_code, again.json()["code"]) == (410, "picture-withdrawn")
        listed = (await client.get("/ops/pictures", headers=operator)).json()["pictures"]
        assert [one["assetId"] for one in listed] == [asset]

    async def test_only_what_is_stored_and_not_flagged(
        self, services: Services, client: httpx.AsyncClient, guest: Guest, operator: dict[str, str]
    ) -> None:
        me = (await guest())["auth"]
        short = await ready(services, client, me, (200, 400, 800))
        flagged = await ready(services, client, me)
        await services.care.flag(ids.decode("asset", flagged), "doubtful")
        answers = [
            await client.post("/ops/pictures", json={"assetId": one}, headers=operator) for one in (short, flagged)
        ]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [
            (409, "picture-not-stored"),
            (409, "picture-flagged"),
        ]
        assert (await client.post("/ops/pictures", json={"assetId": short}, headers=me)).status_code == 403
        missing = ids.encode("asset", uuid4())
        assert (await client.get(f"/ops/pictures/{missing}", headers=operator)).status_code == 404

    def test_three_lifetimes(self) -> None:
        assert {life.value for life in Lifetime} == {"e", "s", "d"}
        asset = ids.encode("asset", uuid4())
        assert ids.decode("picture", keys.picture(asset)) == ids.decode("asset", asset)

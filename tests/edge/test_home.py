"""What home tells edges: every erased asset and revoked share, to every edge, with a receipt; a new edge too."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.delivery import store
from app.delivery.denials import KIND, Denials
from app.delivery.service import SHARE_SIDES, Minter, MintSettings, SideNotShared
from app.services import Services
from base import ids
from base.clock import SystemClock
from base.edges import EdgeClient, Purge
from base.errors import ServiceUnavailable
from base.settings import Reader
from imagecore import recipe as recipes

pytestmark = pytest.mark.xdist_group("home")  # what the module makes is made once
DATA = bytes(range(256)) * 40
RECIPE = recipes.text(recipes.rung(400, "lv8187a"))


@pytest.fixture(scope="module")
def edges(start: Any) -> list[Any]:
    return [start("edge") for _ in range(2)]


@pytest.fixture
def minter(stack_env: dict[str, str]) -> Any:
    keys = Reader(stack_env).keys("TIRAGE_URL_KEYS")
    return lambda edge: Minter(MintSettings(keys=keys, edge_url=edge.url), "home", SystemClock())


def clients(edges: list[Any]) -> dict[str, EdgeClient]:
    return {edge.url: EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PURGE_KEYS")) for edge in edges}


async def pushed(edge: Any, asset: str) -> None:
    worker = EdgeClient(edge.url, Reader(edge.env).keys("TIRAGE_EDGE_PUSH_KEYS"))
    assert await worker.push(asset, RECIPE, "jpg", DATA)
    await worker.close()


async def receipts(services: Services, subject: str) -> dict[str, tuple[int, int]]:
    async with services.db.transaction(readonly=True) as tx:
        rows = await tx.fetch("SELECT edge, files, bytes FROM edge_receipts WHERE subject = $1", subject)
    return {row["edge"]: (row["files"], row["bytes"]) for row in rows}


def status(minter: Any, edge: Any, asset: str) -> tuple[int, str]:
    (address,) = minter(edge).ladder(asset, "lv8187a", [400], "jpg")
    answer = httpx.get(address.url)
    return answer.status_code, answer.text if answer.status_code != 200 else ""


async def test_every_edge_gives_its_word(services: Services, edges: list[Any], minter: Any) -> None:
    asset = ids.encode("asset", uuid4())
    await pushed(edges[0], asset)
    assert status(minter, edges[0], asset) == (200, "")
    async with services.db.transaction() as tx:
        await store.deny(tx, [asset])
    denials = Denials(services.db, services.spine, clients(edges))
    for _ in range(2):  # told again, the receipts stay
        await denials.tell()
        assert await receipts(services, asset) == {edges[0].url: (1, len(DATA)), edges[1].url: (0, 0)}
    assert [status(minter, edge, asset) for edge in edges] == [(410, "erased\n")] * 2


async def test_a_new_edge_is_told_everything(services: Services, edges: list[Any], start: Any, minter: Any) -> None:
    subjects = [ids.encode("asset", uuid4()) for _ in range(1200)]  # more than fit into one call
    async with services.db.transaction() as tx:
        await store.deny(tx, subjects)
    fresh = start("edge")
    await Denials(services.db, services.spine, clients([fresh])).tell()
    assert {status(minter, fresh, subject) for subject in subjects[::300]} == {(410, "erased\n")}
    async with services.db.transaction(readonly=True) as tx:
        assert await tx.value("SELECT count(*) FROM edge_receipts WHERE edge = $1", fresh.url) == 1200


async def test_an_edge_that_lost_its_list_is_told_again(services: Services, start: Any, minter: Any) -> None:
    edge, asset = start("edge"), ids.encode("asset", uuid4())
    async with services.db.transaction() as tx:
        await store.deny(tx, [asset])
    denials = Denials(services.db, services.spine, clients([edge]))
    await denials.tell()
    edge.kill()
    Path(edge.env["TIRAGE_EDGE_CACHE"] + ".denied").unlink()
    edge.start()
    assert status(minter, edge, asset)[0] != 410
    await denials.tell()
    assert status(minter, edge, asset) == (410, "erased\n")


async def test_an_edge_that_is_away_holds_up_nobody(services: Services, edges: list[Any], minter: Any) -> None:
    asset = ids.encode("asset", uuid4())
    async with services.db.transaction() as tx:
        await store.deny(tx, [asset])
    away = {"http://127.0.0.1:9": EdgeClient("http://127.0.0.1:9", Reader(edges[0].env).keys("TIRAGE_EDGE_PURGE_KEYS"))}
    with pytest.raises(ServiceUnavailable):
        await Denials(services.db, services.spine, {**away, **clients(edges)}).tell()
    assert [status(minter, edge, asset) for edge in edges] == [(410, "erased\n")] * 2
    assert set(await receipts(services, asset)) == {edge.url for edge in edges}


async def test_a_revoked_share(services: Services, edges: list[Any], minter: Any) -> None:
    asset, share = ids.encode("asset", uuid4()), ids.encode("share", uuid4())
    await pushed(edges[0], asset)
    (address,) = minter(edges[0]).shared(asset, "lv8187a", share, [400], "jpg")
    denials = Denials(services.db, services.spine, clients(edges))
    await denials.tell()
    assert httpx.get(address.url).status_code == 200
    for _ in range(2):
        async with services.db.transaction() as tx:
            await denials.revoke(tx, [share])
    await denials.tell()
    assert (httpx.get(address.url).status_code, httpx.get(address.url).text) == (410, "revoked\n")
    assert status(minter, edges[0], asset) == (200, "")  # its owner still sees it
    async with services.db.transaction(readonly=True) as tx:
        assert await tx.value("SELECT count(*) FROM jobs WHERE kind = $1", KIND) == 1


async def test_an_edge_that_started_is_told_at_the_next_look(services: Services, start: Any, minter: Any) -> None:
    edge, asset, share = start("edge"), ids.encode("asset", uuid4()), ids.encode("share", uuid4())
    revoked = ids.encode("share", uuid4())
    async with services.db.transaction() as tx:
        await store.deny(tx, [revoked])
    await pushed(edge, asset)
    minted = {one: minter(edge).shared(asset, "lv8187a", one, [400], "jpg")[0].url for one in (share, revoked)}
    (look,) = Denials(services.db, services.spine, clients([edge])).probes().values()
    assert httpx.get(minted[share]).status_code == 503, "no share before the list came"
    await look()
    assert [httpx.get(minted[one]).status_code for one in (share, revoked)] == [200, 410]


async def test_an_empty_call_tells_how_long_the_list_is(edges: list[Any]) -> None:
    (client,) = clients(edges[:1]).values()
    before = (await client.purge(Purge())).denied
    receipt = await client.purge(Purge(shares=(ids.encode("share", uuid4()),)))
    assert receipt.denied == before + 1
    assert msgspec.structs.asdict(await client.purge(Purge()))["assets"] == ()


def test_what_shares_show_is_bounded(edges: list[Any], minter: Any) -> None:
    asset, share = ids.encode("asset", uuid4()), ids.encode("share", uuid4())
    made = minter(edges[0]).shared(asset, "lv8187a", share, SHARE_SIDES, "webp")
    assert [address.side for address in made] == [200, 400, 800]
    with pytest.raises(SideNotShared):
        minter(edges[0]).shared(asset, "lv8187a", share, [400, 1600], "jpg")


def test_three_lifetimes_have_three_types(edges: list[Any], minter: Any) -> None:
    asset, share = ids.encode("asset", uuid4()), ids.encode("share", uuid4())
    one = minter(edges[0])
    made = [
        *one.ladder(asset, "lv8187a", [400], "jpg"),
        *one.shared(asset, "lv8187a", share, [400], "jpg"),
        *one.durable(asset, "lv8187a", [400], "jpg"),
    ]
    assert [address.url.removeprefix(edges[0].url)[:3] for address in made] == ["/e/", "/s/", "/d/"]
    assert [hasattr(address, "expires") for address in made] == [True, False, False]
    assert {address.recipe for address in made} == {RECIPE}

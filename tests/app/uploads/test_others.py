"""What others have shows neither in answers nor in the work behind them: the same statements, plans, rows and blocks.

Time is made of that work, so equal work is what can be held to account; `loadtests/bench/others.py` compares time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.kernel.db import Database
from app.main import create_app
from base import ids
from tests.app.conftest import Guest, api_settings, running
from tests.app.uploads.test_routes import create
from tests.conftest import database_settings

SETTINGS = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
SET client_min_messages = notice;
"""
STEADY = """
SET enable_bitmapscan = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
"""
ALBUM = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256)
SELECT gen_random_uuid(), $1, 'ready', 3000000 + n, 'image/jpeg', lpad(to_hex($2::bigint + n * 2), 64, '0')
FROM generate_series(1, $3::int) n
"""
THEIRS, NOBODYS = f"{2 * 1000:064x}", f"{2 * 1000 + 1:064x}"
WARM, TIMES = 8, 4
TOLD = ("Node Type", "Relation Name", "Index Name", "Actual Rows", "Actual Loops", "Rows Removed by Filter")
READS = ("Shared Hit Blocks", "Shared Read Blocks")

pytestmark = pytest.mark.filterwarnings("ignore:.*active log listener")


class Watch:
    """The plans that Postgres ran for this process, with what each touched."""

    def __init__(self) -> None:
        self.settings = SETTINGS
        self._plans: list[dict[str, Any]] = []
        self._known: set[int] = set()

    async def connection(self, made: Any) -> Any:
        """Have a pooled connection tell its plans until it goes back."""
        pid = made.get_server_pid()
        if pid not in self._known:
            await made.execute(self.settings)
            self._known.add(pid)
        made.add_log_listener(self._heard)
        return made

    def _heard(self, _: Any, message: Any) -> None:
        if "plan:" in message.message:
            self._plans.append(json.loads(message.message.partition("plan:")[2]))

    async def taken(self, *, blocks: bool = True) -> list[Any]:
        """The work since it was asked last."""
        await asyncio.sleep(0)
        found, self._plans = self._plans, []
        return [(" ".join(one["Query Text"].split()), _work(one["Plan"], blocks)) for one in found]


def _work(node: dict[str, Any], blocks: bool) -> Any:
    """What a plan did."""
    told = {name: node[name] for name in (*TOLD, *(READS if blocks else ())) if name in node}
    return told, [_work(child, blocks) for child in node.get("Plans", ())]


@pytest.fixture
async def db(db: Database, database_url: str) -> AsyncIterator[Database]:
    """Connections of our own: what is set on them ends with them, and no plan of theirs was made before."""
    made = Database(database_settings(database_url))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(env: dict[str, str], db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """An API of our own, for the same reason."""
    async with running(create_app(api_settings(env))) as made:
        yield made


@pytest.fixture
async def watch(db: Database, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watch]:
    """A watch on every connection that this process's databases give out."""
    watch, acquire = Watch(), Database.acquire

    async def watched(self: Database) -> Any:
        return await watch.connection(await acquire(self))

    with monkeypatch.context() as patched:
        patched.setattr(Database, "acquire", watched)
        yield watch


async def album(db: Database, owner: str, first: int, count: int) -> None:
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        await tx.execute(ALBUM, ids.decode("owner", owner), first, count)
        await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")
    connection = await db.connect()
    try:
        await connection.execute("VACUUM ANALYZE assets")
    finally:
        await connection.close()


Works = dict[str, list[list[Any]]]


async def compared(ask: Callable[[str], Awaitable[Any]], watch: Watch, *, blocks: bool = True) -> Works:
    """The work for a hash that somebody else has and for one that nobody has, in turn, after a few to warm up."""
    found: Works = {THEIRS: [], NOBODYS: []}
    for number in range(WARM + TIMES):
        for digest in (THEIRS, NOBODYS) if number % 2 else (NOBODYS, THEIRS):
            await watch.taken()
            await ask(digest)
            if number >= WARM:
                found[digest].append(await watch.taken(blocks=blocks))
    return found


async def test_equal_work_to_check(client: httpx.AsyncClient, guest: Guest, db: Database, watch: Watch) -> None:
    other, me = await guest(), await guest()
    await album(db, other["ownerId"], 0, 2000)
    await album(db, me["ownerId"], 1 << 40, 500)

    async def ask(digest: str, auth: Any = me["auth"]) -> Any:
        photos = {"photos": [{"sha256": digest, "sourceId": "S1", "bytes": 3_001_000}]}
        answer = await client.post("/v1/uploads/check", json=photos, headers=auth)
        return answer.json()["photos"]

    found = await compared(ask, watch)
    assert found[THEIRS] == found[NOBODYS]
    touched = json.dumps(found)
    assert all(word in touched for word in ("FROM assets", "FROM uploads", "Actual Rows", READS[0]))
    assert await ask(THEIRS) == await ask(NOBODYS)
    await watch.taken()
    assert (await ask(THEIRS, other["auth"]))[0]["reason"] == "exact"
    assert await watch.taken() not in found[NOBODYS], "work for one's own photo is seen to differ"


async def test_equal_work_to_create(client: httpx.AsyncClient, guest: Guest, db: Database, watch: Watch) -> None:
    """Each by an owner who has nothing.

    Tables grow by what is created: blocks are not compared, and plans are kept from turning over meanwhile.
    """
    watch.settings += STEADY
    other, askers = await guest(), [await guest() for _ in range(2 * (WARM + TIMES) + 2)]
    await album(db, other["ownerId"], 0, 2000)
    await create(client, other["auth"], sha256=THEIRS)

    async def ask(digest: str) -> Any:
        return await create(client, askers.pop()["auth"], sha256=digest)

    found = await compared(ask, watch, blocks=False)
    assert found[THEIRS] == found[NOBODYS]
    assert "INSERT INTO uploads" in json.dumps(found)
    answers = [await ask(THEIRS), await ask(NOBODYS)]
    differ = ("id", "assetId", "expiresAt")
    told = [{name: value for name, value in answer.items() if name not in differ} for answer in answers]
    assert told[0] == told[1]

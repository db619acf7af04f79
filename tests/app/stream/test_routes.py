"""The event stream: pages, and server-sent events from a real API process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.assets.domain import AssetReady
from app.kernel.access import AccessTokens
from app.kernel.db import Database
from app.kernel.events import Cursor, Origin
from app.kernel.spine import Spine
from app.stream.domain import spell
from app.web.settings import WebSettings
from base import ids
from base.clock import SystemClock
from base.ids import AssetId, DeviceId, OwnerId
from tests.app.conftest import ApiProcess, Guest, api_settings, register

SPINE = Spine("home", {}, {})


async def tell(db: Database, owner: str, number: int) -> None:
    """One event of the owner, told apart by the asset's number."""
    async with db.transaction() as tx:
        asset = AssetId(UUID(int=number))
        owner_id = ids.decode("owner", owner)
        await SPINE.record(
            tx, AssetReady(asset_id=asset), aggregate_id=asset, owner_id=owner_id, origin=Origin(actor="x")
        )


def number_of(event: dict[str, Any]) -> int:
    return ids.decode("asset", event["data"]["assetId"]).int


class Sse:
    """A server-sent event stream as a browser reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id: str | None = None

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The next event or comment: (name, data); ("end", {}) when the server closed."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                fields["comment"] = line[1:].strip()
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                self.last_id = fields.get("id", self.last_id)
                return fields.get("event", fields.get("comment", "")), json.loads(fields.get("data", "{}"))
        return "end", {}

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next that is not a heartbeat."""
        while True:
            name, data = await self.next()
            if name != "beat":
                return name, data


class Streaming:
    """An open stream."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str], **query: str) -> None:
        wanted = {"Accept": "text/event-stream", **headers}
        self._context = client.stream("GET", "/v1/events", headers=wanted, params=query)

    async def __aenter__(self) -> Sse:
        response = await self._context.__aenter__()
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        self._stream = Sse(response)  # kept: a collected iterator would close the connection
        assert (await self._stream.next())[0] == "beat"
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        await self._context.__aexit__(None, None, None)


async def settled(client: httpx.AsyncClient, auth: dict[str, str], cursor: str) -> list[int]:
    """The next events' numbers; a transaction elsewhere in the cluster (another test's) may hold them back a moment."""
    async with asyncio.timeout(20):
        while True:
            page = (await client.get("/v1/events", params={"after": cursor}, headers=auth)).json()
            if page["events"]:
                return [number_of(event) for event in page["events"]]
            await asyncio.sleep(0.02)


class TestPage:
    async def test_pages_give_every_event_once_in_order(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        me, other = await guest(), await guest()
        for number in range(7):
            await tell(db, me["ownerId"], number)
            await tell(db, other["ownerId"], 100 + number)
        seen, cursor, more = [], "", True
        async with asyncio.timeout(20):
            while more or len(seen) < 7:
                page = (await client.get("/v1/events", params={"after": cursor, "limit": 3}, headers=me["auth"])).json()
                seen += [(e["type"], number_of(e)) for e in page["events"]]
                cursor, more = page["cursor"], page["more"]
        assert seen == [("asset.ready", number) for number in range(7)]

    async def test_latest_begins_now(self, client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
        me = await guest()
        await tell(db, me["ownerId"], 1)
        assert await settled(client, me["auth"], "") == [1]
        page = (await client.get("/v1/events?after=latest", headers=me["auth"])).json()
        assert page["events"] == []
        await tell(db, me["ownerId"], 2)
        assert await settled(client, me["auth"], page["cursor"]) == [2]

    async def test_an_unsettled_event_is_not_lost(self, client: httpx.AsyncClient, guest: Guest, db: Database) -> None:
        """The earlier transaction commits last; what the later one told waits for it."""
        me = await guest()
        cursor = (await client.get("/v1/events?after=latest", headers=me["auth"])).json()["cursor"]
        early = await db.connect()
        running = early.transaction()
        await running.start()
        await early.execute("SELECT pg_current_xact_id()")
        await tell(db, me["ownerId"], 2)
        page = (await client.get("/v1/events", params={"after": cursor}, headers=me["auth"])).json()
        assert page["events"] == []
        await running.commit()
        await early.close()
        assert await settled(client, me["auth"], page["cursor"]) == [2]

    @pytest.mark.parametrize("cursor", ["x", "1.2", "1.2.3.4", "-1.2.3", "ffffffffffffffff.1.1", "1.1.fffffffffff"])
    async def test_a_cursor_of_no_kind(self, client: httpx.AsyncClient, guest: Guest, cursor: str) -> None:
        me = await guest()
        answer = await client.get("/v1/events", params={"after": cursor}, headers=me["auth"])
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor-malformed")

    async def test_too_old_a_cursor_is_gone(self, client: httpx.AsyncClient, guest: Guest) -> None:
        me = await guest()
        now = datetime.now(UTC)
        for age, status in ((timedelta(days=30, minutes=1), 410), (timedelta(days=29, hours=23), 200)):
            cursor = spell(Cursor(1, 1), now - age)
            for headers in ({}, {"Accept": "text/event-stream"}):
                if status == 200 and headers:
                    continue
                answer = await client.get("/v1/events", params={"after": cursor}, headers={**me["auth"], **headers})
                assert answer.status_code == status
        assert (await client.get("/v1/events")).status_code == 401


class TestStream:
    async def test_events_come_as_they_happen_and_only_ones_own(self, remote: httpx.AsyncClient, db: Database) -> None:
        me, other = await register(remote), await register(remote)
        async with Streaming(remote, me["auth"], after="latest") as stream:
            for number in range(20):
                await tell(db, other["ownerId"], 100 + number)
                await tell(db, me["ownerId"], number)
                name, data = await stream.event()
                assert (name, number_of(data), data["cursor"]) == ("asset.ready", number, stream.last_id)

    async def test_a_broken_stream_continues_without_loss_or_repetition(
        self, remote: httpx.AsyncClient, db: Database
    ) -> None:
        me = await register(remote)
        seen: list[int] = []
        last_id = None
        for first in range(0, 40, 8):
            for number in range(first, first + 8):
                await tell(db, me["ownerId"], number)
            headers = {**me["auth"], **({"Last-Event-ID": last_id} if last_id else {})}
            async with Streaming(remote, headers) as stream:
                while len(seen) < first + 5:  # leave three unread, and go
                    seen.append(number_of((await stream.event())[1]))
                last_id = stream.last_id
        async with Streaming(remote, {**me["auth"], "Last-Event-ID": last_id or ""}) as stream:
            while len(seen) < 40:
                seen.append(number_of((await stream.event())[1]))
        assert seen == list(range(40))

    async def test_silence_is_filled_with_heartbeats(self, remote: httpx.AsyncClient) -> None:
        me = await register(remote)
        async with Streaming(remote, me["auth"], after="latest") as stream:
            assert [(await stream.next())[0] for _ in range(2)] == ["beat", "beat"]

    async def test_streams_of_one_owner_are_bounded(self, remote: httpx.AsyncClient) -> None:
        me, other = await register(remote), await register(remote)
        async with AsyncStack() as stack:
            for _ in range(8):
                await stack.open(Streaming(remote, me["auth"], after="latest"))
            accept = {"Accept": "text/event-stream"}
            ninth = await remote.get("/v1/events", headers={**me["auth"], **accept})
            assert (ninth.status_code, ninth.json()["code"]) == (429, "too-many-streams")
            await stack.open(Streaming(remote, other["auth"], after="latest"))
        async with asyncio.timeout(20):  # the server hears of closed sockets a moment later
            while True:
                with contextlib.suppress(AssertionError):
                    async with Streaming(remote, me["auth"], after="latest"):
                        break
                await asyncio.sleep(0.05)

    async def test_a_stream_ends_with_its_token(
        self, remote: httpx.AsyncClient, env: dict[str, str], web: WebSettings
    ) -> None:
        me = await register(remote)
        owner, device = ids.decode("owner", me["ownerId"]), ids.decode("device", me["deviceId"])
        tokens = AccessTokens(web.token_keys, SystemClock())
        token, _ = tokens.customer(OwnerId(owner), DeviceId(device), timedelta(seconds=1))
        async with Streaming(remote, {"Authorization": f"Bearer {token}"}, after="latest") as stream:
            assert [(await stream.event())[0] for _ in range(2)] == ["bye", "end"]

    async def test_many_streams_share_one_listener(self, remote: httpx.AsyncClient, db: Database) -> None:
        await _many(remote, db, owners=8)

    @pytest.mark.soak
    async def test_five_hundred_streams(self, remote: httpx.AsyncClient, db: Database) -> None:
        await _many(remote, db, owners=63)


async def _many(remote: httpx.AsyncClient, db: Database, owners: int) -> None:
    """Eight streams each of many owners: each gets its owner's event, through one LISTEN connection."""
    limits = httpx.Limits(max_connections=None)
    before = await _listeners(db)  # other servers may run on this database
    async with httpx.AsyncClient(base_url=remote.base_url, timeout=60, limits=limits) as client, AsyncStack() as stack:
        people = [await register(client) for _ in range(owners)]
        opened = [
            (number, await stack.open(Streaming(client, person["auth"], after="latest")))
            for number, person in enumerate(people)
            for _ in range(8)
        ]
        for number, person in enumerate(people):
            await tell(db, person["ownerId"], number)
        got = await asyncio.gather(*(stream.event() for _, stream in opened))
        assert [number_of(data) for _, data in got] == [number for number, _ in opened]
        assert len(await _listeners(db) - before) <= 1
        assert (await client.get("/v1/me", headers=people[0]["auth"])).status_code == 200


async def _listeners(db: Database) -> set[int]:
    """The processes of Postgres that listen for this database's clients."""
    async with db.reading() as read:
        rows = await read.fetch(
            "SELECT pid FROM pg_stat_activity WHERE query ILIKE 'LISTEN%' AND datname = current_database()"
        )
    return {row["pid"] for row in rows}


class AsyncStack:
    """Open streams, closed together."""

    def __init__(self) -> None:
        self._open: list[Streaming] = []

    async def open(self, streaming: Streaming) -> Sse:
        stream = await streaming.__aenter__()
        self._open.append(streaming)
        return stream

    async def __aenter__(self) -> "AsyncStack":
        return self

    async def __aexit__(self, *_: object) -> None:
        for streaming in self._open:
            await streaming.__aexit__()


@pytest.fixture
async def web(env: dict[str, str]) -> WebSettings:
    return api_settings(env).web


class Sending:
    """A request that runs for as long as the test wants: a whole file, sent in two halves."""

    def __init__(self, client: httpx.AsyncClient, path: str) -> None:
        self.may_end = asyncio.Event()
        self.answer = asyncio.create_task(client.put(path, content=self._halves(), headers={"Content-Length": "20"}))

    @classmethod
    async def begin(cls, client: httpx.AsyncClient, auth: dict[str, str]) -> "Sending":
        """The first half is on its way."""
        body = {"bytes": 20, "contentType": "image/jpeg"}
        made = await client.post("/v1/uploads", json=body, headers={**auth, "Idempotency-Key": "key-of-a-file"})
        parts = await client.post(f"/v1/uploads/{made.json()['id']}/parts", headers=auth)
        return cls(client, parts.json()["background"]["path"])

    async def _halves(self) -> AsyncIterator[bytes]:
        yield b"0123456789"
        await self.may_end.wait()
        yield b"0123456789"


async def in_work(client: httpx.AsyncClient, wanted: int) -> None:
    """Wait until so many requests are in work, that of the metrics aside."""
    async with asyncio.timeout(30):
        while f"tirage_http_requests_in_work {wanted + 1}.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def test_sigterm_says_goodbye_to_streams_and_finishes_requests(
    env: dict[str, str], db: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    api = ApiProcess(env, tmp_path_factory.mktemp("drain") / "log")
    async with httpx.AsyncClient(base_url=api.base, timeout=20) as client, AsyncStack() as stack:
        me = await register(client)
        streams = [await stack.open(Streaming(client, me["auth"], after="latest")) for _ in range(5)]
        sending = await Sending.begin(client, (await register(client))["auth"])
        await in_work(client, len(streams) + 1)
        stopped = asyncio.create_task(asyncio.to_thread(api.stop))
        for stream in streams:
            assert [(await stream.event())[0] for _ in range(2)] == ["bye", "end"]
        assert not sending.answer.done()
        sending.may_end.set()
        answer = await sending.answer
        assert (answer.status_code, answer.json()["state"]) == (200, "verifying"), answer.text
        assert await stopped == 0, api.log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{api.base}/healthz")


async def test_a_process_full_of_streams_answers_everything_else(
    env: dict[str, str], db: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    room = {"TIRAGE_API_SLOTS": "16", "TIRAGE_API_STREAMS": "8"}
    api = ApiProcess(env, tmp_path_factory.mktemp("full") / "log", **room)
    async with (
        contextlib.AsyncExitStack() as ending,
        httpx.AsyncClient(base_url=api.base, timeout=60) as client,
        AsyncStack() as stack,
    ):
        ending.callback(api.stop)
        one, other, late = [(await register(client))["auth"] for _ in range(3)]
        for number in range(8):
            await stack.open(Streaming(client, (one, other)[number % 2], after="latest"))
        refused = await client.get("/v1/events", headers={**late, "Accept": "text/event-stream"})
        assert (refused.status_code, refused.json()["code"]) == (503, "streams-full")
        assert refused.headers["retry-after"] == "15"
        paths = ("/v1/me", "/v1/events") * 30  # more at once than slots are left
        answers = await asyncio.gather(*(client.get(path, headers=late) for path in paths))
        assert {answer.status_code for answer in answers} == {200}

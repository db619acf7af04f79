"""The edge node: one spelling before any I/O, honest headers, one fetch a key, a cache that survives and is bounded."""

import asyncio
import base64
import errno
import hashlib
import json
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from base import keys
from base.edges import RENDITIONS, Call, authorise, repr_digest
from base.errors import ServiceUnavailable
from base.objects import Buckets, ObjectStore
from base.settings import Keys, Secret
from edge.node import cache as cache_module
from edge.node.app import EdgeNode
from edge.node.cache import DiskCache
from edge.node.control import Control
from edge.node.denied import Denied
from edge.node.sources import Bucket, Gone, Overloaded
from imagecore import recipe as recipes
from imagecore.signing import Durable, Ephemeral, Ring, Share, Signed

ASSET = "ast_01m86bj0xee1ere2xz744049w7"
SHARE = "shr_01m86bj0xee1ere2xz744049w7"
RECIPE = recipes.text(recipes.rung(400, "lv8187a"))
KEY = keys.derivative(ASSET, RECIPE, "jpg")
NOW = 1_795_500_000
RING = Ring.of_masters([("u2", bytes(range(32, 64))), ("u1", bytes(range(32)))], "home")
DATA = random.Random(1).randbytes(700_000)
GOOD = RING.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW + 100))


VECTORS = json.loads((Path(__file__).parents[2] / "edge" / "functions" / "vectors.json").read_text())
CODES = {"not-found\n": "refused"}


class Counting:
    """A source that counts how often it is asked."""

    name = "counting"

    def __init__(self, data: bytes | Exception | None = DATA, delay_s: float = 0) -> None:
        self.asked, self._data, self._delay_s = 0, data, delay_s

    async def get(self, key: str, path: str) -> bytes | None:
        self.asked += 1
        await asyncio.sleep(self._delay_s)
        if isinstance(self._data, Exception):
            raise self._data
        return self._data if key == KEY else None


class Gated:
    """A source that gives nothing before `gate` is set."""

    name = "gated"

    def __init__(self) -> None:
        self.inside, self.begun, self.gate = 0, asyncio.Event(), asyncio.Event()

    async def get(self, key: str, path: str) -> bytes | None:
        self.inside += 1
        self.begun.set()
        await self.gate.wait()
        self.inside -= 1
        return DATA


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


async def ask(
    node: EdgeNode, raw: bytes | str, headers: dict[str, str] | None = None, method: str = "GET", query: bytes = b""
) -> Answer:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": raw if isinstance(raw, bytes) else raw.encode(),
        "query_string": query,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "extensions": {},
    }
    await node(scope, None, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


def node(tmp_path: Path, *sources: Any, limit: int = 10**8, **more: Any) -> EdgeNode:
    return EdgeNode(RING, DiskCache(tmp_path, limit), sources, clock=lambda: NOW, **more)


def changed(path: str, random_: random.Random) -> str:
    at = random_.randrange(len(path))
    one = random_.choice("abcdefxyz0123456789._-~/%?#ABC \n")
    how = random_.randrange(4)
    escaped = f"%{ord(path[at]):02x}"
    middle = (escaped, one, "", one + path[at])[how]
    return path[:at] + middle + path[at + 1 :]


class TestSpelling:
    @pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
    async def test_mutations_cost_no_io(self, tmp_path: Path, count: int) -> None:
        source, random_ = Counting(), random.Random(7)
        edge = node(tmp_path, source)
        mutations: set[str] = set()
        while len(mutations) < count:
            once = changed(GOOD, random_)
            mutations |= {m for m in (once, changed(once, random_)) if m != GOOD}
        others = {GOOD.replace("_", escape) for escape in ("%5f", "%5F")} | {"/" + GOOD, GOOD + "/", GOOD.upper()}
        statuses = {(await ask(edge, raw.encode("utf-8"))).status for raw in mutations | others}
        assert statuses == {404}
        assert (await ask(edge, GOOD, query=b"a=1")).status == 404
        assert source.asked == 0
        assert list(tmp_path.rglob("*")) == []
        assert (await ask(edge, GOOD)).status == 200
        assert source.asked == 1

    def test_same_verdicts_as_the_scripts_for_other_edges(self, tmp_path: Path) -> None:
        """Decided from memory alone; a good path is one that has to be looked for."""
        edge = node(tmp_path, denied=set(VECTORS["denied"]))
        told = []
        for case in VECTORS["cases"]:
            reply = edge.at_once("GET", case["path"].encode(), [])
            told.append("good" if reply is None else CODES.get(reply.body.decode(), reply.body.decode().strip()))
        assert told == [case["verdict"] for case in VECTORS["cases"]]

    async def test_expired_and_revoked_are_gone_without_io(self, tmp_path: Path) -> None:
        source = Counting()
        edge = node(tmp_path, source, denied={SHARE})
        old = RING.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW))
        shared = RING.sign(Share(asset=ASSET, recipe=RECIPE, share=SHARE))
        assert [((a := await ask(edge, p)).status, a.body) for p in (old, shared)] == [
            (410, b"expired\n"),
            (410, b"revoked\n"),
        ]
        assert source.asked == 0

    @pytest.mark.parametrize("is_on_disk", [False, True])
    @pytest.mark.parametrize(
        ("wanted", "subject", "code"),
        [
            (Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW + 100), ASSET, b"erased\n"),
            (Share(asset=ASSET, recipe=RECIPE, share=SHARE), SHARE, b"revoked\n"),
            (Durable(asset=ASSET, recipe=RECIPE), keys.picture(ASSET), b"withdrawn\n"),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_what_is_denied_while_it_is_found_is_not_served(
        self, tmp_path: Path, wanted: Signed, subject: str, code: bytes, is_on_disk: bool
    ) -> None:
        if is_on_disk:
            await ask(node(tmp_path, Counting()), GOOD)
        source, denied = Gated(), set[str]()
        edge = node(tmp_path, source, denied=denied)
        answer = asyncio.create_task(ask(edge, RING.sign(wanted)))
        await (asyncio.sleep(0) if is_on_disk else source.begun.wait())
        assert not answer.done()
        denied.add(subject)
        source.gate.set()
        assert ((await answer).status, (await answer).body) == (410, code)
        assert source.begun.is_set() != is_on_disk

    async def test_what_ends_while_it_is_fetched_is_gone(self, tmp_path: Path) -> None:
        """At its last second it is served for no longer."""
        now = [NOW]
        told = {}
        for end in (NOW + 99, NOW + 100):
            source = Gated()
            edge = EdgeNode(RING, DiskCache(tmp_path / str(end), 10**8), [source], clock=lambda: now[0])
            now[0] = NOW
            answer = asyncio.create_task(ask(edge, GOOD))
            await source.begun.wait()
            now[0] = end
            source.gate.set()
            told[end - NOW] = ((await answer).status, (await answer).headers["cache-control"])
        assert told == {99: (200, "private, max-age=1, immutable"), 100: (410, "max-age=60")}

    async def test_other_methods_are_refused(self, tmp_path: Path) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await ask(node(tmp_path, Counting()), GOOD, method=method)).status == 405


class TestHeaders:
    async def test_ephemeral_ends_with_its_path(self, tmp_path: Path) -> None:
        answer = await ask(node(tmp_path, Counting()), GOOD)
        digest = hashlib.sha256(DATA)
        assert answer.body == DATA
        assert answer.headers["cache-control"] == "private, max-age=100, immutable"
        assert answer.headers["cdn-cache-control"] == "max-age=100"
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert answer.headers["etag"] == f'"{digest.hexdigest()[:32]}"'
        assert "fwd=uri-miss" in answer.headers["cache-status"]

    async def test_durable_is_immutable_for_a_year(self, tmp_path: Path) -> None:
        answer = await ask(node(tmp_path, Counting()), RING.sign(Durable(asset=ASSET, recipe=RECIPE)))
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"

    async def test_every_path_of_a_rendition_shares_one_file(self, tmp_path: Path) -> None:
        source = Counting()
        edge = node(tmp_path, source)
        for wanted in (GOOD, RING.sign(Durable(asset=ASSET, recipe=RECIPE)), GOOD):
            assert (await ask(edge, wanted)).status == 200
        assert source.asked == 1
        assert (await ask(edge, GOOD)).headers["cache-status"] == "tirage-edge; hit"

    async def test_known_bytes_are_not_sent_again(self, tmp_path: Path) -> None:
        edge = node(tmp_path, Counting())
        tag = (await ask(edge, GOOD)).headers["etag"]
        for header in (tag, f'"x", W/{tag}', "*"):
            answer = await ask(edge, GOOD, {"if-none-match": header})
            assert (answer.status, answer.body) == (304, b"")
        assert (await ask(edge, GOOD, {"if-none-match": '"other"'})).status == 200

    async def test_head_says_the_same_and_sends_nothing(self, tmp_path: Path) -> None:
        edge = node(tmp_path, Counting())
        await ask(edge, GOOD)
        get, head = await ask(edge, GOOD), await ask(edge, GOOD, method="HEAD")
        assert head.headers == get.headers
        assert head.body == b""

    @pytest.mark.parametrize(
        ("range_", "status", "begin", "end"),
        [
            ("bytes=0-0", 206, 0, 1),
            ("bytes=10-19", 206, 10, 20),
            ("bytes=699990-", 206, 699_990, 700_000),
            ("bytes=-10", 206, 699_990, 700_000),
            ("bytes=0-99999999", 206, 0, 700_000),
            ("bytes=300000-650000", 206, 300_000, 650_001),
            ("bytes=20-10", 200, 0, 700_000),
            ("bytes=0-1,5-6", 200, 0, 700_000),
            ("items=0-1", 200, 0, 700_000),
            ("bytes=700000-", 416, 0, 0),
            ("bytes=-0", 416, 0, 0),
        ],
    )
    async def test_ranges(self, tmp_path: Path, range_: str, status: int, begin: int, end: int) -> None:
        answer = await ask(node(tmp_path, Counting()), GOOD, {"range": range_})
        assert answer.status == status
        if status == 416:
            assert answer.headers["content-range"] == "bytes */700000"
        else:
            assert answer.body == DATA[begin:end]
            assert answer.headers["content-length"] == str(end - begin)

    async def test_range_of_another_version_is_answered_whole(self, tmp_path: Path) -> None:
        answer = await ask(node(tmp_path, Counting()), GOOD, {"range": "bytes=0-9", "if-range": '"other"'})
        assert (answer.status, len(answer.body)) == (200, len(DATA))


class TestSources:
    async def test_many_wait_for_one_fetch(self, tmp_path: Path) -> None:
        source = Counting(delay_s=0.05)
        edge = node(tmp_path, source)
        answers = await asyncio.gather(*(ask(edge, GOOD) for _ in range(200)))
        assert {(a.status, a.body == DATA) for a in answers} == {(200, True)}
        assert source.asked == 1

    async def test_fetches_are_bounded_whoever_leaves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Clients that leave take no fetch with them; at the full bound hits, health and a fetch under way go on."""
        monkeypatch.setattr("edge.node.app.MISSES", 20)
        await ask(node(tmp_path, Counting()), GOOD)
        source = Gated()
        edge = node(tmp_path, source)
        paths = [RING.sign(Durable(asset=f"ast_{n:026d}", recipe=RECIPE)) for n in range(100)]
        for begin in range(0, 100, 10):
            asked = [asyncio.create_task(ask(edge, path)) for path in paths[begin : begin + 10]]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for each in asked:
                each.cancel()
            await asyncio.wait(asked)
        assert source.inside == 20
        assert [(await ask(edge, path)).status for path in (GOOD, "/healthz", paths[-1])] == [200, 200, 503]
        joined = asyncio.create_task(ask(edge, paths[0]))
        await asyncio.sleep(0)
        source.gate.set()
        assert (await joined).status == 200
        assert (await ask(edge, paths[-1])).status == 200

    async def test_origin_is_asked_after_the_bucket(self, tmp_path: Path) -> None:
        first, second = Counting(None), Counting()
        assert (await ask(node(tmp_path, first, second), GOOD)).status == 200
        assert (first.asked, second.asked) == (1, 1)

    @pytest.mark.parametrize(
        ("failure", "status", "header"),
        [
            (Gone("engine-retired"), 410, ("cache-control", "no-store")),
            (Overloaded(7), 503, ("retry-after", "7")),
            (ServiceUnavailable(), 503, ("retry-after", "1")),
            (None, 404, ("cache-control", "no-store")),
        ],
    )
    async def test_failures_are_told_and_not_kept(
        self, tmp_path: Path, failure: Exception | None, status: int, header: tuple[str, str]
    ) -> None:
        source = Counting(failure)
        edge = node(tmp_path, source)
        answers = [await ask(edge, GOOD) for _ in range(2)]
        assert [a.status for a in answers] == [status] * 2
        assert answers[0].headers[header[0]] == header[1]
        assert source.asked == 2

    async def test_real_bucket(
        self, tmp_path: Path, record_store: ObjectStore, stack_env: dict[str, str], buckets: Buckets
    ) -> None:
        await record_store.put(buckets.derivatives, KEY, DATA, "image/jpeg")
        edge = node(tmp_path, Bucket(record_store, buckets.derivatives))
        assert (await ask(edge, GOOD)).body == DATA
        other = RING.sign(Durable(asset=ASSET, recipe=recipes.text(recipes.rung(200, "lv8187a"))))
        assert (await ask(edge, other)).status == 404


class TestCache:
    async def test_survives_a_restart_and_checks_what_it_finds(self, tmp_path: Path) -> None:
        await ask(node(tmp_path, Counting()), GOOD)
        source = Counting()
        assert (await ask(node(tmp_path, source), GOOD)).body == DATA
        assert source.asked == 0
        kept = next(p for p in tmp_path.rglob("*") if p.is_file())
        kept.write_bytes(b"torn" + DATA[4:])
        assert (await ask(node(tmp_path, source), GOOD)).body == DATA
        assert source.asked == 1

    async def test_is_bounded_least_recently_used_first(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 1000)
        for number in range(5):
            await cache.put(f"k{number}", os.urandom(300))
            await cache.get("k0")
        assert cache.size <= 1000
        kept = [n for n in range(5) if await cache.get(f"k{n}") is not None]
        assert kept == [0, 3, 4]

    async def test_an_evicted_file_is_sent_to_its_end(self, tmp_path: Path) -> None:
        cache, sent = DiskCache(tmp_path, 1_000_000, memory=1600), list[bytes]()
        edge = EdgeNode(RING, cache, [Counting()], clock=lambda: NOW)
        assert (await ask(edge, GOOD)).status == 200

        async def send(message: dict[str, Any]) -> None:
            if not sent:
                await cache.put("other", DATA)
                assert await cache.get(KEY) is None
            sent.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "raw_path": GOOD.encode(), "query_string": b"", "headers": []}
        await edge(scope, None, send)
        assert b"".join(sent) == DATA

    async def test_half_written_files_are_removed(self, tmp_path: Path) -> None:
        (tmp_path / "ab").mkdir()
        (tmp_path / "ab" / "something.123.new").write_bytes(b"half")
        cache = DiskCache(tmp_path, 1000)
        assert cache.size == 0
        assert list((tmp_path / "ab").iterdir()) == []


class TestFullDisk:
    """A write leaves nothing behind; what is in hand is sent all the same."""

    @pytest.fixture(autouse=True)
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(file: Path, data: bytes) -> None:
            with file.open("wb") as opened:
                opened.write(data[:1])
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(Path, "write_bytes", write)

    async def test_a_miss_is_answered_from_memory(self, tmp_path: Path) -> None:
        source, before = Counting(delay_s=0.01), unkept()
        edge = node(tmp_path, source)
        answers = await asyncio.gather(*(ask(edge, GOOD) for _ in range(5)))
        assert {(a.status, a.body == DATA, "stored" in a.headers["cache-status"]) for a in answers} == {
            (200, True, False)
        }
        assert (source.asked, unkept() - before, files(tmp_path)) == (1, 1, [])
        part = await ask(edge, GOOD, {"range": "bytes=7-9"})
        assert (part.status, part.body) == (206, DATA[7:10])
        head = await ask(edge, GOOD, method="HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(DATA)), b"")
        assert (source.asked, unkept() - before) == (3, 3)

    async def test_a_push_is_not_acknowledged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keyring, before = Keys([("p1", Secret(bytes(range(32))))]), unkept()
        control = Control("here", keyring, keyring, DiskCache(tmp_path, 10**8), Denied(tmp_path / "denied"))
        assert await push(control, keyring, DATA) == 503
        assert (unkept() - before, files(tmp_path)) == (1, [])
        monkeypatch.undo()
        assert await push(control, keyring, DATA) == 201


def unkept() -> float:
    return REGISTRY.get_sample_value("tirage_edge_unkept_total") or 0


class SlowDisk:
    """Writes wait for `gate`; `begun` tells that one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write, self.begun, self.gate = cache_module._write, asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()
        monkeypatch.setattr(cache_module, "_write", self._slowly)

    def _slowly(self, *given: Any) -> Path:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.gate.wait(20)
        return self._write(*given)


class TestCutOff:
    """A write whose caller has gone goes on, and is known."""

    @pytest.fixture
    async def disk(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowDisk]:
        slow = SlowDisk(monkeypatch)
        yield slow
        slow.gate.set()

    async def cut_off(self, cache: DiskCache, disk: SlowDisk) -> None:
        writing = asyncio.create_task(cache.put(KEY, DATA))
        await disk.begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    async def test_its_file_is_counted(self, tmp_path: Path, disk: SlowDisk) -> None:
        cache = DiskCache(tmp_path, 10**8)
        await self.cut_off(cache, disk)
        disk.gate.set()
        entry = await cache.put(KEY, b"other")
        assert (entry.digest, cache.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))

    async def test_a_purge_finds_it(self, tmp_path: Path, disk: SlowDisk) -> None:
        cache = DiskCache(tmp_path, 10**8)
        await self.cut_off(cache, disk)
        purging = asyncio.create_task(cache.purge(ASSET))
        await asyncio.sleep(0)
        disk.gate.set()
        assert await purging == (1, len(DATA))
        assert (cache.size, files(tmp_path)) == (0, [])

    async def test_a_purge_finds_what_only_the_disk_knows(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 10**8)
        kept = (await cache.put(KEY, DATA)).path
        kept.with_name(kept.name[:20] + "0" * 28 + kept.name[48:]).write_bytes(b"stray")
        await cache.put("another/x.jpg", b"other")
        assert await cache.purge(ASSET) == (2, len(DATA) + 5)
        assert [path.read_bytes() for path in files(tmp_path)] == [b"other"]

    async def test_what_is_erased_while_it_is_written_is_gone(self, tmp_path: Path, disk: SlowDisk) -> None:
        cache, denied = DiskCache(tmp_path, 10**8), set[str]()
        edge = EdgeNode(RING, cache, [Counting()], denied=denied, clock=lambda: NOW)
        asking = asyncio.create_task(ask(edge, GOOD))
        await disk.begun.wait()
        denied.add(ASSET)
        purging = asyncio.create_task(cache.purge(ASSET))
        await asyncio.sleep(0)
        disk.gate.set()
        assert await purging == (1, len(DATA))
        assert (await asking).status == 410
        assert files(tmp_path) == []


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_two_pushes_at_once_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other bytes: the second is refused, whichever ends first."""
    disk, keyring = SlowDisk(monkeypatch), Keys([("p1", Secret(bytes(range(32))))])
    cache = DiskCache(tmp_path, 10**8)
    denied = Denied(tmp_path / "denied")
    control = Control("here", keyring, keyring, cache, denied)
    first = asyncio.create_task(push(control, keyring, DATA))
    await disk.begun.wait()
    second = asyncio.create_task(push(control, keyring, DATA[1:]))
    same = asyncio.create_task(push(control, keyring, DATA))
    await asyncio.sleep(0.05)
    disk.gate.set()
    assert [await first, await second, await same] == [201, 409, 201]
    entry = await cache.get(KEY)
    assert entry is not None
    assert entry.path.read_bytes() == DATA


async def push(control: Control, keyring: Keys, data: bytes) -> int:
    """Push the rendition to a node; the status."""
    path, digest = f"{RENDITIONS}{ASSET}/{RECIPE}.jpg", hashlib.sha256(data)
    call = Call(edge="here", method="PUT", path=path, body_sha256=digest.hexdigest())
    headers = {
        b"authorization": authorise(keyring, call, NOW).encode(),
        b"repr-digest": repr_digest(digest.digest()).encode(),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data}

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": "PUT", "raw_path": path.encode(), "headers": list(headers.items())}
    await control(scope, receive, send, NOW)
    return statuses[0]

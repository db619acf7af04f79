"""A real edge node over the wire: what workers push, what home purges, what a kill -9 leaves."""

import asyncio
import hashlib
import os
import random
import socket
import subprocess
import sysconfig
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
import uuid_utils
from typeid import TypeID

from base import keys
from base.edges import PURGE, RENDITIONS, Call, EdgeClient, Purge, authorise, repr_digest
from base.errors import ServiceUnavailable
from base.ids import new_id
from base.settings import Keys, Reader, Secret
from edge.node.settings import ring_of
from imagecore import recipe as recipes
from imagecore.signing import Durable, Ephemeral, Lifetime, Ring, Share

pytestmark = pytest.mark.xdist_group("control")  # what the module makes is made once
RECIPE = recipes.text(recipes.rung(400, "lv8187a"))
DATA = random.Random(3).randbytes(500_000)
WRONG = Keys([("p1", Secret(bytes(range(32))))])


def fresh_id(prefix: str) -> str:
    return str(TypeID.from_uuid(uuid_utils.UUID(bytes=new_id().bytes), prefix=prefix))


def keys_of(env: dict[str, str], name: str) -> Keys:
    return Reader(env).keys(name)


@pytest.fixture(scope="module")
def edge(start: Any) -> Any:
    return start("edge")


@pytest.fixture(scope="module")
def ring(stack_env: dict[str, str]) -> Ring:
    """Verifying keys of this stack sign as well: the test is the minter."""
    names = {Lifetime.EPHEMERAL: "EPHEMERAL", Lifetime.SHARE: "SHARE", Lifetime.DURABLE: "DURABLE"}
    return ring_of({life: keys_of(stack_env, f"TIRAGE_EDGE_KEYS_{name}") for life, name in names.items()})


@pytest.fixture
async def worker(edge: Any) -> Any:
    client = EdgeClient(edge.url, keys_of(edge.env, "TIRAGE_EDGE_PUSH_KEYS"))
    yield client
    await client.close()


@pytest.fixture
async def home(edge: Any) -> Any:
    client = EdgeClient(edge.url, keys_of(edge.env, "TIRAGE_EDGE_PURGE_KEYS"))
    yield client
    await client.close()


def get(edge: Any, path: str, **headers: str) -> httpx.Response:
    return httpx.get(edge.url + path, headers=headers)


class TestPush:
    async def test_pushed_bytes_are_a_hit(self, edge: Any, ring: Ring, worker: EdgeClient) -> None:
        asset = fresh_id("ast")
        assert await worker.push(asset, RECIPE, "jpg", DATA)
        assert await worker.push(asset, RECIPE, "jpg", DATA)
        answer = get(edge, ring.sign(Durable(asset=asset, recipe=RECIPE)))
        assert (answer.status_code, answer.content) == (200, DATA)
        assert answer.headers["cache-status"] == "tirage-edge; hit"
        assert not any("amz" in name or "seaweed" in name for name in answer.headers)

    async def test_what_stands_is_never_replaced(self, edge: Any, ring: Ring, worker: EdgeClient) -> None:
        asset = fresh_id("ast")
        assert await worker.push(asset, RECIPE, "jpg", DATA)
        assert not await worker.push(asset, RECIPE, "jpg", DATA[1:])
        assert get(edge, ring.sign(Durable(asset=asset, recipe=RECIPE))).content == DATA

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"keys": WRONG}, 401),
            ({"keys": "TIRAGE_EDGE_PURGE_KEYS"}, 401),
            ({"edge": "127.0.0.1:1"}, 401),
            ({"at": -400}, 401),
            ({"at": 400}, 401),
            ({"signed_path": RENDITIONS + "x"}, 401),
            ({"signed_body": b"other"}, 401),
            ({"authorization": None}, 401),
            ({"body": DATA[1:]}, 400),
            ({"extension": "webp"}, 400),
            ({"recipe": RECIPE.replace("400x400", "0400x400")}, 400),
            ({"query": "?a=1"}, 404),
            ({"method": "POST"}, 404),
        ],
        ids=str,
    )
    async def test_a_false_call_changes_nothing(self, edge: Any, change: dict[str, Any], status: int) -> None:
        asset = fresh_id("ast")
        answer = self.call(edge, asset, change)
        assert answer.status_code == status
        assert [file for file in _files(edge) if file.name.startswith(_prefix(asset))] == []

    def call(self, edge: Any, asset: str, change: dict[str, Any]) -> httpx.Response:
        keys = change.get("keys", "TIRAGE_EDGE_PUSH_KEYS")
        keys = keys_of(edge.env, keys) if isinstance(keys, str) else keys
        method = change.get("method", "PUT")
        path = f"{RENDITIONS}{asset}/{change.get('recipe', RECIPE)}.{change.get('extension', 'jpg')}"
        signed = hashlib.sha256(change.get("signed_body", DATA)).hexdigest()
        now = int(time.time()) + change.get("at", 0)
        signed_call = Call(
            edge=change.get("edge", f"127.0.0.1:{edge.port}"),
            method=method,
            path=change.get("signed_path", path),
            body_sha256=signed,
        )
        headers = {
            "authorization": authorise(keys, signed_call, now),
            "repr-digest": repr_digest(hashlib.sha256(DATA).digest()),
        }
        if "authorization" in change:
            del headers["authorization"]
        url = edge.url + path + change.get("query", "")
        return httpx.request(method, url, content=change.get("body", DATA), headers=headers)

    async def test_a_worker_cannot_purge(self, worker: EdgeClient) -> None:
        with pytest.raises(ServiceUnavailable, match="401"):
            await worker.purge(Purge(shares=(fresh_id("shr"),)))


class TestPurge:
    async def test_an_erased_asset_is_gone_for_good(
        self, edge: Any, ring: Ring, worker: EdgeClient, home: EdgeClient
    ) -> None:
        asset, other = fresh_id("ast"), fresh_id("ast")
        for each in (asset, other):
            assert await worker.push(each, RECIPE, "jpg", DATA)
        receipt = await home.purge(Purge(assets=(asset,)))
        assert [(p.asset, p.files, p.bytes) for p in receipt.assets] == [(asset, 1, len(DATA))]
        assert receipt.node == f"127.0.0.1:{edge.port}"
        assert [file for file in _files(edge) if file.name.startswith(_prefix(asset))] == []
        assert not await worker.push(asset, RECIPE, "jpg", DATA)
        edge.kill()
        edge.start()
        gone = get(edge, ring.sign(Durable(asset=asset, recipe=RECIPE)))
        assert (gone.status_code, gone.text) == (410, "erased\n")
        assert get(edge, ring.sign(Durable(asset=other, recipe=RECIPE))).content == DATA
        again = await home.purge(Purge(assets=(asset,)))
        assert [(p.files, p.bytes) for p in again.assets] == [(0, 0)]

    async def test_a_revoked_share_leaves_other_ways_open(
        self, edge: Any, ring: Ring, worker: EdgeClient, home: EdgeClient
    ) -> None:
        asset, share, other = fresh_id("ast"), fresh_id("shr"), fresh_id("shr")
        assert await worker.push(asset, RECIPE, "jpg", DATA)
        paths = [ring.sign(Share(asset=asset, recipe=RECIPE, share=each)) for each in (share, other)]
        await home.purge(Purge(total=0))
        assert [get(edge, path).status_code for path in paths] == [200, 200]
        assert (await home.purge(Purge(shares=(share,)))).shares == (share,)
        assert [get(edge, path).status_code for path in paths] == [410, 200]
        edge.kill()
        edge.start()
        assert [get(edge, path).status_code for path in paths] == [410, 503]
        await home.purge(Purge(total=1))
        assert [get(edge, path).status_code for path in paths] == [410, 200]

    async def test_a_withdrawn_picture_leaves_its_owner_what_they_see(
        self, edge: Any, ring: Ring, worker: EdgeClient, home: EdgeClient
    ) -> None:
        asset, now = fresh_id("ast"), int(time.time())
        assert await worker.push(asset, RECIPE, "jpg", DATA)
        public = ring.sign(Durable(asset=asset, recipe=RECIPE))
        own = ring.sign(Ephemeral(asset=asset, recipe=RECIPE, expires=now + 600))
        assert [get(edge, path).status_code for path in (public, own)] == [200, 200]
        picture = keys.picture(asset)
        assert (await home.purge(Purge(pictures=(picture,)))).pictures == (picture,)
        assert [get(edge, path).status_code for path in (public, own)] == [410, 200]

    async def test_a_new_edge_serves_no_share_until_its_list_has_come(
        self, edge: Any, start: Any, ring: Ring, worker: EdgeClient
    ) -> None:
        fresh, asset, share = start("edge"), fresh_id("ast"), fresh_id("shr")
        client = EdgeClient(fresh.url, keys_of(fresh.env, "TIRAGE_EDGE_PURGE_KEYS"))
        pushing = EdgeClient(fresh.url, keys_of(fresh.env, "TIRAGE_EDGE_PUSH_KEYS"))
        assert await pushing.push(asset, RECIPE, "jpg", DATA)
        path = ring.sign(Share(asset=asset, recipe=RECIPE, share=share))
        answer = get(fresh, path)
        assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (
            *(503, "not-listed-yet\n"),
            "no-store",
        )
        assert int(answer.headers["retry-after"]) > 0
        assert not (await client.purge(Purge(total=2))).listed  # home knows of more than this edge was told
        assert get(fresh, path).status_code == 503
        assert (await client.purge(Purge(shares=(share, fresh_id("shr")), total=2))).listed
        assert get(fresh, path).status_code == 410

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'{"assets":["../x"]}', b'{"shares":["ast_01m86bj0xee1ere2xz744049w7"]}', b'{"owner":"x"}']
    )
    async def test_a_malformed_purge_changes_nothing(self, edge: Any, body: bytes) -> None:
        headers = signed_purge(edge, body)
        denied = Path(edge.env["TIRAGE_EDGE_CACHE"] + ".denied")
        before = denied.read_bytes() if denied.exists() else None
        assert httpx.post(edge.url + PURGE, content=body, headers=headers).status_code == 400
        assert (denied.read_bytes() if denied.exists() else None) == before

    async def test_a_call_to_one_edge_is_none_to_another(self, edge: Any, start: Any) -> None:
        other, body = start("edge"), b'{"total":0}'
        headers = signed_purge(edge, body)
        told = [httpx.post(each.url + PURGE, content=body, headers=headers) for each in (other, edge)]
        assert [answer.status_code for answer in told] == [401, 200]


def signed_purge(edge: Any, body: bytes) -> dict[str, str]:
    """The headers of a purge call to an edge."""
    keys, digest = keys_of(edge.env, "TIRAGE_EDGE_PURGE_KEYS"), hashlib.sha256(body)
    call = Call(edge=f"127.0.0.1:{edge.port}", method="POST", path=PURGE, body_sha256=digest.hexdigest())
    return {"authorization": authorise(keys, call, int(time.time())), "repr-digest": repr_digest(digest.digest())}


class TestWire:
    """What only a real server shows: raw bytes of a path, files sent by the server, ranges, restarts."""

    async def test_whole_part_head_and_known(self, edge: Any, ring: Ring, worker: EdgeClient) -> None:
        asset = fresh_id("ast")
        await worker.push(asset, RECIPE, "jpg", DATA)
        path = ring.sign(Durable(asset=asset, recipe=RECIPE))
        whole = get(edge, path)
        assert whole.content == DATA
        assert whole.headers["repr-digest"] == f"sha-256=:{b64encode(hashlib.sha256(DATA).digest()).decode()}:"
        part = get(edge, path, range="bytes=1000-400999")
        assert (part.status_code, part.content) == (206, DATA[1000:401_000])
        head = httpx.head(edge.url + path)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(DATA)), b"")
        assert get(edge, path, **{"if-none-match": whole.headers["etag"]}).status_code == 304

    @pytest.mark.parametrize(
        ("lifetime", "count"),
        [
            (Lifetime.DURABLE, 10_000),
            *(pytest.param(each, 100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)]) for each in Lifetime),
        ],
    )
    async def test_one_spelling_on_the_wire(
        self, edge: Any, ring: Ring, worker: EdgeClient, home: EdgeClient, lifetime: Lifetime, count: int
    ) -> None:
        """So many other targets, each as a client may put it on the wire: all 404, nothing fetched or kept."""
        asset, expires = fresh_id("ast"), int(time.time()) + 3600
        await worker.push(asset, RECIPE, "jpg", DATA)
        path = ring.sign(
            {
                Lifetime.EPHEMERAL: Ephemeral(asset=asset, recipe=RECIPE, expires=expires),
                Lifetime.SHARE: Share(asset=asset, recipe=RECIPE, share=fresh_id("shr")),
                Lifetime.DURABLE: Durable(asset=asset, recipe=RECIPE),
            }[lifetime]
        )
        assert (await home.purge(Purge(total=0))).listed  # only then are shares served
        before = _files(edge)
        wrong = _other_targets(path, count)
        statuses = await asyncio.to_thread(_statuses, edge.port, wrong)
        assert len(statuses) >= count
        assert {each: status for each, status in statuses.items() if status != 404} == {}
        assert _statuses(edge.port, [path]) == {path: 200}
        assert _files(edge) == before

    @pytest.mark.parametrize(("byte", "status"), [(" ", 400), ("\n", 400), ("\t", 404), ("\x00", 404), ("\x7f", 404)])
    async def test_what_is_no_target_is_no_request(
        self, edge: Any, ring: Ring, worker: EdgeClient, byte: str, status: int
    ) -> None:
        """A space or a line's end in it ends the target: no request line then (RFC 9112 section 3)."""
        asset = fresh_id("ast")
        await worker.push(asset, RECIPE, "jpg", DATA)
        path = ring.sign(Durable(asset=asset, recipe=RECIPE))
        for wrong in (path[:40] + byte + path[40:], path + byte + "x"):
            with socket.create_connection(("127.0.0.1", edge.port)) as wire:
                assert _status(wire, wrong) == (status, True)

    async def test_cache_survives_a_kill_and_checks_what_it_finds(
        self, edge: Any, ring: Ring, worker: EdgeClient
    ) -> None:
        kept, torn = fresh_id("ast"), fresh_id("ast")
        for asset in (kept, torn):
            await worker.push(asset, RECIPE, "jpg", DATA)
        edge.kill()
        file = next(file for file in _files(edge) if file.name.startswith(_prefix(torn)))
        os.truncate(file, 1000)
        edge.start()
        paths = [ring.sign(Durable(asset=asset, recipe=RECIPE)) for asset in (kept, torn)]
        first, second = [get(edge, path) for path in paths]
        assert (first.status_code, first.content) == (200, DATA)
        assert second.status_code in (404, 503)  # it was in no bucket, and this stack has no origin

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({}, ["in use"]),
            (
                {"TIRAGE_EDGE_KEYS_SHARE": "", "TIRAGE_EDGE_PUSH_KEYS": "p1:", "TIRAGE_EDGE_CACHE_MIB": "0"},
                ["TIRAGE_EDGE_KEYS_SHARE is not set", "TIRAGE_EDGE_PUSH_KEYS", "TIRAGE_EDGE_CACHE_MIB"],
            ),
        ],
        ids=["taken-port", "faults"],
    )
    async def test_does_not_start(self, edge: Any, variables: dict[str, str], words: list[str]) -> None:
        command = [Path(sysconfig.get_path("scripts")) / "tirage", "edge"]
        run = subprocess.run(command, env={**edge.env, **variables}, capture_output=True, text=True, timeout=30)
        assert run.returncode != 0
        assert [word for word in words if word not in run.stderr] == []


def _other_targets(path: str, count: int) -> list[str]:
    """Targets that differ from a good path by one or two bytes, or in the ways a URL can be spelled otherwise."""
    random_ = random.Random(11)
    wrong = {path + end for end in ("?", "??", "?a", "?a=1", "#", "#x", "?#", "/", ".", "%00", ";", "&")}
    wrong |= {f"{scheme}://{host}{path}" for scheme in ("http", "HTTP", "https") for host in ("edge", "127.0.0.1")}
    life = path[1]
    begins = (f"/%{ord(life):x}/", f"//{life}/", f"/./{life}/", f"/x/../{life}/", f"/{life.upper()}/", f"{life}/")
    wrong |= {begin + path[3:] for begin in (*begins, f"/{life}//")}
    wrong |= {"/." + path, "/" + path, path.upper(), path.replace("_", "%5f"), path.replace("_", "%5F"), path[1:], "*"}
    while len(wrong) < count:
        other = path
        for _ in range(random_.randint(1, 2)):
            at, one = random_.randrange(len(other)), random_.choice("abcdef0123456789._-~/%?#AZ:@\x80é")
            cut = random_.randrange(3)
            other = other[:at] + (one, one, "")[cut] + other[at + (0, 1, 1)[cut] :]
        wrong |= {other} - {path, ""}
    return sorted(wrong)


def _statuses(port: int, paths: list[str]) -> dict[str, int]:
    """The status of each, over one connection as long as the node keeps it."""
    found: dict[str, int] = {}
    wire = socket.create_connection(("127.0.0.1", port))
    for path in paths:
        found[path], closes = _status(wire, path)
        if closes:  # after a target that is in no form of HTTP's
            wire.close()
            wire = socket.create_connection(("127.0.0.1", port))
    wire.close()
    return found


def _prefix(asset: str) -> str:
    """How the names of an asset's files begin."""
    return hashlib.sha256(asset.encode()).hexdigest()[:16]


def _files(edge: Any) -> set[Path]:
    return {path for path in Path(edge.env["TIRAGE_EDGE_CACHE"]).rglob("*") if path.is_file()}


def _status(wire: socket.socket, path: str) -> tuple[int, bool]:
    """The status, and whether the node closes the connection after it."""
    wire.sendall(f"GET {path} HTTP/1.1\r\nhost: edge\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += wire.recv(4096)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(next(line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length")))
    while len(body) < length:
        body += wire.recv(4096)
    return int(answer.split()[1]), b"connection: close" in head.lower()

"""What RFC 9110, 9111, 9211 and 9530 ask of the edge, case by case, over the wire of a real process.

The npm suite `http-cache-tests` puts a cache before an origin of its own and asks for paths of its own. This node is no
cache for others: it answers signed paths only, as the origin of them. So the cases are a table of ours.
"""

import hashlib
import re
from base64 import b64encode
from typing import Any

import httpx
import pytest

from base.edges import EdgeClient, Purge
from base.settings import Reader
from edge.node.settings import ring_of
from imagecore import recipe as recipes
from imagecore.signing import Durable, Ephemeral, Lifetime, Ring, Share

pytestmark = pytest.mark.xdist_group("http")  # what the module makes is made once
ASSET = "ast_01m86bj0xee1ere2xz744049w7"
SHARE = "shr_01m86bj0xee1ere2xz744049w7"
RECIPE = recipes.text(recipes.rung(800, "lv8187a"))
DATA = bytes(range(256)) * 300
SIZE = len(DATA)
DIGEST = hashlib.sha256(DATA)
TAG = f'"{DIGEST.hexdigest()[:32]}"'
OTHER = '"0000"'
LATER = "Tue, 24 Nov 2099 00:00:00 GMT"
YEAR = 31_536_000


class Edge:
    """One edge process that has one picture; `ask` sends header lines as they are given."""

    def __init__(self, running: Any) -> None:
        self.running = running
        read = Reader(running.env)
        self.ring: Ring = ring_of({life: read.keys(f"TIRAGE_EDGE_KEYS_{life.name}") for life in Lifetime})
        self.path = self.ring.sign(Durable(asset=ASSET, recipe=RECIPE))

    async def fill(self) -> None:
        for keys, call in (("PUSH", "push"), ("PURGE", "purge")):
            client = EdgeClient(self.running.url, Reader(self.running.env).keys(f"TIRAGE_EDGE_{keys}_KEYS"))
            if call == "push":
                assert await client.push(ASSET, RECIPE, "jpg", DATA)
            else:
                await client.purge(Purge(total=0))
            await client.close()

    def ask(self, *lines: tuple[str, str], method: str = "GET", path: str = "") -> httpx.Response:
        return httpx.request(method, self.running.url + (path or self.path), headers=list(lines))


@pytest.fixture(scope="module")
async def edge(start: Any) -> Edge:
    made = Edge(start("edge"))
    await made.fill()
    return made


Part = tuple[int, int]
RANGES: list[tuple[str, str, int, Part]] = [
    ("first byte", "bytes=0-0", 206, (0, 1)),
    ("middle", "bytes=100-299", 206, (100, 300)),
    ("open end", f"bytes={SIZE - 5}-", 206, (SIZE - 5, SIZE)),
    ("suffix", "bytes=-7", 206, (SIZE - 7, SIZE)),
    ("suffix longer than all", f"bytes=-{SIZE + 9}", 206, (0, SIZE)),
    ("end beyond the end", f"bytes=10-{SIZE + 10}", 206, (10, SIZE)),
    ("begin beyond the end", f"bytes={SIZE}-", 416, (0, 0)),
    ("empty suffix", "bytes=-0", 416, (0, 0)),
    ("end before begin is no range", "bytes=9-3", 200, (0, SIZE)),
    ("another unit", "pages=1-2", 200, (0, SIZE)),
    ("no number", "bytes=a-b", 200, (0, SIZE)),
    ("neither end", "bytes=-", 200, (0, SIZE)),
    ("several are answered whole", "bytes=0-1,5-6", 200, (0, SIZE)),
]


class TestRanges:
    """RFC 9110 section 14."""

    @pytest.mark.parametrize(("range_", "status", "part"), [c[1:] for c in RANGES], ids=[c[0] for c in RANGES])
    def test_range(self, edge: Edge, range_: str, status: int, part: Part) -> None:
        answer = edge.ask(("Range", range_))
        assert answer.status_code == status
        if status == 416:
            assert answer.headers["content-range"] == f"bytes */{SIZE}"
            return
        begin, end = part
        assert answer.content == DATA[begin:end]
        assert answer.headers["content-length"] == str(end - begin)
        told = f"bytes {begin}-{end - 1}/{SIZE}" if status == 206 else None
        assert answer.headers.get("content-range") == told
        assert answer.headers["accept-ranges"] == "bytes"

    @pytest.mark.parametrize(
        ("validator", "status"), [(TAG, 206), (OTHER, 200), (f"W/{TAG}", 200), ("Tue, 24 Nov 2026 00:00:00 GMT", 200)]
    )
    def test_if_range_needs_the_strong_validator(self, edge: Edge, validator: str, status: int) -> None:
        """Section 13.1.5."""
        assert edge.ask(("Range", "bytes=0-9"), ("If-Range", validator)).status_code == status

    def test_a_range_is_for_get_only(self, edge: Edge) -> None:
        """Section 14.2."""
        answer = edge.ask(("Range", "bytes=0-9"), method="HEAD")
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(SIZE))

    def test_a_failed_condition_comes_before_a_range(self, edge: Edge) -> None:
        """Section 13.2.2."""
        assert edge.ask(("Range", "bytes=0-9"), ("If-None-Match", TAG)).status_code == 304
        assert edge.ask(("Range", "bytes=0-9"), ("If-Match", OTHER)).status_code == 412


CONDITIONS: list[tuple[str, list[tuple[str, str]], int]] = [
    ("known", [("If-None-Match", TAG)], 304),
    ("known, weakly", [("If-None-Match", f"W/{TAG}")], 304),
    ("known among others", [("If-None-Match", f"{OTHER}, {TAG}")], 304),
    ("known in a later line", [("If-None-Match", TAG), ("If-None-Match", OTHER)], 304),
    ("anything", [("If-None-Match", "*")], 304),
    ("unknown", [("If-None-Match", OTHER)], 200),
    ("no tag", [("If-None-Match", TAG.strip('"'))], 200),
    ("none-match decides, not the date", [("If-None-Match", OTHER), ("If-Modified-Since", LATER)], 200),
    ("a date without one of ours", [("If-Modified-Since", LATER)], 200),
    ("match", [("If-Match", TAG)], 200),
    ("match anything", [("If-Match", "*")], 200),
    ("no match", [("If-Match", OTHER)], 412),
    ("match is strong", [("If-Match", f"W/{TAG}")], 412),
    ("match comes first", [("If-Match", OTHER), ("If-None-Match", TAG)], 412),
]  # fmt: skip


class TestConditions:
    """RFC 9110 section 13."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(("lines", "status"), [c[1:] for c in CONDITIONS], ids=[c[0] for c in CONDITIONS])
    def test_condition(self, edge: Edge, lines: list[tuple[str, str]], status: int, method: str) -> None:
        answer = edge.ask(*lines, method=method)
        assert answer.status_code == status
        if status == 304:
            assert answer.content == b""
            assert answer.headers["etag"] == TAG

    def test_304_renews_what_a_cache_keeps(self, edge: Edge) -> None:
        """Section 15.4.5: the fields a 200 would have had, but none of the content."""
        whole, known = edge.ask(), edge.ask(("If-None-Match", TAG))
        for name in ("cache-control", "cdn-cache-control", "etag", "repr-digest", "access-control-allow-origin"):
            assert known.headers[name] == whole.headers[name]
        assert "date" in known.headers
        assert {"content-type", "content-length", "content-range"} & set(known.headers) == set()


class TestMethods:
    def test_head_is_get_without_content(self, edge: Edge) -> None:
        """RFC 9110 section 9.3.2."""
        whole, head = edge.ask(), edge.ask(method="HEAD")
        assert (head.status_code, head.content) == (200, b"")
        ignored = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in whole.headers.items() if k not in ignored
        }

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    def test_others_are_refused_and_told_what_is_allowed(self, edge: Edge, method: str) -> None:
        """Section 15.5.6."""
        answer = edge.ask(method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


class TestCaching:
    """RFC 9111, 8246, 9211, 9213, 9530."""

    def test_freshness_by_lifetime(self, edge: Edge) -> None:
        now = 2_000_000_000
        paths = {
            "durable": edge.path,
            "share": edge.ring.sign(Share(asset=ASSET, recipe=RECIPE, share=SHARE)),
            "ephemeral": edge.ring.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=now)),
        }
        told = {name: edge.ask(path=path).headers for name, path in paths.items()}
        assert told["durable"]["cache-control"] == f"public, max-age={YEAR}, immutable"
        assert told["share"]["cache-control"] == "public, max-age=300"
        assert told["ephemeral"]["cache-control"].startswith("private, max-age=")
        assert "stale-if-error" in told["durable"]["cdn-cache-control"]
        assert {"stale-if-error" in told[name]["cdn-cache-control"] for name in ("share", "ephemeral")} == {False}

    def test_an_answer_is_made_now(self, edge: Edge) -> None:
        """Section 5.1: the node is the origin of its paths and counts what is left of them itself, so nothing ages."""
        answer = edge.ask()
        assert "age" not in answer.headers
        assert "last-modified" not in answer.headers
        assert "expires" not in answer.headers

    def test_cache_status_and_digest(self, edge: Edge) -> None:
        answer = edge.ask()
        assert answer.headers["cache-status"] == "tirage-edge; hit"
        assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(DIGEST.digest()).decode()}:"
        part = edge.ask(("Range", "bytes=0-9"))
        assert part.headers["repr-digest"] == answer.headers["repr-digest"]  # of the whole representation

    @pytest.mark.parametrize(
        "line",
        [
            ("Accept", "image/avif"),
            ("Accept", "text/html"),
            ("Accept-Encoding", "br, gzip"),
            ("Accept-Language", "de"),
            ("Cookie", "a=b"),
            ("Origin", "https://elsewhere.example"),
            ("Authorization", "Bearer x"),
            ("Sec-CH-DPR", "3"),
        ],
        ids=lambda line: line[0],
    )
    def test_nothing_is_negotiated(self, edge: Edge, line: tuple[str, str]) -> None:
        """Section 4.1: one target, one representation, so no Vary and no difference."""
        plain, asked = edge.ask(), edge.ask(line)
        assert asked.content == plain.content == DATA
        assert asked.headers["content-type"] == "image/jpeg"
        assert "vary" not in asked.headers
        assert "set-cookie" not in asked.headers
        assert asked.headers["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize(
        "line", [("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Cache-Control", "max-age=0")]
    )
    def test_nobody_makes_us_fetch_again(self, edge: Edge, line: tuple[str, str]) -> None:
        """Section 5.2.1: request directives are advice; what is immutable needs no other look."""
        assert edge.ask(line).headers["cache-status"] == "tirage-edge; hit"

    def test_refusals_are_kept_shortly_or_not_at_all(self, edge: Edge) -> None:
        last = "1" if edge.path[-5] == "0" else "0"
        wrong = edge.ask(path=f"{edge.path[:-5]}{last}.jpg")
        assert (wrong.status_code, wrong.headers["cache-control"]) == (404, "max-age=60")
        for status in (412, 416):
            line = ("If-Match", OTHER) if status == 412 else ("Range", f"bytes={SIZE}-")
            found = edge.ask(line).headers.get("cache-control", "")
            assert "immutable" not in found
            assert re.search(r"max-age=\d{4,}", found) is None


async def test_what_is_kept_is_served_while_everything_behind_is_away(start: Any) -> None:
    """RFC 5861 section 4, and more than it: what is immutable never becomes stale."""
    away = "http://127.0.0.1:9"
    edge = Edge(start("edge", TIRAGE_ORIGIN_URL=away, TIRAGE_S3_ENDPOINT=away))
    await edge.fill()
    answer = edge.ask()
    assert (answer.status_code, answer.content) == (200, DATA)
    missing = edge.ring.sign(Durable(asset=ASSET, recipe=recipes.text(recipes.rung(400, "lv8187a"))))
    lost = edge.ask(path=missing)
    assert (lost.status_code, int(lost.headers["retry-after"]) > 0) == (503, True)
    assert "max-age" not in lost.headers.get("cache-control", "")

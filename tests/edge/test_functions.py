"""The scripts for other edges, each run by its own kind of engine over the vector file (make interop)."""

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from base import keys
from imagecore.signing import Durable, Lifetime, Ring

pytestmark = pytest.mark.interop

FUNCTIONS = Path(__file__).parents[2] / "edge" / "functions"
VECTORS = json.loads((FUNCTIONS / "vectors.json").read_text())
CASES: list[dict[str, str]] = VECTORS["cases"]
GONE = ("expired", "revoked", "withdrawn", "erased")
TOLD = {"good": "good", "refused": "refused", **dict.fromkeys(GONE, "gone")}
STATUS = {"good": 200, "refused": 404, **dict.fromkeys(GONE, 410)}
READS = ("GET", "HEAD")
OTHERS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DATA = b"picture" * 6000
VALID = "365d"


def install(*packages: str) -> None:
    """Debian packages, where they are missing; says so."""
    known = [subprocess.run(["dpkg", "-s", package], capture_output=True).returncode for package in packages]
    if any(known):
        print(f"installing {', '.join(packages)}")
        subprocess.run(["apt-get", "install", "-y", "-q", *packages], check=True, capture_output=True)


def ring_of_vectors() -> Ring:
    """The vectors' keys sign as well: the test mints paths of its own."""
    given: dict[Lifetime, list[tuple[str, bytes]]] = {}
    for name, key in VECTORS["keys"].items():
        life, _, kid = name.partition(".")
        given.setdefault(Lifetime(life), []).append((kid, bytes.fromhex(key)))
    return Ring(given)


def verdict(ring: Ring, target: str) -> str:
    found = ring.verify(target.encode(), VECTORS["now"])
    if found is None:
        return "refused"
    if found.expired:
        return "expired"
    picture = keys.picture(found.asset) if found.lifetime is Lifetime.DURABLE else None
    return "gone" if {found.share, picture, found.asset} & set(VECTORS["denied"]) else "good"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("node") is None:
        install("nodejs")
    folder = tmp_path_factory.mktemp("functions")
    shutil.copy(FUNCTIONS / "cloudfront.js", folder)
    shutil.copy(FUNCTIONS / "worker.js", folder / "worker.mjs")
    runner = Path(__file__).with_name("functions_runner.mjs")
    command = ["node", runner, folder, FUNCTIONS / "vectors.json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, Any] = json.loads(run.stdout)
    assert len(found["cases"]) == len(CASES)
    return found


@pytest.fixture
def results(ran: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ran["cases"]
    return found


class TestScripts:
    def test_cloudfront_has_the_same_verdicts(self, results: list[dict[str, Any]]) -> None:
        told = [(case["path"], TOLD[case["verdict"]]) for case in CASES]
        assert [(path, result["cloudfront"]) for (path, _), result in zip(told, results, strict=True)] == told

    def test_worker_has_the_same_verdicts(self, results: list[dict[str, Any]]) -> None:
        """For the target that its platform hands it, which is the one sent but for dot segments and the like."""
        ring, same, told = ring_of_vectors(), 0, {**TOLD, "gone": "gone"}
        for case, result in zip(CASES, results, strict=True):
            target = result["worker"]["target"]
            same += target == case["path"]
            expected = case["verdict"] if target == case["path"] else verdict(ring, target)
            assert (target, result["worker"]["status"]) == (target, told[expected])
        assert same >= 500

    def test_worker_tells_all_apart(self, results: list[dict[str, Any]]) -> None:
        assert [result["verdict"] for result in results] == [case["verdict"] for case in CASES]

    @pytest.mark.parametrize("script", ["cloudfront", "worker"])
    def test_methods_are_the_node_s(self, ran: dict[str, Any], script: str) -> None:
        """Two are passed on as they are; others are told so whatever they ask for."""
        good = {method: told[script] for method, told in ran["good"].items()}
        assert {method: good.pop(method) for method in READS} == {method: [200, None, method] for method in READS}
        assert good == {method: [405, "GET, HEAD", None] for method in OTHERS}
        refused = {method: told[script] for method, told in ran["refused"].items()}
        assert {method: refused.pop(method) for method in READS} == {method: [404, None, None] for method in READS}
        assert refused == good

    def test_without_keys_everything_is_refused(self, results: list[dict[str, Any]]) -> None:
        assert Counter(result["unconfigured"] for result in results) == {"refused": len(CASES)}


class Upstream(ThreadingHTTPServer):
    """Counts what it is asked; slow enough to be asked twice if nobody waits; can be told another status."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        time.sleep(0.1)
        self.server.gate.wait(20)
        self.send_response(self.server.status)
        for name, value in (
            ("Content-Type", "image/jpeg"),
            ("Content-Length", str(len(DATA))),
            ("Cache-Control", "private, max-age=3, immutable"),
            ("Cache-Status", "tirage-edge; hit"),
            ("ETag", '"abc"'),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: Any) -> None:
        pass


class Nginx:
    """The tested file with its blanks filled in; `valid` is how long a picture is fresh, if not as the file says."""

    def __init__(
        self, folder: Path, upstream: int, keys: dict[str, str], denied: list[str], valid: str = VALID
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        text = (FUNCTIONS / "nginx.conf").read_text()
        for name, value in {
            "LISTEN": f"127.0.0.1:{self.port}",
            "UPSTREAM": f"127.0.0.1:{upstream}",
            "CACHE": str(folder),
            "FUNCTIONS": str(FUNCTIONS),
            "KEYS": str(folder / "keys.map"),
            "DENIED": str(folder / "denied.map"),
        }.items():
            text = text.replace(f"${{{name}}}", value)
        assert text.count(f"proxy_cache_valid 200 {VALID};") == 1
        text = text.replace(f"proxy_cache_valid 200 {VALID};", f"proxy_cache_valid 200 {valid};")
        text = text.replace("load_module modules/", "load_module /usr/lib/nginx/modules/")
        (folder / "nginx.conf").write_text("user root;\n" + text)
        (folder / "denied.map").write_text("".join(f"{id_} 1;\n" for id_ in denied))
        (folder / "keys.map").write_text("".join(f'{name} "{key}";\n' for name, key in keys.items()))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """At the vectors' own time: no expiry of the file is left to the real clock."""
        then = datetime.fromtimestamp(VECTORS["now"], UTC).strftime("@%Y-%m-%d %H:%M:%S")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        env = {"PATH": "/usr/sbin:/usr/bin", "TZ": "UTC", "FAKETIME": then, "LD_PRELOAD": str(library)}
        command = ["nginx", "-c", str(self.folder / "nginx.conf"), "-g", "daemon off;"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, env=env, stderr=log)

    def wait(self) -> None:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return
        raise AssertionError("nginx does not listen")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def ask(self, target: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """One request with the target as it is: no client may tidy it up."""
        with socket.create_connection(("127.0.0.1", self.port)) as wire:
            head = "".join(f"{header}\r\n" for header in ("host: edge", "connection: close", *headers))
            wire.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
            with wire.makefile("rb") as answer:
                status = int(answer.readline().split()[1])
                lines = list(iter(lambda: answer.readline().decode().rstrip(), ""))
                found = dict(line.lower().split(": ", 1) for line in lines)
                assert len(found) == len(lines), lines
                # Not to the end: nginx closes only after what it fetches in the background.
                has_body = method != "HEAD" and status != 304
                return status, found, answer.read(int(found["content-length"])) if has_body else b""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def nginx(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    install("nginx", "libnginx-mod-http-js", "faketime")
    folder = tmp_path_factory.mktemp("nginx")
    started = Nginx(folder, upstream.server_port, VECTORS["keys"], VECTORS["denied"])
    started.start()
    started.wait()
    yield started
    started.stop()


@pytest.fixture
def ageing(nginx: Nginx, upstream: Upstream, tmp_path: Path) -> Iterator[Nginx]:
    """nginx with the same file, but for pictures that are fresh for a second."""
    started = Nginx(tmp_path, upstream.server_port, VECTORS["keys"], VECTORS["denied"], valid="1s")
    started.start()
    started.wait()
    yield started
    started.stop()


def fresh_path(like: str) -> str:
    """A good path of an asset that nobody has asked for, of the same recipe."""
    asset = "ast_" + "".join(random.choices("0123456789", k=26))
    return ring_of_vectors().sign(Durable(asset=asset, recipe=like.split("/")[-2]))


def cached(nginx: Nginx, path: str) -> tuple[int, str, bool]:
    """Status, what nginx's cache says of it, and whether the picture came whole."""
    status, headers, body = nginx.ask(path)
    return status, headers["cache-status"].removeprefix("tirage-nginx; detail="), body == DATA


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestNginx:
    def good(self, lifetime: str, nth: int = 0) -> str:
        found = [c["path"] for c in CASES if c["verdict"] == "good" and c["path"].startswith(f"/{lifetime}/u2/")]
        return found[nth]

    def test_same_verdicts(self, nginx: Nginx, upstream: Upstream) -> None:
        before = sum(upstream.asked.values())
        wrong = []
        sendable = [case for case in CASES if not set(case["path"]) & set(" \n") and case["path"].isascii()]
        for case in sendable:
            status = nginx.ask(case["path"], method="HEAD")[0]
            # nginx itself refuses some targets that are no URI at all, before any script.
            if status != STATUS[case["verdict"]] and not (case["verdict"] == "refused" and status == 400):
                wrong.append((case["path"], case["verdict"], status))
        assert wrong == []
        assert len(sendable) >= 500
        renditions = {tuple(path.split("/")[-3:-1]) for path in (c["path"] for c in sendable if c["verdict"] == "good")}
        assert sum(upstream.asked.values()) - before <= len(renditions)

    def test_it_says_why_a_path_is_gone(self, nginx: Nginx) -> None:
        gone = [(case["path"], case["verdict"]) for case in CASES if case["verdict"] in GONE]
        assert {verdict for _, verdict in gone} == set(GONE)
        assert [(path, nginx.ask(path)[2].decode()) for path, _ in gone] == [(path, f"{why}\n") for path, why in gone]

    def test_an_empty_query_is_another_spelling(self, nginx: Nginx) -> None:
        assert [nginx.ask(self.good("d") + more)[0] for more in ("", "?", "#", "?a")] == [200, 404, 404, 404]

    def test_many_cold_requests_are_one(self, nginx: Nginx, upstream: Upstream) -> None:
        fresh = ring_of_vectors().sign(Durable(asset="ast_" + "0" * 26, recipe=self.good("d").split("/")[-2]))
        asked = sum(upstream.asked.values())
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda: statuses.append(nginx.ask(fresh)[0])) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(statuses) == {200: 40}
        assert sum(upstream.asked.values()) - asked == 1

    def test_what_a_client_may_keep_is_its_own_path_s(self, nginx: Nginx) -> None:
        durable, shared, ephemeral = (nginx.ask(self.good(life))[1]["cache-control"] for life in "dse")
        assert durable == "public, max-age=31536000, immutable"
        assert shared == "public, max-age=300"
        assert ephemeral.startswith("private, max-age=")
        assert 0 < int(ephemeral.split("=")[1].split(",")[0]) <= 1600
        assert nginx.ask("/x")[1]["cache-control"] == "max-age=60"

    @pytest.mark.parametrize(
        ("line", "status"),
        [("range: bytes=0-1", 206), ('if-none-match: "abc"', 304)],
    )
    def test_what_renews_or_is_a_part_is_kept_as_the_whole(self, nginx: Nginx, line: str, status: int) -> None:
        whole = nginx.ask(self.good("d"))[1]["cache-control"]
        found, headers, _ = nginx.ask(self.good("d"), line)
        assert (found, headers["cache-control"]) == (status, whole)

    @pytest.mark.parametrize(
        ("line", "status"),
        [('if-match: "zzz"', 412), ("range: bytes=99999999-", 416), ("content-length: x", 400)],
    )
    def test_what_nginx_refuses_of_a_good_path_is_not_kept(self, nginx: Nginx, line: str, status: int) -> None:
        """Kept by a cache before this one, it would be what everybody gets of a public path."""
        found, headers, _ = nginx.ask(self.good("d"), line)
        assert (found, headers["cache-control"]) == (status, "no-store")

    @pytest.mark.parametrize("status", [403, 404, 410, 500, 503])
    def test_what_upstream_refuses_is_not_kept(self, nginx: Nginx, upstream: Upstream, status: int) -> None:
        upstream.status = status
        try:
            found, headers, _ = nginx.ask(fresh_path(self.good("d")))
        finally:
            upstream.status = 200
        assert (found, headers["cache-control"]) == (status, "no-store")

    def test_range_and_revalidation(self, nginx: Nginx) -> None:
        path = self.good("d")
        status, headers, body = nginx.ask(path, "range: bytes=7-13")
        assert (status, body) == (206, DATA[7:14])
        assert nginx.ask(path, 'if-none-match: "abc"')[0] == 304
        assert headers["cache-status"] == "tirage-nginx; detail=hit"

    @pytest.mark.parametrize("method", [*OTHERS, "TRACE"])
    def test_other_methods_are_told_what_is_allowed(self, nginx: Nginx, upstream: Upstream, method: str) -> None:
        path = fresh_path(self.good("d"))
        for target in (path, "/x"):
            status, headers, _ = nginx.ask(target, method=method)
            assert (status, headers["allow"].upper(), headers["cache-control"]) == (405, "GET, HEAD", "no-store")
        assert upstream.asked[path] == 0

    def test_head_is_get_without_content(self, nginx: Nginx) -> None:
        whole, head = nginx.ask(self.good("d"))[:2], nginx.ask(self.good("d"), method="HEAD")[:2]
        assert head == whole
        assert "allow" not in head[1]

    @pytest.mark.parametrize("line", ["GET {}", "GET  {} HTTP/1.1", "GET {}  HTTP/1.1", "GET http://edge{} HTTP/1.1"])
    def test_another_request_line_is_another_spelling(self, nginx: Nginx, line: str) -> None:
        nginx.ask(self.good("d"))
        with socket.create_connection(("127.0.0.1", nginx.port)) as wire:
            wire.sendall(f"{line.format(self.good('d'))}\r\nhost: edge\r\nconnection: close\r\n\r\n".encode())
            answer = wire.makefile("rb").read()
        assert answer.endswith(b"not-found\n")

    def test_what_is_no_longer_fresh_is_served_while_it_is_fetched(self, ageing: Nginx, upstream: Upstream) -> None:
        """At once, while one request in the background asks for it, and while upstream fails."""
        path = fresh_path(self.good("d"))
        assert cached(ageing, path) == (200, "miss", True)
        time.sleep(2.1)  # no longer fresh
        before, upstream.status = upstream.asked[path], 503
        try:
            assert {cached(ageing, path) for _ in range(5)} <= {(200, "stale", True), (200, "updating", True)}
            until(lambda: upstream.asked[path] > before)
        finally:
            upstream.status = 200
        time.sleep(2.1)  # no longer fresh
        upstream.gate.clear()
        before = upstream.asked[path]
        try:
            told = [cached(ageing, path) for _ in range(10)]
            until(lambda: upstream.asked[path] > before)
            told += [cached(ageing, path) for _ in range(10)]
        finally:
            upstream.gate.set()
        assert told == [(200, "stale", True)] + [(200, "updating", True)] * 19
        assert upstream.asked[path] == before + 1
        until(lambda: cached(ageing, path) == (200, "hit", True))

    @pytest.mark.parametrize("keys", [{}, {"d.u2": ""}, {"d.u2": "00"}], ids=str)
    def test_without_a_good_key_everything_is_refused(self, tmp_path: Path, nginx: Nginx, keys: dict[str, str]) -> None:
        other = Nginx(tmp_path, 1, keys, [])
        other.start()
        try:
            other.wait()
            assert {other.ask(self.good(life))[0] for life in "esd"} == {404}
        finally:
            other.stop()

    def test_does_not_start_without_a_key_file(self, tmp_path: Path, nginx: Nginx) -> None:
        other = Nginx(tmp_path, 1, {}, [])
        (tmp_path / "keys.map").unlink()
        other.start()
        assert other.process is not None
        assert other.process.wait(20) != 0

"""Edge hits and refusals against nginx with njs doing the same check: same bytes, same core, taking turns.

Needs Debian's `nginx`, `libnginx-mod-http-js` and `wrk`, and two cores: the server has core 0, the load core 1.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from base.edges import EdgeClient
from base.settings import Reader
from edge.node.settings import VARIABLES
from imagecore import recipe as recipes
from imagecore.signing import Durable, Lifetime, Ring, derive

ROUNDS: Final = 7
SECONDS: Final = 3
CONNECTIONS: Final = 32
SIZES: Final = {"40 KB": 40_000, "500 KB": 500_000}
FUNCTIONS: Final = Path(__file__).parents[2] / "edge" / "functions"
MASTER: Final = ("u1", bytes(range(32)))
ASSET: Final = "ast_01m86bj0xee1ere2xz744049w7"


def run() -> dict[str, Any]:
    """Requests a second of both, medians of the rounds' ratios, resident memory of the node."""
    missing = [tool for tool in ("nginx", "wrk", "taskset") if shutil.which(tool) is None]
    if missing or (os.cpu_count() or 1) < 2:
        return {"skipped": f"needs two cores and {', '.join(missing) or 'nothing else'}"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node, pid = stack.enter_context(_node(folder))
        nginx = stack.enter_context(_nginx(folder, node))
        paths = asyncio.run(_push(node))
        figures = {name: _compare(node, nginx, path) for name, path in paths.items()}
        bad = re.sub(r"[0-9a-f]{32}\.", "0" * 32 + ".", paths["40 KB"])
        refusals = _compare(node, nginx, bad, is_bad=True)
        hits = figures["40 KB"]["node"]
        return {
            "command": f"wrk -t1 -c{CONNECTIONS} -d{SECONDS}s on core 1, server on core 0, {ROUNDS} rounds in turn",
            "load_average": os.getloadavg()[0],
            "hits": figures,
            "refusals": refusals,
            "refusal_to_hit_ratio": round(refusals["node"] / hits, 2),
            "node_resident_mb": _resident_mb(pid),
        }


def _compare(node: str, nginx: str, path: str, *, is_bad: bool = False) -> dict[str, Any]:
    both: dict[str, list[float]] = {"node": [], "nginx": []}
    for _ in range(ROUNDS):
        for name, url in (("node", node), ("nginx", nginx)):
            both[name].append(_rate(url + path, is_bad))
    ratios = [ours / theirs for ours, theirs in zip(both["node"], both["nginx"], strict=True)]
    return {
        "node": round(statistics.median(both["node"])),
        "nginx": round(statistics.median(both["nginx"])),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in sorted(ratios)],
    }


def _rate(url: str, is_bad: bool) -> float:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if ("Non-2xx" in told) != is_bad:
        raise RuntimeError(f"unexpected answers: {told}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", told)
    assert found is not None
    return float(found[1])


async def _push(node: str) -> dict[str, str]:
    """Put a file of each size into the node; the signed path of each."""
    client = EdgeClient(node, Reader({"K": f"p1:{base64.b64encode(MASTER[1]).decode()}"}).keys("K"))
    ring, paths = Ring.of_masters([MASTER], "home"), {}
    for name, size in SIZES.items():
        recipe = recipes.text(recipes.Recipe(width=size // 100, height=100, engine="bench"))
        assert await client.push(ASSET, recipe, "jpg", os.urandom(size))
        paths[name] = ring.sign(Durable(asset=ASSET, recipe=recipe))
    await client.close()
    return paths


@contextmanager
def _node(folder: Path) -> Iterator[tuple[str, int]]:
    port, key = _free_port(), base64.b64encode(MASTER[1]).decode()
    env = {
        "PATH": os.environ["PATH"],
        "TIRAGE_EDGE_PORT": str(port),
        "TIRAGE_EDGE_CACHE": str(folder / "cache"),
        "TIRAGE_EDGE_PUSH_KEYS": f"p1:{key}",
        "TIRAGE_EDGE_PURGE_KEYS": f"g1:{key}",
        "TIRAGE_ORIGIN_URL": "http://127.0.0.1:1",
        "TIRAGE_S3_ENDPOINT": "http://127.0.0.1:1",
        "TIRAGE_S3_EDGE_ACCESS_KEY": "none",
        "TIRAGE_S3_EDGE_SECRET_KEY": "none",
        "TIRAGE_BUCKET_DERIVATIVES": "none",
        **{name: f"u1:{base64.b64encode(_key(life)).decode()}" for life, name in VARIABLES.items()},
    }
    command = ["taskset", "-c", "0", Path(sysconfig.get_path("scripts")) / "tirage", "edge"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with _ending(process):
        _await(f"http://127.0.0.1:{port}/healthz")
        yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def _nginx(folder: Path, node: str) -> Iterator[str]:
    port, text = _free_port(), (FUNCTIONS / "nginx.conf").read_text()
    own = folder / "nginx"
    own.mkdir()
    (own / "keys.map").write_text("".join(f'{life.value}.u1 "{_key(life).hex()}";\n' for life in Lifetime))
    (own / "denied.map").touch()
    for name, value in {
        "LISTEN": f"127.0.0.1:{port}",
        "UPSTREAM": node.removeprefix("http://"),
        "CACHE": str(own),
        "FUNCTIONS": str(FUNCTIONS),
        "KEYS": str(own / "keys.map"),
        "DENIED": str(own / "denied.map"),
    }.items():
        text = text.replace(f"${{{name}}}", value)
    text = text.replace("load_module modules/", "load_module /usr/lib/nginx/modules/")
    text = text.replace("worker_processes auto", "worker_processes 1")
    (own / "nginx.conf").write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
    command = ["taskset", "-c", "0", "nginx", "-c", str(own / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    with _ending(process):
        _await(f"http://127.0.0.1:{port}/healthz")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _key(lifetime: Lifetime) -> bytes:
    return derive(MASTER[1], lifetime, "home")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(url: str) -> None:
    for _ in range(400):
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def _resident_mb(pid: int) -> int:
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

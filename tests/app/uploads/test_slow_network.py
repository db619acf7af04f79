"""Row 29: a 4 MB photo at 384 kbit/s with 5 % loss each way, by a real kernel (make interop; needs root).

The phone lives in a network namespace of its own. Its link is shaped by a token bucket at both ends; nftables drop at
random what comes in at each. A relay leads from the link to the API, which listens on the loopback only.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.app.uploads.conftest import Bench, Make, Relay
from tests.app.uploads.test_clients import arrived

pytestmark = [pytest.mark.interop, pytest.mark.scorecard, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("slow_phone.py")
RATE, LOSS, SIZE = "384kbit", 5, 4_000_000
DROP = f"numgen random mod 100 < {LOSS} counter drop"


class Refused(Exception):
    """The kernel does not do it."""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Link:
    """A pair of interfaces, one of them in a namespace of its own; `here` and `there` are its addresses."""

    def __init__(self) -> None:
        number = os.getpid() % 16_000
        self.space, self.near, self.far = f"tirage-{number}", f"tirn{number}", f"tirf{number}"
        net = f"10.{200 + number // 4096 % 50}.{number // 64 % 64 + 64}.{number % 64 * 4}"
        base, last = net.rsplit(".", 1)
        self.here, self.there = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"

    def inside(self, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.space, *command)

    def build(self) -> None:
        """Raises `Refused`."""
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.space)
        sides = ((self.near, self.here, ()), (self.far, self.there, self.inside()))
        for name, address, way in sides:
            run(*way, "ip", "addr", "add", f"{address}/30", "dev", name)
            run(*way, "ip", "link", "set", name, "gso_max_segs", "1")
            run(*way, "ip", "link", "set", name, "up")
            run(*way, "tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", RATE, "burst", "4kb", "latency", "1s")
            chain = f"{{ type filter hook ingress device {name} priority 0; }}"
            run(*way, "nft", "add", "table", "netdev", self.near)
            run(*way, "nft", "add", "chain", "netdev", self.near, "lossy", chain)
            run(*way, "nft", "add", "rule", "netdev", self.near, "lossy", *DROP.split())

    def sent(self) -> int:
        """Bytes that the phone put on the wire, headers and repetitions too."""
        (told,) = json.loads(run(*self.inside("ip", "-s", "-j", "link", "show", self.far)))
        return int(told["stats64"]["tx"]["bytes"])

    def dropped(self) -> int:
        """Packets that were lost on their way here."""
        rules = json.loads(run("nft", "-j", "list", "chain", "netdev", self.near, "lossy"))["nftables"]
        counters = [
            part["counter"] for rule in rules for part in rule.get("rule", {}).get("expr", ()) if "counter" in part
        ]
        return int(counters[0]["packets"])

    def remove(self) -> None:
        for command in (
            ("nft", "delete", "table", "netdev", self.near),
            ("ip", "link", "del", self.near),
            ("ip", "netns", "del", self.space),
        ):
            subprocess.run(command, capture_output=True, check=False)


@pytest.fixture
def link() -> Iterator[Link]:
    if os.getuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("nft") is None:
        print("installing nftables, iproute2")
        subprocess.run(["apt-get", "install", "-y", "-q", "nftables", "iproute2"], check=True, capture_output=True)
    made = Link()
    try:
        made.build()
        yield made
    except Refused as refused:
        pytest.skip(f"the kernel refuses: {refused}")
    finally:
        made.remove()


class LinkRelay(Relay):
    """The same relay, on the link's own address."""

    def __init__(self, host: str, port: int, address: str) -> None:
        super().__init__(host, port)
        self._address = address

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._address, 0)
        self.port = self._server.sockets[0].getsockname()[1]


@pytest.fixture
async def way(bench: Bench, link: Link) -> AsyncIterator[LinkRelay]:
    api = urlsplit(bench.apis[0].base)
    relay = LinkRelay(api.hostname or "", api.port or 0, link.here)
    await relay.join()
    yield relay
    relay.cut()


async def test_29_a_slow_lossy_network(bench: Bench, photo: Make, link: Link, way: LinkRelay, tmp_path: Path) -> None:
    phone, data = await bench.phone(), photo(SIZE)
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    told: dict[str, Any] = {
        "base": f"http://{link.here}:{way.port}",
        "host": urlsplit(bench.apis[0].base).netloc,
        "auth": phone.auth,
        "file": str(file),
        "bytesPerSecond": 48_000,
        "key": uuid4().hex,
    }
    began, before = time.monotonic(), link.sent()
    command = link.inside(sys.executable, str(SCRIPT), json.dumps(told))
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    said, wire = json.loads(ran.stdout), link.sent() - before
    longest = max(said["requests"], key=lambda request: request[1])
    took, asked = time.monotonic() - began, len(said["requests"])
    print(
        f"\n{len(data)} bytes in {took:.0f} s, {asked} requests, longest {longest[0]} in {longest[1]:.1f} s,"
        f" {wire} bytes on the wire ({wire / len(data):.3f} x), {link.dropped()} packets lost here"
    )
    assert link.dropped() > 50
    assert said["ended"] == []  # none had to be given up after 30 s
    assert wire <= len(data) * 115 // 100
    await arrived(bench, phone, said["upload"], data)

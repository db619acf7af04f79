"""Two regions, whole: each keeps its own photos, and one whose queue is cut off loses nothing and holds up nobody."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from PIL import Image

from app.delivery.service import Minter, MintSettings
from base import ids
from base.clock import SystemClock
from base.settings import Reader
from devstack.s3 import client

TIRAGE = Path(sys.executable).parent / "tirage"
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900), pytest.mark.xdist_group("regions")]

POLICY = """
[regions.west]
countries = ["US"]
push = [{ edge = "west", sides = [200, 400, 800] }, { edge = "home", sides = [400] }]
[vendors]
prodigi = "west"
"""


class Cable:
    """A TCP relay between the two queues that can be cut; it learns where home listens once that is known.

    `cut` ends and refuses connections, `silence` lets them stand and carries nothing, until `mend`: what was sent
    meanwhile arrives then, as TCP sends again what was lost.
    """

    def __init__(self, ports: Path) -> None:
        self._ports, self._is_cut, self._ends = ports, threading.Event(), set[socket.socket]()
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats-leaf://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._flows.wait()
                try:
                    if self._is_cut.is_set():
                        raise OSError
                    port = json.loads(self._ports.read_text())["leaf"]
                    far = socket.create_connection(("127.0.0.1", port), 5)
                except (OSError, ValueError):
                    near.close()
                    continue
                far.settimeout(None)
                self._ends |= {near, far}
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, a: socket.socket, b: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(65_536):
                self._flows.wait()
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._is_cut.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def silence(self) -> None:
        self._flows.clear()

    def mend(self) -> None:
        self._is_cut.clear()
        self._flows.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()
        self._flows.set()


class Two:
    """A stack of two regions, the cable between them, and what an operator sees of it."""

    def __init__(self, folder: Path) -> None:
        self.data, self.cable = folder / "data", Cable(folder / "data" / "west" / "ports.json")
        (folder / "policy.toml").write_text(POLICY)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.metrics = {"home": int(free.getsockname()[1])}
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "REGIONS": "2",
            "TIRAGE_NATS_LEAF_URL": self.cable.url,
            "TIRAGE_REGION_POLICY": str(folder / "policy.toml"),
            "TIRAGE_PIXEL_METRICS_PORT": str(self.metrics["home"]),
        }
        self._log = folder / "up.out"
        with self._log.open("wb") as out:
            command = [TIRAGE, "up", "--tied", "--data", self.data]
            self._process = subprocess.Popen(command, env=env, stdout=out, stderr=out)

    def wait(self) -> None:
        deadline = time.monotonic() + 240
        while not (state := self.status()).get("up"):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.5)
        self.parts = state["parts"]
        self.secrets = json.loads((self.data / "secrets.json").read_text())
        self.metrics["west"] = json.loads((self.data / "west" / "ports.json").read_text())["metrics"]

    def status(self) -> dict[str, Any]:
        run = subprocess.run([TIRAGE, "status", "--json", "--data", self.data], capture_output=True, check=False)
        told: dict[str, Any] = json.loads(run.stdout)
        return told

    async def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        password, address = self.secrets["postgres_password"], self.parts["postgres"]["address"]
        connection = await asyncpg.connect(f"postgresql://app:{password}@{address}/postgres")
        try:
            return [tuple(row) for row in await connection.fetch(sql, *args)]
        finally:
            await connection.close()

    async def alerted(self, *subjects: str) -> None:
        """Wait until what is out of reach, by its alerts, is just this."""
        sql = "SELECT subject FROM alerts WHERE rule = 'out-of-reach' AND closed_at IS NULL"
        async with asyncio.timeout(180):
            while {subject for (subject,) in await self.rows(sql)} != set(subjects):
                await asyncio.sleep(1)

    def kill(self, part: str) -> None:
        """SIGKILL; the supervisor starts it again."""
        os.kill(int(self.status()["parts"][part]["pid"]), signal.SIGKILL)

    @contextlib.contextmanager
    def hanging(self, *parts: str) -> Iterator[None]:
        """Parts that take connections and answer nothing."""
        running = self.status()["parts"]
        pids = [int(running[part]["pid"]) for part in parts]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def store(self, region: str) -> Any:
        """A client of a region's store, with the record workers' key."""
        away = "" if region == "home" else f"-{region}"
        folder = self.data if region == "home" else self.data / region
        secrets = json.loads((folder / "secrets.json").read_text())
        keys = (secrets["s3_record_access"], secrets["s3_record_secret"])
        return client(self.parts[f"s3{away}"]["address"], keys)

    def keys(self, region: str, use: str) -> set[str]:
        """What the names of a region's objects begin with."""
        found = self.store(region).list_objects_v2(Bucket=f"{use}-{region}").get("Contents", [])
        return {entry["Key"].split("/")[0] for entry in found}

    async def ingested(self, region: str) -> dict[str, int]:
        """How often a region's worker has done each step of ingest, by its own counters."""
        text = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{self.metrics[region]}/metrics")).text
        line = r'tirage_step_seconds_count\{kind="asset.ingest",outcome="ok",step="(\w+)"\} (\d+)'
        return {step: int(count) for step, count in re.findall(line, text)}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(90)
        self.cable.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    made = Two(tmp_path_factory.mktemp("two"))
    try:
        made.wait()
        yield made
    finally:
        made.stop()


def photo(number: int) -> bytes:
    """A small photo like no other."""
    image = Image.linear_gradient("L").resize((1800, 1200)).convert("RGB")
    image.paste((number * 37 % 256, number * 91 % 256, 128), (100, 100, 900, 700))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


class Phone:
    """An app of one owner somewhere."""

    def __init__(self, two: Two, country: str | None) -> None:
        self._country, self.parts = country, list[str]()
        self.http = httpx.AsyncClient(base_url=two.parts["api"]["address"], timeout=60)

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.http.request(method, path, json=body, headers={"idempotency-key": uuid4().hex})
        assert answer.status_code < 300, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def begin(self) -> "Phone":
        guest = await self.call("POST", "/v1/devices", {"platform": "ios"})
        self.http.headers["authorization"] = f"Bearer {guest['accessToken']}"
        return self

    async def send(self, number: int) -> str:
        """Send a photo; its asset's id."""
        data = photo(number)
        said = {"bytes": len(data), "contentType": "image/jpeg", "sha256": hashlib.sha256(data).hexdigest()}
        upload = await self.call("POST", "/v1/uploads", {**said, "country": self._country})
        (part,) = (await self.call("POST", f"/v1/uploads/{upload['id']}/parts"))["parts"]
        headers = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        assert (await self.http.put(part["url"], content=data, headers=headers)).status_code == 200
        self.parts.append(part["url"].split("/")[2])
        await self.call("POST", f"/v1/uploads/{upload['id']}/complete")
        return str(upload["assetId"])

    async def erase(self, asset: str) -> None:
        answer = await self.http.delete(f"/v1/assets/{asset}", params={"permanently": "true"})
        assert answer.status_code == 204, answer.text

    async def state(self, asset: str) -> str:
        return str((await self.call("GET", f"/v1/assets/{asset}"))["state"])

    async def ready(self, assets: list[str]) -> None:
        async with asyncio.timeout(180):
            for asset in assets:
                while await self.state(asset) != "ready":
                    await asyncio.sleep(0.2)

    async def urls(self, asset: str) -> list[str]:
        minted = await self.call("POST", "/v1/images", {"assetIds": [asset], "sides": [200, 400, 800, 1600]})
        return [variant["url"] for variant in minted["images"][0]["variants"]]


@pytest.fixture
async def phones(two: Two) -> AsyncIterator[tuple[Phone, Phone]]:
    near, far = await Phone(two, "NL").begin(), await Phone(two, "US").begin()
    yield near, far
    for phone in (near, far):
        await phone.http.aclose()


def test_status_shows_both_regions(two: Two) -> None:
    state = two.status()
    assert set(state["regions"]) == {"home", "west"}
    assert state["regions"]["west"]["buckets"]["masters"] == "masters-west"
    west = {name for name, part in state["parts"].items() if part["region"] == "west"}
    assert west == {f"{name}-west" for name in ("nats", "s3", "pixel-worker", "origin", "edge")}
    assert {part["state"] for part in state["parts"].values()} == {"up"}


async def test_each_region_keeps_and_serves_its_own(two: Two, phones: tuple[Phone, Phone]) -> None:
    near, far = phones
    kept = {"home": await near.send(1), "west": await far.send(2)}
    assert [phone.parts for phone in phones] == [
        [two.parts[s3]["address"].removeprefix("http://")] for s3 in ("s3", "s3-west")
    ]
    await near.ready([kept["home"]])
    await far.ready([kept["west"]])
    for phone, region, edge in ((near, "home", "edge"), (far, "west", "edge-west")):
        other = "west" if region == "home" else "home"
        for use in ("originals", "ancestors", "derivatives"):
            assert kept[region] in two.keys(region, use)
            assert kept[region] not in two.keys(other, use)
        pushed = []
        for url in await phone.urls(kept[region]):
            assert url.startswith(two.parts[edge]["address"] + "/")
            answer = await phone.http.get(url)
            assert answer.status_code == 200
            pushed.append(answer.headers["cache-status"] == "tirage-edge; hit")
        assert pushed == [True, True, region == "west", False]  # as the policy says


async def test_the_policy_can_name_another_regions_edge(two: Two, phones: tuple[Phone, Phone]) -> None:
    """What west's worker pushed to home's edge is there, although nothing of the photo is in home's buckets."""
    far = phones[1]
    asset = await far.send(3)
    await far.ready([asset])
    ((engine,),) = await two.rows("SELECT engine FROM assets WHERE id = $1", ids.decode("asset", asset))
    keys = Reader({"TIRAGE_URL_KEYS": two.secrets["url_keys"]}).keys("TIRAGE_URL_KEYS")
    minter = Minter(MintSettings(keys=keys, edge_url=two.parts["edge"]["address"]), "home", SystemClock())
    seen = [
        (await far.http.get(address.url)).status_code for address in minter.ladder(asset, engine, [200, 400], "jpg")
    ]
    assert seen[1] == 200
    assert seen[0] != 200


async def test_a_region_that_is_cut_off_loses_and_doubles_nothing(two: Two, phones: tuple[Phone, Phone]) -> None:
    near, far = phones
    before = await far.send(10)
    await far.ready([before])
    known = {region: await two.ingested(region) for region in ("home", "west")}
    shown = await far.urls(before)
    flying = [await far.send(number) for number in (11, 12)]  # on their way, or at work, or answered: wherever
    two.cable.cut()
    waiting = [await far.send(number) for number in range(20, 24)]
    passing = [await near.send(number) for number in range(30, 34)]
    await near.ready(passing)
    assert [(await far.http.get(url)).status_code for url in shown] == [200] * 4
    assert [await far.state(asset) for asset in waiting] == ["processing"] * 4
    planned = await two.rows(
        "SELECT DISTINCT region, state, attempt FROM jobs WHERE dedupe_key = ANY($1::text[])",
        [f"asset.ingest:{asset}" for asset in waiting],
    )
    assert planned == [("west", "queued", 1)]
    two.cable.mend()
    await far.ready([*flying, *waiting])
    await reckoned(two, {"home": passing, "west": [*flying, *waiting]}, known)


async def test_a_long_silence_and_a_killed_worker_lose_and_double_nothing(
    two: Two, phones: tuple[Phone, Phone]
) -> None:
    """No packet arrives and no connection ends, for longer than any wait for an answer, until an operator is told.

    The west's worker dies at the beginning, wherever it is with the photos that had come.
    """
    near, far = phones
    before = await far.send(50)
    await far.ready([before])
    shown = await far.urls(before)
    flying = [await far.send(number) for number in range(51, 57)]
    two.cable.silence()
    two.kill("pixel-worker-west")
    waiting = [await far.send(number) for number in range(60, 63)]
    passing = [await near.send(number) for number in range(70, 73)]
    await near.ready(passing)
    await two.alerted("region:west")
    assert [(await far.http.get(url)).status_code for url in shown] == [200] * 4
    assert [await far.state(asset) for asset in waiting] == ["processing"] * 3
    two.cable.mend()
    await far.ready([*flying, *waiting])
    await two.alerted()
    assert two.status()["parts"]["pixel-worker-west"]["restarts"] > 0
    await reckoned(two, {"home": passing, "west": [*flying, *waiting]}, None)


async def test_a_region_whose_store_and_edge_hang_holds_up_nobody_and_catches_up(
    two: Two, phones: tuple[Phone, Phone]
) -> None:
    """What is erased meanwhile is gone at once for home, and from the region's store and edge when they are back."""
    near, far = phones
    kept, erased, near_erased = await far.send(80), await far.send(81), await near.send(82)
    await far.ready([kept, erased])
    await near.ready([near_erased])
    shown, near_shown = await far.urls(erased), await near.urls(near_erased)
    assert [(await far.http.get(url)).status_code for url in shown] == [200] * 4
    two.cable.cut()
    with two.hanging("s3-west", "edge-west"):
        await far.erase(erased)
        await near.erase(near_erased)
        passing = [await near.send(number) for number in range(90, 93)]
        await near.ready(passing)
        await refused(near, near_shown)
        assert erased not in [asset["id"] for asset in (await far.call("GET", "/v1/assets"))["assets"]]
    two.cable.mend()
    await refused(far, shown)
    async with asyncio.timeout(240):
        while any(erased in two.keys("west", use) for use in ("originals", "ancestors", "derivatives")):
            await asyncio.sleep(1)
    assert [(await far.http.get(url)).status_code for url in await far.urls(kept)] == [200] * 4


async def refused(phone: Phone, urls: list[str]) -> None:
    """Wait until none of them is answered with a picture."""
    async with asyncio.timeout(240):
        for url in urls:
            while (await phone.http.get(url)).status_code == 200:
                await asyncio.sleep(0.2)


async def reckoned(two: Two, sent: dict[str, list[str]], known: dict[str, dict[str, int]] | None) -> None:
    """Rows, objects, events and the renderers' own counters say: once each.

    Without counters a worker died: some of it was made twice, and is there once.
    """
    every = [asset for assets in sent.values() for asset in assets]
    jobs = await two.rows(
        "SELECT region, state, outcome, attempt, (SELECT count(*) FROM step_runs r WHERE r.job_id = j.id) FROM jobs j "
        "WHERE dedupe_key = ANY($1::text[])",
        [f"asset.ingest:{asset}" for asset in every],
    )
    wanted = [(region, "done", "ok", 1, 3) for region, assets in sent.items() for _ in assets]
    assert sorted(jobs) == sorted(wanted)
    told = await two.rows(
        "SELECT type, count(*) FROM events WHERE aggregate_id = ANY($1::uuid[]) AND type LIKE 'asset.%' "
        "AND type <> 'asset.analysed' GROUP BY type",
        [ids.decode("asset", asset) for asset in every],
    )
    assert {count for _, count in told} == {len(every)}
    renditions = await two.rows(
        "SELECT asset_id, count(*) FROM renditions WHERE asset_id = ANY($1::uuid[]) GROUP BY asset_id",
        [ids.decode("asset", asset) for asset in every],
    )
    assert sorted(count for _, count in renditions) == [4] * len(every)
    for region, assets in sent.items() if known else ():
        done = await two.ingested(region)
        assert {step: count - known[region].get(step, 0) for step, count in done.items()} == {
            step: len(assets) for step in ("validate", "first_previews", "previews")
        }


async def test_prints_are_made_and_kept_near_their_printer(two: Two) -> None:
    """Orders of a photo in each region: the files are the west's, where the policy has the printer."""
    run = await asyncio.to_thread(
        subprocess.run,
        [TIRAGE, "demo", "--json", "--data", two.data],
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "TIRAGE_PHOTOS": os.environ.get("TIRAGE_PHOTOS", "../shared/photos")},
    )
    assert run.returncode == 0, run.stderr.decode()
    told = json.loads(run.stdout)
    assert {order["state"] for order in told["orders"]} == {"shipped"}
    assert all(Path(saved).stat().st_size for order in told["orders"] for saved in order["masters"] or [""])
    lines = await two.rows(
        "SELECT a.region, l.master->>'region' FROM fulfilment_lines l JOIN assets a ON a.id = l.asset_id"
    )
    assert {master for _, master in lines} == {"west"}
    assert "home" in {asset for asset, _ in lines}
    assert (len(two.keys("west", "masters")) > 0, two.keys("home", "masters")) == (True, set())
    made = await two.rows("SELECT DISTINCT region, state, attempt FROM jobs WHERE kind = 'print.master'")
    assert made == [("west", "done", 1)]


async def audited(two: Two) -> dict[str, list[str]]:
    """The subjects of what the audit finds, by check; how much it looked at is asserted here."""
    command = [TIRAGE, "audit", "--json", "--grace-s", "20", "--drain-s", "60", "--data", two.data]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    told = json.loads(run.stdout)
    ((photos, masters),) = await two.rows(
        "SELECT (SELECT count(*) FROM assets), (SELECT count(*) FROM fulfilment_lines WHERE master IS NOT NULL)"
    )
    assert (told["counted"]["photos"], told["counted"]["masters"]) == (photos, masters)
    assert {name for name, state in told["checks"].items() if state == "unchecked"} == {
        "promises-kept",
        "nothing-unasked",
    }
    found: dict[str, list[str]] = {}
    for one in told["findings"]:
        found.setdefault(one["check"], []).append(one["subject"])
    assert run.returncode == bool(found)
    return found


async def test_the_audit_looks_where_things_are_kept(two: Two, phones: tuple[Phone, Phone]) -> None:
    """Nothing is wrong in both regions; an original that the west loses, and one that it should not have, is seen."""
    far = phones[1]
    lost, kept = await far.send(40), await far.send(41)
    await far.ready([lost, kept])
    assert await audited(two) == {}
    store, key = two.store("west"), f"{lost}/original"
    body = store.get_object(Bucket="originals-west", Key=key)["Body"].read()
    store.delete_object(Bucket="originals-west", Key=key)
    two.store("home").put_object(Bucket="originals-home", Key=key, Body=body)
    assert await audited(two) == {"originals-kept": [key], "nothing-left-over": [key]}
    two.store("home").delete_object(Bucket="originals-home", Key=key)
    store.put_object(Bucket="originals-west", Key=key, Body=body)
    assert await audited(two) == {}

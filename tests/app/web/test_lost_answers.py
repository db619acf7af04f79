"""Calls whose answers get lost: behind a proxy that drops them after the commit, on an API that is killed meanwhile.

Whatever gets lost, N identical calls are one effect and N equal answers, and of one key the first body wins.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from base import ids
from tests.app.conftest import ApiProcess
from tests.app.losing import LosingProxy

REQUEST_S = 60
PATIENCE_S = 1200
"""Against a hang, no verdict: a starved machine needs minutes to start the API again. A call that is given up where the
same draws went on before is what hypothesis reports as flaky, and hides what happened."""
LOST = ["pass", "drop"]
FAULTS = LOST * 6 + ["kill-after", "kill-within"]


class Wanted(msgspec.Struct, frozen=True):
    """One call as an app means it: whose, which key, and how many bytes it declares (its body)."""

    owner: int
    key: int
    size: int


class Phone:
    """A guest that sends a call again until it is told, as the guide says."""

    def __init__(self, base: str) -> None:
        self._base = base
        grant = self.until_told("POST", "/v1/devices", {}, {"platform": "ios"}).json()
        self.owner_id: UUID = ids.decode("owner", grant["ownerId"])
        self.auth = {"Authorization": f"Bearer {grant['accessToken']}"}

    def keyed(self, path: str, key: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self.until_told("POST", path, {**self.auth, "Idempotency-Key": key}, body)

    def until_told(self, method: str, path: str, headers: dict[str, str], body: Any) -> httpx.Response:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                answer = httpx.request(method, self._base + path, headers=headers, json=body, timeout=REQUEST_S)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code < 500 and not (answer.status_code == 409 and "in-flight" in answer.text):
                return answer
            time.sleep(0.05)
        raise AssertionError(f"{path} was never answered")


EFFECTS = """
SELECT (SELECT count(*) FROM uploads WHERE owner_id = $1) AS uploads,
       (SELECT count(*) FROM events WHERE owner_id = $1 AND type = 'upload.opened') AS opened,
       (SELECT coalesce(sum(used), 0) FROM quotas WHERE owner_id = $1 AND name = 'uploads') AS counted,
       (SELECT count(*) FROM assets WHERE owner_id = $1) AS assets,
       (SELECT count(*) FROM jobs WHERE owner_id = $1 AND kind = 'asset.ingest') AS jobs
"""


class World:
    """The proxy, two phones behind it, and what the database says happened."""

    def __init__(self, proxy: LosingProxy, url: str) -> None:
        self.proxy, self._url = proxy, url
        self.phones = [Phone(proxy.base), Phone(proxy.base)]

    def effects(self, phone: Phone) -> dict[str, int]:
        async def ask() -> dict[str, int]:
            connection = await asyncpg.connect(self._url)
            try:
                return dict(await connection.fetchrow(EFFECTS, phone.owner_id))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def at_once(self, calls: list[Any], faults: list[str]) -> list[httpx.Response]:
        """Every call from a thread of its own."""
        self.proxy.faults.extend(faults)
        with ThreadPoolExecutor(len(calls)) as pool:
            told = list(pool.map(lambda call: call(), calls))
        self.proxy.faults.clear()
        return told

    def open(self, wanted: list[Wanted], faults: list[str]) -> list[tuple[int, bytes]]:
        def call(one: Wanted) -> Any:
            body = {"bytes": one.size, "contentType": "image/jpeg"}
            return lambda: self.phones[one.owner].keyed("/v1/uploads", f"open-{one.key:04}", body)

        return [(told.status_code, told.content) for told in self.at_once([call(one) for one in wanted], faults)]

    def sent(self, phone: Phone) -> str:
        """A new session whose bytes are in storage."""
        data = uuid4().bytes
        body = {"bytes": len(data), "contentType": "image/jpeg", "sha256": hashlib.sha256(data).hexdigest()}
        made = phone.keyed("/v1/uploads", uuid4().hex, body).json()["id"]
        parts = phone.until_told("POST", f"/v1/uploads/{made}/parts", phone.auth, None).json()["parts"]
        headers = {k: v for k, v in parts[0]["headers"].items() if k.lower() != "content-length"}
        assert httpx.put(parts[0]["url"], content=data, headers=headers).status_code == 200
        return str(made)

    def complete(self, phone: Phone, upload: str, key: str, times: int, faults: list[str]) -> set[tuple[int, bytes]]:
        calls = [lambda: phone.keyed(f"/v1/uploads/{upload}/complete", key)] * times
        return {(told.status_code, told.content) for told in self.at_once(calls, faults)}


class Calls(RuleBasedStateMachine):
    """Any history of concurrent calls with lost answers and killed processes."""

    world_of: Any
    faults = FAULTS

    def __init__(self) -> None:
        super().__init__()
        self.world: World = self.world_of()
        self.known: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.completed = [0, 0]
        self.sessions = [0, 0]

    @rule(
        wanted=st.lists(
            st.builds(Wanted, st.integers(0, 1), st.integers(0, 2), st.integers(10, 11)), min_size=1, max_size=6
        ),
        draw=st.data(),
    )
    def open(self, wanted: list[Wanted], draw: st.DataObject) -> None:
        told = self.world.open(wanted, self._losses(draw))
        for one, (status, body) in zip(wanted, told, strict=True):
            if status == 201:
                self.known.setdefault((one.owner, one.key), (one.size, body))
        for one, (status, body) in zip(wanted, told, strict=True):
            size, answer = self.known[one.owner, one.key]
            if one.size == size:
                assert (status, body) == (201, answer)
            else:
                assert (status, msgspec.json.decode(body)["code"]) == (422, "idempotency-key-reused")
        self._one_effect_each()

    @rule(
        owner=st.integers(0, 1),
        times=st.integers(1, 5),
        draw=st.data(),
    )
    def complete(self, owner: int, times: int, draw: st.DataObject) -> None:
        phone, losses = self.world.phones[owner], self._losses(draw)
        upload, key = self.world.sent(phone), uuid4().hex
        self.sessions[owner] += 1
        told = self.world.complete(phone, upload, key, times, losses)
        assert [status for status, _ in told] == [202]
        self.completed[owner] += 1
        assert self.world.complete(phone, upload, key, 1, []) == told
        self._one_effect_each()

    def _losses(self, draw: st.DataObject) -> list[str]:
        return draw.draw(st.lists(st.sampled_from(self.faults), max_size=8))

    def _one_effect_each(self) -> None:
        for number, phone in enumerate(self.world.phones):
            opened = sum(owner == number for owner, _ in self.known) + self.sessions[number]
            done = self.completed[number]
            wanted = {"uploads": opened, "opened": opened, "counted": opened, "assets": done, "jobs": done}
            assert self.world.effects(phone) == wanted


@pytest.fixture(scope="module")
def proxy(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LosingProxy]:
    api = ApiProcess(env, Path(tmp_path_factory.mktemp("losing")) / "log")

    def again() -> None:
        api.kill()
        api.start()

    made = LosingProxy(api.port, again)
    yield made
    made.close()
    api.stop()


def histories(
    proxy: LosingProxy, url: str, examples: int, steps: int, faults: list[str], *, fixed: bool
) -> Counter[str]:
    """Run histories; how often each fault was met."""
    proxy.met.clear()
    machine = type("Histories", (Calls,), {"world_of": lambda _: World(proxy, url), "faults": faults})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=fixed,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return proxy.met


def test_every_fault_once(proxy: LosingProxy, database_url: str) -> None:
    world = World(proxy, database_url)
    phone = world.phones[0]
    upload = world.sent(phone)
    told = world.open([Wanted(0, 1, 10)] * 5, ["drop", "drop", "kill-after", "drop"])
    assert {status for status, _ in told} == {201}
    assert len(set(told)) == 1
    completed = world.complete(phone, upload, "complete-1", 4, ["drop", "kill-within", "drop"])
    assert [status for status, _ in completed] == [202]
    assert world.effects(phone) == {"uploads": 2, "opened": 2, "counted": 2, "assets": 1, "jobs": 1}
    assert all(proxy.met[fault] for fault in FAULTS)


def test_some_histories(proxy: LosingProxy, database_url: str) -> None:
    assert histories(proxy, database_url, 3, 4, LOST, fixed=True)["drop"] > 0


@pytest.mark.soak
def test_many_histories(proxy: LosingProxy, database_url: str) -> None:
    met = histories(proxy, database_url, 40, 12, FAULTS, fixed=False)
    print(dict(met))
    assert all(met[fault] > 3 for fault in FAULTS)

"""Leases on a real queue: one holder a key, heard of when it ends, missed at once when it dies."""

import asyncio
import contextlib
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from base.ids import new_id
from edge.origin import leases as origin_leases
from edge.origin.leases import Lease, Leases

NOWHERE = "nats://127.0.0.1:1"
FOR_EVER_S = 600
"""Longer than any test may take: whoever waits for it fails."""

Open = Callable[..., Leases]


@pytest.fixture
async def open_leases(stack_env: dict[str, str]) -> AsyncIterator[Open]:
    """`open_leases(region, lease_s=…)`: as another process of the region has them."""
    opened = []

    def begin(region: str, lease_s: int = FOR_EVER_S, url: str = stack_env["TIRAGE_NATS_URL"]) -> Leases:
        opened.append(Leases(url, region, lease_s=lease_s))
        return opened[-1]

    yield begin
    for each in opened:
        await each.close()


async def taken(leases: Leases, key: str) -> Lease:
    lease = await leases.take(key, FOR_EVER_S)
    assert lease is not None
    return lease


async def asked(lease: Lease, times: int = 1) -> None:
    """Once the holder has been asked so often."""
    while len(lease._questions) < times:
        await asyncio.sleep(0.01)


async def dies(leases: Leases, lease: Lease) -> None:
    """What the queue sees of a killed process: nothing is renewed or given back, and the connection is gone."""
    assert lease._renewing is not None
    lease._renewing.cancel()
    await leases.close()


class TestOneHolder:
    async def test_the_other_hears_of_the_end(self, open_leases: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told, and has not to look: the lease and the time between two questions last for ever."""
        monkeypatch.setattr(origin_leases, "ASK_S", FOR_EVER_S)
        one, other, key = open_leases("told"), open_leases("told"), str(new_id())
        lease = await taken(one, key)
        waiting = asyncio.create_task(other.take(key, FOR_EVER_S))
        await asked(lease)
        assert not waiting.done()
        await lease.release()
        assert await waiting is None
        assert (await taken(other, key)).is_held

    async def test_of_many_at_once_one_gets_it(self, open_leases: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(origin_leases, "ASK_S", FOR_EVER_S)
        key, processes = str(new_id()), [open_leases("many") for _ in range(4)]
        waiting = {asyncio.create_task(process.take(key, FOR_EVER_S)) for process in processes}
        finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        lease = finished.pop().result()
        assert lease is not None
        await asked(lease, times=3)
        assert not finished
        await lease.release()
        assert await asyncio.gather(*waiting) == [None, None, None]

    async def test_patience_ends(self, open_leases: Open) -> None:
        one, other, key = open_leases("patience"), open_leases("patience"), str(new_id())
        lease = await taken(one, key)
        assert await other.take(key, 0.3) is None
        assert lease.is_held
        await lease.release()


class TestADeadHolder:
    async def test_who_waited_takes_over_at_once(self, open_leases: Open) -> None:
        one, other, key = open_leases("dead"), open_leases("dead"), str(new_id())
        lease = await taken(one, key)
        waiting = asyncio.create_task(other.take(key, FOR_EVER_S))
        await asked(lease)
        await dies(one, lease)
        over = await waiting
        assert over is not None
        assert over.is_held

    async def test_who_comes_later_takes_over_at_once(self, open_leases: Open) -> None:
        one, other, key = open_leases("later"), open_leases("later"), str(new_id())
        await dies(one, await taken(one, key))
        assert (await taken(other, key)).is_held

    async def test_one_of_many_takes_over(self, open_leases: Open) -> None:
        one, key = open_leases("heirs"), str(new_id())
        lease = await taken(one, key)
        waiting = {asyncio.create_task(open_leases("heirs").take(key, FOR_EVER_S)) for _ in range(3)}
        await asked(lease)
        await dies(one, lease)
        finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        heir = finished.pop().result()
        assert heir is not None
        await asked(heir)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()

    async def test_an_entry_that_was_left_behind(self, open_leases: Open) -> None:
        """Its holder has finished, but could not delete it."""
        one, other, key = open_leases("left"), open_leases("left"), str(new_id())
        lease = await taken(one, key)
        lease._kv = Failing()
        await lease.release()
        assert (await taken(other, key)).is_held


class Failing:
    """A KV bucket that has just gone away."""

    async def delete(self, *_: Any, **__: Any) -> None:
        raise ConnectionError


class TestAHolderThatHangs:
    async def test_keeps_it_until_the_lease_ends(self, open_leases: Open) -> None:
        one, other, key = open_leases("hung", 1), open_leases("hung", 1), str(new_id())
        lease = await taken(one, key)
        await asyncio.sleep(1.5)
        assert await other.take(key, 0.3) is None  # it was renewed
        assert lease._renewing is not None
        lease._renewing.cancel()  # still served, but by nobody who does anything
        over = await taken(other, key)
        assert over.is_held
        await lease.release()  # too late: it is another's
        assert await one.take(key, 0.3) is None
        await over.release()


class Queue:
    """A queue of its own, to be ended."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        command = [program, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._port = port

    async def listens(self) -> None:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return
            await asyncio.sleep(0.05)


@pytest.fixture
async def queue(tmp_path: Path, free_ports: Callable[[], int]) -> AsyncIterator[Queue]:
    started = Queue(free_ports(), tmp_path)
    await started.listens()
    yield started
    started.process.kill()
    started.process.wait()


class TestAQueueThatIsAway:
    async def test_stops_nobody(self, open_leases: Open) -> None:
        leases = open_leases("home", url=NOWHERE)
        first, second = await taken(leases, "a"), await taken(leases, "a")
        assert (first.is_held, second.is_held) == (False, False)
        await first.release()

    async def test_stops_nobody_who_waits(self, open_leases: Open, queue: Queue) -> None:
        one, other = open_leases("home", url=queue.url), open_leases("home", url=queue.url)
        lease = await taken(one, "a")
        waiting = asyncio.create_task(other.take("a", FOR_EVER_S))
        await asked(lease)
        queue.process.kill()
        unseen = await waiting
        assert unseen is not None
        assert not unseen.is_held
        await lease.release()

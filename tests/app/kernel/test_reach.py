"""Silence becomes one alert, and an answer ends it."""

from typing import Any

import msgspec
import pytest

from app.kernel import alerts
from app.kernel.db import Database
from app.kernel.reach import SILENCE_S, SILENT, Reach
from base.errors import ServiceUnavailable
from tests.conftest import database_settings

EDGE, REGION = "edge:http://edge.test", "region:away"


class World:
    """A clock, and who is away."""

    def __init__(self, db: Database) -> None:
        self.now, self.away, self._db = 1000.0, set[str](), db
        self.reach = self.watcher()

    def watcher(self) -> Reach:
        probes = {subject: lambda subject=subject: self.probe(subject) for subject in (EDGE, REGION)}
        return Reach(self._db, probes, lambda: self.now)

    async def probe(self, subject: str) -> None:
        if subject in self.away:
            raise ServiceUnavailable("no answer")

    async def look(self, passed: float = 0) -> list[tuple[str, str, int]]:
        self.now += passed
        for subject in (EDGE, REGION):
            await self.reach.look(subject)
        async with self._db.transaction(readonly=True) as tx:
            return sorted((one.rule, one.subject, one.count) for one in await alerts.open_alerts(tx))


def silent(subject: str) -> Any:
    return SILENT.labels(subject)._value.get()


async def test_one_alert_after_a_minute_until_it_answers(db: Database) -> None:
    world = World(db)
    assert await world.look() == []
    world.away = {REGION}
    assert await world.look(SILENCE_S - 1) == []
    assert (silent(EDGE), silent(REGION)) == (0, SILENCE_S - 1)
    for _ in range(3):
        assert await world.look(1) == [("out-of-reach", REGION, 1)]
    world.away = set()
    assert await world.look(1) == []
    assert silent(REGION) == 0
    world.away = {REGION}
    assert await world.look(SILENCE_S) == [("out-of-reach", REGION, 1)]


async def test_a_new_process_ends_what_an_earlier_one_raised(db: Database) -> None:
    world = World(db)
    world.away = {EDGE}
    assert await world.look(SILENCE_S) == [("out-of-reach", EDGE, 1)]
    world.reach = world.watcher()
    assert await world.look(1) == [("out-of-reach", EDGE, 1)], "it was not silent for long, as far as this one knows"
    world.away = set()
    assert await world.look(1) == []


async def test_without_a_database_the_alert_comes_later(db: Database, database_url: str) -> None:
    narrow = Database(msgspec.structs.replace(database_settings(database_url), pool_max=1, acquire_timeout_s=1))
    await narrow.start()
    world, only = World(narrow), await narrow.acquire()
    world.away = {EDGE}
    world.now += SILENCE_S
    with pytest.raises(ServiceUnavailable, match="database"):
        await world.reach.look(EDGE)
    await narrow.pool.release(only)
    assert await world.look() == [("out-of-reach", EDGE, 1)]
    await narrow.stop()

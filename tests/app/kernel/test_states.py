"""Lifecycles: the code's table, the database's table and the triggers say the same."""

from enum import StrEnum
from itertools import product
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.kernel.db import Database
from app.kernel.states import IllegalTransition, Machine, StateMoved, compare_and_set
from app.machines import MACHINES

JOB = """INSERT INTO jobs (id, kind, region, lane, share, payload, not_before, max_attempts, time_limit_s, nonce, state)
VALUES ($1, 'k', 'home', 'record', $1, '{}', now(), 5, 5, '', $2)"""
OWNER = "INSERT INTO owners (id, kind) VALUES ($1, 'guest')"
ASSET = "INSERT INTO assets (id, owner_id, state, bytes, declared_type) VALUES ($1, $2, $3, 1, 'image/jpeg')"


def sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", ""))


def states_of(machine: Machine[Any]) -> list[StrEnum]:
    return list(type(next(iter(machine.initial))))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
class TestEveryMachine:
    async def test_database_has_the_same_moves(self, machine: Machine[Any], db: Database) -> None:
        sql = "SELECT machine, from_state, to_state, event_type FROM transitions WHERE machine = $1"
        async with db.transaction() as tx:
            stored = {tuple(r) for r in await tx.fetch(sql, machine.name)}
        assert stored == set(machine.rows())

    async def test_database_knows_the_same_states(self, machine: Machine[Any], db: Database) -> None:
        sql = """SELECT pg_get_constraintdef(oid) FROM pg_constraint
                 WHERE conrelid = $1::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%state%'"""
        async with db.transaction() as tx:
            definitions = [r[0] for r in await tx.fetch(sql, machine.table)]
        assert any(all(f"'{s.value}'" in d for s in states_of(machine)) for d in definitions)

    async def test_table_is_guarded(self, machine: Machine[Any], db: Database) -> None:
        sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal"
        async with db.transaction() as tx:
            names = {r["tgname"] for r in await tx.fetch(sql, machine.table)}
        assert names >= {"state_guard_insert", "state_guard_update", "state_event_insert", "state_event_update"}

    def test_code_checks_every_pair(self, machine: Machine[Any]) -> None:
        for old, new in product(states_of(machine), repeat=2):
            if (old, new) in machine.moves:
                machine.check(old, new)
            else:
                with pytest.raises(IllegalTransition):
                    machine.check(old, new)


class TestRawSql:
    async def test_every_pair_of_job_states(self, db: Database) -> None:
        machine = next(m for m in MACHINES if m.name == "job")
        states = [s.value for s in states_of(machine)]
        legal = {(old.value, new.value) for old, new in machine.moves}
        reach = {
            "queued": [],
            "published": ["published"],
            "done": ["done"],
            "parked": ["parked"],
            "cancelled": ["cancelled"],
        }
        for old, new in product(states, repeat=2):
            if old == new:
                continue
            job = uuid4()
            refused = None
            try:
                async with db.transaction() as tx:
                    await tx.execute(JOB, job, "queued")
                    for step in reach[old]:
                        await tx.execute("UPDATE jobs SET state = $2 WHERE id = $1", job, step)
                    await tx.execute("UPDATE jobs SET state = $2 WHERE id = $1", job, new)
            except asyncpg.PostgresError as error:
                refused = sqlstate(error)
            assert (refused is None) == ((old, new) in legal), (old, new)
            assert refused in (None, "TR001")

    async def test_insert_in_another_state_is_refused(self, db: Database) -> None:
        for state in ("published", "done", "parked", "cancelled"):
            with pytest.raises(asyncpg.PostgresError) as refused:
                async with db.transaction() as tx:
                    await tx.execute(JOB, uuid4(), state)
            assert sqlstate(refused.value) == "TR001"

    async def test_move_without_its_event_is_refused_at_commit(self, db: Database) -> None:
        owner, asset = uuid4(), uuid4()
        async with db.transaction() as tx:
            await tx.execute(OWNER, owner)
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with db.transaction() as tx:
                await tx.execute(ASSET, asset, owner, "processing")
        assert sqlstate(refused.value) == "TR002"
        async with db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM assets") == 0

    async def test_events_are_append_only(self, db: Database) -> None:
        sql = """INSERT INTO events (id, aggregate_id, seq, type, schema_version, actor, data)
                 VALUES ($1, $1, 1, 'test.happened', 1, 'system', '{}')"""
        async with db.transaction() as tx:
            await tx.execute(sql, uuid4())
        for change in ("UPDATE events SET seq = 2", "DELETE FROM events"):
            with pytest.raises(asyncpg.PostgresError) as refused:
                async with db.transaction() as tx:
                    await tx.execute(change)
            assert sqlstate(refused.value) == "TR003"


class TestCompareAndSet:
    async def test_somebody_was_faster(self, db: Database) -> None:
        machine = next(m for m in MACHINES if m.name == "job")
        queued, published, done = (s for s in states_of(machine) if s.value in ("queued", "published", "done"))
        job = uuid4()
        async with db.transaction() as tx:
            await tx.execute(JOB, job, "queued")
            await compare_and_set(tx, machine, job, queued, done)
            with pytest.raises(StateMoved):
                await compare_and_set(tx, machine, job, queued, published)

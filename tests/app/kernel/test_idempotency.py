"""A keyed call takes effect once, whoever repeats it, however often and at once."""

import asyncio
import collections
import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from app.kernel.db import Database, Transaction
from app.kernel.idempotency import (
    KEYED,
    UNKEYED,
    Answer,
    Idempotency,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    KeyedCall,
    fingerprint,
)
from app.kernel.persons import PersonErased, PersonKeys
from app.main import Api
from app.web.keyed import operation_of
from base import ids
from base.errors import InvalidInput
from base.ids import OwnerId
from base.settings import Keys, Secret
from tests.conftest import database_settings

PERSONS = PersonKeys(Keys([("k1", Secret(bytes(range(32))))]))
OPERATION = "POST /v1/things/{id}"
MARK = "a name nobody else may read"


async def new_owner(db: Database) -> OwnerId:
    owner = OwnerId(ids.new_id())
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
        await PERSONS.create(tx, owner)
    return owner


def call(owner: OwnerId, key: str = "key-0001", body: str = "{}") -> KeyedCall:
    print_ = fingerprint(OPERATION, {"id": 1}, "", body.encode())
    return KeyedCall(owner_id=owner, operation=OPERATION, key=key, fingerprint=print_)


async def effect(tx: Transaction) -> str:
    """Something that must not happen twice, and an answer that differs each time it is made."""
    made = str(uuid.uuid4())
    await tx.execute(
        "INSERT INTO alerts (id, rule, severity, subject, detail) VALUES ($1, 'x', 'error', $2, '')", made, made
    )
    return made


def reply(made: str) -> Answer:
    return Answer(201, json.dumps({"made": made, "mark": MARK}).encode())


async def effects(db: Database) -> int:
    async with db.reading() as read:
        return int(await read.value("SELECT count(*) FROM alerts"))


@pytest.fixture
def keyed(db: Database) -> Idempotency:
    return Idempotency(db, PERSONS)


class TestOnce:
    async def test_repetition_gives_the_same_bytes_and_no_effect(self, db: Database, keyed: Idempotency) -> None:
        owner = await new_owner(db)
        first = await keyed.once(call(owner), effect, reply)
        again = [await keyed.once(call(owner), effect, reply) for _ in range(3)]
        assert [first.replayed, *(a.replayed for a in again)] == [False, True, True, True]
        assert {a.answer for a in again} == {first.answer}
        assert await effects(db) == 1

    async def test_another_body_is_refused_without_effect(self, db: Database, keyed: Idempotency) -> None:
        owner = await new_owner(db)
        await keyed.once(call(owner), effect, reply)
        with pytest.raises(IdempotencyKeyReused):
            await keyed.once(call(owner, body='{"a":1}'), effect, reply)
        assert await effects(db) == 1

    async def test_owners_do_not_see_each_others_answers(self, db: Database, keyed: Idempotency) -> None:
        one, other = await new_owner(db), await new_owner(db)
        a, b = await keyed.once(call(one), effect, reply), await keyed.once(call(other), effect, reply)
        assert a.answer != b.answer
        assert await effects(db) == 2

    async def test_refusal_is_not_stored(self, db: Database, keyed: Idempotency) -> None:
        owner = await new_owner(db)

        async def refused(tx: Transaction) -> str:
            await effect(tx)
            raise InvalidInput("no")

        with pytest.raises(InvalidInput):
            await keyed.once(call(owner), refused, reply)
        assert await effects(db) == 0
        assert not (await keyed.once(call(owner), effect, reply)).replayed

    async def test_in_flight_is_refused_at_once(self, db: Database, keyed: Idempotency) -> None:
        owner = await new_owner(db)
        inside, leave = asyncio.Event(), asyncio.Event()

        async def slow(tx: Transaction) -> str:
            inside.set()
            await leave.wait()
            return await effect(tx)

        first = asyncio.create_task(keyed.once(call(owner), slow, reply))
        await inside.wait()
        with pytest.raises(IdempotencyInFlight):
            await keyed.once(call(owner), effect, reply)
        leave.set()
        done = await first
        assert (await keyed.once(call(owner), effect, reply)).answer == done.answer
        assert await effects(db) == 1

    async def test_stored_answer_is_sealed(self, db: Database, keyed: Idempotency) -> None:
        owner = await new_owner(db)
        await keyed.once(call(owner), effect, reply)
        async with db.transaction() as tx:
            stored = await tx.value("SELECT answer FROM idempotency_keys WHERE owner_id = $1", owner)
            assert MARK.encode() not in stored
            await PERSONS.destroy(tx, owner)
        with pytest.raises(PersonErased):
            await keyed.once(call(owner), effect, reply)

    async def test_repetition_is_one_round_trip(self, database_url: str, db: Database) -> None:
        owner = await new_owner(db)
        await Idempotency(db, PERSONS).once(call(owner), effect, reply)
        asked: list[str] = []
        pooled = database_settings(database_url)
        one = Database(type(pooled)(**{**_fields(pooled), "pool_max": 1}))
        await one.start()
        connection = await one.acquire()
        connection.add_query_logger(lambda record: asked.append(record.query))
        await one.pool.release(connection)
        assert (await Idempotency(one, PERSONS).once(call(owner), effect, reply)).replayed
        await one.stop()
        assert len(asked) == 1


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


class TestFingerprint:
    def test_order_of_fields_spaces_and_unicode_form_do_not_matter(self) -> None:
        composed, decomposed = '{"a":"caf\u00e9","b":1}', '{ "b": 1, "a": "cafe\u0301" }'
        assert call(OwnerId(uuid.UUID(int=1)), body=composed) == call(OwnerId(uuid.UUID(int=1)), body=decomposed)

    @pytest.mark.parametrize("other", ['{"a":2}', '{"a":"1"}', '{"a":1,"b":null}', '{"a":[1]}', '{"a":1.0}', "[]"])
    def test_every_value_matters(self, other: str) -> None:
        assert fingerprint("POST /x", {}, "", b'{"a":1}') != fingerprint("POST /x", {}, "", other.encode())

    def test_path_and_query_matter(self) -> None:
        made = {
            fingerprint(operation, {"id": path}, query, b"")
            for operation in ("POST /a/{id}", "POST /b/{id}")
            for path in ("1", "2")
            for query in ("", "x=1")
        }
        assert len(made) == 8


Step = tuple[int, int, int, int]
STEPS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1), st.integers(1, 6)), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_of_concurrent_calls(database_url: str, steps: list[Step]) -> None:
    """Of each key the first body wins; N identical calls make one effect and, once through, equal answers."""
    asyncio.run(_history(database_url, steps))


async def _history(url: str, steps: list[Step]) -> None:
    db = Database(database_settings(url))
    await db.start()
    keyed = Idempotency(db, PERSONS)
    owners = [await new_owner(db), await new_owner(db)]
    before = await effects(db)
    known: dict[tuple[int, int], tuple[int, Answer]] = {}
    for owner, key, body, times in steps:
        wanted = call(owners[owner], f"key-{key:04}", json.dumps({"body": body}))
        outcomes = await asyncio.gather(*(_until_told(keyed, wanted) for _ in range(times)))
        first_body, answer = known.setdefault((owner, key), (body, outcomes[0] or Answer(0, b"")))
        assert outcomes == [answer if body == first_body else None] * times
    assert await effects(db) - before == len(known)
    await db.stop()


async def _until_told(keyed: Idempotency, wanted: KeyedCall) -> Answer | None:
    """As an app does: 409 means try again; None for a key that belongs to another request."""
    while True:
        try:
            return (await keyed.once(wanted, effect, reply)).answer
        except IdempotencyInFlight:
            await asyncio.sleep(0.002)
        except IdempotencyKeyReused:
            return None


@pytest.fixture
async def posts(app: Api) -> list[str]:
    return [
        operation_of("POST", route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute) and "POST" in route.methods
    ]


async def test_every_post_is_keyed_or_says_why_not(posts: list[str]) -> None:
    assert posts
    placed = collections.Counter([*KEYED, *UNKEYED])
    assert dict.fromkeys(posts, 1) == placed
    assert all(len(reason) > 20 for reason in UNKEYED.values())

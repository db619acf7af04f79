"""What is over goes, each class after its own time, and nothing else."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.erasure.domain import EVENT_MONTHS
from app.erasure.retention import GUEST_DAYS, GUEST_HAS, RETENTION, Retention, is_over
from app.erasure.tables import OWNED, TABLES
from app.kernel import alerts, jobs
from app.kernel.alerts import Severity
from app.kernel.db import Database
from app.kernel.jobs import Plan
from app.kinds import KINDS
from app.services import Services
from app.uploads.service import Clean

Guest = Callable[[], Awaitable[dict[str, Any]]]
SIMPLE, LINKED = RETENTION[:6], RETENTION[6:]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Clock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


async def count(db: Database, table: str) -> int:
    async with db.reading() as read:
        return int(await read.value(f"SELECT count(*) FROM {table}"))


async def one_of_each(client: httpx.AsyncClient, guest: Guest, services: Services, db: Database) -> datetime:
    """A row of every class whose time began at the same moment, given back."""
    auth = (await guest())["auth"]
    headers = {**auth, "Idempotency-Key": uuid4().hex}
    body = {"bytes": 5, "contentType": "image/jpeg"}
    assert (await client.post("/v1/uploads", json=body, headers=headers)).status_code == 201
    async with db.transaction() as tx:
        await alerts.alert(tx, "rule", Severity.ERROR, "subject")
        job = await services.spine.plan(tx, Plan(kind="asset.clean", payload=Clean(asset_id=UUID(int=1))), cause=None)
        assert job is not None
        await tx.execute("UPDATE jobs SET state = 'published' WHERE id = $1", job)
        await jobs.finish(tx, job)
    begun = datetime(2026, 7, 1, tzinfo=UTC)
    async with db.transaction() as tx:
        await tx.execute("UPDATE sessions SET revoked_at = $1, expires_at = $2", begun, begun + 9 * DAY)
        await tx.execute("UPDATE idempotency_keys SET created_at = $1", begun)
        await tx.execute("DELETE FROM quotas WHERE name <> 'uploads'")
        await tx.execute("UPDATE quotas SET day = ($1 AT TIME ZONE 'UTC')::date - 1", begun)
        await tx.execute("UPDATE jobs SET finished_at = $1 WHERE id = $2", begun, job)
        await tx.execute("UPDATE alerts SET closed_at = $1", begun)
        sql = "INSERT INTO shares (id, owner_id, revoked_at) SELECT gen_random_uuid(), id, $1 FROM owners"
        await tx.execute(sql, begun)
    return begun


async def test_each_class_goes_after_its_own_time(
    client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
) -> None:
    begun = await one_of_each(client, guest, services, db)
    clock = Clock(begun)
    retention = Retention(db, clock)
    for days in sorted({one.days for one in SIMPLE}):
        due = [one.table for one in SIMPLE if one.days == days]
        clock.moment = begun + timedelta(days=days) - MINUTE
        await retention.sweep()
        assert {table: await count(db, table) for table in due} == dict.fromkeys(due, 1)
        clock.moment += 2 * MINUTE
        gone = await retention.sweep()
        assert {gone[one.name] for one in SIMPLE if one.days == days} == {1}
        assert {table: await count(db, table) for table in due} == dict.fromkeys(due, 0)


SOLD = """
INSERT INTO owners (id, kind) VALUES ($1, 'account');
INSERT INTO catalogues (version, document, is_current) VALUES ('old', '{}', false) ON CONFLICT DO NOTHING;
INSERT INTO assets (id, owner_id, state, bytes, declared_type) VALUES ($1, $1, 'ready', 1, 'image/jpeg');
INSERT INTO uploads (id, owner_id, asset_id, state, bytes, content_type, client_reference, expires_at)
VALUES ($1, $1, $1, 'aborted', 1, 'image/jpeg', 'mine', $3), ($2, $1, $2, 'completed', 1, 'image/jpeg', 'kept', $3);
INSERT INTO drafts (id, owner_id, state, updated_at) VALUES ($1, $1, 'abandoned', $3), ($2, $1, 'ordered', $3);
INSERT INTO draft_items (id, draft_id, number, asset_id, sku, copies, paper, orientation, fit, focal, border_um)
SELECT id, id, 1, $1, 'x', 1, 'x', 'auto', 'whole', '{5000,5000}', 0 FROM drafts;
INSERT INTO quotes (id, owner_id, state, draft_id, draft_version, catalogue_version, postcode, inputs, result, currency,
                    total, created_at, expires_at)
VALUES ($1, $1, 'expired', $1, 1, 'old', 'LS1', '{}', '{}', 'GBP', 1, $3, $3),
       ($2, $1, 'accepted', $2, 1, 'old', 'LS1', '{}', '{}', 'GBP', 1, $3, $3);
INSERT INTO orders (id, owner_id, state, draft_id, draft_version, draft_digest, quote_id, catalogue_version, currency,
                    total, shipping, tax, shipping_option, country, expires_at)
SELECT id, $1, CASE WHEN id = $1 THEN 'cancelled' ELSE 'paid' END, id, 1, repeat('a', 64), id, 'old', 'GBP', 1, 0, 0,
       'x', 'GB', $3 FROM drafts;
INSERT INTO order_recipients (order_id, owner_id, sealed) SELECT id, $1, 'x' FROM orders;
INSERT INTO fulfilments (id, order_id, owner_id, state, vendor, shipping_option, not_before, ended_at)
VALUES ($2, $2, $1, 'submitted', 'x', 'x', $3, NULL);
INSERT INTO webhooks (id, source, account, dedupe_key, type, headers, handled_at)
VALUES ($1, 'x', '', '1', 'x', '{}', $3), ($2, 'x', '', '2', 'x', '{}', NULL);
INSERT INTO findings (id, drift, what, subject, state, detail, found_at, changed_at)
VALUES ($1, 'x', 'x', '1', 'closed', '', $3, $3), ($2, 'x', 'x', '2', 'case', '', $3, $3)
"""
GUARDED = ("assets", "uploads", "drafts", "quotes", "orders", "fulfilments", "findings")


async def sold(db: Database, begun: datetime) -> None:
    """Two of everything that a person who bought leaves: one whose time began then, one that is needed."""
    async with db.transaction() as tx:
        for table in GUARDED:
            await tx.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        given = {"$1": f"'{uuid4()}'::uuid", "$2": f"'{uuid4()}'::uuid", "$3": f"'{begun.isoformat()}'::timestamptz"}
        for statement in SOLD.split(";\n"):
            for name, value in given.items():
                statement = statement.replace(name, value)
            await tx.execute(statement)
        for table in GUARDED:
            await tx.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


async def test_what_a_buyer_leaves_goes_after_its_own_time(services: Services, db: Database) -> None:
    begun = datetime(2026, 7, 1, tzinfo=UTC)
    await sold(db, begun)
    clock = Clock(begun)
    retention = Retention(db, clock)
    for days in sorted({one.days for one in LINKED}):
        names = [one.name for one in LINKED if one.days == days]
        clock.moment = begun + timedelta(days=days) - MINUTE
        before = await retention.sweep()
        assert {name: before[name] for name in names} == dict.fromkeys(names, 0)
        clock.moment += 2 * MINUTE
        after = await retention.sweep()
        assert {name: after[name] for name in names} == dict.fromkeys(names, 1)
    again = await retention.sweep()
    assert {one.name: again[one.name] for one in LINKED} == dict.fromkeys((one.name for one in LINKED), 0)
    left = ("uploads", "drafts", "draft_items", "quotes", "orders", "order_recipients", "webhooks", "findings")
    assert {table: await count(db, table) for table in left} == {
        "uploads": 2,
        "drafts": 1,
        "draft_items": 1,
        "quotes": 1,
        "orders": 2,
        "order_recipients": 1,
        "webhooks": 1,
        "findings": 1,
    }
    async with db.reading() as read:
        references = await read.fetch("SELECT client_reference FROM uploads ORDER BY state")
        assert [row["client_reference"] for row in references] == [None, "kept"]
        assert await read.value("SELECT postcode FROM quotes") is None


async def test_every_class_is_of_a_table_that_is_known() -> None:
    assert {one.table for one in RETENTION} < set(TABLES)


async def test_what_is_needed_stays_however_old(
    client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
) -> None:
    await guest()
    async with db.transaction() as tx:
        await alerts.alert(tx, "rule", Severity.ERROR, "still open")
        await services.spine.plan(tx, Plan(kind="asset.clean", payload=Clean(asset_id=UUID(int=1))), cause=None)
        await tx.execute("UPDATE jobs SET created_at = now() - interval '9 years'")
        await tx.execute("UPDATE alerts SET first_at = now() - interval '9 years'")
        await tx.execute("UPDATE owners SET created_at = now() - interval '9 years'")
        await tx.execute("UPDATE sessions SET created_at = now() - interval '9 years'")
    assert sum((await services.retention.sweep()).values()) == 0
    assert [await count(db, table) for table in ("alerts", "jobs", "sessions", "owners")] == [1, 1, 1, 1]


class TestEmptyGuests:
    async def test_goes_whole_but_for_the_trail(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
    ) -> None:
        await guest()
        services.retention = Retention(db, Clock(datetime.now(UTC) + timedelta(days=GUEST_DAYS + 400)))
        assert (await services.retention.sweep())["empty guests"] == 1
        assert {table: await count(db, table) for table in ("owners", *GUEST_HAS)} == dict.fromkeys(
            ("owners", *GUEST_HAS), 0
        )
        assert await count(db, "events") == 1

    async def test_who_has_anything_stays(
        self, client: httpx.AsyncClient, guest: Guest, services: Services, db: Database
    ) -> None:
        auth = (await guest())["auth"]
        body = {"bytes": 5, "contentType": "image/jpeg"}
        await client.post("/v1/uploads", json=body, headers={**auth, "Idempotency-Key": uuid4().hex})
        gone = (await guest())["auth"]
        assert (await client.delete("/v1/me", headers=gone)).status_code == 200
        services.retention = Retention(db, Clock(datetime.now(UTC) + timedelta(days=GUEST_DAYS + 400)))
        assert (await services.retention.sweep())["empty guests"] == 0
        assert await count(db, "owners") == 2

    def test_what_a_guest_may_lose_is_known_to_the_eraser(self) -> None:
        assert set(GUEST_HAS) <= OWNED
        assert OWNED - set(GUEST_HAS) > {"assets", "uploads", "orders"}


class TestEvents:
    @pytest.mark.parametrize(
        ("name", "now", "over"),
        [
            ("events_2016_11", datetime(2026, 11, 30, tzinfo=UTC), False),
            ("events_2016_11", datetime(2026, 12, 1, tzinfo=UTC), True),
            ("events_2016_12", datetime(2026, 12, 31, tzinfo=UTC), False),
            ("events_2016_12", datetime(2027, 1, 1, tzinfo=UTC), True),
            ("events_default", datetime(2099, 1, 1, tzinfo=UTC), False),
        ],
    )
    def test_whole_months_only(self, name: str, now: datetime, over: bool) -> None:
        assert EVENT_MONTHS == 120
        assert is_over(name, now) is over

    async def test_a_month_that_is_over_is_dropped_once_nobody_holds_the_table(
        self, services: Services, db: Database
    ) -> None:
        async with db.transaction() as tx:
            await tx.execute(
                "CREATE TABLE events_2001_05 PARTITION OF events FOR VALUES FROM ('2001-05-01Z') TO ('2001-06-01Z')"
            )
        async with db.transaction() as tx:
            await tx.execute("LOCK TABLE events IN ACCESS SHARE MODE")
            assert "events" not in await services.retention.sweep()
        assert (await services.retention.sweep())["events"] == 1
        async with db.reading() as read:
            assert await read.value("SELECT to_regclass('events_2001_05')") is None
            assert await read.value("SELECT to_regclass('events_default')") is not None


def test_the_sweeper_is_planned() -> None:
    assert "retention.sweep" in KINDS

"""The one transaction wrapper on real Postgres: however a transaction ends, its connection comes back."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from piccolo.engine.exceptions import TransactionError

from app.kernel.db import CHANNEL, Database
from base.errors import ServiceUnavailable

TABLE = "CREATE TABLE IF NOT EXISTS probe (n int, CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)"


@pytest.fixture
async def probe(db: Database) -> AsyncIterator[Database]:
    """A table whose uniqueness is checked at COMMIT."""
    async with db.transaction() as tx:
        await tx.execute(TABLE)
    yield db
    async with db.transaction() as tx:
        await tx.execute("DROP TABLE probe")


async def rows(db: Database) -> list[int]:
    async with db.transaction(readonly=True) as tx:
        return [r["n"] for r in await tx.fetch("SELECT n FROM probe ORDER BY n")]


def taken(db: Database) -> int:
    """Connections out of the pool."""
    return int(db.pool.get_size() - db.pool.get_idle_size())


async def fail_at_commit(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO probe VALUES (1), (1)")


class TestFailedCommit:
    async def test_stock_transaction_leaks_and_then_writes_without_one(self, probe: Database) -> None:
        """The reason for the wrapper, shown: when this stops failing, the wrapper may go."""

        async def with_the_stock_one() -> None:
            stock = probe.engine
            with pytest.raises(asyncpg.UniqueViolationError):
                async with getattr(stock, "transaction")():  # noqa: B009 — the house rule bans the plain spelling
                    await stock.current_transaction.get().connection.execute("INSERT INTO probe VALUES (1), (1)")
            dead = stock.current_transaction.get()
            assert dead is not None
            with pytest.raises(RuntimeError, match="undo"):
                async with getattr(stock, "transaction")():  # noqa: B009
                    await dead.connection.execute("INSERT INTO probe VALUES (7)")
                    raise RuntimeError("undo")
            await probe.pool.release(dead.connection)

        await asyncio.create_task(with_the_stock_one())
        assert await rows(probe) == [7]

    async def test_ours_gives_everything_back(self, probe: Database) -> None:
        for _ in range(3 * probe.settings.pool_max):
            with pytest.raises(asyncpg.UniqueViolationError):
                await fail_at_commit(probe)
            assert taken(probe) == 0
        assert probe.engine.current_transaction.get() is None
        assert await rows(probe) == []

    async def test_the_next_transaction_is_a_real_one(self, probe: Database) -> None:
        with pytest.raises(asyncpg.UniqueViolationError):
            await fail_at_commit(probe)
        with pytest.raises(RuntimeError, match="undo"):
            async with probe.transaction() as tx:
                await tx.execute("INSERT INTO probe VALUES (2)")
                raise RuntimeError("undo")
        assert await rows(probe) == []


class TestOtherEnds:
    async def test_serialization_failure(self, probe: Database) -> None:
        async with probe.transaction() as tx:
            await tx.execute("INSERT INTO probe VALUES (1), (2)")
        both_read = asyncio.Barrier(2)

        async def cross(mine: int, other: int) -> None:
            async with probe.transaction("serializable") as tx:
                await tx.value("SELECT sum(n) FROM probe WHERE n % 10 = $1", mine)
                await both_read.wait()
                await tx.execute("INSERT INTO probe VALUES ($1)", other + 10)

        ends = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)
        assert sorted(type(e).__name__ for e in ends) == ["NoneType", "ServiceUnavailable"]
        assert taken(probe) == 0

    @pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
    async def test_what_the_database_gives_up_for_others_may_be_asked_again(self, probe: Database, state: str) -> None:
        """A serialisation failure, a deadlock, a lock and a statement that took too long."""
        give_up = f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$"
        with pytest.raises(ServiceUnavailable):
            async with probe.transaction() as tx:
                await tx.execute("INSERT INTO probe VALUES (1)")
                await tx.execute(give_up)
        with pytest.raises(ServiceUnavailable):
            async with probe.reading() as read:
                await read.value(give_up)
        assert taken(probe) == 0
        assert await rows(probe) == []

    async def test_backend_killed_inside(self, probe: Database) -> None:
        with pytest.raises(ServiceUnavailable):
            async with probe.transaction() as tx:
                pid = await tx.value("SELECT pg_backend_pid()")
                killer = await probe.connect()
                await killer.execute("SELECT pg_terminate_backend($1)", pid)
                await killer.close()
                await asyncio.sleep(0.05)
                await tx.execute("INSERT INTO probe VALUES (1)")
        assert taken(probe) == 0
        assert await rows(probe) == []

    async def test_cancelled_inside(self, probe: Database) -> None:
        inside = asyncio.Event()

        async def work() -> None:
            async with probe.transaction() as tx:
                await tx.execute("INSERT INTO probe VALUES (1)")
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert taken(probe) == 0
        assert await rows(probe) == []

    async def test_nesting_is_refused(self, probe: Database) -> None:
        async with probe.transaction() as tx:
            await tx.execute("INSERT INTO probe VALUES (1)")
            with pytest.raises(TransactionError):
                async with probe.transaction():
                    pass
        assert await rows(probe) == [1]

    async def test_readonly_refuses_writes(self, probe: Database) -> None:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with probe.transaction(readonly=True) as tx:
                await tx.execute("INSERT INTO probe VALUES (1)")

    async def test_pool_exhausted_is_unavailable(self, env: dict[str, str], probe: Database) -> None:
        small = Database(type(probe.settings)(**{**_fields(probe), "pool_max": 1, "acquire_timeout_s": 1}))
        await small.start()
        holding = await small.acquire()
        with pytest.raises(ServiceUnavailable):
            async with small.transaction():
                pass
        await small.pool.release(holding)
        await small.stop()


def _fields(db: Database) -> dict[str, object]:
    return {name: getattr(db.settings, name) for name in db.settings.__struct_fields__}


class TestWake:
    async def test_listeners_hear_after_the_commit_and_many_commits_at_once(self, db: Database) -> None:
        heard: list[str] = []
        listener = await db.connect()
        await listener.add_listener(CHANNEL, lambda *received: heard.append(received[-1]))

        async def commit() -> None:
            async with db.transaction() as tx:
                tx.wake_after_commit("jobs:home")

        await asyncio.gather(*(commit() for _ in range(50)))
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert set(heard) == {"jobs:home"}
        assert len(heard) < 50
        await listener.close()

    async def test_rolled_back_wakes_nobody(self, db: Database) -> None:
        heard: list[str] = []
        listener = await db.connect()
        await listener.add_listener(CHANNEL, lambda *received: heard.append(received[-1]))
        with pytest.raises(RuntimeError, match="undo"):
            async with db.transaction() as tx:
                tx.wake_after_commit("jobs:home")
                raise RuntimeError("undo")
        await asyncio.sleep(0.2)
        assert heard == []
        await listener.close()

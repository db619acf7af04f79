"""The database: one pool, one transaction wrapper, one seam for SQL.

Services open `Database.transaction()`; every writing store function takes the `Transaction` it yields, so the type
checker proves that a write is inside one. No network, publish or task is started inside a transaction.

This is the only module that touches piccolo's internals: the stock transaction leaks its connection when COMMIT itself
fails, and a later transaction in the same task then writes without one.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import msgspec
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction

from app.kernel import piccolo_conf
from base.errors import ServiceUnavailable
from base.settings import Reader, Secret

Isolation = Literal["read_committed", "repeatable_read", "serializable"]

CHANNEL: Final = "tirage"
_LOST: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)
_BUSY: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where Postgres is. `statement_timeout_ms` bounds every statement of this process."""

    url: Secret[str]
    pool_min: int
    pool_max: int
    acquire_timeout_s: int
    statement_timeout_ms: int


def read_database(read: Reader) -> DatabaseSettings:
    """Settings from `TIRAGE_DATABASE_URL` and `TIRAGE_DATABASE_POOL_*`."""
    return DatabaseSettings(
        url=Secret(read.url("TIRAGE_DATABASE_URL", frozenset({"postgresql", "postgres"}))),
        pool_min=read.number("TIRAGE_DATABASE_POOL_MIN", 1, 0, 100),
        pool_max=read.number("TIRAGE_DATABASE_POOL_MAX", 8, 1, 200),
        acquire_timeout_s=read.number("TIRAGE_DATABASE_ACQUIRE_TIMEOUT", 5, 1, 60),
        statement_timeout_ms=read.number("TIRAGE_DATABASE_STATEMENT_TIMEOUT", 15_000, 100, 600_000),
    )


def connect_arguments(url: str) -> dict[str, Any]:
    """asyncpg's arguments from a URL; a `host=` query names a socket directory, `sslmode`/`sslrootcert` go through."""
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    arguments: dict[str, Any] = {
        "host": query.get("host") or parts.hostname,
        "port": int(query.get("port") or parts.port or 5432),
        "user": unquote(parts.username or "app"),
        "database": parts.path.lstrip("/") or "postgres",
    }
    if parts.password:
        arguments["password"] = unquote(parts.password)
    if "sslmode" in query:
        arguments["dsn"] = url
    return arguments


class Readable(Protocol):
    """What a reading store function needs: a transaction, or `Database.reading()` for one statement by itself."""

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """All rows."""
        ...

    async def one(self, sql: str, *args: object) -> Any | None:
        """The first row or None."""
        ...

    async def value(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        ...


class Reading:
    """A connection outside a transaction: each statement sees its own snapshot and costs one round trip."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """All rows."""
        rows: list[Any] = await self._connection.fetch(sql, *args)
        return rows

    async def one(self, sql: str, *args: object) -> Any | None:
        """The first row or None."""
        return await self._connection.fetchrow(sql, *args)

    async def value(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(sql, *args)


class _Lease:
    """What `Database.reading` gives; a class, since hot paths pass here and generators cost more."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: "Database") -> None:
        self._database = database

    async def __aenter__(self) -> Reading:
        try:
            self._connection = await self._database.acquire()
        except (TimeoutError, *_LOST) as error:
            raise ServiceUnavailable("the database does not answer") from error
        return Reading(self._connection)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        await self._database.pool.release(self._connection)
        if isinstance(error, (TimeoutError, *_LOST)):
            raise ServiceUnavailable("the database does not answer") from error
        if isinstance(error, _BUSY):
            raise ServiceUnavailable("the database cannot do it now") from error


class Transaction(PostgresTransaction):
    """A transaction that always gives its connection back and forgets itself, however it ends."""

    def __init__(self, database: "Database", isolation: Isolation, readonly: bool) -> None:
        super().__init__(database.engine, allow_nested=False)
        self._database = database
        self._options = (isolation, readonly)
        self._wakes: set[str] = set()

    async def __aenter__(self) -> "Transaction":
        pool = self._database.pool
        self.connection = await self._database.acquire()
        self.transaction = self.connection.transaction(isolation=self._options[0], readonly=self._options[1])
        try:
            await self.transaction.start()
        except BaseException:
            await pool.release(self.connection)
            raise
        self.context = self.engine.current_transaction.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                await self.transaction.commit()
            elif not self.connection.is_closed():
                await self.transaction.rollback()
        finally:
            self.engine.current_transaction.reset(self.context)
            await self._database.pool.release(self.connection)
        if error is None:
            self._database.wake(self._wakes)
        return False

    def wake_after_commit(self, topic: str) -> None:
        """Tell the listeners of `topic` once this transaction is committed (`jobs:REGION`, `events`)."""
        self._wakes.add(topic)

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """All rows."""
        rows: list[Any] = await self.connection.fetch(sql, *args)
        return rows

    async def one(self, sql: str, *args: object) -> Any | None:
        """The first row or None."""
        return await self.connection.fetchrow(sql, *args)

    async def value(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self.connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run a statement; the number of rows it changed."""
        status: str = await self.connection.execute(sql, *args)
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0

    async def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for many rows."""
        await self.connection.executemany(sql, rows)


class Database:
    """The pool of one process and what wakes other processes after a commit."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.settings = settings
        self._arguments = connect_arguments(settings.url.reveal())
        self.engine = PostgresEngine(config=self._arguments, extensions=())
        self._waking: set[str] = set()
        self._woken = asyncio.Event()
        self._notifier: asyncio.Task[None] | None = None

    @property
    def pool(self) -> Any:
        """The asyncpg pool; raises when the database is not started."""
        if self.engine.pool is None:
            raise RuntimeError("the database is not started")
        return self.engine.pool

    async def start(self) -> None:
        """Open the pool; raises `ServiceUnavailable` when Postgres does not answer."""
        os.environ["PICCOLO_CONF"] = "app.kernel.piccolo_conf"
        piccolo_conf.use(self.engine)
        with _reachable():
            await self.engine.start_connection_pool(
                min_size=self.settings.pool_min,
                max_size=self.settings.pool_max,
                server_settings={"statement_timeout": str(self.settings.statement_timeout_ms)},
                reset=_keep_session,
            )
        self._notifier = asyncio.create_task(self._notify())

    async def stop(self) -> None:
        """Close everything."""
        if self._notifier is not None:
            self._notifier.cancel()
            await asyncio.gather(self._notifier, return_exceptions=True)
        if self.engine.pool is not None:
            try:
                await asyncio.wait_for(self.engine.close_connection_pool(), 5)
            except (TimeoutError, *_LOST):
                self.engine.pool = None

    @contextlib.asynccontextmanager
    async def transaction(
        self, isolation: Isolation = "read_committed", *, readonly: bool = False
    ) -> AsyncIterator[Transaction]:
        """One transaction; nesting is refused.

        `ServiceUnavailable` when the database is lost, or gives up for others' sake: a deadlock, a serialisation
        failure, a lock or a statement that took too long.
        """
        with _reachable():
            async with Transaction(self, isolation, readonly) as tx:
                yield tx

    def reading(self) -> "_Lease":
        """A pooled connection for single reads without a transaction: `async with db.reading() as read`.

        `ServiceUnavailable` as for `transaction`.
        """
        return _Lease(self)

    async def acquire(self) -> Any:
        """A pooled connection; the caller releases it. asyncpg's own timeout would start a task for every call."""
        async with asyncio.timeout(self.settings.acquire_timeout_s):
            return await self.pool.acquire()

    async def connect(self) -> Any:
        """A connection of its own, outside the pool (LISTEN, advisory locks); the caller closes it."""
        with _reachable():
            return await asyncpg.connect(timeout=self.settings.acquire_timeout_s, **self._arguments)

    def wake(self, topics: set[str]) -> None:
        """Have the notifier tell the listeners of `topics`; many commits become one NOTIFY."""
        if topics:
            self._waking |= topics
            self._woken.set()

    async def _notify(self) -> None:
        """NOTIFY from a connection of its own: inside the transaction it would serialise all commits."""
        connection = None
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                topics, self._waking = self._waking, set()
                try:
                    if connection is None or connection.is_closed():
                        connection = await self.connect()
                    for topic in topics:
                        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, topic)
                except (ServiceUnavailable, *_LOST):
                    # Listeners look by themselves every second; a lost wake-up only costs that second.
                    connection = None
        finally:
            if connection is not None:
                connection.terminate()


async def _keep_session(_: Any) -> None:
    """Nothing of ours changes a pooled session, so asyncpg's RESET ALL (one more round trip) is left out."""


@contextlib.contextmanager
def _reachable() -> Any:
    try:
        yield
    except (TimeoutError, *_LOST) as error:
        raise ServiceUnavailable("the database does not answer") from error
    except _BUSY as error:
        raise ServiceUnavailable("the database cannot do it now") from error

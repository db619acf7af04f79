"""Migrations: piccolo keeps the list and the order, each step is SQL; one migrator at a time by an advisory lock."""

import contextlib
import io
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Final

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.forwards import run_forwards
from piccolo.engine import engine_finder

from app.kernel import events, states
from app.kernel.db import Database
from app.kernel.states import Machine

LOCK: Final = 0x7469_7261_6765  # "tirage"


class MigrationFailed(Exception):
    """A migration did not run; the text is piccolo's own."""


def sql_migration(migration_id: str, description: str, up: str, down: str) -> Callable[[], Awaitable[MigrationManager]]:
    """A `forwards` for piccolo that runs `up` (many statements) in the migration's transaction; `down` undoes it."""

    def run(statements: str) -> Callable[[], Awaitable[None]]:
        async def execute() -> None:
            engine = engine_finder()
            assert engine is not None
            current = engine.current_transaction.get()
            assert current is not None
            await current.connection.execute(statements)

        return execute

    async def forwards() -> MigrationManager:
        manager = MigrationManager(migration_id=migration_id, app_name="tirage", description=description)
        manager.add_raw(run(up))
        manager.add_raw_backwards(run(down))
        return manager

    return forwards


async def migrate(database: Database, machines: Iterable[Machine[StrEnum]]) -> str:
    """Bring the schema, the table of legal moves and the event partitions up to date; piccolo's report as text.

    A second migrator waits for the first. Raises `MigrationFailed`.
    """
    keeper = await database.connect()
    try:
        await keeper.execute("SELECT pg_advisory_lock($1)", LOCK)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            result = await run_forwards("all")
        if not result.success:
            raise MigrationFailed(f"{result.message}\n{said.getvalue()}")
        async with database.transaction() as tx:
            await states.sync(tx, machines)
            await events.ensure_partitions(tx)
        return said.getvalue()
    finally:
        await keeper.close()

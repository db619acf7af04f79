"""Commands on the database."""

import asyncio
import os

import click

from app.kernel.db import Database, read_database
from app.kernel.migrate import migrate as run_migrations
from app.machines import MACHINES
from base.settings import Reader, SettingsError


@click.command()
def migrate() -> None:
    """Bring the schema up to date (TIRAGE_DATABASE_URL); a second migrator waits for the first."""
    read = Reader(os.environ)
    settings = read_database(read)
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    click.echo(asyncio.run(_migrate(Database(settings))))


async def _migrate(database: Database) -> str:
    await database.start()
    try:
        return await run_migrations(database, MACHINES)
    finally:
        await database.stop()

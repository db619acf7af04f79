"""Commands on the database."""

import asyncio
import os

import click

from app.catalog.errors import CatalogueRefused
from app.catalog.service import read_files
from app.kernel.db import Database, read_database
from app.kernel.migrate import migrate as run_migrations
from app.machines import MACHINES
from base.settings import Reader, SettingsError
from tirage.catalog import FOLDER, load_files, read_production


@click.command()
@click.option("--catalog", is_flag=True, help="Load the repository's catalogue as well, as `tirage catalog load` does.")
def migrate(catalog: bool) -> None:
    """Bring the schema up to date (TIRAGE_DATABASE_URL); a second migrator waits for the first."""
    read = Reader(os.environ)
    settings, production = read_database(read), read_production(read)
    try:
        read.finish()
        click.echo(asyncio.run(_migrate(Database(settings))))
        if catalog:
            click.echo(asyncio.run(load_files(Database(settings), read_files(FOLDER), production=production))[0])
    except (SettingsError, CatalogueRefused) as error:
        raise click.ClickException(str(error)) from error


async def _migrate(database: Database) -> str:
    await database.start()
    try:
        return await run_migrations(database, MACHINES)
    finally:
        await database.stop()

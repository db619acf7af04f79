"""Commands on the catalogue."""

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import click
import msgspec

from app.catalog.domain import Files
from app.catalog.errors import CatalogueRefused
from app.catalog.service import Catalog, read_files
from app.kernel.db import Database, read_database
from base.settings import Reader, SettingsError

FOLDER: Final = Path(__file__).parents[1] / "data" / "catalog"
ENVIRONMENTS: Final = frozenset({"production", "development"})


@click.group()
def catalog() -> None:
    """What is sold."""


@catalog.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def load(folder: Path, as_json: bool) -> None:
    """Sell from the files in FOLDER (TIRAGE_DATABASE_URL). The same files again change nothing.

    TIRAGE_ENVIRONMENT is `production` unless it says `development`; production refuses rows of source `sample`.
    """
    read = Reader(os.environ)
    settings = read_database(read)
    production = read_production(read)
    try:
        read.finish()
        files = read_files(folder)
        version, changed = asyncio.run(load_files(Database(settings), files, production=production))
    except (SettingsError, CatalogueRefused) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"version": version, "changed": changed}))
    else:
        click.echo(f"catalogue {version} {'is sold from now on' if changed else 'was loaded already'}")


def read_production(read: Reader) -> bool:
    """Whether TIRAGE_ENVIRONMENT says `production`, which it does when it is not set."""
    return read.choice("TIRAGE_ENVIRONMENT", ENVIRONMENTS, "production") == "production"


@catalog.command()
def schema() -> None:
    """The JSON Schema of catalogue.json and vendors.json."""
    click.echo(schema_text(), nl=False)


def schema_text() -> str:
    """The schema as it lies beside the files."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Files)), indent=1).decode() + "\n"


async def load_files(database: Database, files: Files, *, production: bool) -> tuple[str, bool]:
    """Load by a database that is not started yet; (version, whether anything changed)."""
    await database.start()
    try:
        return await Catalog(database).load(files, production=production)
    finally:
        await database.stop()

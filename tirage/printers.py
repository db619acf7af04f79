"""`tirage simulate prodigi`: the printer that the embedded stack stands in for."""

import os
from pathlib import Path

import click
import uvloop

from base import telemetry
from base.settings import Reader, SettingsError
from devstack.prodigi.app import ProdigiApp
from devstack.prodigi.knobs import Knobs
from tirage.serving import require_free, serve_asgi

HOST = "127.0.0.1"


@click.command()
def prodigi() -> None:
    """Prodigi's API v4, with knobs under /_sim (TIRAGE_PRODIGI_*); orders move on by themselves."""
    read = Reader(os.environ)
    port = read.number("TIRAGE_PRODIGI_PORT", None, 1, 65_535)
    key, book = read.text("TIRAGE_PRODIGI_KEY"), Path(read.text("TIRAGE_PRODIGI_BOOK"))
    seed = read.number("TIRAGE_PRODIGI_SEED", 1, 0, 2**31)
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    require_free(HOST, port)
    telemetry.configure_logs("prodigi")

    async def serve() -> None:
        app = ProdigiApp(book, key, Knobs(seed=seed))
        await serve_asgi(app, HOST, port)
        await app.stop()

    uvloop.run(serve())

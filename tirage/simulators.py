"""`tirage simulate`: the outside services that the embedded stack stands in for."""

import os
from pathlib import Path

import click
import uvloop

from base.settings import Reader, SettingsError
from devstack.stripe.app import Config, StripeApp
from tirage.observing import observe
from tirage.serving import require_free, serve_asgi

HOST = "127.0.0.1"


@click.command()
def stripe() -> None:
    """Stripe's API in test mode, with knobs under /_sim (TIRAGE_STRIPE_*)."""
    read = Reader(os.environ)
    port = read.number("TIRAGE_STRIPE_PORT", None, 1, 65_535)
    config = Config(
        key=read.text("TIRAGE_STRIPE_KEY"),
        publishable=read.text("TIRAGE_STRIPE_PUBLISHABLE_KEY"),
        secrets=tuple(read.text("TIRAGE_STRIPE_WEBHOOK_SECRETS").split(",")),
        endpoint=read.url("TIRAGE_API_URL", frozenset({"http", "https"})) + "/webhooks/stripe",
        path=Path(read.text("TIRAGE_STRIPE_BOOK")),
        seed=read.number("TIRAGE_STRIPE_SEED", 1, 0, 2**31),
    )
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    require_free(HOST, port)
    observe("stripe")

    async def serve() -> None:
        app = StripeApp(config)
        await serve_asgi(app, HOST, port)
        await app.stop()

    uvloop.run(serve())

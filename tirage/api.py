"""`tirage api`: the HTTP API on granian, in this process."""

import asyncio
import os
import signal
import sys

import click
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from app.main import Api, create_app
from app.settings import load_api
from app.web.settings import WebSettings
from base.settings import SettingsError
from tirage.observing import observe
from tirage.serving import leave_to_last, require_free


@click.command()
def api() -> None:
    """Serve the HTTP API (TIRAGE_API_PORT); SIGTERM drains and ends it."""
    try:
        settings = load_api(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    require_free(settings.web.host, settings.web.port)
    observe("api")
    sys.exit(uvloop.run(serve(create_app(settings), settings.web)))


async def serve(app: Api, settings: WebSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.auto,
        websockets=False,
        backlog=1024,
        backpressure=settings.limits.slots,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        log_access=False,
        log_dictconfig={"version": 1, "disable_existing_loggers": False},
        ssl_cert=settings.tls[0] if settings.tls else None,
        ssl_key=settings.tls[1] if settings.tls else None,
    )
    leave_to_last()
    server.workers_kill_timeout = settings.drain_s + 5
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, app, server)
    await server.serve()
    return 0


def stop(app: Api, server: Server) -> None:
    """Say that we are ending, end open streams, then let running requests finish."""
    app.drain()
    server.stop()  # type: ignore[no-untyped-call]

"""Serving a bare application in this process: the port is looked at first, SIGTERM ends it."""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian
from prometheus_client import start_http_server

from base import telemetry
from edge.node.wire import Application, Server

log = telemetry.logger(__name__)
RENEWED_S: Final = 60
"""How often an edge looks whether its certificate was renewed."""


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. granian binds with SO_REUSEPORT: a second server would silently take half."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(host: str, port: int) -> None:
    """End with a clear word when the port is taken."""
    if not is_free(host, port):
        raise click.ClickException(f"port {port} of {host} is in use")


def leave_to_last() -> None:
    """What is made by now stays: the collector looks at it no more, and seldom at the rest.

    With the usual thresholds a tenth of the API's processor time went into looking at the same routes and types again.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def serve_metrics(host: str, port: int) -> None:
    """Prometheus' text on a thread of its own, so that it is answered however busy the loop is; 0 is none."""
    if port:
        require_free(host, port)
        start_http_server(port, host)


Certificate = tuple[Path, Path]
"""The files of a certificate chain and its key."""


async def serve_edge(app: Application, host: str, port: int, tls: Certificate | None = None) -> None:
    """Serve an edge node on its own wire until SIGTERM or SIGINT; running answers are finished.

    A renewed certificate is used for connections that begin within `RENEWED_S` seconds of it.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if tls is None:
        await Server(app).run(host, port, stop)
        return
    context = _context(tls)
    context.set_alpn_protocols(["http/1.1"])
    with _renewing(context, tls):
        await Server(app).run(host, port, stop, context)


def _context(tls: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls)
    return context


@contextlib.contextmanager
def _renewing(context: ssl.SSLContext, tls: Certificate) -> Iterator[None]:
    async def look() -> None:
        seen = _stamps(tls)
        while True:
            await asyncio.sleep(RENEWED_S)
            try:
                now = _stamps(tls)
                if now != seen:
                    _context(tls)  # a pair, before the one in use is touched: half of one would end every handshake
                    context.load_cert_chain(*tls)
                    seen = now
                    log.info("certificate_renewed")
            except OSError as error:
                log.error("certificate_not_renewed", error=type(error).__name__)

    task = asyncio.get_running_loop().create_task(look())
    try:
        yield
    finally:
        task.cancel()


def _stamps(tls: Certificate) -> list[tuple[int, int]]:
    return [(status.st_mtime_ns, status.st_ino) for status in (path.stat() for path in tls)]


async def serve_asgi(app: Any, host: str, port: int, tls: Certificate | None = None) -> None:
    """Serve until SIGTERM or SIGINT; running answers are finished."""
    server = Granian(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.auto,
        websockets=False,
        backlog=1024,
        backpressure=1024,
        log_access=False,
        log_dictconfig={"version": 1, "disable_existing_loggers": False},
        ssl_cert=tls[0] if tls else None,
        ssl_key=tls[1] if tls else None,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()

"""The command of the origin, in a module of its own: an edge node never imports pixel code."""

import os

import click
import uvloop

from base import telemetry
from base.objects import ObjectStore
from base.settings import SettingsError
from edge.node.settings import ring_of
from edge.origin.app import Bounds, OriginApp
from edge.origin.leases import Leases
from edge.origin.rendering import JailRenderer
from edge.origin.settings import OriginSettings, load
from imagecore import engine
from imagecore.errors import JailUnavailable
from imagecore.jail import Jail
from tirage.serving import require_free, serve_asgi, serve_metrics


@click.command()
def origin() -> None:
    """Render what edges miss (TIRAGE_ORIGIN_PORT), from stored ancestors and their halves."""
    try:
        settings = load(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    require_free(settings.host, settings.port)
    serve_metrics(settings.host, settings.metrics_port)
    telemetry.configure_logs("origin")
    try:
        uvloop.run(_serve_origin(settings))
    except JailUnavailable as error:
        raise click.ClickException(f"this machine cannot hold the decode child: {error}") from error


async def _serve_origin(settings: OriginSettings) -> None:
    store, leases = ObjectStore(settings.store), Leases(settings.nats_url.reveal(), settings.region, settings.nats_ca)
    bounds = Bounds(renders=settings.renders, waiting=settings.waiting, deadline_s=settings.deadline_s)
    with Jail.open(slots=settings.renders, preload=("render",)) as jail:
        renderer = JailRenderer(jail)
        ring, revision = ring_of(settings.keys), engine.revision()
        app = OriginApp(ring, store, settings.buckets, leases, revision, renderer, bounds)
        await serve_asgi(app, settings.host, settings.port, settings.tls)
    await leases.close()
    store.close()

"""The command of the edge node."""

import os

import click
import uvloop

from base import telemetry
from base.objects import ObjectStore
from base.settings import SettingsError
from edge.node.app import EdgeNode
from edge.node.cache import DiskCache
from edge.node.control import Control
from edge.node.denied import Denied
from edge.node.settings import EdgeSettings, load, ring_of
from edge.node.sources import Bucket, Origin, Source
from tirage.serving import require_free, serve_edge, serve_metrics


@click.command()
def edge() -> None:
    """Serve signed renditions (TIRAGE_EDGE_PORT): from disk, the bucket, or the origin."""
    try:
        settings = load(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    require_free(settings.host, settings.port)
    serve_metrics(settings.host, settings.metrics_port)
    telemetry.configure_logs("edge")
    uvloop.run(_serve(settings))


async def _serve(settings: EdgeSettings) -> None:
    store, origin = ObjectStore(settings.store), Origin(settings.origin_url, settings.origin_ca)
    cache, denied = DiskCache(settings.cache, settings.cache_bytes), Denied(settings.denied)
    control = Control(settings.node, settings.push_keys, settings.purge_keys, cache, denied)
    sources: list[Source] = [Bucket(store, settings.derivatives), origin]
    node = EdgeNode(ring_of(settings.keys), cache, sources, denied, control, is_listed=lambda: denied.complete)
    await serve_edge(node, settings.host, settings.port, settings.tls)
    await origin.close()
    store.close()

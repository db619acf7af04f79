"""The pixel worker's command, in a module of its own: its process never imports the domain or a database driver."""

import asyncio
import contextlib
import functools
import os
import signal

import click
import uvloop

from base.edges import EdgeClient
from base.jobs import Lane, Plane
from base.objects import ObjectStore, Site, Sites
from base.settings import SettingsError
from imagecore import analyse, masters
from imagecore.errors import JailUnavailable
from imagecore.jail import Jail
from tasks.lanes import parse_lanes
from tasks.pixel.handlers import kinds
from tasks.pixel.pushing import PushTo
from tasks.pixel.settings import PixelSettings, load
from tasks.pixel.worker import PixelWorker
from tasks.queue import Queue
from tirage.observing import observe
from tirage.serving import serve_metrics


@click.command()
@click.option("--region", default=None, help="Must be the settings' own region.")
@click.option("--lanes", default=None, help="NAME=SLOTS,… (default: every pixel lane)")
def pixel(region: str | None, lanes: str | None) -> None:
    """Run pixel jobs (has no database)."""
    observe("pixel-worker")
    try:
        settings, wanted = load(os.environ), parse_lanes(lanes, Plane.PIXEL)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if region not in (None, settings.region):
        raise click.BadParameter(f"this worker's settings are for region {settings.region!r}")
    serve_metrics("127.0.0.1", settings.metrics_port)
    try:
        uvloop.run(_work(settings, wanted))
    except JailUnavailable as error:
        raise click.ClickException(f"this machine cannot hold the decode child: {error}") from error


async def _work(settings: PixelSettings, lanes: list[tuple[Lane, int]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pushes = _pushes(settings)
    queue = Queue(settings.nats_url.reveal(), settings.region, settings.nats_ca)
    sites = Sites(settings.region, Site(ObjectStore(settings.store), settings.buckets), settings.others)
    with contextlib.ExitStack() as jails:
        jail = jails.enter_context(Jail.open(slots=sum(slots for _, slots in lanes)))

        @functools.cache
        def large() -> Jail:
            slots = next((slots for lane, slots in lanes if lane.name == "print"), 1)
            return jails.enter_context(Jail.open(masters.LIMITS, slots=slots, preload=("master",)))

        @functools.cache
        def seeing() -> Jail:
            return jails.enter_context(Jail.open(analyse.LIMITS, preload=("analyse",)))

        table = kinds(sites, jail, large, seeing, pushes)
        await PixelWorker(queue, settings.result_key.reveal(), table, lanes).run(stop)
    for target in pushes:
        await target.edge.close()
    await queue.close()
    sites.close()


def _pushes(settings: PixelSettings) -> list[PushTo]:
    """The edges of the policy, and what each wants."""
    if settings.push_keys is None:
        return []
    keys, ca = settings.push_keys, settings.edge_ca
    return [PushTo(EdgeClient(url, keys, ca), frozenset(sides)) for url, sides in settings.pushes.items()]

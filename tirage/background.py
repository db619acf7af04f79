"""Processes without an HTTP face: they wait for what they need and work until a signal. Imports no slice."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING

import click
import uvloop

from app.kernel.db import Database, DatabaseSettings, read_database
from base.clock import SystemClock
from base.errors import ServiceUnavailable
from base.regions import read_regions
from base.settings import Reader, SettingsError
from tirage.observing import observe

if TYPE_CHECKING:
    from tasks.queue import Queue


def until_signalled(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work` on uvloop; its event is set by SIGTERM or SIGINT."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    uvloop.run(main())


async def when_reachable(start: Callable[[], Awaitable[None]]) -> None:
    """Start, waiting for Postgres as long as it takes: a process started first is not a failure."""
    while True:
        try:
            return await start()
        except ServiceUnavailable:
            await asyncio.sleep(0.5)


def tell_metrics(process: str) -> None:
    """Serve this process's metrics to scrapers of its machine at `TIRAGE_{process}_METRICS_PORT`, where it is set."""
    from tirage.serving import serve_metrics

    read = Reader(os.environ)
    port = read.number(f"TIRAGE_{process}_METRICS_PORT", 0, 0, 65_535)
    _finish(read)
    serve_metrics("127.0.0.1", port)


def _finish(read: Reader) -> None:
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def queues(wanted: Collection[str] = ()) -> "list[Queue]":
    """The queue of every region (or of those `wanted`), this process's own first; all by one server.

    Another region's streams are in the JetStream domain of its name.
    """
    from tasks.queue import Queue

    read = Reader(os.environ)
    url, ca_file = read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"})), read.file("TIRAGE_NATS_CA")
    here, every = read_regions(read)
    _finish(read)
    if not set(wanted) <= set(every):
        raise click.BadParameter(f"the regions are {', '.join(every)} (TIRAGE_REGIONS)")
    names = sorted(wanted or every, key=lambda name: name != here)
    return [Queue(url, name, ca_file, None if name == here else name) for name in names]


def database_settings(env: Mapping[str, str]) -> DatabaseSettings:
    """The database of `TIRAGE_DATABASE_URL`."""
    read = Reader(env)
    settings = read_database(read)
    _finish(read)
    return settings


@click.command()
@click.option("--region", "regions", multiple=True, help="Only this one (default: every region of TIRAGE_REGIONS).")
def dispatcher(regions: tuple[str, ...]) -> None:
    """Hand due jobs to each region's queue."""
    from tasks.dispatcher import Dispatcher

    observe("dispatcher")
    tell_metrics("DISPATCHER")
    each, db = queues(regions), Database(database_settings(os.environ))

    async def work(stop: asyncio.Event) -> None:
        await when_reachable(db.start)
        await asyncio.gather(*(Dispatcher(db, queue).run(stop) for queue in each))
        for queue in each:
            await queue.close()
        await db.stop()

    until_signalled(work)


@click.command()
def scheduler() -> None:
    """Plan housekeeping by the clock."""
    from app.kernel.spine import Spine
    from app.kinds import KINDS
    from app.reconcile.settings import read_reconcile
    from tasks.scheduler import SCHEDULES, Scheduler

    observe("scheduler")
    tell_metrics("SCHEDULER")
    read = Reader(os.environ)
    database, region, reconcile = read_database(read), read.text("TIRAGE_REGION", "home"), read_reconcile(read)
    _finish(read)
    db = Database(database)
    schedules = {**SCHEDULES, "reconcile.run": reconcile.every_s}

    async def work(stop: asyncio.Event) -> None:
        await when_reachable(db.start)
        await Scheduler(db, Spine(region, KINDS, {}), SystemClock(), schedules).run(stop)
        await db.stop()

    until_signalled(work)

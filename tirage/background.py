"""Processes without an HTTP face: they wait for what they need and work until a signal. Imports no slice."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import click
import uvloop

from app.kernel.db import Database, DatabaseSettings, read_database
from base.clock import SystemClock
from base.errors import ServiceUnavailable
from base.settings import Reader, SettingsError
from tirage.observing import observe


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


def _finish(read: Reader) -> None:
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def queue_settings() -> tuple[str, str | None]:
    """Where the queue is, and the file of authorities that it is believed by."""
    read = Reader(os.environ)
    url, ca_file = read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"})), read.file("TIRAGE_NATS_CA")
    _finish(read)
    return url, ca_file


def database_settings() -> DatabaseSettings:
    """The database of `TIRAGE_DATABASE_URL`."""
    read = Reader(os.environ)
    settings = read_database(read)
    _finish(read)
    return settings


@click.command()
@click.option("--region", default="home", show_default=True)
def dispatcher(region: str) -> None:
    """Hand due jobs of a region to its queue."""
    from tasks.dispatcher import Dispatcher
    from tasks.queue import Queue

    observe("dispatcher")
    (url, ca_file), db = queue_settings(), Database(database_settings())
    queue = Queue(url, region, ca_file)

    async def work(stop: asyncio.Event) -> None:
        await when_reachable(db.start)
        await Dispatcher(db, queue).run(stop)
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

"""The record worker's command."""

import asyncio
import os

import click

from app.delivery.denials import read_edge_settings
from app.kernel.reach import Reach
from app.services import Services
from app.settings import load
from base.clock import SystemClock
from base.jobs import Plane
from base.mail import mailer, read_mail
from base.settings import Reader, SettingsError
from tirage.background import queues, tell_metrics, until_signalled, when_reachable
from tirage.observing import observe


def _services() -> Services:
    clock, read = SystemClock(), Reader(os.environ)
    mail, edges = read_mail(read), read_edge_settings(read)
    try:
        settings = load(os.environ, "RECORD")
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    return Services(settings, clock, mailer=mailer(mail, clock), edges=edges)


@click.command()
@click.option("--lanes", default=None, help="NAME=SLOTS,… (default: every record lane)")
def record(lanes: str | None) -> None:
    """Run record jobs and apply the results of every region (has the database)."""
    from tasks.lanes import parse_lanes
    from tasks.record.worker import RecordWorker

    observe("record-worker")
    tell_metrics("RECORD")
    services, (here, *away) = _services(), queues()
    try:
        wanted = parse_lanes(lanes, Plane.RECORD)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error

    async def work(stop: asyncio.Event) -> None:
        await when_reachable(services.start)
        probes = services.denials.probes() | {f"region:{queue.region}": queue.probe for queue in (here, *away)}
        worker = RecordWorker(services, here, wanted, away=away)
        await asyncio.gather(worker.run(stop), Reach(services.db, probes).run(stop))
        for queue in (here, *away):
            await queue.close()
        await services.stop()

    until_signalled(work)

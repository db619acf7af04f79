"""What an operator does with jobs and alerts. Imports no slice: it must answer at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import click

from app.kernel import alerts as alert_rows
from app.kernel import jobs as job_rows
from app.kernel.db import Database
from app.kernel.jobs import JobState
from base import ids
from base.jobs import LANES
from tirage.background import database_settings
from tirage.stack import usual_folder, variables


def with_database(use: Callable[[Database], Awaitable[Any]]) -> Any:
    """What `use` gives, with the database of `TIRAGE_DATABASE_URL`, else that of the stack in the usual folder."""
    settings = database_settings(variables(usual_folder()))

    async def main() -> Any:
        database = Database(settings)
        await database.start()
        try:
            return await use(database)
        finally:
            await database.stop()

    return asyncio.run(main())


@click.group()
def jobs() -> None:
    """Jobs: look, run parked ones again, drain lanes (TIRAGE_DATABASE_URL, or the stack in .tirage or TIRAGE_DATA)."""


@jobs.command("list")
@click.option("--state", type=click.Choice([s.value for s in JobState]))
@click.option("--kind")
@click.option("--limit", default=50, show_default=True)
def list_(state: str | None, kind: str | None, limit: int) -> None:
    """The newest jobs."""

    async def use(database: Database) -> list[job_rows.JobRow]:
        async with database.transaction(readonly=True) as tx:
            return await job_rows.list_jobs(tx, JobState(state) if state else None, kind, limit)

    for row in with_database(use):
        click.echo(f"{ids.encode('job', row.id)}  {row.state:9}  {row.kind:20}  {row.lane:9}  attempt {row.attempt}")


@jobs.command()
def survey() -> None:
    """Depth, age and predicted wait of every lane."""

    async def use(database: Database) -> list[job_rows.LaneState]:
        async with database.transaction(readonly=True) as tx:
            return await job_rows.survey(tx)

    click.echo("region  lane       queued  published  parked  oldest_s  wait_s  held")
    for lane in with_database(use):
        click.echo(
            f"{lane.region:7} {lane.lane:10} {lane.queued:6} {lane.published:10} {lane.parked:7} "
            f"{lane.oldest_s:9} {lane.predicted_wait_s:7}  {'yes' if lane.held else 'no'}"
        )


@jobs.command()
@click.argument("job", required=False)
@click.option("--kind", help="Every parked job of this kind.")
def replay(job: str | None, kind: str | None) -> None:
    """Queue a parked job again, or all of a kind."""
    if (job is None) == (kind is None):
        raise click.UsageError("name one JOB, or --kind")
    wanted: UUID | None = ids.decode("job", job) if job else None

    async def use(database: Database) -> list[UUID]:
        async with database.transaction() as tx:
            return await job_rows.replay(tx, wanted, kind)

    click.echo(f"{len(with_database(use))} queued again")


@jobs.command()
@click.option("--region", default="home", show_default=True)
@click.option("--lane", required=True, type=click.Choice(sorted(LANES)))
@click.option("--resume", is_flag=True, help="Hand out jobs again.")
@click.option("--timeout", default=300, show_default=True, help="Seconds to wait for running jobs.")
def drain(region: str, lane: str, resume: bool, timeout: int) -> None:
    """Hand out no more jobs of a lane and wait until none runs."""

    async def use(database: Database) -> int:
        async with database.transaction() as tx:
            await (job_rows.release if resume else job_rows.hold)(tx, region, lane)
        for _ in range(0 if resume else timeout * 2):
            async with database.transaction(readonly=True) as tx:
                running = int(await tx.value(job_rows.IN_FLIGHT, region, lane))
            if not running:
                return 0
            await asyncio.sleep(0.5)
        return 0 if resume else running

    running = with_database(use)
    click.echo("resumed" if resume else "drained" if not running else f"{running} still running")
    raise SystemExit(1 if running else 0)


@click.group(invoke_without_command=True)
@click.pass_context
def alerts(ctx: click.Context) -> None:
    """Open alerts, latest first (TIRAGE_DATABASE_URL, or the stack in .tirage or TIRAGE_DATA)."""
    if ctx.invoked_subcommand is not None:
        return

    async def use(database: Database) -> list[alert_rows.Alert]:
        async with database.transaction(readonly=True) as tx:
            return await alert_rows.open_alerts(tx)

    for a in with_database(use):
        click.echo(f"{ids.encode('alert', a.id)}  {a.severity:8}  {a.rule}  {a.subject}  x{a.count}  {a.detail}")


@alerts.command()
@click.argument("alert")
def close(alert: str) -> None:
    """Close an alert."""

    async def use(database: Database) -> bool:
        async with database.transaction() as tx:
            return await alert_rows.close(tx, ids.decode("alert", alert))

    click.echo("closed" if with_database(use) else "not open")

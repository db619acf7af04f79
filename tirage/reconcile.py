"""`tirage reconcile`: our books against Stripe's and the printers', now; and the cases that wait for a person."""

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from app.reconcile.domain import Finding, Kept
from app.reconcile.errors import CaseNotFound
from app.reconcile.service import Report
from base import ids
from tirage.operating import with_services
from tirage.stack import data_option


@click.group(invoke_without_command=True)
@data_option
@click.option("--days", type=click.IntRange(1, 30), help="How far back (default: TIRAGE_RECONCILE_WINDOW_S).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def reconcile(context: click.Context, data: Path, days: int | None, as_json: bool) -> None:
    """Compare with Stripe and the printers: what differs is mended by a job, or becomes a case (the variables of a
    record worker, or --data of a running stack). Again, it does nothing."""
    if context.invoked_subcommand is not None:
        return
    report: Report = with_services(
        data, lambda services: services.reconciler.run(None if days is None else days * 86_400)
    )
    if as_json:
        click.echo(json.dumps(_plain(report), indent=1))
        return
    looked = ", ".join(f"{count} {name}" for name, count in report.looked_at.items())
    click.echo(f"since {report.since:%Y-%m-%d %H:%M}, until {report.settled:%Y-%m-%d %H:%M}: {looked}")
    for seen in report.seen:
        click.echo(f"{seen.state:9}  {'new' if seen.is_new else 'known':5}  {_line(seen.id, seen.finding)}")
    click.echo(f"{len(report.seen)} differences, {sum(seen.is_new for seen in report.seen)} of them new")


@reconcile.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def cases(data: Path, as_json: bool) -> None:
    """Differences that no command mends, oldest first."""
    found: list[Kept] = with_services(data, lambda services: services.reconciler.cases())
    if as_json:
        click.echo(json.dumps([_told(one.id, one.finding) for one in found], indent=1))
        return
    for one in found:
        click.echo(f"{one.found_at:%Y-%m-%d %H:%M}  {_line(one.id, one.finding)}")


@reconcile.command()
@click.argument("case")
@data_option
def close(data: Path, case: str) -> None:
    """Say that a case is dealt with; the same difference is not told again."""
    try:
        wanted = ids.decode("case", case)
        with_services(data, lambda services: services.reconciler.close(wanted))
    except (CaseNotFound, ids.MalformedId) as error:
        raise click.ClickException(str(error)) from error


def _line(finding_id: Any, finding: Finding) -> str:
    order = "" if finding.order_id is None else ids.encode("order", finding.order_id)
    parts = (ids.encode("case", finding_id), finding.drift, finding.what, finding.subject, order, finding.detail)
    return "  ".join(part for part in parts if part)


def _told(finding_id: Any, finding: Finding) -> dict[str, Any]:
    return {
        "id": ids.encode("case", finding_id),
        "drift": finding.drift.value,
        "what": finding.what,
        "subject": finding.subject,
        "order": None if finding.order_id is None else ids.encode("order", finding.order_id),
        "detail": finding.detail,
        "repair": None if finding.repair is None else msgspec.to_builtins(finding.repair)["type"],
    }


def _plain(report: Report) -> dict[str, Any]:
    return {
        "since": report.since.isoformat(),
        "settled": report.settled.isoformat(),
        "lookedAt": report.looked_at,
        "seen": [{**_told(one.id, one.finding), "state": one.state.value, "new": one.is_new} for one in report.seen],
    }

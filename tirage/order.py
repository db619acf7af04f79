"""`tirage order show`: what an operator asks about one order."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from app.kernel.db import Database, read_database
from app.orders.errors import OrderNotFound
from app.orders.schemas import told_to_operators
from app.orders.service import Orders, Story
from base import ids
from base.clock import SystemClock
from base.settings import Reader, SettingsError
from tirage.stack import data_option
from tirage.trace import of_stack


@click.command()
@click.argument("name", metavar="ID")
@data_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(name: str, data: Path, as_json: bool) -> None:
    """The whole story of an order: events, jobs, their causes, what is awaited (TIRAGE_DATABASE_URL, or --data).

    ID is the order's, or that of a payment, refund, fulfilment or case of it.
    """
    try:
        story = asyncio.run(_story(name, data))
    except (OrderNotFound, ids.MalformedId) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(told_to_operators(story)).decode())
        return
    for line in told(story):
        click.echo(line)


def told(story: Story) -> list[str]:
    """The story as lines of text."""
    order_, shown = story.view.order, story.view.shown
    lines = [
        f"{ids.encode('order', order_.id)}  {shown.state}  {order_.total} {order_.currency} (minor units)  "
        f"to {order_.country}  held for: {', '.join(sorted(story.view.holds)) or 'nothing'}"
    ]
    for line in story.view.lines:
        q = line.quantities
        lines.append(
            f"line {line.number}: {q.ordered} of {line.sku}  {line.total}  shipped {q.shipped}  cancelled {q.cancelled}"
            f"  refunded {q.refunded}"
        )
    for entry in story.entries:
        took = f"{entry.ms} ms" if entry.ms is not None else ""
        due = f"not before {entry.due:%H:%M:%S}" if entry.due else ""
        cause = f"<- {ids.encode('event', entry.cause)}" if entry.cause else ""
        facts = "  ".join(part for part in (entry.state, took, due, cause) if part)
        lines.append(f"{entry.at:%m-%d %H:%M:%S.%f}  {entry.source:5}  {entry.actor:8}  {entry.name}  {facts}".rstrip())
    waiting = story.waiting
    until = f"; can be changed until {waiting.change_until:%Y-%m-%d %H:%M}" if waiting.change_until else ""
    lines.append(f"next: {waiting.next}{f' by {waiting.by}' if waiting.by else ''}{until}")
    return lines


async def _story(name: str, data: Path) -> Story:
    kind = next((kind for kind, prefix in ids.PREFIXES.items() if name.startswith(f"{prefix}_")), "order")
    read = Reader({**of_stack(data), **os.environ})
    settings = read_database(read)
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    database = Database(settings)
    await database.start()
    try:
        return await Orders(database, SystemClock()).story_for_operators(ids.decode(kind, name))
    finally:
        await database.stop()

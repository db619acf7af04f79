"""`tirage webhooks`: what came in, and dead letters looked at again (TIRAGE_DATABASE_URL)."""

import json

import click
import msgspec

from app.kernel.db import Database
from app.webhooks import service
from app.webhooks.domain import Listed
from base import ids
from tirage.work import with_database


@click.group()
def webhooks() -> None:
    """Look at webhooks, and at dead letters again (TIRAGE_DATABASE_URL)."""


@webhooks.command("list")
@click.option("--dead", is_flag=True, help="Only dead letters: what could not be handled.")
@click.option("--limit", default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def list_(dead: bool, limit: int, as_json: bool) -> None:
    """The newest webhooks, each with what became of it or the cause why not."""

    async def use(database: Database) -> list[Listed]:
        async with database.transaction(readonly=True) as tx:
            return await service.listed(tx, dead=dead, limit=limit)

    found: list[Listed] = with_database(use)
    if as_json:
        rows = [{**msgspec.to_builtins(one), "id": ids.encode("webhook", one.id)} for one in found]
        click.echo(json.dumps(rows, indent=1))
        return
    for one in found:
        became = one.outcome or f"{one.state} after {one.attempt}: {one.cause}"
        click.echo(f"{ids.encode('webhook', one.id)}  {one.source:16}  {one.type:36}  {became}")


@webhooks.command()
@click.argument("webhook", required=False)
@click.option("--all", "every", is_flag=True, help="Every dead letter.")
def replay(webhook: str | None, every: bool) -> None:
    """Look at a dead letter again, or at all of them."""
    if (webhook is None) == (not every):
        raise click.UsageError("name one WEBHOOK, or --all")
    wanted = ids.decode("webhook", webhook) if webhook else None

    async def use(database: Database) -> int:
        async with database.transaction() as tx:
            return await service.replay(tx, wanted)

    click.echo(f"{with_database(use)} queued again")

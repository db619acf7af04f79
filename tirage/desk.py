"""`tirage order refund` and `tirage order cancel`: what an operator decides about one order."""

from pathlib import Path
from typing import Any

import click
import msgspec

from app.kernel.events import Code
from app.orders.desk import Ending, How, Promised, Wanted
from app.services import Services
from base import ids
from base.errors import DomainError
from base.money import Money
from tirage.operating import with_services
from tirage.stack import data_option


def _code(_: click.Context, __: click.Parameter, value: str) -> str:
    """Events hold codes only: a sentence could be about a person."""
    try:
        return msgspec.convert(value, Code)
    except msgspec.ValidationError as error:
        raise click.BadParameter("a word in small letters, such as damaged, lost, goodwill or asked") from error


reason_option = click.option("--reason", required=True, callback=_code, help="A word; it stays in the order's story.")
dry_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.command()
@click.argument("name", metavar="ID")
@click.option("--line", type=click.IntRange(1), help="The line's number, as `tirage order show` has it.")
@click.option("--quantity", type=click.IntRange(1), help="So many copies of it.")
@click.option("--all", "every", is_flag=True, help="All that is left, the shipping too.")
@click.option("--goodwill", is_flag=True, help="Also for copies that are made all the same.")
@click.option("--reference", default="", help="Tells two refunds apart that are alike, such as a ticket's number.")
@reason_option
@dry_option
@data_option
def refund(
    name: str,
    line: int | None,
    quantity: int | None,
    every: bool,
    goodwill: bool,
    reference: str,
    reason: str,
    dry_run: bool,
    data: Path,
) -> None:
    """Give money back: the price of copies of one line, or all that is left (a record worker's variables, or --data).

    The same command again is the same refund, until it fails. ID is the order's, or that of anything in its story.
    """
    if (line is None) != (quantity is None) or every == (line is not None):
        raise click.UsageError("give --line and --quantity, or --all")
    wanted = Wanted(reason=reason, line=line, copies=quantity or 0, reference=reference, goodwill=goodwill)

    async def use(services: Services) -> Promised:
        if dry_run:
            async with services.db.reading() as db:
                return await services.desk.promise(db, decoded(name), wanted)
        async with services.db.transaction() as tx:
            return await services.desk.refund(tx, decoded(name), wanted)

    click.echo(promised_line(_told(data, use), dry=dry_run))


@click.command()
@click.argument("name", metavar="ID")
@reason_option
@dry_option
@data_option
def cancel(name: str, reason: str, dry_run: bool, data: Path) -> None:
    """End an order: the printer is asked first when it has it, and what is not made is refunded (a record worker's
    variables, or --data). Asked again, the same. ID is the order's, or that of anything in its story.
    """

    async def use(services: Services) -> Ending:
        if dry_run:
            async with services.db.reading() as db:
                return await services.desk.ending(db, decoded(name))
        async with services.db.transaction() as tx:
            return await services.desk.end(tx, decoded(name), reason)

    click.echo(f"{'would be: ' if dry_run else ''}{ending_line(_told(data, use))}")


def decoded(name: str) -> Any:
    """The id in a TypeID of any kind; raises `MalformedId`."""
    kind = next((kind for kind, prefix in ids.PREFIXES.items() if name.startswith(f"{prefix}_")), "order")
    return ids.decode(kind, name)


def promised_line(promised: Promised, *, dry: bool) -> str:
    """One line about a refund."""
    back, currency = promised.back, promised.amount.currency
    parts = [f"{part.copies} copies {part.amount}" for part in back.parts]
    parts += [f"shipping and the rest {back.shipping}"] if back.shipping else []
    inside = (
        f"{_told_money(promised.amount)} ({', '.join(parts) or 'no copies'}), {promised.left.amount} {currency} left"
    )
    name = ids.encode("refund", promised.refund_id)
    if promised.known is not None:
        return f"{name} was asked for before and is {promised.known}: {inside}"
    return f"would give back {inside}" if dry else f"{name} gives back {inside}"


def ending_line(ending: Ending) -> str:
    """One line about a cancellation."""
    back = _told_money(ending.back)
    return {
        How.OVER: "nothing to do: the order is over",
        How.STRIPE: "nothing is paid; Stripe is asked to cancel the payment, and the order ends when it has",
        How.AT_ONCE: f"nothing has left the house; the order ends at once, {back} go back",
        How.PRINTER: f"the printer is asked first; what it does not make goes back, {back} at most",
    }[ending.how]


def _told_money(amount: Money) -> str:
    return f"{amount.amount} {amount.currency} (minor units)"


def _told(data: Path, use: Any) -> Any:
    try:
        return with_services(data, use)
    except DomainError as error:
        detail = "" if str(error) == error.title else f": {error}"
        raise click.ClickException(f"{error.title}{detail}. {error.next_step}") from error

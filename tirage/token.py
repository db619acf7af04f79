"""`tirage token`: access tokens for operators."""

import os
import re
from datetime import timedelta

import click

from app.kernel.access import AccessTokens
from base.clock import SystemClock
from base.settings import Reader, SettingsError

HOURS_MAX = 12


@click.group()
def token() -> None:
    """Mint access tokens (TIRAGE_TOKEN_KEYS)."""


@token.command()
@click.option("--name", required=True, help="Who it is for; goes into the trail of what is done with it.")
@click.option("--hours", default=1, show_default=True, type=click.IntRange(1, HOURS_MAX))
def operator(name: str, hours: int) -> None:
    """Print an operator's token. It cannot be taken back before its end: keep it short."""
    if not re.fullmatch(r"[a-z][a-z0-9._-]{1,39}", name):
        raise click.BadParameter("2 to 40 lower-case letters, digits and ._-", param_hint="--name")
    read = Reader(os.environ)
    keys = read.keys("TIRAGE_TOKEN_KEYS")
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    minted, expires = AccessTokens(keys, SystemClock()).operator(f"op:{name}", timedelta(hours=hours))
    click.echo(minted)
    click.echo(f"for {name}, until {expires.isoformat()}", err=True)

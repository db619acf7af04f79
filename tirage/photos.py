"""What an operator does with photos: let nothing be made of one, and let it go again."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import click

from app.services import Services
from app.settings import load
from base import ids
from base.errors import DomainError
from base.settings import SettingsError


@click.group()
def photos() -> None:
    """Flag photos, so that nothing is made of them, and clear them again."""


@photos.command()
@click.argument("photo")
@click.option("--reason", required=True, help="Why: a code of lower-case letters, digits and dashes.")
def flag(photo: str, reason: str) -> None:
    """Let nothing be made of PHOTO until it is cleared."""
    if _CODE.fullmatch(reason) is None:
        raise click.BadParameter("the reason must be a code such as needs-a-look")
    asset_id = _asset(photo)
    _run(lambda services: services.care.flag(asset_id, reason))
    click.echo(f"{photo} is flagged: {reason}")


@photos.command()
@click.argument("photo")
def clear(photo: str) -> None:
    """Take the flag of PHOTO away."""
    asset_id = _asset(photo)
    _run(lambda services: services.care.clear(asset_id))
    click.echo(f"{photo} is clear")


_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def _asset(photo: str) -> UUID:
    try:
        return ids.decode("asset", photo)
    except ids.MalformedId as error:
        raise click.BadParameter(str(error)) from error


def _run(use: Callable[[Services], Awaitable[None]]) -> None:
    async def main() -> None:
        services = Services(load(os.environ, "RECORD"))
        await services.start()
        try:
            await use(services)
        finally:
            await services.stop()

    try:
        asyncio.run(main())
    except (SettingsError, DomainError) as error:
        raise click.ClickException(str(error)) from error

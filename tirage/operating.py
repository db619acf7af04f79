"""What commands of operators work with: the parts of a record process, for one use."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from app.fulfilment.errors import VendorUnavailable
from app.payments.errors import ProviderSilent
from app.services import Services
from app.settings import load
from base.errors import ServiceUnavailable
from base.settings import SettingsError
from tirage.stack import variables


def with_services(data: Path, use: Callable[[Services], Awaitable[Any]]) -> Any:
    """What `use` gives with the parts of a record process (its variables, or those of the stack in `data`)."""

    async def main() -> Any:
        services = Services(load(variables(data), "RECORD"))
        await services.start()
        try:
            return await use(services)
        finally:
            await services.stop()

    try:
        return asyncio.run(main())
    except (SettingsError, ServiceUnavailable, ProviderSilent, VendorUnavailable) as error:
        raise click.ClickException(str(error)) from error

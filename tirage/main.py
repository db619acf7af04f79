"""The command line: one literal table of commands, each module imported only when its command runs."""

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click

COMMANDS: Final[dict[str, str]] = {
    "api": "tirage.api:api",
    "alerts": "tirage.work:alerts",
    "audit": "tirage.audit.command:audit",
    "catalog": "tirage.catalog:catalog",
    "demo": "tirage.demo:demo",
    "dispatcher": "tirage.background:dispatcher",
    "docs": "tirage.docs:docs",
    "down": "tirage.stack:down",
    "edge": "tirage.delivery:edge",
    "gallery": "tirage.gallery:gallery",
    "inspect": "tirage.images:inspect",
    "jobs": "tirage.work:jobs",
    "master": "tirage.masters:master",
    "migrate": "tirage.database:migrate",
    "order": "tirage.main:order",
    "origin": "tirage.origin:origin",
    "photos": "tirage.photos:photos",
    "reconcile": "tirage.reconcile:reconcile",
    "render": "tirage.images:render",
    "reset": "tirage.stack:reset",
    "scheduler": "tirage.background:scheduler",
    "simulate": "tirage.main:simulate",
    "status": "tirage.stack:status",
    "token": "tirage.token:token",
    "trace": "tirage.trace:trace",
    "up": "tirage.stack:up",
    "verify": "tirage.masters:verify",
    "webhooks": "tirage.webhooks:webhooks",
    "worker": "tirage.main:worker",
}

WORKERS: Final[dict[str, str]] = {
    "pixel": "tirage.pixels:pixel",
    "record": "tirage.records:record",
}


ORDERS: Final[dict[str, str]] = {
    "cancel": "tirage.desk:cancel",
    "refund": "tirage.desk:refund",
    "show": "tirage.order:show",
}


SIMULATORS: Final[dict[str, str]] = {
    "prodigi": "tirage.printers:prodigi",
    "stripe": "tirage.simulators:stripe",
}


class LazyGroup(click.Group):
    """A click group over a table, so that `tirage status` never imports pixels and a pixel worker no database."""

    def __init__(self, *args: Any, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._table.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a command")
        return command


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tirage")
def main() -> None:
    """Tirage: photos in, prints out."""


@click.group(cls=LazyGroup, table=ORDERS)
def order() -> None:
    """Orders, for operators."""


@click.group(cls=LazyGroup, table=SIMULATORS)
def simulate() -> None:
    """Run a stand-in for an outside service (part of the embedded stack)."""


@click.group(cls=LazyGroup, table=WORKERS)
def worker() -> None:
    """Run jobs."""

"""The command line: one literal table of commands, each module imported only when its command runs."""

import importlib
from typing import Final

import click

COMMANDS: Final[dict[str, str]] = {
    "api": "tirage.api:api",
    "down": "tirage.stack:down",
    "migrate": "tirage.database:migrate",
    "reset": "tirage.stack:reset",
    "status": "tirage.stack:status",
    "up": "tirage.stack:up",
}


class LazyGroup(click.Group):
    """A click group whose commands are looked up in `COMMANDS`, so `tirage status` never imports pixels."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tirage")
def main() -> None:
    """Tirage: photos in, prints out."""

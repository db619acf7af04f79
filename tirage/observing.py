"""What every process of ours starts with: its logs and its spans."""

import atexit
import os

import click

from base import telemetry, tracing
from base.settings import Reader, SettingsError


def observe(process: str) -> None:
    """Begin logs and spans (`TIRAGE_TRACES`, `TIRAGE_OTLP_ENDPOINT`); what is pending is told when the process ends."""
    telemetry.configure_logs(process)
    read = Reader(os.environ)
    settings = tracing.read_tracing(read)
    try:
        read.finish()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    tracing.configure(process, settings)
    atexit.register(tracing.close)

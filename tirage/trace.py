"""`tirage trace`: one request's whole path, from the spans of every process and the rows it left."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from app.kernel import traces
from app.kernel.db import Database, read_database
from base.errors import ServiceUnavailable
from base.settings import Reader
from devstack import state as states
from tirage.stack import data_option

ID: Final = re.compile(r"[0-9a-f]{32}")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened; `us` microseconds where it took some."""

    at: str
    source: str
    name: str
    state: str
    us: int | None
    depth: int


@click.command()
@click.argument("trace_id")
@data_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def trace(trace_id: str, data: Path, as_json: bool) -> None:
    """What a trace did, in every process (`x-trace-id`, `traceId`, or a whole `traceparent`)."""
    wanted = trace_id.split("-")[1] if trace_id.startswith("00-") and trace_id.count("-") == 3 else trace_id
    if not ID.fullmatch(wanted):
        raise click.BadParameter("a trace id is 32 hex digits")
    env = {**of_stack(data), **os.environ}
    lines = sorted([*_spans(env, wanted), *_rows(env, wanted)], key=lambda line: line.at)
    if as_json:
        click.echo(msgspec.json.encode(lines).decode())
        return
    if not lines:
        raise click.ClickException("nothing is known of this trace (not sampled, too old, or another stack's)")
    for line in lines:
        took = f"{line.us / 1000:9.1f} ms" if line.us is not None else " " * 12
        click.echo(f"{line.at[11:26]}  {took}  {line.source:13} {'  ' * line.depth}{line.name}  {line.state}")


def of_stack(folder: Path) -> dict[str, str]:
    """Where the stack in `folder` keeps its spans and its rows; the environment's own variables go before."""
    found = {"TIRAGE_TRACES": str(folder / "traces")} if (folder / "traces").is_dir() else {}
    state = states.read_living(folder)
    postgres = (state or {}).get("parts", {}).get("postgres", {})
    if postgres.get("address") and not postgres.get("replaced_by"):
        password = json.loads((folder / "secrets.json").read_text())["postgres_password"]
        found["TIRAGE_DATABASE_URL"] = f"postgresql://app:{password}@{postgres['address']}/postgres"
    return found


def _spans(env: dict[str, str], trace_id: str) -> Iterator[Line]:
    folder = env.get("TIRAGE_TRACES")
    if not folder:
        return
    found = [span for file in Path(folder).glob("*.jsonl*") for span in _matching(file, trace_id)]
    parents = {span["spanId"]: span["parentId"] for span in found}
    for span in found:
        yield Line(
            at=_moment(span["startNs"]),
            source=span["process"],
            name=span["name"],
            state=span["error"] or _short(span["attributes"]),
            us=span["us"],
            depth=_depth(span["spanId"], parents),
        )


def _matching(file: Path, trace_id: str) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            if trace_id in line and line.endswith("\n"):
                yield json.loads(line)


def _depth(span_id: str, parents: dict[str, str]) -> int:
    depth = 0
    while (span_id := parents.get(span_id, "")) in parents and depth < 20:
        depth += 1
    return depth


def _short(attributes: dict[str, Any]) -> str:
    return " ".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in attributes.items() if name != "http.route")


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1_000_000_000, UTC).isoformat(timespec="microseconds")


def _rows(env: dict[str, str], trace_id: str) -> list[Line]:
    read = Reader(env)
    settings = read_database(read)
    if read.faults:
        return []
    try:
        rows = asyncio.run(_read(Database(settings), trace_id))
    except ServiceUnavailable:
        click.echo("the database does not answer: spans only", err=True)
        return []
    return [
        Line(
            at=row.at.astimezone(UTC).isoformat(timespec="microseconds"),
            source=f"({row.what})",
            name=row.name,
            state=row.state,
            us=None if row.ms is None else row.ms * 1000,
            depth=0,
        )
        for row in rows
    ]


async def _read(database: Database, trace_id: str) -> list[traces.Row]:
    await database.start()
    try:
        async with database.reading() as db:
            return await traces.read(db, trace_id)
    finally:
        await database.stop()

"""`tirage docs`: the pages under docs/ that are made from the code."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, get_type_hints

import click

import app.machines
import app.main  # noqa: F401 defines every error and event
from app.erasure.retention import OTHERS, RETENTION
from app.erasure.tables import KEPT as LEFT
from app.erasure.tables import TABLES
from app.kernel.events import EVENT_TYPES
from app.kernel.idempotency import KEYED, LIFETIME_DAYS, UNKEYED
from app.stream.domain import KEPT, PUBLIC
from app.web.problems import ROUTER, STATUS
from base.errors import CATALOGUE, DomainError, Kind

DOCS: Final = Path(__file__).parents[1] / "docs"
_AGAIN: Final = {
    Kind.LIMITED: "yes, after `Retry-After`",
    Kind.UNAVAILABLE: "yes, after `Retry-After`",
    Kind.UNAUTHENTICATED: "with a fresh token",
}


def errors_page() -> str:
    """docs/errors.md: every code with its cause and what to do."""
    rows: list[tuple[int, str, str, str, str]] = [
        (STATUS[e.kind], e.code, _cause(e), e.next_step, _again(e)) for e in CATALOGUE.values() if _ours(e)
    ]
    rows += [
        (status, c.code, c.title + ".", c.next_step, "yes, with a pause" if status == 500 else "no")
        for status, c in ROUTER.items()
    ]
    lines = [
        f"| {status} | `{code}` | {cause} | {step} | {again} |" for status, code, cause, step, again in sorted(rows)
    ]
    head = """# Errors

Every answer that is not a success is `application/problem+json` (RFC 9457). Decide by `code`, which is stable; show
or log `detail`; do what `nextStep` says. "Again" says whether the same request, unchanged, may be sent again.

| status | code | cause | next step | again |
| --- | --- | --- | --- | --- |
"""
    return head + "\n".join(lines) + "\n"


def _cells(texts: tuple[str, ...]) -> str:
    return " | ".join(texts)


def _ours(error: type[DomainError]) -> bool:
    return error.__module__.split(".")[0] in {"app", "base"}


def _cause(error: type[DomainError]) -> str:
    return " ".join((error.__doc__ or error.title).split("\n\n")[0].split())


def _again(error: type[DomainError]) -> str:
    if error.retry_after_s is not None:
        return "yes, after `Retry-After`"
    return _AGAIN.get(error.kind, "no")


def events_page() -> str:
    """docs/events.md: the public events and their fields, and which calls take a key."""
    lines = [
        f"| `{public.name}` | {public.version} | {public.meaning} | {_fields(type_)} |"
        for type_, public in sorted(PUBLIC.items())
    ]
    keyed = "\n".join(f"- `{operation}`" for operation in sorted(KEYED))
    unkeyed = "\n".join(f"- `{operation}`: {reason}" for operation, reason in sorted(UNKEYED.items()))
    return f"""# Events

What `GET /v1/events` tells, as pages and as server-sent events. Kept for {KEPT.days} days. Within a version, fields
are only added.

| type | version | meaning | `data` |
| --- | --- | --- | --- |
{chr(10).join(lines)}

# Idempotency keys

These calls need an `Idempotency-Key`; the answer is kept for {LIFETIME_DAYS} days:

{keyed}

These do not:

{unkeyed}
"""


def _fields(type_: str) -> str:
    hints = get_type_hints(EVENT_TYPES[type_])
    return ", ".join(
        f"`{name}` ({kind + ' id' if kind else _name(hints[field])})" for name, field, kind in PUBLIC[type_].fields
    )


def _name(hint: object) -> str:
    names = {"int": "number", "Money": "money", "datetime": "time", "date": "date", "bool": "truth value"}
    return names.get(getattr(hint, "__name__", ""), "code")


def retention_page() -> str:
    """docs/retention.md: what is kept for how long, and why."""
    rows = [(one.name, f"{one.days} days", one.why) for one in RETENTION] + list(OTHERS)
    table = "\n".join(f"| {name} | {time} | {why} |" for name, time, why in rows)
    tables = "\n".join(
        f"| `{name}` | {one.holds or '-'} | {one.fate.value} | {', '.join(one.named) or '-'} | {one.kept} |"
        for name, one in sorted(TABLES.items())
    )
    left = "\n".join(f"| {one.what} | {one.reason} | {one.until} |" for one in LEFT)
    return f"""# Retention

What goes by itself, and when: the job `retention.sweep` runs every hour. Photos and orders have lifecycles of their
own; print files are removed by `prints.forget`, webhooks' bodies by `webhooks.forget`.

| class | kept for | why |
| --- | --- | --- |
{table}

# Every table

What it holds of a person, what an erasure does with that, under which name the receipt tells of what stays.

| table | holds | an erasure | in the receipt | kept |
| --- | --- | --- | --- | --- |
{tables}

# What a receipt may name

Each only if there is any. Print files are named one by one, until the day after their lock ends.

| what | why | until |
| --- | --- | --- |
{left}
"""


PAGES: Final[dict[str, Callable[[], str]]] = {
    "errors.md": errors_page,
    "events.md": events_page,
    "retention.md": retention_page,
}


@click.command()
def docs() -> None:
    """Write the pages under docs/ that are made from the code."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
        click.echo(f"docs/{name}")

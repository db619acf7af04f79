"""Commands on files: what a photo is, and one rendition of it. Both decode in the jail."""

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imagecore import containers
from imagecore import recipe as recipes
from imagecore.errors import (
    ChildDied,
    DeadlineExceeded,
    ImageError,
    JailUnavailable,
    OutOfMemory,
    Reason,
    Rejected,
)
from imagecore.facts import Facts, Report, Verdict, parse_report
from imagecore.jail import Jail

DEADLINE_S: Final = 60
NO_VERDICT: Final = {
    OutOfMemory.code: "needs-too-much-memory",
    DeadlineExceeded.code: "took-too-long",
    ChildDied.code: "breaks-decoder",
}
UNREADABLE: Final = "unreadable"
FAILED: Final = 2
_HEAD: Final = 4096


def _jail() -> Jail:
    try:
        return Jail.open()
    except JailUnavailable as error:
        raise _unheld(error) from error


def _unheld(error: JailUnavailable) -> click.ClickException:
    return click.ClickException(f"this machine cannot hold the decode child: {error}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and file.")
@click.pass_context
def inspect(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """What each file is, by content, and whether it can be printed.

    Exit 0 also for rejected ones; 2 where a file could not be read, after all others were told.
    """
    missed = False
    with _jail() as jail:
        for file in files:
            try:
                told = look(jail, file)
            except JailUnavailable as error:
                raise _unheld(error) from error
            click.echo(msgspec.json.encode(told) if as_json else _line(told))
            missed = missed or told["reason"] == UNREADABLE
    ctx.exit(FAILED if missed else 0)


def _line(told: dict[str, Any]) -> str:
    size = f"{told['width']}x{told['height']}" if told["width"] else "-"
    why = told["reason"] or ", ".join(told["notes"])
    return f"{told['verdict']:7} {told['format'] or '-':6} {size:12} {told['file']}  {why}"


def look(jail: Jail, file: Path) -> dict[str, Any]:
    """One file's object: its name, the verdict with reason and notes, and every fact; None where it is not known.

    Raises `JailUnavailable`, which is no verdict.
    """
    name = click.format_filename(file, shorten=True)
    try:
        raw = contents(file)
    except Rejected as refusal:
        return _unread(name, refusal.reason, bytes=file.stat().st_size, format=_kind(file))
    except OSError:
        return _unread(name, UNREADABLE, bytes=None, format=None)
    params = msgspec.msgpack.encode({"extension": Path(name).suffix.lower().lstrip(".") or None})
    try:
        (output,) = jail.run("inspect", params, [raw], DEADLINE_S)
    except JailUnavailable:
        raise
    except ImageError as error:
        known = Facts(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw), format=containers.label(raw))
        reason = NO_VERDICT.get(error.code, error.code)
        return _object(name, Report(verdict=Verdict.REJECT, reason=reason, notes=(), facts=known))
    return _object(name, parse_report(output.data))


def _kind(file: Path) -> str | None:
    with contextlib.suppress(OSError), file.open("rb") as opened:
        return containers.label(opened.read(_HEAD))
    return None


def _unread(name: str, reason: str, **known: object) -> dict[str, Any]:
    """The object of a file whose content was not looked at."""
    nothing = Facts(sha256="", bytes=0, format="")
    told = _object(name, Report(verdict=Verdict.REJECT, reason=reason, notes=(), facts=nothing))
    return {**told, "sha256": None, **known}


def contents(file: Path) -> bytes:
    """A file's bytes; raises `Rejected` where they are too many, and reads none of them."""
    size = file.stat().st_size
    if size > containers.MAX_BYTES:
        raise Rejected(Reason.TOO_MANY_BYTES, str(size))
    return file.read_bytes()


def _object(name: str, report: Report) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(report.facts)
    notes = [note.value for note in report.notes]
    return {"file": name, **facts, "verdict": report.verdict.value, "reason": report.reason, "notes": notes}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", "text", required=True, help="A recipe's canonical text.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def render(file: Path, text: str, out: Path) -> None:
    """One rendition of FILE at OUT; exit 2 when that cannot be made or written, and OUT is as it was."""
    try:
        recipes.parse(text)
    except recipes.MalformedRecipe as error:
        raise click.BadParameter(f"not a recipe's canonical text: {error}", param_hint="--recipe") from error
    refuse_overwriting([out], [file])
    try:
        require_room(out)
        with _jail() as jail:
            (output,) = jail.run("render_file", msgspec.msgpack.encode({"recipe": text}), [contents(file)], DEADLINE_S)
        write_whole(out, output.data)
    except ImageError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(FAILED)
    except OSError as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)
    click.echo(output.facts)


def refuse_overwriting(outs: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise a click error where a result would take the place of what it is made from."""
    taken = {out.resolve() for out in outs} & {source.resolve() for source in sources}
    if taken:
        raise click.BadParameter(f"{taken.pop().name} would be overwritten", param_hint="--output")


def require_room(out: Path) -> None:
    """Raise `OSError` where no file can be made beside `out`: known before the work, not after it."""
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise OSError(f"nothing can be written into {click.format_filename(out.parent)}: {error.strerror}") from error


def write_whole(out: Path, data: bytes) -> None:
    """All of it, or what was there before."""
    fresh = out.with_name(f".{out.name}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)

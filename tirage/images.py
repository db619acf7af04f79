"""Commands on files: what a photo is, and one rendition of it. Both decode in the jail."""

import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imagecore import recipe as recipes
from imagecore.errors import ChildDied, DeadlineExceeded, ImageError, JailUnavailable, OutOfMemory
from imagecore.facts import Report, parse_report
from imagecore.jail import Jail

DEADLINE_S: Final = 60
NO_VERDICT: Final = {
    OutOfMemory.code: "needs-too-much-memory",
    DeadlineExceeded.code: "took-too-long",
    ChildDied.code: "breaks-decoder",
}
FAILED: Final = 2


def _jail() -> Jail:
    try:
        return Jail.open()
    except JailUnavailable as error:
        raise click.ClickException(f"this machine cannot hold the decode child: {error}") from error


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and file.")
def inspect(files: tuple[Path, ...], as_json: bool) -> None:
    """What each file is, by content, and whether it can be printed; exit 0 also for rejected ones."""
    with _jail() as jail:
        for file in files:
            told = look(jail, file)
            if as_json:
                click.echo(msgspec.json.encode(told))
            else:
                size = f"{told['width']}x{told['height']}" if told.get("width") else "-"
                why = told["reason"] or ", ".join(told["notes"])
                click.echo(f"{told['verdict']:7} {told.get('format') or '-':6} {size:12} {told['file']}  {why}")


def look(jail: Jail, file: Path) -> dict[str, Any]:
    """One file's object: its name, the verdict with reason and notes, and every fact."""
    raw = file.read_bytes()
    params = msgspec.msgpack.encode({"extension": file.suffix.lower().lstrip(".") or None})
    try:
        (output,) = jail.run("inspect", params, [raw], DEADLINE_S)
    except ImageError as error:
        reason = NO_VERDICT.get(error.code, error.code)
        return {"file": file.name, "bytes": len(raw), "verdict": "reject", "reason": reason, "notes": []}
    return _object(file.name, parse_report(output.data))


def _object(name: str, report: Report) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(report.facts)
    notes = [note.value for note in report.notes]
    return {"file": name, **facts, "verdict": report.verdict.value, "reason": report.reason, "notes": notes}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", "text", required=True, help="A recipe's canonical text.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def render(file: Path, text: str, out: Path) -> None:
    """One rendition of FILE at OUT; exit 2 when the file or the recipe cannot be rendered, and OUT is not written."""
    try:
        recipes.parse(text)
    except recipes.MalformedRecipe as error:
        raise click.BadParameter(f"not a recipe's canonical text: {error}", param_hint="--recipe") from error
    with _jail() as jail:
        try:
            (output,) = jail.run(
                "render_file", msgspec.msgpack.encode({"recipe": text}), [file.read_bytes()], DEADLINE_S
            )
        except ImageError as error:
            click.echo(f"{error.code}: {error}", err=True)
            sys.exit(FAILED)
    fresh = out.with_name(f".{out.name}.new")
    fresh.write_bytes(output.data)
    fresh.replace(out)
    click.echo(output.facts)

"""`tirage master` and `tirage verify`: a print master with its manifest beside it, and the proof of one.

Both look at files only inside the jail.
"""

import contextlib
import hashlib
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imagecore import classes, colour, facts, inspect, masters
from imagecore import verify as verification
from imagecore.colour import Profile
from imagecore.errors import ImageError
from imagecore.facts import Verdict
from imagecore.jail import Jail
from tirage.images import contents, refuse_overwriting, require_room, write_whole

DEADLINE_S: Final = 600
_SIZE: Final = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)x([0-9]{1,5}(?:\.[0-9]{1,3})?)(mm)?")
_PATH: Final = click.Path(path_type=Path)


class Unusable(click.ClickException):
    """Neither made nor judged: the file, or this machine, is not fit for it."""

    exit_code = 3


class Judging(click.Command):
    """A command whose exit status is a verdict: what is asked wrongly has none, and ends as what is unusable."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Unusable(f"{error.format_message()}\n{ctx.get_usage()}") from error


class Files(msgspec.Struct, frozen=True):
    """Where the original and a profile that we do not ship lie, seen from beside the master."""

    original: str = ""
    profile: str | None = None


class _Beside(msgspec.Struct, frozen=True):
    """What a manifest's file says beyond the manifest."""

    files: Files = Files()


_BESIDE: Final = msgspec.json.Decoder(_Beside)


class Size(click.ParamType[tuple[int, int]]):
    """`210x297mm` as micrometres."""

    name = "WxHmm"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _SIZE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a size like 210x297mm", param, ctx)
        width, height = (int(Decimal(side) * 1000) for side in found.groups()[:2])
        return width, height


def sidecar(master: Path) -> Path:
    """Where a master's manifest lies."""
    return master.with_name(master.name + ".json")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--class", "class_", required=True, type=click.Choice([str(c) for c in classes.ClassName]))
@click.option("--size", required=True, type=Size(), help="The trim: what is left after cutting.")
@click.option("--profile", help="srgb, adobe-rgb, fogra39, display-p3, or an ICC file (default: the class's own).")
@click.option("--fit", type=click.Choice(["cover", "whole"]), default="cover", show_default=True)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
def master(file: Path, class_: str, size: tuple[int, int], profile: str | None, fit: masters.Fit, output: Path) -> None:
    """Make the print master of FILE at OUT, and its manifest at OUT.json; exit 3 when it cannot be made or written."""
    refuse_overwriting([output, sidecar(output)], [file, Path(profile or file)])
    own = None if profile is None or profile in colour.SHIPPED else _relative(Path(profile), output)
    files = msgspec.to_builtins(Files(original=_relative(file, output), profile=own))
    with _failing():
        require_room(output)
        with Jail.open(masters.LIMITS, preload=("inspect", "master")) as jail:
            raw = contents(file)
            kind = classes.named(class_)
            target = _profile(profile or kind.targets[0])
            recipe = masters.plan(kind, _sides(jail, raw), size, fit=fit, profile=target)
            (made,) = jail.run("master", masters.encode_recipe(recipe), [raw, target.data], DEADLINE_S)
        told = {**json.loads(made.facts), "files": files}
        write_whole(output, made.data)
        write_whole(sidecar(output), (json.dumps(told, sort_keys=True, separators=(",", ":")) + "\n").encode())
    manifest = masters.decode(made.facts)
    click.echo(
        f"{click.format_filename(output)}: {recipe.width} x {recipe.height} px, {target.name}, {len(made.data)} bytes"
    )
    click.echo(f"sha256 {manifest.output.sha256}, engine {manifest.engine}")


@click.command(cls=Judging)
@click.argument("master_file", metavar="MASTER", type=_PATH)
@click.option("--original", type=_PATH, help="The original (default: where the manifest says it was).")
@click.option("--profile", help="The ICC file, where the manifest names one that has moved.")
@click.pass_context
def verify(ctx: click.Context, master_file: Path, original: Path | None, profile: str | None) -> None:
    """Make MASTER again and compare. Exit 0: same bytes; 1: not that master; 2: another engine; 3: cannot tell."""
    shown = click.format_filename(master_file)
    try:
        data, told = master_file.read_bytes(), sidecar(master_file).read_bytes()
        manifest, files = masters.decode(told), _BESIDE.decode(told).files
        source = (original or master_file.parent / files.original).read_bytes()
        named = profile or (str(master_file.parent / files.profile) if files.profile else None)
        target = _profile(named or manifest.recipe.profile)
    except (ImageError, OSError, ValueError, msgspec.DecodeError) as error:
        raise Unusable(f"{shown} cannot be verified: {error}") from error
    with _failing(), Jail.open(masters.LIMITS, preload=("verify",)) as jail:
        (output,) = jail.run("verify", masters.encode(manifest), [source, target.data, data], DEADLINE_S)
    report = verification.decode(output.data)
    difference = "" if report.largest is None else f"; largest ΔE2000 {report.largest // 100}.{report.largest % 100:02}"
    click.echo(f"{shown}: {report.verdict.name.lower().replace('_', ' ')}: {report.reason}{difference}")
    ctx.exit(int(report.verdict))


@contextlib.contextmanager
def _failing() -> Any:
    """The image core's errors as one line and exit status 3."""
    try:
        yield
    except (ImageError, OSError) as error:
        raise Unusable(str(error)) from error


def _sides(jail: Jail, raw: bytes) -> tuple[int, int]:
    """The upright sides of an accepted photo; a click error names the reason for a refused one."""
    (output,) = jail.run("inspect", msgspec.msgpack.encode(inspect.Params()), [raw], DEADLINE_S)
    report = facts.parse_report(output.data)
    width, height = report.facts.width, report.facts.height
    if report.verdict is not Verdict.ACCEPT or width is None or height is None:
        raise Unusable(f"not a photo to print: {report.reason}")
    return width, height


def _profile(name: str) -> Profile:
    """A shipped profile by name, or any by its file, whose hash and nothing else goes into the manifest's proof."""
    if name in colour.SHIPPED:
        return colour.named(name)
    data = Path(name).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return colour.pinned(f"file-{sha256[:8]}", data, sha256)


def _relative(file: Path, output: Path) -> str:
    """How to find `file` from beside the master; what is no UTF-8 in its name cannot stand in a manifest."""
    return click.format_filename(os.path.relpath(file.resolve(), output.resolve().parent))

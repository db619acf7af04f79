"""Commands on the embedded stack: up, down, reset, status."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from base.settings import SettingsError
from devstack import state as states
from devstack.child import StartFailed, started_at
from devstack.processes import tirage_command
from devstack.stack import AlreadyUp, Stack
from tirage.keys import edge_keys
from tirage.main import COMMANDS

DOWN_TIMEOUT_S: Final = 60
UP_TIMEOUT_S: Final = 180
TWO_REGIONS: Final = Path(__file__).parents[1] / "data" / "regions" / "two.toml"

Command = Callable[..., None]


def usual_folder() -> Path:
    """Where a stack lives unless `--data` says otherwise."""
    return Path(os.environ.get("TIRAGE_DATA", ".tirage"))


def variables(data: Path) -> dict[str, str]:
    """This process's variables; those of the stack that is up in `data` as well, when it names no database itself."""
    own = {} if "TIRAGE_DATABASE_URL" in os.environ else Stack.environment_of(data, os.environ, edge_keys)
    return {**own, **os.environ}


def data_option(command: Command) -> Command:
    """The option `--data`, the same for every stack command."""
    option: Callable[[Command], Command] = click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=usual_folder,
        help="The stack's folder (default: .tirage, or TIRAGE_DATA).",
    )
    return option(command)


@click.command()
@data_option
@click.option("--detach", is_flag=True, help="Return once everything is up; `tirage down` stops it.")
@click.option("--regions", type=click.IntRange(1, 2), envvar="REGIONS", default=1, help="How many (default: REGIONS).")
@click.option("--demo", is_flag=True, help="Send a first photo through it.")
@click.option("--tied", is_flag=True, hidden=True, help="For tests: nothing outlives this process.")
def up(data: Path, detach: bool, regions: int, demo: bool, tied: bool) -> None:
    """Start the whole stack; Ctrl-C stops it. Variables such as TIRAGE_DATABASE_URL replace embedded parts."""
    if detach:
        _detach(data, regions)
        if demo:
            _demo(data)
        return
    stack = Stack(data, _given(regions), edge_keys, regions=regions)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stack.cancel.set())
    try:
        stack.claim()
    except (AlreadyUp, StartFailed, SettingsError) as error:
        raise click.ClickException(str(error)) from error
    try:
        _bring_up(stack, tied)
        if demo:
            _demo(data)
        _say("Ctrl-C stops it")
        stack.supervise(_say, tied=tied)
    except (StartFailed, SettingsError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        states.remove(stack.folder)
        stack.stop(_say)


def _given(regions: int) -> dict[str, str]:
    """The environment; two regions share work by the policy file that comes with the code, unless another is named."""
    shared = {"TIRAGE_REGION_POLICY": str(TWO_REGIONS)} if regions > 1 else {}
    return {**shared, **os.environ}


def _bring_up(stack: Stack, tied: bool) -> None:
    begun = time.monotonic()
    stack.write_state("starting")
    stack.start_servers(_say, tied=tied, migrate=True)
    stack.start_processes(COMMANDS, _say, tied=tied)
    stack.write_state("up")
    _say(f"up in {time.monotonic() - begun:.1f} s; data in {stack.folder}")
    for name, part in stack.processes.items():
        if name == "api" or name.startswith("edge"):
            _say(f"{name:9} {part.address}")


def _say(line: str) -> None:
    click.echo(f"tirage: {line}")


def _demo(data: Path) -> None:
    if "demo" in COMMANDS:
        subprocess.run([tirage_command(), "demo", "--data", str(data)], check=False)


def _detach(data: Path, regions: int) -> None:
    """Start `tirage up` in the background and follow it until it is up or has failed."""
    if states.read_living(data):
        raise click.ClickException(f"a stack is already up in {data.resolve()}")
    log = data / "logs" / "up.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"cannot use {data}: {error}") from error
    with log.open("wb") as out:
        command = [str(tirage_command()), "up", "--data", str(data.resolve()), "--regions", str(regions)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        is_up = _follow(process, data, log)
    except KeyboardInterrupt:
        is_up = False
    if not is_up:
        if process.poll() is None:
            process.terminate()
            process.wait()
        raise click.ClickException(f"the stack did not come up; log: {log}")


def _follow(process: subprocess.Popen[bytes], data: Path, log: Path) -> bool:
    """Show what it says until it is up (True) or has ended or taken too long (False)."""
    shown, deadline = 0, time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        state = states.read_living(data)
        lines = log.read_text().splitlines()
        for line in lines[shown:]:
            click.echo(line)
        shown = len(lines)
        if has_ended:
            return False
        if state is not None and state["supervisor"] == process.pid and state["phase"] == "up":
            return True
        time.sleep(0.1)
    return False


@click.command()
@data_option
def down(data: Path) -> None:
    """Stop the stack of this folder; its data stays. What a killed supervisor left running is ended as well."""
    state = states.read_living(data)
    if state is None:
        left = data.exists() and _end_leftovers(data)
        click.echo("tirage: ended what was left running" if left else "tirage: nothing is up")
        return
    pid, started = int(state["supervisor"]), state["supervisor_started"]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while started_at(pid) == started:
        if time.monotonic() > deadline:
            raise click.ClickException(f"process {pid} does not end")
        time.sleep(0.05)
    click.echo("tirage: stopped")


def _end_leftovers(data: Path) -> bool:
    stack = Stack(data, {})
    try:
        left = stack.take_folder()
    except (AlreadyUp, StartFailed) as error:
        raise click.ClickException(str(error)) from error
    stack.release_folder()
    return left


@click.command()
@data_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(data: Path, yes: bool) -> None:
    """Remove the folder's data, keys included. Refused while the stack is up."""
    if not data.exists():
        click.echo("tirage: there is nothing to remove")
        return
    if not (data / "up.lock").exists():
        raise click.ClickException(f"{data.resolve()} is not the folder of a stack")
    stack = Stack(data, {})
    try:
        stack.take_folder()
    except AlreadyUp as error:
        raise click.ClickException("the stack is up; run `tirage down` first") from error
    except StartFailed as error:
        raise click.ClickException(str(error)) from error
    try:
        if not yes:
            click.confirm(f"Remove everything in {data.resolve()}?", abort=True)
        shutil.rmtree(data)
    finally:
        stack.release_folder()
    click.echo("tirage: removed")


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(data: Path, as_json: bool) -> None:
    """Every part with its state, address and log; exit 1 when nothing is up or a part is not."""
    state = states.read_living(data)
    if state is None:
        click.echo(json.dumps({"up": False}) if as_json else "tirage: nothing is up")
        raise SystemExit(1)
    for part in state["parts"].values():
        part["state"] = states.look(part)
    state["up"] = state["phase"] == "up" and all(p["state"] in ("up", "external") for p in state["parts"].values())
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        _show(state)
    raise SystemExit(0 if state["up"] else 1)


def _show(state: dict[str, Any]) -> None:
    click.echo(f"{' and '.join(state['regions'])}, {state['phase']}, data in {state['data']}")
    for name, part in state["parts"].items():
        where = part["address"] or (f"pid {part['pid']}" if part["pid"] else "-")
        note = f"by {part['replaced_by']}" if part["replaced_by"] else part["log"]
        again = f" (started again {part['restarts']} times)" if part["restarts"] else ""
        click.echo(f"  {name:17} {part['state']:11} {where:26} {note}{again}")
    for line in state["laxer_than_production"]:
        click.echo(f"  laxer than production: {line}")

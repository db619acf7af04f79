"""Commands on the embedded stack: up, down, reset, status."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from devstack.child import StartFailed
from devstack.stack import AlreadyUp, Stack
from tirage.keys import edge_keys
from tirage.main import COMMANDS

DOWN_TIMEOUT_S: Final = 45
UP_TIMEOUT_S: Final = 120

Command = Callable[..., None]


def data_option(command: Command) -> Command:
    """The option `--data`, the same for every stack command."""
    option: Callable[[Command], Command] = click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: Path(os.environ.get("TIRAGE_DATA", ".tirage")),
        help="The stack's folder (default: .tirage, or TIRAGE_DATA).",
    )
    return option(command)


@click.command()
@data_option
@click.option("--detach", is_flag=True, help="Return once everything is up; `tirage down` stops it.")
@click.option("--demo", is_flag=True, help="Send a first photo through it.")
def up(data: Path, detach: bool, demo: bool) -> None:
    """Start the whole stack; Ctrl-C stops it. Variables such as TIRAGE_DATABASE_URL replace embedded parts."""
    if detach:
        _detach(data)
        if demo:
            _demo(data)
        return
    stack, done = Stack(data, os.environ, edge_keys), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        stack.claim()
    except AlreadyUp as error:
        raise click.ClickException(str(error)) from error
    try:
        _bring_up(stack, data, demo)
        done.wait()
    except StartFailed as error:
        raise click.ClickException(str(error)) from error
    finally:
        (stack.folder / "state.json").unlink(missing_ok=True)
        stack.stop(_say)


def _bring_up(stack: Stack, data: Path, demo: bool) -> None:
    begun = time.monotonic()
    stack.start_servers(_say)
    stack.start_processes(COMMANDS, _say)
    stack.write_state()
    _say(f"up in {time.monotonic() - begun:.1f} s; data in {stack.folder}")
    for name in ("api", "edge"):
        if name in stack.processes:
            _say(f"{name:5} {stack.environment()[f'TIRAGE_{name.upper()}_URL']}")
    if demo:
        _demo(data)
    _say("Ctrl-C stops it")


def _say(line: str) -> None:
    click.echo(f"tirage: {line}")


def _demo(data: Path) -> None:
    if "demo" in COMMANDS:
        subprocess.run([Path(sys.argv[0]).resolve(), "demo", "--data", str(data)], check=False)


def _detach(data: Path) -> None:
    """Start `tirage up` in the background and follow it until it is up or has failed."""
    data.mkdir(parents=True, exist_ok=True)
    if _running(data):
        raise click.ClickException(f"a stack is already up in {data.resolve()}")
    (data / "state.json").unlink(missing_ok=True)
    log = data / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out:
        command = [str(Path(sys.argv[0]).resolve()), "up", "--data", str(data.resolve())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    shown, deadline = 0, time.monotonic() + UP_TIMEOUT_S
    while True:
        lines = log.read_text().splitlines()
        for line in lines[shown:]:
            click.echo(line)
        shown = len(lines)
        if (data / "state.json").exists():
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"the stack did not come up; log: {log}")
        time.sleep(0.1)


@click.command()
@data_option
def down(data: Path) -> None:
    """Stop the stack of this folder; its data stays."""
    state = _running(data)
    if state is None:
        click.echo("tirage: nothing is up")
        return
    pid = int(state["supervisor"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
        if time.monotonic() > deadline:
            raise click.ClickException(f"process {pid} does not end")
        time.sleep(0.05)
    click.echo("tirage: stopped")


@click.command()
@data_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(data: Path, yes: bool) -> None:
    """Remove the folder's data, keys included. Refused while the stack is up."""
    if _running(data):
        raise click.ClickException("the stack is up; run `tirage down` first")
    if not data.exists():
        click.echo("tirage: there is nothing to remove")
        return
    if not yes:
        click.confirm(f"Remove everything in {data.resolve()}?", abort=True)
    shutil.rmtree(data)
    click.echo("tirage: removed")


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(data: Path, as_json: bool) -> None:
    """Every part with its address, process and log; exit 1 when nothing is up or a part is down."""
    state = _running(data)
    if state is None:
        click.echo(json.dumps({"up": False}) if as_json else "tirage: nothing is up")
        raise SystemExit(1)
    for part in state["parts"].values():
        part["running"] = part["log"] is None or (part["pid"] is not None and Path(f"/proc/{part['pid']}").exists())
    state["up"] = all(part["running"] for part in state["parts"].values())
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        _show(state)
    raise SystemExit(0 if state["up"] else 1)


def _show(state: dict[str, Any]) -> None:
    click.echo(f"region {state['region']}, data in {state['data']}")
    for name, part in state["parts"].items():
        what = "running" if part["running"] else "DOWN"
        click.echo(f"  {name:14} {what:8} {part['address'] or '-':26} {part['log'] or ''}")
    for line in state["laxer_than_production"]:
        click.echo(f"  laxer than production: {line}")


def _running(data: Path) -> dict[str, Any] | None:
    """The state a living supervisor left, or None."""
    try:
        state: dict[str, Any] = json.loads((data / "state.json").read_text())
        command = Path(f"/proc/{state['supervisor']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return state if b"up" in command.split(b"\0") and not _is_zombie(int(state["supervisor"])) else None


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True

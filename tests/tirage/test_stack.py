"""`tirage up`, `down`, `reset` and `status`, as an operator uses them, on a whole stack."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from devstack.child import started_at
from devstack.processes import PROCESSES
from tirage.main import COMMANDS

TIRAGE = str(Path(sysconfig.get_path("scripts")) / "tirage")
BARE = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
EXPECTED = {"postgres", "nats", "s3", *(p.name for p in PROCESSES if p.command[0] in COMMANDS)}

pytestmark = pytest.mark.xdist_group("stack")  # one stack is carried from test to test, in this order


def tirage(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TIRAGE, *args], env={**BARE, **env}, capture_output=True, text=True, check=False, timeout=120
    )


def status_of(data: Path) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(tirage("status", "--json", "--data", str(data)).stdout)
    return seen


def comes_true(is_so: Callable[[], bool], seconds: int = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.2)
    return False


def pids_of(data: Path) -> dict[str, int]:
    return {name: part["pid"] for name, part in status_of(data)["parts"].items()}


def start(folder: Path) -> str:
    ran = tirage("up", "--detach", "--data", str(folder))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the one stack that the tests below share, in whatever order they run."""
    if request.config.option.no_stack:
        pytest.skip("no stack (--no-stack)")
    made = tmp_path_factory.mktemp("commands") / "data"
    yield made
    tirage("down", "--data", str(made))


@pytest.fixture
def data(folder: Path) -> Path:
    """The folder with its stack up."""
    if not status_of(folder)["up"]:
        said = start(folder)
        assert [f"{name} is up" in said for name in EXPECTED] == [True] * len(EXPECTED)
    return folder


@pytest.fixture
def stopped(folder: Path) -> Path:
    """The folder with its stack down."""
    tirage("down", "--data", str(folder))
    return folder


def test_status_shows_every_part(data: Path) -> None:
    ran = tirage("status", "--json", "--data", str(data))
    assert ran.returncode == 0
    seen = json.loads(ran.stdout)
    assert seen["up"] is True
    assert {name: part["state"] for name, part in seen["parts"].items()} == dict.fromkeys(EXPECTED, "up")
    with urlopen(seen["parts"]["api"]["address"] + "/readyz", timeout=5) as answer:
        assert answer.status == 200
    shown = tirage("status", "--data", str(data)).stdout
    assert all(name in shown for name in EXPECTED)
    assert shown.count("laxer than production: ") == len(seen["laxer_than_production"]) > 3


@pytest.mark.parametrize("command", [["jobs", "survey"], ["alerts"]], ids=["jobs", "alerts"])
def test_jobs_and_alerts_are_those_of_the_stack_in_the_folder(data: Path, tmp_path: Path, command: list[str]) -> None:
    here, nowhere = tirage(*command, TIRAGE_DATA=str(data)), tirage(*command, TIRAGE_DATA=str(tmp_path))
    assert (here.returncode, here.stderr) == (0, "")
    assert (nowhere.returncode, "TIRAGE_DATABASE_URL is not set" in nowhere.stderr) == (1, True)


def test_no_secret_is_shown_or_logged(data: Path) -> None:
    secrets = json.loads((data / "secrets.json").read_text())
    values = [
        part for name, value in secrets.items() if "access" not in name for part in (value, value.partition(":")[2])
    ]
    assert len(values) > 20
    texts = {path.name: path.read_text(errors="replace") for path in (data / "logs").iterdir()}
    texts |= {"state": (data / "state.json").read_text(), "status": tirage("status", "--data", str(data)).stdout}
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids_of(data).values()]
    texts |= {str(path): path.read_text() for path in commands}
    assert [(name, value) for name, text in texts.items() for value in values if value and value in text] == []


def test_a_second_start_and_a_reset_are_refused(data: Path) -> None:
    for args in (("up",), ("up", "--detach")):
        again = tirage(*args, "--data", str(data))
        assert (again.returncode, "already up" in again.stderr) == (1, True)
    reset = tirage("reset", "--yes", "--data", str(data))
    assert (reset.returncode, "tirage down" in reset.stderr) == (1, True)
    assert status_of(data)["up"] is True


def test_each_process_has_the_variables_of_its_row_and_no_other(data: Path) -> None:
    pids = pids_of(data)
    plain = {"PATH", "LANG", "TZ", "MALLOC_ARENA_MAX", "VIPS_CONCURRENCY", "PYTHONDONTWRITEBYTECODE"}
    for process in PROCESSES:
        if process.name in pids:
            pairs = Path(f"/proc/{pids[process.name]}/environ").read_text().rstrip("\0").split("\0")
            found = {pair.partition("=")[0] for pair in pairs} - plain
            tuned = {"TIRAGE_API_URL", "TIRAGE_API_PORT", "TIRAGE_ORIGIN_URL", "TIRAGE_ORIGIN_PORT"}
            tuned |= {"TIRAGE_FULFILMENT_POLL_S", "TIRAGE_FULFILMENT_POLL_MOST_S", "TIRAGE_ORDER_CANCEL_WINDOW_S"}
            tuned |= {"TIRAGE_RECONCILE_EVERY_S", "TIRAGE_RECONCILE_GRACE_S"}
            assert found - tuned == set(process.variables) - tuned, process.name


def test_what_is_killed_comes_back(data: Path) -> None:
    before = pids_of(data)
    victims = ("postgres", "nats", "s3", "dispatcher", "api")
    for name in victims:
        os.kill(before[name], signal.SIGKILL)
    assert comes_true(lambda: all(status_of(data)["parts"][name]["restarts"] for name in victims))
    assert comes_true(lambda: bool(status_of(data)["up"]))
    after = status_of(data)["parts"]
    assert {name for name in before if after[name]["pid"] != before[name]} >= set(victims)
    with urlopen(after["api"]["address"] + "/readyz", timeout=5) as answer:
        assert answer.status == 200


def test_a_killed_supervisor_blocks_nothing(data: Path) -> None:
    before = status_of(data)
    os.kill(before["supervisor"], signal.SIGKILL)
    assert comes_true(lambda: tirage("status", "--data", str(data)).returncode == 1)
    left = {name: part["pid"] for name, part in before["parts"].items()}
    assert started_at(left["postgres"]) == before["parts"]["postgres"]["started"]
    start(data)
    after = status_of(data)
    assert after["up"] is True
    assert {n: p["address"] for n, p in after["parts"].items()} == {n: p["address"] for n, p in before["parts"].items()}
    assert {started_at(pid) for pid in left.values()} == {""}


def test_down_ends_everything_and_keeps_the_data(data: Path) -> None:
    pids = pids_of(data)
    assert tirage("down", "--data", str(data)).stdout == "tirage: stopped\n"
    assert {started_at(pid) for pid in pids.values()} == {""}
    assert (data / "postgres" / "PG_VERSION").exists()
    assert json.loads(tirage("status", "--json", "--data", str(data)).stdout) == {"up": False}
    assert tirage("down", "--data", str(data)).stdout == "tirage: nothing is up\n"


def test_a_part_that_fails_says_why_and_where(stopped: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = tirage("up", "--detach", "--data", str(stopped), TIRAGE_API_PORT=str(port))
    assert ran.returncode == 1
    said = ran.stdout + ran.stderr
    assert "api: ended with code 1 while starting" in said
    assert f"log: {stopped}/logs/api.log" in said
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert list((stopped / "run").glob("*.pid")) == []


def test_ctrl_c_while_starting_stops_what_was_started(stopped: Path) -> None:
    command = [TIRAGE, "up", "--data", str(stopped), "--tied"]
    process = subprocess.Popen(command, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "postgres is up" in first, process.communicate(timeout=30)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the start was cancelled" in error
    assert "stopped" in said
    assert list((stopped / "run").glob("*.pid")) == []


def test_reset_asks_and_removes(stopped: Path) -> None:
    stopped.mkdir(exist_ok=True)
    for name in ("up.lock", "secrets.json"):  # a stack was here
        (stopped / name).touch()
    assert tirage("reset", "--data", str(stopped)).returncode == 1
    assert (stopped / "secrets.json").exists()
    assert tirage("reset", "--yes", "--data", str(stopped)).stdout == "tirage: removed\n"
    assert not stopped.exists()
    assert tirage("reset", "--yes", "--data", str(stopped)).stdout == "tirage: there is nothing to remove\n"


def test_reset_leaves_a_folder_that_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "photos").touch()
    ran = tirage("reset", "--yes", "--data", str(tmp_path))
    assert (ran.returncode, "not the folder of a stack" in ran.stderr) == (1, True)
    assert (tmp_path / "photos").exists()


def test_variables_that_are_not_usable_stop_the_start(tmp_path: Path) -> None:
    ran = tirage("up", "--data", str(tmp_path / "data"), TIRAGE_URL_KEYS="u1:short")
    assert ran.returncode == 1
    assert "TIRAGE_URL_KEYS" in ran.stderr
    assert "Traceback" not in ran.stderr

"""Child processes: they end with whom they belong to, and strangers are left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.child import Child, end_all, started_at

PATH = {"PATH": os.environ["PATH"]}
SLEEP = ["sleep", "600"]


def comes_true(is_so: Callable[[], bool]) -> bool:
    for _ in range(500):
        if is_so():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child("part", tmp_path, grace_s=1)
    yield made
    end_all([made])


def test_a_later_start_ends_what_was_left(tmp_path: Path, child: Child) -> None:
    child.start(SLEEP, PATH, tied=False)
    pid = child.pid
    assert pid
    assert Child("part", tmp_path, grace_s=1).end_leftover()
    assert child.returncode == -signal.SIGTERM
    assert not Child("part", tmp_path).end_leftover()


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path, child: Child) -> None:
    child.start(["sh", "-c", "trap '' TERM; echo ready; sleep 600"], PATH, tied=False)
    assert comes_true(lambda: "ready" in child.tail())
    assert Child("part", tmp_path, grace_s=0).end_leftover()
    assert child.returncode == -signal.SIGKILL


def test_a_stranger_with_the_same_pid_is_left_alone(tmp_path: Path, child: Child) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        (tmp_path / "run").mkdir()
        pid_file = tmp_path / "run" / "part.pid"
        pid_file.write_text(f"{stranger.pid} {int(started_at(stranger.pid)) - 1}")
        assert not child.end_leftover()
        assert stranger.poll() is None
        assert not pid_file.exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_tied_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from devstack.child import Child\n"
        "child = Child('part', Path(sys.argv[1]))\n"
        "child.start(['sleep', '600'], os.environ, tied=sys.argv[2] == 'tied')\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    for mode in ("tied", "free"):
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), mode], capture_output=True, text=True, check=False
        )
        pid = int(ran.stdout)
        if mode == "tied":
            assert comes_true(lambda pid=pid: started_at(pid) == "")  # type: ignore[misc]
        else:
            assert started_at(pid) != ""
            assert Child("part", tmp_path, grace_s=1).end_leftover()


def test_the_previous_log_is_kept_and_not_shown(tmp_path: Path, child: Child) -> None:
    child.start(["sh", "-c", "echo old"], PATH, tied=False)
    child.finish()
    assert child.tail() == "old"
    child.start(["sh", "-c", "echo again"], PATH, tied=False)
    child.finish()
    assert child.tail() == "again"
    assert child.log.read_text() == "old\nagain\n"
    later = Child("part", tmp_path)
    later.start(["sh", "-c", "echo new; exit 3"], PATH, tied=False)
    assert comes_true(lambda: later.returncode == 3)
    assert str(later.failed("why")) == f"part: why\n  log: {child.log}\nnew"
    assert child.log.with_suffix(".log.1").read_text() == "old\nagain\n"


def test_it_has_only_the_environment_it_was_given(child: Child) -> None:
    child.start(["env"], {**PATH, "ONLY": "this"}, tied=False)
    child.finish()
    assert {line.partition("=")[0] for line in child.tail(99).splitlines()} - {"PWD", "SHLVL", "_"} == {"PATH", "ONLY"}

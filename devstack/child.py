"""One child process of the stack: its log, its pid on disk, and its end.

The pid file names the process by pid and start time (proc(5), stat field 22), so that a later start ends what a killed
supervisor left behind and never a stranger that got the same pid.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


class StartFailed(Exception):
    """A part did not come up; the text says why and where its log is."""


class Child:
    """Starts, watches and ends one program. `log` is appended to."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "run" / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """How it ended, or None while it runs or before it ran."""
        return None if self._process is None else self._process.poll()

    def start(self, command: Sequence[str | Path], env: Mapping[str, str], *, tied: bool) -> None:
        """Start it in a session of its own; `tied` has it killed when the supervisor dies."""
        self.end_leftover()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(env),
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent if tied else None,
            )
        self._pid_file.write_text(f"{self._process.pid} {_started_at(self._process.pid)}")

    def stop(self, how: signal.Signals, grace_s: int) -> None:
        """Ask it to end, then kill the whole session."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        _kill_group(self._process.pid)
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._process.wait()

    def end_leftover(self) -> None:
        """End what an earlier supervisor left running under this name."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return
        if _started_at(int(pid)) == started:
            _kill_group(int(pid))
            deadline = time.monotonic() + 5
            while _started_at(int(pid)) == started and time.monotonic() < deadline:
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)

    def tail(self, lines: int = 8) -> str:
        """The end of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def failed(self, why: str) -> StartFailed:
        """A `StartFailed` with the log's place and end."""
        return StartFailed(f"{self.name}: {why}\n  log: {self.log}\n{self.tail()}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _started_at(pid: int) -> str:
    """The kernel's start time of a process, or '' when there is none (or only a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]

"""Child processes of the stack: their logs, their pids on disk, and their ends.

A pid file names the process by pid and start time (proc(5), stat field 22), so that a later start ends what a killed
supervisor left behind and never a stranger that got the same pid.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
_TAIL_BYTES: Final = 8192


class StartFailed(Exception):
    """A part did not come up; the text says why and where its log is."""


class Child:
    """One program: started, watched, and ended by the signal `how`, then killed after `grace_s`."""

    def __init__(self, name: str, folder: Path, how: signal.Signals = signal.SIGTERM, grace_s: int = 10) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._folder, self._how, self._grace_s = folder, how, grace_s
        self._pid_file = folder / "run" / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._logged: int | None = None
        self._is_finished = False

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """How it ended, or None while it runs or before it ran."""
        return None if self._process is None else self._process.poll()

    def start(
        self, command: Sequence[str | Path], env: Mapping[str, str], *, tied: bool, uid: int | None = None
    ) -> None:
        """Start it in a session of its own, in the stack's folder, as `uid` where given.

        `tied` has it killed when the calling *thread* ends (prctl(2), PR_SET_PDEATHSIG).
        """
        self._open_log()
        self._is_finished = False
        self._pid_file.parent.mkdir(mode=0o700, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(env),
                cwd=self._folder,
                start_new_session=True,
                user=uid,
                group=uid,
                extra_groups=None if uid is None else [],
                preexec_fn=_tie_to(os.getpid()) if tied else None,
            )
        self._pid_file.write_text(f"{self._process.pid} {started_at(self._process.pid)}")

    def _open_log(self) -> None:
        """The log of the previous run is kept beside the new one."""
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        if self._logged is None and self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self._logged = self.log.stat().st_size if self.log.exists() else 0

    def request_end(self) -> None:
        """Ask it to end, without waiting."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._how)

    def finish(self) -> None:
        """Wait for its end as long as it is due, then kill the whole session."""
        if self._process is None or self._is_finished:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace_s)
        _kill_group(self._process.pid)
        self._process.wait()
        self._is_finished = True
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._process.wait()

    def end_leftover(self) -> bool:
        """End what an earlier supervisor left running under this name; whether there was something."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return False
        found = started_at(int(pid)) == started
        if found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), self._how)
            _wait_until(lambda: started_at(int(pid)) != started, self._grace_s)
            _kill_group(int(pid))
            _wait_until(lambda: started_at(int(pid)) != started, 5)
        self._pid_file.unlink(missing_ok=True)
        return found

    def tail(self, lines: int = 8) -> str:
        """The end of what it wrote since its last start."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._logged or 0, self.log.stat().st_size - _TAIL_BYTES))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def failed(self, why: str) -> StartFailed:
        """A `StartFailed` with the log's place and end."""
        return StartFailed(f"{self.name}: {why}\n  log: {self.log}\n{self.tail()}".rstrip())


def end_all(children: Iterable[Child]) -> None:
    """Ask all of them at once, then wait for each."""
    every = list(children)
    for child in every:
        child.request_end()
    for child in every:
        child.finish()


def started_at(pid: int) -> str:
    """The kernel's start time of a process, or '' when there is none, or only a zombie.

    A zombie that has threads left (field 20) is still ending: its sockets are still open.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" and int(fields[17]) <= 1 else fields[19]


def _wait_until(is_so: Callable[[], bool], timeout_s: int) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)


def _tie_to(parent: int) -> Callable[[], None]:
    def tie() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tie


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)

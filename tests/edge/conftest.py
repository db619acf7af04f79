"""Real edge and origin processes of this test session's stack, each in a folder of its own."""

import os
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def free_ports() -> Callable[[], int]:
    """A function that gives a free port."""
    return free_port


class Running:
    """One `tirage NAME` process; `kill` is kill -9, `start` begins it again with the same settings."""

    def __init__(self, name: str, env: dict[str, str], log: Path) -> None:
        self.name, self.env, self.log = name, env, log
        self.port = int(env[f"TIRAGE_{name.upper()}_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Running":
        command = [Path(sysconfig.get_path("scripts")) / "tirage", self.name]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, env=self.env, stdout=out, stderr=out)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(self.url + "/healthz", timeout=2):
                return self
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def start(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`start(name, **variables)`: a process that serves; all of them end with the session."""
    running: list[Running] = []

    def begin(name: str, **variables: str) -> Running:
        folder = tmp_path_factory.mktemp(name)
        own = {
            "PATH": os.environ["PATH"],
            f"TIRAGE_{name.upper()}_PORT": str(free_port()),
            "TIRAGE_EDGE_CACHE": str(folder / "cache"),
        }
        process = Running(name, {**stack_env, **own, **variables}, folder / "log")
        running.append(process)
        return process.start()

    yield begin
    for process in running:
        if process.process is not None and process.process.poll() is None:
            process.kill()

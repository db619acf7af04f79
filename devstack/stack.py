"""The stack in one folder: three servers and Tirage's own processes, started in order and supervised."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from devstack import state
from devstack.away import METRICS, SECOND, Away, bucket_names, seen_from_elsewhere, store_keys
from devstack.away import OWN as ONLY_HOME
from devstack.away import processes as away_processes
from devstack.child import Child, StartFailed, end_all, started_at
from devstack.keeper import Keeper, Say
from devstack.parts import Part, plain_env, wait_ready
from devstack.ports import NoPorts, Ports
from devstack.processes import PROCESSES, Command, tirage_command
from devstack.s3 import BUCKETS, LAXER
from devstack.secrets import ROLES, load_or_make
from devstack.servers import S3, Nats, Postgres

SERVERS: Final = ("postgres", "nats", "s3")
PORTS: Final = (*SERVERS, "s3_master", "s3_volume", "s3_filer", "api", "origin", "edge", "stripe", "prodigi")
REPLACED_BY: Final = {"postgres": "TIRAGE_DATABASE_URL", "nats": "TIRAGE_NATS_URL", "s3": "TIRAGE_S3_ENDPOINT"}
HUB: Final = "TIRAGE_NATS_LEAF_URL"
START_TIMEOUT_S: Final = 60
MIGRATE_TIMEOUT_S: Final = 300
TICK_S: Final = 0.2

Derive = Callable[[Mapping[str, str]], Mapping[str, str]]


class AlreadyUp(Exception):
    """Another process holds this folder's stack."""


class Stack:
    """Everything that runs in one data folder.

    `given` holds variables that replace embedded parts and values; `derive` makes further ones from those of the stack.
    `cancel` ends a start, or the supervision, from another thread or a signal handler. With two `regions` (a folder
    that has had two keeps them) home's queue hears the other's.
    """

    def __init__(
        self,
        folder: Path,
        given: Mapping[str, str],
        derive: Derive = lambda _: {},
        region: str | None = None,
        regions: int = 1,
    ) -> None:
        self.folder = folder.resolve()
        is_second = regions > 1 or (self.folder / SECOND).exists()
        self.away = [Away(SECOND, self.folder)] if is_second else []
        self.cancel = threading.Event()
        self._derive = derive
        self._given = {name: value for name, value in given.items() if name.startswith("TIRAGE_") and value}
        self.region = region or self._given.get("TIRAGE_REGION", "home")
        self._given["TIRAGE_REGION"] = self.region
        self._lock = FileLock(self.folder / "up.lock")
        self._ports = Ports(self.folder, PORTS)
        self._chosen: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self.servers: dict[str, Part] = {}
        self.processes: dict[str, Part] = {}
        self._keeper: Keeper | None = None
        self._migration = Child("migrate", self.folder)
        self._is_migrating = False

    def claim(self) -> None:
        """Take the folder and its ports, and end what a killed supervisor left; raises `AlreadyUp`, `StartFailed`."""
        self.take_folder()
        try:
            self._secrets = load_or_make(self.folder)
            self._build(afresh=False)
        except (OSError, ValueError) as error:
            self._lock.release()
            raise StartFailed(f"{self.folder}: secrets.json or ports.json cannot be used: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def take_folder(self) -> bool:
        """Only the folder; whether something was left running in it. Raises `AlreadyUp`, `StartFailed`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise AlreadyUp(f"a stack is already up in {self.folder}") from error
        except OSError as error:
            raise StartFailed(f"cannot use {self.folder}: {error}") from error
        ended = [child.end_leftover() for child in self._every_child()]
        return any(ended)

    def release_folder(self) -> None:
        """Let others have the folder."""
        self._lock.release()

    def _every_child(self) -> list[Child]:
        """Whatever may have been left running: Tirage's processes before the servers."""
        processes = [Child(name, self.folder) for name in (*(process.name for process in PROCESSES), "migrate")]
        ends = {"postgres": (signal.SIGINT, 10), "nats": (signal.SIGTERM, 5), "s3": (signal.SIGTERM, 2)}
        servers = [Child(name, self.folder, how, grace) for name, (how, grace) in ends.items()]
        for away in self.away:
            processes += [Child(f"{p.name}-{away.name}", away.folder) for p in away_processes()]
            servers += [Child(f"{name}-{away.name}", away.folder, *ends[name]) for name in ("nats", "s3")]
        return [*processes, *servers]

    def _build(self, *, afresh: bool) -> None:
        try:
            self._chosen = ports = self._ports.claim(afresh=afresh)
            for away in self.away:
                away.claim(afresh=afresh)
        except NoPorts as error:
            raise StartFailed(str(error)) from error
        secrets, env = self._secrets, self.environment()
        keys = {
            role: (env[f"TIRAGE_S3_{role.upper()}_ACCESS_KEY"], env[f"TIRAGE_S3_{role.upper()}_SECRET_KEY"])
            for role in ROLES
        }
        keys["admin"] = (secrets["s3_admin_access"], secrets["s3_admin_secret"])
        buckets = {use: env[f"TIRAGE_BUCKET_{use.upper()}"] for use in BUCKETS}
        s3_ports = {name: port for name, port in ports.items() if name.startswith("s3")}
        every: dict[str, Part] = {
            "postgres": Postgres(self.folder, ports["postgres"], secrets["postgres_password"]),
            "nats": Nats(
                self.folder,
                ports["nats"],
                secrets["nats_password"],
                secrets["nats_system_password"],
                self.region,
                leaf="".join(away.listener for away in self.away),
            ),
            "s3": S3(self.folder, s3_ports, secrets, keys, buckets),
        }
        self.servers = {name: server for name, server in every.items() if REPLACED_BY[name] not in self._given}
        for away in self.away:
            made = away.servers(self.region, self._given.get(HUB))
            self.servers |= {server.name: server for server in made}

    def start_servers(self, say: Say, *, tied: bool = False, migrate: bool = False) -> None:
        """Start the servers that no URL replaces, together; raises `StartFailed` with everything stopped again.

        `migrate` begins the migrations as soon as Postgres is there, while the store is still starting.
        """
        self._check_given()
        for attempt in (1, 2, 3):
            try:
                self._start_servers(say, tied=tied, migrate=migrate)
                return
            except StartFailed:
                lost = any("in use" in server.child.tail(20) for server in self.servers.values())
                end_all([self._migration, *(server.child for server in self.servers.values())])
                if attempt == 3 or not lost or self.cancel.is_set():
                    raise
            self._is_migrating = False
            say("a port was taken meanwhile: trying others")
            self._build(afresh=True)

    def _check_given(self) -> None:
        """A store of the caller's own needs keys and buckets of the caller's own; its queue says where leaves join."""
        if self.away and "TIRAGE_NATS_URL" in self._given and HUB not in self._given:
            raise StartFailed(f"TIRAGE_NATS_URL replaces home's queue: a second region needs {HUB} to join it")
        if "TIRAGE_S3_ENDPOINT" not in self._given:
            return
        roles = [role for role in ROLES if self.away or role != "reader"]
        needed = [f"TIRAGE_S3_{role.upper()}_{part}_KEY" for role in roles for part in ("ACCESS", "SECRET")]
        needed += [f"TIRAGE_BUCKET_{use.upper()}" for use in BUCKETS]
        missing = [name for name in needed if name not in self._given]
        if missing:
            raise StartFailed(
                "TIRAGE_S3_ENDPOINT replaces the embedded store; these are missing: " + ", ".join(missing)
            )

    def _start_servers(self, say: Say, *, tied: bool, migrate: bool) -> None:
        begun = time.monotonic()
        for name in reversed(self.servers):  # the store takes longest, and Postgres works a second before it can start
            self._start(self.servers[name], tied=tied)
        for name, server in self.servers.items():
            wait_ready(server, START_TIMEOUT_S, self.cancel)
            say(f"{name} is up ({time.monotonic() - begun:.1f} s)")
            if migrate and name == "postgres":
                self._begin_migration(tied=tied)

    def _start(self, part: Part, *, tied: bool) -> None:
        try:
            part.start(tied=tied)
        except OSError as error:
            raise part.child.failed(str(error)) from error

    def environment(self) -> dict[str, str]:
        """Every variable of the stack; what the caller's environment gave wins."""
        secrets, ports = self._secrets, self._chosen
        made = {
            "TIRAGE_ENVIRONMENT": "development",
            "TIRAGE_DATABASE_URL": f"postgresql://app:{secrets['postgres_password']}@127.0.0.1:{ports['postgres']}/postgres",
            "TIRAGE_NATS_URL": f"nats://app:{secrets['nats_password']}@127.0.0.1:{ports['nats']}",
            "TIRAGE_S3_ENDPOINT": f"http://127.0.0.1:{ports['s3']}",
            "TIRAGE_S3_REGION": "us-east-1",
            "TIRAGE_KEK": secrets["kek"],
            "TIRAGE_TOKEN_KEYS": secrets["token_keys"],
            "TIRAGE_URL_KEYS": secrets["url_keys"],
            "TIRAGE_RESULT_KEY": secrets["result_key"],
            "TIRAGE_EDGE_PUSH_KEYS": secrets["edge_push_keys"],
            "TIRAGE_EDGE_PURGE_KEYS": secrets["edge_purge_keys"],
            "TIRAGE_EDGE_CACHE": str(self.folder / "edge-cache"),
            "TIRAGE_MAIL_URL": (self.folder / "mail").absolute().as_uri().replace("file:", "maildir:"),
            "TIRAGE_ORDER_CANCEL_WINDOW_S": "5",
            "TIRAGE_MAIL_FROM": "prints@tirage.invalid",
            "TIRAGE_TRACES": str(self.folder / "traces"),
            "TIRAGE_STRIPE_KEY": secrets["stripe_key"],
            "TIRAGE_STRIPE_PUBLISHABLE_KEY": secrets["stripe_publishable_key"],
            "TIRAGE_STRIPE_WEBHOOK_SECRETS": secrets["stripe_webhook_secret"],
            "TIRAGE_STRIPE_BOOK": str(self.folder / "stripe.db"),
            "TIRAGE_FULFILMENT_POLL_S": "1",
            "TIRAGE_FULFILMENT_POLL_MOST_S": "60",
            "TIRAGE_RECONCILE_EVERY_S": "60",
            "TIRAGE_RECONCILE_GRACE_S": "120",
            "TIRAGE_PRODIGI_KEY": secrets["prodigi_key"],
            "TIRAGE_PRODIGI_CALLBACK_TOKENS": secrets["prodigi_callback_token"],
            "TIRAGE_PRODIGI_BOOK": str(self.folder / "prodigi.db"),
        }
        complete = {**made, **store_keys(secrets), **bucket_names(self.region), **self._given}
        for name in ("api", "origin", "edge", "stripe", "prodigi"):
            port = complete.setdefault(f"TIRAGE_{name.upper()}_PORT", str(ports[name]))
            complete.setdefault(f"TIRAGE_{name.upper()}_URL", f"http://127.0.0.1:{port}")
        complete |= self._regions(complete)
        return {**self._derive(complete), **complete}

    @classmethod
    def environment_of(cls, folder: Path, given: Mapping[str, str], derive: Derive) -> dict[str, str]:
        """Every variable of the stack that is up in a folder, for a command beside it; none when nothing is up."""
        if state.read_living(folder) is None:
            return {}
        stack = cls(folder, given, derive)
        stack._secrets, stack._chosen = load_or_make(stack.folder), stack._ports.remembered()
        for away in stack.away:
            away.remember()
        return stack.environment()

    def _regions(self, home: Mapping[str, str]) -> dict[str, str]:
        """What every region is told of all; nothing where there is one."""
        if not self.away:
            return {}
        edges = {self.region: home["TIRAGE_EDGE_URL"]}
        told = seen_from_elsewhere(self.region, home)
        for away in self.away:
            own = away.variables()
            edges[away.name] = own["TIRAGE_EDGE_URL"]
            told |= seen_from_elsewhere(away.name, own)
        names = ",".join(edges)
        listed = ",".join(f"{name}={url}" for name, url in edges.items())
        return {**told, "TIRAGE_REGIONS": names, "TIRAGE_EDGES": self._given.get("TIRAGE_EDGES", listed)}

    def away_environment(self, away: Away) -> dict[str, str]:
        """Every variable of another region: its own ones, and of home's those that hold everywhere."""
        shared = {name: value for name, value in self.environment().items() if name not in ONLY_HOME}
        complete = {**shared, **away.variables()}
        if METRICS in self._given:
            complete[METRICS] = away.metrics_port
        return {**complete, **self._derive(complete)}

    def start_processes(self, available: Collection[str], say: Say, *, tied: bool = False) -> None:
        """Migrate, then start Tirage's processes whose commands exist; raises `StartFailed`."""
        self._finish_migration(say, tied=tied)
        env = self.environment()
        for process in PROCESSES:
            if process.command[0] in available and process.url not in self._given:
                self.processes[process.name] = Command(process, self.folder, env, time.monotonic)
                self._start(self.processes[process.name], tied=tied)
        for away in self.away:
            env = self.away_environment(away)
            for process in away_processes():
                name = f"{process.name}-{away.name}"
                self.processes[name] = Command(process, away.folder, env, time.monotonic, name)
                self._start(self.processes[name], tied=tied)
        for name, part in self.processes.items():
            wait_ready(part, START_TIMEOUT_S, self.cancel)
            say(f"{name} is up")

    def _begin_migration(self, *, tied: bool) -> None:
        env = self.environment()
        variables = plain_env([(name, env[name]) for name in ("TIRAGE_DATABASE_URL", "TIRAGE_ENVIRONMENT")])
        self._migration.start([tirage_command(), "migrate", "--catalog"], variables, tied=tied)
        self._is_migrating = True

    def _finish_migration(self, say: Say, *, tied: bool) -> None:
        if not self._is_migrating:
            self._begin_migration(tied=tied)
        child, deadline = self._migration, time.monotonic() + MIGRATE_TIMEOUT_S
        while child.returncode is None and time.monotonic() < deadline and not self.cancel.wait(0.05):
            pass
        code = child.returncode
        end_all([child])
        self._is_migrating = False
        if self.cancel.is_set():
            raise StartFailed("the start was cancelled")
        if code != 0:
            raise child.failed("the schema was not brought up to date")
        say("schema and catalogue are up to date")

    def supervise(self, say: Say, *, tied: bool = False) -> None:
        """Keep every part up until `cancel` is set; the calling thread must be the one that started them if `tied`."""
        self._keeper = keeper = Keeper(self._parts(), say, time.monotonic(), tied=tied)
        while not self.cancel.wait(TICK_S):
            if keeper.tick(time.monotonic()):
                self.write_state("up")

    def _parts(self) -> list[Part]:
        return [*self.servers.values(), *self.processes.values()]

    def stop(self, say: Say) -> None:
        """Stop everything cleanly: Tirage's processes first, then the servers."""
        end_all([self._migration])
        for parts in (self.processes, self.servers):
            end_all(part.child for part in parts.values())
            if parts:
                say(f"{', '.join(parts)} stopped")
        self.processes.clear()
        self._ports.release()
        for away in self.away:
            away.release()
        self._lock.release()

    def write_state(self, phase: str) -> None:
        """Leave what `tirage status` shows; `phase` is `starting` or `up`."""
        state.write(self.folder, {"phase": phase, **self.state()})

    def state(self) -> dict[str, Any]:
        """Every part's address, process and log, without secrets."""
        restarts = self._keeper.restarts if self._keeper else {}
        env = self.environment()
        return {
            "data": str(self.folder),
            "region": self.region,
            "regions": {
                self.region: {"buckets": _buckets(env)},
                **{away.name: {"buckets": _buckets(away.variables())} for away in self.away},
            },
            "supervisor": os.getpid(),
            "supervisor_started": started_at(os.getpid()),
            "parts": {
                **{part.name: self._seen(part, restarts.get(part.name, 0)) for part in self._parts()},
                **{
                    name: self._replaced(variable) for name, variable in self._replacements() if variable in self._given
                },
            },
            "buckets": _buckets(env),
            "laxer_than_production": list(LAXER) if "s3" in self.servers else [],
        }

    def _replacements(self) -> Sequence[tuple[str, str]]:
        return [*REPLACED_BY.items(), *((process.name, process.url) for process in PROCESSES if process.url)]

    def _replaced(self, variable: str) -> dict[str, Any]:
        url = urlsplit(self._given[variable])
        address = f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url.hostname else None
        told: dict[str, Any] = {"region": self.region, "pid": None, "started": None, "address": address, "log": None}
        return {**told, "restarts": 0, "replaced_by": variable}

    def _seen(self, part: Part, restarts: int) -> dict[str, Any]:
        elsewhere = (away.name for away in self.away if part.name.endswith(f"-{away.name}"))
        return {"region": next(elsewhere, self.region), **_seen(part, restarts)}


def _buckets(env: Mapping[str, str]) -> dict[str, str]:
    return {use: env[f"TIRAGE_BUCKET_{use.upper()}"] for use in BUCKETS}


def _seen(part: Part, restarts: int) -> dict[str, Any]:
    return {
        "pid": part.child.pid,
        "started": started_at(part.child.pid) if part.child.pid else None,
        "address": part.address,
        "log": str(part.child.log),
        "restarts": restarts,
        "replaced_by": None,
    }


@contextlib.contextmanager
def running_servers(folder: Path, given: Mapping[str, str], say: Say = lambda _: None) -> Iterator[Stack]:
    """The three servers for a test or a benchmark, tied to this thread, stopped at the end."""
    stack = Stack(folder, given)
    stack.claim()
    try:
        stack.start_servers(say, tied=True)
        yield stack
    finally:
        stack.stop(say)

"""Tirage's own processes: what each is started with and which variables it may know. One literal table.

A process gets the variables of its row and nothing else: a pixel worker has no database URL, an edge no key that mints,
and none of them the caller's environment.
"""

import http.client
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from devstack.child import Child
from devstack.parts import plain_env

QUEUE: Final = ("TIRAGE_REGION", "TIRAGE_NATS_URL")
S3: Final = ("TIRAGE_S3_ENDPOINT", "TIRAGE_S3_REGION")
STORE: Final = (
    *S3,
    "TIRAGE_BUCKET_ORIGINALS",
    "TIRAGE_BUCKET_ANCESTORS",
    "TIRAGE_BUCKET_DERIVATIVES",
    "TIRAGE_BUCKET_MASTERS",
    "TIRAGE_BUCKET_STAGING",
)
STRIPE: Final = ("TIRAGE_STRIPE_URL", "TIRAGE_STRIPE_KEY", "TIRAGE_STRIPE_PUBLISHABLE_KEY")
VENDORS: Final = ("TIRAGE_PRODIGI_URL", "TIRAGE_PRODIGI_CALLBACK_TOKENS")
VENDOR_KEYS: Final = ("TIRAGE_PRODIGI_KEY", "TIRAGE_API_URL")
VENDOR_TUNING: Final = (
    "TIRAGE_ORDER_*",
    "TIRAGE_FULFILMENT_*",
    "TIRAGE_RECONCILE_*",
    "TIRAGE_PRODIGI_HOLD_S",
    "TIRAGE_PRODIGI_TIMEOUT_S",
)
RECORD: Final = ("TIRAGE_DATABASE_URL", "TIRAGE_KEK", "TIRAGE_RESULT_KEY", *VENDORS, *STORE, *STRIPE)
EDGE_KEYS: Final = ("TIRAGE_EDGE_KEYS_EPHEMERAL", "TIRAGE_EDGE_KEYS_SHARE", "TIRAGE_EDGE_KEYS_DURABLE")

STORE_TUNING: Final = ("TIRAGE_S3_THREADS", "TIRAGE_S3_CONNECT_TIMEOUT", "TIRAGE_S3_READ_TIMEOUT")
TRACES: Final = "TIRAGE_TRACES"
REGIONS: Final = ("TIRAGE_REGIONS", "TIRAGE_REGION_POLICY")
TRACING: Final = ("TIRAGE_OTLP_ENDPOINT", "TIRAGE_TRACE_PER_MILLE")
DATABASE_TUNING: Final = (
    "TIRAGE_DATABASE_POOL_MIN",
    "TIRAGE_DATABASE_POOL_MAX",
    "TIRAGE_DATABASE_ACQUIRE_TIMEOUT",
    "TIRAGE_DATABASE_STATEMENT_TIMEOUT",
)

SETTLED_S: Final = 1.0
"""A process without a health path counts as up when it has run this long: wrong settings end one before."""


def _key_of(role: str) -> tuple[str, str]:
    return (f"TIRAGE_S3_{role}_ACCESS_KEY", f"TIRAGE_S3_{role}_SECRET_KEY")


def abroad(region: str, name: str) -> str:
    """What a variable of another region is called."""
    return name.replace("TIRAGE_", f"TIRAGE_REGION_{region.upper()}_", 1)


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of process.

    `command` is its command line after `tirage`; `variables` it must have, `tuning` it gets where the caller set them
    (a trailing `*` stands for any ending), `abroad` it gets of every other region, under that region's name. A process
    of `every_region` runs in each, the others only at home. `listens` is NAME where it listens on `TIRAGE_NAME_PORT`,
    is reached at `TIRAGE_NAME_URL`, and answers `/healthz` and, with 200 when it is ready, `health`; it is not started
    when the caller gave that URL. A process that does not listen is ready when it stays up.
    """

    name: str
    command: tuple[str, ...]
    variables: tuple[str, ...]
    tuning: tuple[str, ...] = ()
    abroad: tuple[str, ...] = ()
    every_region: bool = False
    listens: str | None = None
    health: str = "/healthz"

    @property
    def url(self) -> str | None:
        """The variable that replaces it."""
        return f"TIRAGE_{self.listens}_URL" if self.listens else None

    def environment(self, every: Mapping[str, str]) -> dict[str, str]:
        """What it gets of all variables; raises `KeyError` for one it must have."""
        own = {name: every[name] for name in (*self.variables, *self._abroad(every))}
        return {**{name: value for name, value in every.items() if self._tunes(name)}, **own}

    def _abroad(self, every: Mapping[str, str]) -> list[str]:
        regions = [name for name in every.get("TIRAGE_REGIONS", "").split(",") if name]
        others = [name for name in regions if name != every.get("TIRAGE_REGION")]
        return [abroad(region, name) for region in others for name in self.abroad]

    def _tunes(self, name: str) -> bool:
        return any(name == known or (known[-1] == "*" and name.startswith(known[:-1])) for known in self.tuning)


PROCESSES: Final = (
    Process(
        name="prodigi",
        command=("simulate", "prodigi"),
        variables=("TIRAGE_PRODIGI_PORT", "TIRAGE_PRODIGI_BOOK", "TIRAGE_PRODIGI_KEY"),
        tuning=("TIRAGE_PRODIGI_SEED",),
        listens="PRODIGI",
    ),
    Process(
        name="stripe",
        command=("simulate", "stripe"),
        variables=(
            "TIRAGE_API_URL",
            "TIRAGE_STRIPE_PORT",
            "TIRAGE_STRIPE_BOOK",
            "TIRAGE_STRIPE_KEY",
            "TIRAGE_STRIPE_PUBLISHABLE_KEY",
            "TIRAGE_STRIPE_WEBHOOK_SECRETS",
        ),
        tuning=("TIRAGE_STRIPE_SEED",),
        listens="STRIPE",
    ),
    Process(
        name="api",
        command=("api",),
        variables=(
            TRACES,
            "TIRAGE_REGION",
            *RECORD,
            *_key_of("API"),
            "TIRAGE_TOKEN_KEYS",
            "TIRAGE_URL_KEYS",
            "TIRAGE_EDGE_URL",
            "TIRAGE_API_URL",
            "TIRAGE_API_PORT",
            "TIRAGE_STRIPE_WEBHOOK_SECRETS",
        ),
        tuning=(
            "TIRAGE_API_*",
            "TIRAGE_TOKEN_*",
            "TIRAGE_UPLOADS_*",
            *VENDOR_TUNING,
            *TRACING,
            *DATABASE_TUNING,
            *STORE_TUNING,
            *REGIONS,
        ),
        abroad=(*STORE, *_key_of("API"), "TIRAGE_EDGE_URL"),
        listens="API",
        health="/readyz",
    ),
    Process(
        name="dispatcher",
        command=("dispatcher",),
        variables=(TRACES, *QUEUE, "TIRAGE_DATABASE_URL"),
        tuning=(*TRACING, *DATABASE_TUNING, "TIRAGE_REGIONS", "TIRAGE_DISPATCHER_METRICS_PORT"),
    ),
    Process(
        name="record-worker",
        command=("worker", "record"),
        variables=(
            TRACES,
            *QUEUE,
            *RECORD,
            *VENDOR_KEYS,
            *_key_of("RECORD"),
            "TIRAGE_MAIL_URL",
            "TIRAGE_MAIL_FROM",
            "TIRAGE_EDGE_URL",
            "TIRAGE_EDGE_PURGE_KEYS",
        ),
        tuning=(
            *(*TRACING, *DATABASE_TUNING, *STORE_TUNING, *VENDOR_TUNING, *REGIONS),
            *("TIRAGE_EDGES", "TIRAGE_RECORD_METRICS_PORT"),
        ),
        abroad=(*STORE, *_key_of("RECORD")),
    ),
    Process(
        name="pixel-worker",
        command=("worker", "pixel"),
        variables=(
            TRACES,
            *QUEUE,
            "TIRAGE_RESULT_KEY",
            *STORE,
            *_key_of("PIXEL"),
            "TIRAGE_EDGE_URL",
            "TIRAGE_EDGE_PUSH_KEYS",
        ),
        tuning=(*TRACING, *STORE_TUNING, "TIRAGE_PIXEL_*", "TIRAGE_EDGES", *REGIONS),
        abroad=(*STORE, *_key_of("READER")),
        every_region=True,
    ),
    Process(
        name="scheduler",
        command=("scheduler",),
        variables=(TRACES, "TIRAGE_REGION", "TIRAGE_DATABASE_URL"),
        tuning=(*TRACING, *DATABASE_TUNING, "TIRAGE_RECONCILE_EVERY_S", "TIRAGE_SCHEDULER_METRICS_PORT"),
    ),
    Process(
        name="origin",
        command=("origin",),
        variables=(*QUEUE, *EDGE_KEYS, *STORE, *_key_of("ORIGIN"), "TIRAGE_ORIGIN_PORT"),
        tuning=(*STORE_TUNING, "TIRAGE_ORIGIN_*"),
        every_region=True,
        listens="ORIGIN",
    ),
    Process(
        name="edge",
        command=("edge",),
        variables=(
            "TIRAGE_REGION",
            *EDGE_KEYS,
            "TIRAGE_ORIGIN_URL",
            "TIRAGE_EDGE_PORT",
            "TIRAGE_EDGE_CACHE",
            "TIRAGE_EDGE_PUSH_KEYS",
            "TIRAGE_EDGE_PURGE_KEYS",
            *S3,
            "TIRAGE_BUCKET_DERIVATIVES",
            *_key_of("EDGE"),
        ),
        tuning=(
            *STORE_TUNING,
            "TIRAGE_EDGE_HOST",
            "TIRAGE_EDGE_CACHE_MIB",
            "TIRAGE_EDGE_DENIED",
            "TIRAGE_EDGE_NODE",
            "TIRAGE_EDGE_METRICS_PORT",
        ),
        every_region=True,
        listens="EDGE",
    ),
)


def tirage_command() -> Path:
    """The installed command line."""
    return Path(sysconfig.get_path("scripts")) / "tirage"


class Command:
    """One of Tirage's processes as a part of the stack. `clock` is monotonic seconds."""

    def __init__(
        self,
        process: Process,
        folder: Path,
        every: Mapping[str, str],
        clock: Callable[[], float],
        name: str | None = None,
    ) -> None:
        self.name = name or process.name
        self.child = Child(self.name, folder, grace_s=30)
        self._process, self._clock, self._started = process, clock, 0.0
        self._line: list[str | Path] = [tirage_command(), *process.command]
        tuned = {"MALLOC_ARENA_MAX": "2", "VIPS_CONCURRENCY": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self._env = plain_env([*tuned.items(), *process.environment(every).items()])
        port = every[f"TIRAGE_{process.listens}_PORT"] if process.listens else None
        self.address = f"http://127.0.0.1:{port}" if port else None

    def start(self, *, tied: bool) -> None:
        self._started = self._clock()
        self.child.start(self._line, self._env, tied=tied)

    def is_ready(self) -> bool:
        """Its health path says 200; or it has run for a while."""
        if self.address is None:
            return self._clock() - self._started >= SETTLED_S
        return answer_of(self.address + self._process.health) == 200

    def is_alive(self) -> bool:
        """It answers at all: an API that says 503 because Postgres is away must not be killed for it."""
        return self.address is None or answer_of(self.address + "/healthz") is not None


def answer_of(url: str, timeout_s: int = 2) -> int | None:
    """The status a GET gives, or None when nobody answers in time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

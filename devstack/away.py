"""Another region of the stack: a queue that is a leaf of home's, a store, a pixel worker, an origin and an edge.

It has no database and no API. Everything of it lies in a folder of its own inside the stack's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from devstack.ports import Ports
from devstack.processes import PROCESSES, STORE, Process, abroad
from devstack.s3 import BUCKETS
from devstack.secrets import ROLES, load_or_make
from devstack.servers import S3, Nats, hears_leaves, is_leaf_of

SECOND: Final = "west"
HOME: Final = "home"
PORTS: Final = ("leaf", "nats", "s3", "s3_master", "s3_volume", "s3_filer", "origin", "edge", "metrics")
METRICS: Final = "TIRAGE_PIXEL_METRICS_PORT"
OWN: Final = ("TIRAGE_EDGE_NODE", "TIRAGE_EDGE_DENIED", "TIRAGE_EDGE_METRICS_PORT", METRICS)
"""Variables that only one process can have: those of the caller are for home."""


def processes() -> list[Process]:
    """What runs in every region."""
    return [process for process in PROCESSES if process.every_region]


def bucket_names(region: str) -> dict[str, str]:
    """The embedded buckets of a region, by variable."""
    return {f"TIRAGE_BUCKET_{use.upper()}": f"{use}-{region}" for use in BUCKETS}


def store_keys(secrets: Mapping[str, str]) -> dict[str, str]:
    """Each role's key of a region's store, by variable."""
    return {
        f"TIRAGE_S3_{role.upper()}_{part.upper()}_KEY": secrets[f"s3_{role}_{part}"]
        for role in ROLES
        for part in ("access", "secret")
    }


def seen_from_elsewhere(region: str, env: Mapping[str, str]) -> dict[str, str]:
    """A region's variables under its name, for processes of other regions."""
    keys = [name for name in env if name.startswith("TIRAGE_S3_") and name.endswith("_KEY")]
    return {abroad(region, name): env[name] for name in (*STORE, *keys, "TIRAGE_EDGE_URL")}


class Away:
    """The region's ports, secrets, servers and variables."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        self._ports = Ports(self.folder, PORTS)
        self._chosen: dict[str, int] = {}
        self._secrets: dict[str, str] = {}

    def claim(self, *, afresh: bool) -> None:
        """Take ports and make keys; raises `NoPorts`, `OSError`, `ValueError`."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._secrets = load_or_make(self.folder)
        self._chosen = self._ports.claim(afresh=afresh)

    @property
    def metrics_port(self) -> str:
        """Where its pixel worker tells its metrics, when home's does."""
        return str(self._chosen["metrics"])

    def remember(self) -> None:
        """Know the ports and keys of the region as it is up."""
        self._secrets, self._chosen = load_or_make(self.folder), self._ports.remembered()

    def release(self) -> None:
        """Let others have the ports."""
        self._ports.release()

    @property
    def listener(self) -> str:
        """What home's queue needs, to be joined by this region's."""
        return hears_leaves(self._chosen["leaf"], self.name, self._secrets["nats_leaf_password"])

    def servers(self, home: str, hub: str | None) -> list[Nats | S3]:
        """Its queue and its store. `hub` replaces the address of home's leaf listener."""
        secrets, ports = self._secrets, self._chosen
        keys = {role: (secrets[f"s3_{role}_access"], secrets[f"s3_{role}_secret"]) for role in ("admin", *ROLES)}
        buckets = {use: f"{use}-{self.name}" for use in BUCKETS}
        nats = Nats(
            self.folder,
            ports["nats"],
            secrets["nats_password"],
            secrets["nats_system_password"],
            self.name,
            name=f"nats-{self.name}",
            leaf=is_leaf_of(self._hub(hub), home),
        )
        s3_ports = {name: port for name, port in ports.items() if name.startswith("s3")}
        return [nats, S3(self.folder, s3_ports, secrets, keys, buckets, name=f"s3-{self.name}")]

    def _hub(self, given: str | None) -> str:
        url = urlsplit(given or f"nats-leaf://127.0.0.1:{self._chosen['leaf']}")
        if url.username:
            return url.geturl()
        return f"{url.scheme}://{self.name}:{self._secrets['nats_leaf_password']}@{url.netloc}"

    def variables(self) -> dict[str, str]:
        """What is this region's own, under the names that its processes read."""
        secrets, ports = self._secrets, self._chosen
        return {
            "TIRAGE_REGION": self.name,
            "TIRAGE_NATS_URL": f"nats://app:{secrets['nats_password']}@127.0.0.1:{ports['nats']}",
            "TIRAGE_S3_ENDPOINT": f"http://127.0.0.1:{ports['s3']}",
            "TIRAGE_S3_REGION": "us-east-1",
            "TIRAGE_EDGE_CACHE": str(self.folder / "edge-cache"),
            "TIRAGE_ORIGIN_PORT": str(ports["origin"]),
            "TIRAGE_ORIGIN_URL": f"http://127.0.0.1:{ports['origin']}",
            "TIRAGE_EDGE_PORT": str(ports["edge"]),
            "TIRAGE_EDGE_URL": f"http://127.0.0.1:{ports['edge']}",
            **store_keys(secrets),
            **bucket_names(self.name),
        }

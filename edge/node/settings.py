"""Settings of an edge node: the derived keys of its region, its store key, its cache. Empty keys stop the start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from base.objects import ObjectStoreSettings, read_store
from base.settings import Keys, Reader
from imagecore.signing import Lifetime, Ring

MIB: Final = 1024 * 1024
VARIABLES: Final = {
    Lifetime.EPHEMERAL: "TIRAGE_EDGE_KEYS_EPHEMERAL",
    Lifetime.SHARE: "TIRAGE_EDGE_KEYS_SHARE",
    Lifetime.DURABLE: "TIRAGE_EDGE_KEYS_DURABLE",
}


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge node may know.

    `cache_bytes` bounds the files on disk; `denied` is the file of revoked shares and erased assets, kept apart from
    the cache, which may be emptied. `node` is the authority, `edge-1.example` or with a port, of the address by which
    home and workers call just this node: a call signed for another one is refused. Workers push with one list of keys,
    home purges with the other. Metrics are served on `metrics_port` by a thread of their own, where it is not 0.
    """

    region: str
    host: str
    port: int
    tls: tuple[Path, Path] | None
    keys: dict[Lifetime, Keys]
    store: ObjectStoreSettings
    derivatives: str
    origin_url: str
    origin_ca: str | None
    cache: Path
    cache_bytes: int
    denied: Path
    node: str
    push_keys: Keys
    purge_keys: Keys
    metrics_port: int


def read_ring_keys(read: Reader) -> dict[Lifetime, Keys]:
    """The derived keys of each lifetime."""
    return {lifetime: read.keys(name) for lifetime, name in VARIABLES.items()}


def ring_of(keys: Mapping[Lifetime, Keys]) -> Ring:
    """A verifier from the configured keys."""
    return Ring({life: [(kid, key.reveal()) for kid, key in pairs] for life, pairs in keys.items()})


def load(env: Mapping[str, str]) -> EdgeSettings:
    """Settings from the environment; raises `SettingsError` with all faults."""
    read = Reader(env)
    region, host = read.text("TIRAGE_REGION", "home"), read.text("TIRAGE_EDGE_HOST", "127.0.0.1")
    port = read.number("TIRAGE_EDGE_PORT", 8001, 1, 65_535)
    cache = Path(read.text("TIRAGE_EDGE_CACHE"))
    settings = EdgeSettings(
        region=region,
        host=host,
        port=port,
        tls=read.certificate("TIRAGE_EDGE_TLS"),
        keys=read_ring_keys(read),
        store=read_store(read, "EDGE"),
        derivatives=read.text("TIRAGE_BUCKET_DERIVATIVES"),
        origin_url=read.url("TIRAGE_ORIGIN_URL", frozenset({"http", "https"})).rstrip("/"),
        origin_ca=read.file("TIRAGE_ORIGIN_CA"),
        cache=cache,
        cache_bytes=read.number("TIRAGE_EDGE_CACHE_MIB", 2048, 1, 1_000_000) * MIB,
        denied=Path(read.text("TIRAGE_EDGE_DENIED", f"{cache}.denied")),
        node=read.text("TIRAGE_EDGE_NODE", f"{host}:{port}"),
        push_keys=read.keys("TIRAGE_EDGE_PUSH_KEYS"),
        purge_keys=read.keys("TIRAGE_EDGE_PURGE_KEYS"),
        metrics_port=read.number("TIRAGE_EDGE_METRICS_PORT", 0, 0, 65_535),
    )
    read.finish()
    return settings

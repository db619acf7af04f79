"""Settings of an origin: keys to verify the path once more, its store key, the queue for leases, its bounds."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from base.objects import Buckets, ObjectStoreSettings, read_buckets, read_store
from base.settings import Keys, Reader, Secret
from edge.node.settings import read_ring_keys
from imagecore.signing import Lifetime


class OriginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an origin may know.

    `renders` run at once; `waiting` requests may be inside, others are told to come back; `deadline_s` is for one
    render. Metrics are served on `metrics_port` by a thread of their own, where it is not 0.
    """

    region: str
    host: str
    port: int
    tls: tuple[Path, Path] | None
    keys: dict[Lifetime, Keys]
    nats_url: Secret[str]
    nats_ca: str | None
    store: ObjectStoreSettings
    buckets: Buckets
    renders: int
    waiting: int
    deadline_s: int
    metrics_port: int


def load(env: Mapping[str, str]) -> OriginSettings:
    """Settings from the environment; raises `SettingsError` with all faults."""
    read = Reader(env)
    settings = OriginSettings(
        region=read.text("TIRAGE_REGION", "home"),
        host=read.text("TIRAGE_ORIGIN_HOST", "127.0.0.1"),
        port=read.number("TIRAGE_ORIGIN_PORT", 8002, 1, 65_535),
        tls=read.certificate("TIRAGE_ORIGIN_TLS"),
        keys=read_ring_keys(read),
        nats_url=Secret(read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"}))),
        nats_ca=read.file("TIRAGE_NATS_CA"),
        store=read_store(read, "ORIGIN"),
        buckets=read_buckets(read),
        renders=read.number("TIRAGE_ORIGIN_RENDERS", 2, 1, 64),
        waiting=read.number("TIRAGE_ORIGIN_WAITING", 512, 1, 10_000),
        deadline_s=read.number("TIRAGE_ORIGIN_DEADLINE", 10, 1, 120),
        metrics_port=read.number("TIRAGE_ORIGIN_METRICS_PORT", 0, 0, 65_535),
    )
    read.finish()
    return settings

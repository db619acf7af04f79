"""Settings of a pixel worker: queue, store and the key that signs its answers; no database, by design."""

from collections.abc import Mapping

import msgspec

from base.objects import Buckets, ObjectStoreSettings, read_buckets, read_store
from base.settings import Keys, Reader, Secret


class PixelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a pixel worker may know.

    Without an `edge_url`, first previews are fetched by edges when somebody asks. Metrics are served on `metrics_port`
    by a thread of their own, where it is not 0.
    """

    region: str
    nats_url: Secret[str]
    nats_ca: str | None
    store: ObjectStoreSettings
    buckets: Buckets
    result_key: Secret[bytes]
    edge_url: str
    push_keys: Keys | None
    metrics_port: int


def load(env: Mapping[str, str]) -> PixelSettings:
    """Settings from the environment; raises `SettingsError` with all faults."""
    read = Reader(env)
    edge_url = read.url("TIRAGE_EDGE_URL", frozenset({"http", "https"}), "").rstrip("/")
    settings = PixelSettings(
        region=read.text("TIRAGE_REGION", "home"),
        nats_url=Secret(read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"}))),
        nats_ca=read.file("TIRAGE_NATS_CA"),
        store=read_store(read, "PIXEL"),
        buckets=read_buckets(read),
        result_key=read.key("TIRAGE_RESULT_KEY"),
        edge_url=edge_url,
        push_keys=read.keys("TIRAGE_EDGE_PUSH_KEYS") if edge_url else None,
        metrics_port=read.number("TIRAGE_PIXEL_METRICS_PORT", 0, 0, 65_535),
    )
    read.finish()
    return settings

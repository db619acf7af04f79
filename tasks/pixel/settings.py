"""Settings of a pixel worker: queue, store and the key that signs its answers; no database, by design."""

from collections.abc import Mapping

import msgspec

from base.objects import Buckets, ObjectStoreSettings, read_buckets, read_store
from base.settings import Reader, Secret


class PixelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a pixel worker may know."""

    region: str
    nats_url: Secret[str]
    store: ObjectStoreSettings
    buckets: Buckets
    result_key: Secret[bytes]


def load(env: Mapping[str, str]) -> PixelSettings:
    """Settings from the environment; raises `SettingsError` with all faults."""
    read = Reader(env)
    settings = PixelSettings(
        region=read.text("TIRAGE_REGION", "home"),
        nats_url=Secret(read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"}))),
        store=read_store(read, "PIXEL"),
        buckets=read_buckets(read),
        result_key=read.key("TIRAGE_RESULT_KEY"),
    )
    read.finish()
    return settings

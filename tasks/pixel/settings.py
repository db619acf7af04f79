"""Settings of a pixel worker: queue, store and the key that signs its answers; no database, by design."""

from collections.abc import Mapping

import msgspec

from base.objects import Buckets, ObjectStoreSettings, SiteSettings, read_buckets, read_site, read_store
from base.regions import read_edges, read_policy, read_regions
from base.settings import Keys, Reader, Secret


class PixelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a pixel worker may know.

    `others` are the regions whose originals it may read, with the reader's key, for masters. `pushes` are the edges
    that the policy names for this region: URL and sides in pixels. Metrics are served on `metrics_port` by a thread of
    their own, where it is not 0.
    """

    region: str
    nats_url: Secret[str]
    nats_ca: str | None
    store: ObjectStoreSettings
    buckets: Buckets
    others: dict[str, SiteSettings]
    result_key: Secret[bytes]
    pushes: dict[str, tuple[int, ...]]
    push_keys: Keys | None
    edge_ca: str | None
    metrics_port: int


def load(env: Mapping[str, str]) -> PixelSettings:
    """Settings from the environment; raises `SettingsError` with all faults."""
    read = Reader(env)
    here, every = read_regions(read)
    edges, policy = read_edges(read, here), read_policy(read, every)
    wanted = policy.pushes(here) if edges else ()
    for push in wanted:
        if push.edge not in edges:
            read.fault(f"TIRAGE_EDGES has no edge {push.edge!r}, which the policy names")
    settings = PixelSettings(
        region=here,
        nats_url=Secret(read.url("TIRAGE_NATS_URL", frozenset({"nats", "tls"}))),
        nats_ca=read.file("TIRAGE_NATS_CA"),
        store=read_store(read, "PIXEL"),
        buckets=read_buckets(read),
        others={name: read_site(read.of_region(name), "READER") for name in every if name != here},
        result_key=read.key("TIRAGE_RESULT_KEY"),
        pushes={edges[push.edge]: push.sides for push in wanted if push.edge in edges},
        push_keys=read.keys("TIRAGE_EDGE_PUSH_KEYS") if edges else None,
        edge_ca=read.file("TIRAGE_EDGE_CA"),
        metrics_port=read.number("TIRAGE_PIXEL_METRICS_PORT", 0, 0, 65_535),
    )
    read.finish()
    return settings

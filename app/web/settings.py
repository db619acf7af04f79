"""Settings of the HTTP side: limits, tokens, proxies, TLS."""

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from base.settings import Keys, Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIB: Final = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller may ask. Bytes, seconds, requests.

    `reads` and `writes` are (burst, requests a minute) for one owner or, without a token, for one address; `devices` is
    for new guests of one address; `streams` are open event streams of one owner, `all_streams` of the process; `slots`
    are requests in work at once, streams included.
    """

    body: int
    request_s: int
    reads: tuple[int, int]
    writes: tuple[int, int]
    devices: tuple[int, int]
    streams: int
    all_streams: int
    slots: int


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an API process needs beyond the common settings. Lifetimes are whole seconds.

    `proxies` are the networks whose `X-Forwarded-*` headers are believed; `origins` the web origins that may read
    answers (CORS); `scrapers` the networks that may read /metrics.
    """

    host: str
    port: int
    token_keys: Keys
    access_ttl_s: int
    refresh_ttl_s: int
    limits: Limits
    proxies: tuple[Network, ...]
    origins: tuple[str, ...]
    scrapers: tuple[Network, ...]
    hsts_s: int
    drain_s: int
    heartbeat_s: int
    tls: tuple[Path, Path] | None


def read_web(read: Reader) -> WebSettings:
    """The settings in `TIRAGE_API_*` and `TIRAGE_TOKEN_*`."""
    return WebSettings(
        host=read.text("TIRAGE_API_HOST", "127.0.0.1"),
        port=read.number("TIRAGE_API_PORT", 8000, 1, 65_535),
        token_keys=read.keys("TIRAGE_TOKEN_KEYS"),
        access_ttl_s=read.number("TIRAGE_TOKEN_ACCESS_TTL", 900, 60, 3600),
        refresh_ttl_s=read.number("TIRAGE_TOKEN_REFRESH_TTL", 90 * 86_400, 3600, 400 * 86_400),
        limits=_limits(read),
        proxies=_networks(read, "TIRAGE_API_TRUSTED_PROXIES"),
        scrapers=_networks(read, "TIRAGE_API_METRICS_FROM", "127.0.0.0/8,::1/128"),
        origins=_origins(read, "TIRAGE_API_ORIGINS"),
        hsts_s=read.number("TIRAGE_API_HSTS", 31_536_000, 0, 63_072_000),
        heartbeat_s=read.number("TIRAGE_API_HEARTBEAT", 15, 1, 60),
        drain_s=read.number("TIRAGE_API_DRAIN", 25, 1, 600),
        tls=read.certificate("TIRAGE_API_TLS"),
    )


def _limits(read: Reader) -> Limits:
    slots = read.number("TIRAGE_API_SLOTS", 2048, 16, 100_000)
    all_streams = read.number("TIRAGE_API_STREAMS", 1024, 1, 100_000)
    if all_streams > slots - 8:
        read.fault("TIRAGE_API_STREAMS must leave at least 8 of TIRAGE_API_SLOTS to other requests")
    return Limits(
        body=read.number("TIRAGE_API_BODY_LIMIT", MIB, 1024, 64 * MIB),
        request_s=read.number("TIRAGE_API_TIME_LIMIT", 30, 1, 600),
        reads=_rate(read, "READS", 200, 1200),
        writes=_rate(read, "WRITES", 100, 300),
        devices=_rate(read, "DEVICES", 20, 20),
        streams=read.number("TIRAGE_API_STREAMS_PER_OWNER", 8, 1, 1000),
        all_streams=all_streams,
        slots=slots,
    )


def _rate(read: Reader, name: str, burst: int, per_minute: int) -> tuple[int, int]:
    return (
        read.number(f"TIRAGE_API_{name}_BURST", burst, 1, 1_000_000),
        read.number(f"TIRAGE_API_{name}_PER_MINUTE", per_minute, 1, 10_000_000),
    )


def _networks(read: Reader, name: str, default: str = ",") -> tuple[Network, ...]:
    found: list[Network] = []
    for part in _list(read, name, default):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            read.fault(f"{name} must be a list of networks such as 10.0.0.0/8, not {part!r}")
    return tuple(found)


def _origins(read: Reader, name: str) -> tuple[str, ...]:
    found = _list(read, name)
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
            read.fault(f"{name} must be a list of origins such as https://example.org, not {origin!r}")
    return tuple(found)


def _list(read: Reader, name: str, default: str = ",") -> list[str]:
    return [part.strip() for part in read.text(name, default).split(",") if part.strip()]

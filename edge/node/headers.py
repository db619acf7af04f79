"""What an edge says about bytes it sends, and what a client may ask of them.

Cache-Control: RFC 9111, immutable: RFC 8246, staleness: RFC 5861. CDN-Cache-Control: RFC 9213. Cache-Status: RFC 9211.
Repr-Digest: RFC 9530. Conditions and ranges: RFC 9110 sections 13 and 14; one range a request, others are answered
whole.
"""

import base64
import re
from typing import Final

from imagecore.signing import Lifetime, Verified

YEAR_S: Final = 31_536_000
SHARE_S: Final = 300
CDN_S: Final = 300
STALE_S: Final = 604_800
TYPES: Final = {"jpg": b"image/jpeg", "webp": b"image/webp", "avif": b"image/avif"}
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")

Headers = list[tuple[bytes, bytes]]

ALWAYS: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"access-control-allow-origin", b"*"),
    (b"timing-allow-origin", b"*"),
]


def lifetime_headers(path: Verified, now: int) -> Headers:
    """How long browsers and CDNs may keep it: never longer than the path lives."""
    if path.lifetime is Lifetime.DURABLE:
        stale = f"stale-while-revalidate={CDN_S}, stale-if-error={STALE_S}"
        kept, shared = f"public, max-age={YEAR_S}, immutable", f"max-age={YEAR_S}, {stale}"
    elif path.lifetime is Lifetime.SHARE:
        kept, shared = f"public, max-age={SHARE_S}", f"max-age={SHARE_S}"
    else:
        left = max(0, (path.expires or now) - now)
        kept, shared = f"private, max-age={left}, immutable", f"max-age={min(left, CDN_S)}"
    return [(b"cache-control", kept.encode()), (b"cdn-cache-control", shared.encode())]


def etag(digest: str) -> str:
    """The strong validator of a content digest (hex): equal on every node."""
    return f'"{digest[:32]}"'


def content_headers(extension: str, digest: str, status: str) -> Headers:
    """What the bytes are, and how this node came by them."""
    encoded = base64.b64encode(bytes.fromhex(digest))
    return [
        (b"content-type", TYPES[extension]),
        (b"etag", etag(digest).encode()),
        (b"repr-digest", b"sha-256=:" + encoded + b":"),
        (b"cache-status", f"tirage-edge; {status}".encode()),
        (b"accept-ranges", b"bytes"),
        *ALWAYS,
    ]


def is_known(if_none_match: str, digest: str) -> bool:
    """Whether the client's validators include ours (weak comparison, RFC 9110 section 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag(digest) in tags


def is_ours(if_match: str, digest: str) -> bool:
    """Whether the client's validators include ours (strong comparison, RFC 9110 section 13.1.1)."""
    return if_match.strip() == "*" or etag(digest) in {tag.strip() for tag in if_match.split(",")}


def wanted_range(range_: str, if_range: str, digest: str, size: int) -> tuple[int, int] | None:
    """The one satisfiable byte range (first, one past last), or None for the whole; raises `ValueError` for 416."""
    found = _RANGE.fullmatch(range_.strip())
    if found is None or (if_range and if_range != etag(digest)):
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        count = min(int(last), size)
        if count == 0:
            raise ValueError("empty suffix")
        return size - count, size
    begin, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < begin:
        return None
    if begin >= size:
        raise ValueError("beyond the end")
    return begin, end

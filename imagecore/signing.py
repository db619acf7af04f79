"""Signed paths: one spelling, one meaning, three lifetimes.

    /e/{kid}/{exp}/{asset}/{recipe}/{mac}.{ext}      ephemeral: a person's own previews
    /s/{kid}/{share}/{asset}/{recipe}/{mac}.{ext}    share: revocable links
    /d/{kid}/{asset}/{recipe}/{mac}.{ext}            durable: public product pictures

The tag is HMAC-SHA256 truncated to 128 bits (RFC 2104 section 5) over the raw path bytes without the tag itself. Keys
are derived from a master by lifetime and region (HKDF, RFC 5869), so an edge that is given its own keys cannot mint for
another lifetime or region. A key id names the key; a retired one is not in the ring; without keys nothing starts.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from imagecore import recipe as recipes

TAG_BYTES: Final = 16
DAY_S: Final = 86_400
HOUR_S: Final = 3_600
MAX_PATH: Final = 400


class Lifetime(StrEnum):
    """The first letter of a path."""

    EPHEMERAL = "e"
    SHARE = "s"
    DURABLE = "d"


class NoKeys(ValueError):
    """A ring without a key for a lifetime: nobody may start like that."""


class Ephemeral(msgspec.Struct, frozen=True, kw_only=True):
    """A path that ends by itself; `expires` is a UNIX time in whole seconds."""

    asset: str
    recipe: str
    expires: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A path that lives as long as its share is not revoked."""

    asset: str
    recipe: str
    share: str


class Durable(msgspec.Struct, frozen=True, kw_only=True):
    """A path that never ends."""

    asset: str
    recipe: str


Signed = Ephemeral | Share | Durable


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A path that we signed. `extension` is the file's; `kid` names the key, for a last-used metric."""

    lifetime: Lifetime
    kid: str
    asset: str
    recipe: str
    extension: str
    expired: bool
    expires: int | None = None
    share: str | None = None


def derive(master: bytes, lifetime: Lifetime, region: str) -> bytes:
    """The key of one lifetime and region: HKDF-SHA256 with an empty salt; 32 bytes."""
    extracted = hmac.digest(bytes(32), master, "sha256")
    info = b"tirage-url-1:" + lifetime.value.encode() + b":" + region.encode()
    return hmac.digest(extracted, info + b"\x01", "sha256")


class Ring:
    """The derived keys of one region, by lifetime and key id; the first of a lifetime signs, every one verifies."""

    def __init__(self, keys: Mapping[Lifetime, Iterable[tuple[str, bytes]]]) -> None:
        self._keys = {(life, kid): key for life, pairs in keys.items() for kid, key in pairs}
        self._first: dict[Lifetime, str] = {}
        for life, kid in self._keys:
            self._first.setdefault(life, kid)
        if not self._keys or any(len(key) != 32 or not any(key) for key in self._keys.values()):
            raise NoKeys("a ring needs 32-byte keys")

    @classmethod
    def of_masters(cls, masters: Iterable[tuple[str, bytes]], region: str) -> "Ring":
        """The ring of a minter: every lifetime's key of a region, from the masters."""
        pairs = list(masters)
        return cls({life: [(kid, derive(key, life, region)) for kid, key in pairs] for life in Lifetime})

    def sign(self, wanted: Signed) -> str:
        """The path of a rendition, signed with the lifetime's first key.

        Raises `NoKeys`, or `MalformedRecipe` / `ValueError` for a field that has no place in a path.
        """
        life, middle = _middle(wanted)
        kid = self._first.get(life)
        if kid is None:
            raise NoKeys(f"no key for lifetime {life}")
        extension = recipes.parse(wanted.recipe).format
        head = f"/{life}/{kid}/{middle}/"
        path = f"{head}{_tag(self._keys[life, kid], head.encode(), extension.encode())}.{extension}"
        if _PATH.fullmatch(path.encode()) is None or len(path) > MAX_PATH:
            raise ValueError("a field has no place in a path")
        return path

    def verify(self, raw_path: bytes, now: int) -> Verified | None:
        """What the raw bytes of a request's path are worth at UNIX time `now`; None refuses.

        Nothing is decoded, repaired or looked up: a path that differs by one byte from a signed one is refused.
        """
        found = _PATH.fullmatch(raw_path) if len(raw_path) <= MAX_PATH else None
        if found is None:
            return None
        life, kid = Lifetime((found["e"] and "e") or (found["s"] and "s") or "d"), found["kid"].decode()
        key = self._keys.get((life, kid))
        if key is None or not hmac.compare_digest(_tag(key, found["head"], found["ext"]).encode(), found["mac"]):
            return None
        expires = int(found["exp"]) if found["exp"] else None
        return Verified(
            lifetime=life,
            kid=kid,
            asset=found["asset"].decode(),
            recipe=found["recipe"].decode(),
            extension=found["ext"].decode(),
            expired=expires is not None and expires <= now,
            expires=expires,
            share=found["share"].decode() if found["share"] else None,
        )


_PATH: Final = re.compile(
    rb"(?P<head>/(?:(?P<e>e)|(?P<s>s)|d)/(?P<kid>[a-z0-9]{1,8})/"
    rb"(?(e)(?P<exp>[1-9][0-9]{9})/|)(?(s)(?P<share>shr_[a-z0-9]{26})/|)"
    rb"(?P<asset>[a-z]{3}_[a-z0-9]{26})/(?P<recipe>[a-z0-9._]{16,160})/)"
    rb"(?P<mac>[0-9a-f]{32})\.(?P<ext>jpg|webp|avif)"
)


def _middle(wanted: Signed) -> tuple[Lifetime, str]:
    tail = f"{wanted.asset}/{wanted.recipe}"
    if isinstance(wanted, Ephemeral):
        return Lifetime.EPHEMERAL, f"{wanted.expires}/{tail}"
    if isinstance(wanted, Share):
        return Lifetime.SHARE, f"{wanted.share}/{tail}"
    return Lifetime.DURABLE, tail


def _tag(key: bytes, head: bytes, extension: bytes) -> str:
    return hmac.digest(key, head + b"." + extension, "sha256")[:TAG_BYTES].hex()


def expiry(now: int, quantum: int, asset: str) -> int:
    """When a path minted now ends: the next boundary and one quantum more, in whole seconds.

    Everybody who mints within a quantum gets the same path, so caches share one entry; boundaries are offset by asset
    so that not everything ends at once. A path lives at least one quantum and at most two.
    """
    offset = int.from_bytes(hashlib.sha256(asset.encode()).digest()[:4], "big") % quantum
    return ((now - offset) // quantum + 2) * quantum + offset


def quantum(width: int) -> int:
    """How long a preview's path lives: a day for thumbnails (up to 400 px), an hour for what could be printed."""
    return DAY_S if width <= 400 else HOUR_S

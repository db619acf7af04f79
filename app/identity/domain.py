"""Identity: owners, devices and sessions; refresh tokens as values that are derived, never stored.

A session is one family of refresh tokens, numbered by generation. The latest one rotates to the next. The one before it
answers again with that same next one, until the next one is itself used: a phone that lost the answer on a train tries
again and loses nothing. Any older one means that a copy exists, and ends the family.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.identity.errors import RefreshRefused
from app.kernel.events import Code, Event, event
from base.ids import DeviceId, OwnerId, SessionId
from base.settings import Keys

PREFIX: Final = "rt1."
_MAC: Final = 32


class Platform(StrEnum):
    """What the app runs on."""

    IOS = "ios"
    ANDROID = "android"
    WEB = "web"
    OTHER = "other"


@event
class DeviceRegistered(Event, frozen=True, kw_only=True):
    """A device began as a guest."""

    type: ClassVar[str] = "device.registered"
    platform: Platform


@event
class SessionRevoked(Event, frozen=True, kw_only=True):
    """A family of refresh tokens ended before its time."""

    type: ClassVar[str] = "session.revoked"
    device_id: UUID
    reason: Code


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A family of refresh tokens: the latest generation handed out and the key it was derived with."""

    id: SessionId
    owner_id: OwnerId
    device_id: DeviceId
    generation: int
    key_id: str
    usable: bool


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who owns photos and orders."""

    id: OwnerId
    kind: Annotated[str, "guest or account"]
    created_at: datetime


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a device gets to work with; times are aware UTC, seconds are from now."""

    owner_id: OwnerId
    device_id: DeviceId
    access_token: str
    expires_at: datetime
    expires_in_s: int
    refresh_token: str


class Move(StrEnum):
    """What a presented generation means."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSED = "reused"


def judge(presented: int, latest: int) -> Move:
    """Compare the presented generation with the latest one handed out."""
    if presented == latest:
        return Move.ROTATE
    return Move.REPEAT if presented == latest - 1 else Move.REUSED


class RefreshTokens:
    """Derives and checks refresh tokens: session, generation and an HMAC-SHA256 under a key of the token key list."""

    def __init__(self, keys: Keys) -> None:
        self.current = keys.current[0]
        self._keys = {kid: _derived(seed.reveal()) for kid, seed in keys}

    def derive(self, session_id: SessionId, generation: int, key_id: str) -> str:
        """The one token of that session and generation under that key; raises `RefreshRefused` when the key is gone:
        under another one it would be another token."""
        key = self._keys.get(key_id)
        if key is None:
            raise RefreshRefused()
        body = session_id.bytes + generation.to_bytes(4, "big")
        return PREFIX + base64.urlsafe_b64encode(body + _mac(key, body)).decode().rstrip("=")

    def read(self, token: str) -> tuple[SessionId, int] | None:
        """Session and generation of a genuine token, or None."""
        try:
            raw = base64.urlsafe_b64decode(token.removeprefix(PREFIX) + "==")
        except (binascii.Error, ValueError):
            return None
        body, mac = raw[:-_MAC], raw[-_MAC:]
        if not token.startswith(PREFIX) or len(body) != 20:
            return None
        if not any(hmac.compare_digest(mac, _mac(key, body)) for key in self._keys.values()):
            return None
        return SessionId(UUID(bytes=body[:16])), int.from_bytes(body[16:], "big")


def _derived(seed: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"tirage refresh token v1").derive(seed)


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()

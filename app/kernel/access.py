"""Access tokens: short-lived JWTs signed with Ed25519 (RFC 7519, RFC 8037), by key ids: keys rotate with overlap.

The first key signs; every key verifies. To rotate: put the new key second (all processes learn it), then first. The
old one may go when nothing signed with it can come any more: refresh tokens use the same list and live much longer than
access tokens. docs/runbooks.md has the whole rotation.
"""

import base64
import binascii
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import jwt
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from base import ids
from base.clock import Clock
from base.errors import DomainError, Kind
from base.ids import DeviceId, OwnerId
from base.settings import Keys

ISSUER: Final = "tirage"
MAX_TOKEN: Final = 1024
LEEWAY_S: Final = 5
CACHE_SIZE: Final = 20_000


class Unauthenticated(DomainError):
    """No token, or one that is not (or no longer) good."""

    code, title, kind = "unauthenticated", "A valid access token is needed", Kind.UNAUTHENTICATED
    next_step = (
        "Send `Authorization: Bearer …`; get a fresh access token with POST /v1/tokens, or begin with /v1/devices."
    )


class TokenExpired(Unauthenticated):
    """The access token was good once."""

    code, title, kind = "token-expired", "The access token has expired", Kind.UNAUTHENTICATED
    next_step = "Get a fresh access token with POST /v1/tokens and send the request again."


class Scope(StrEnum):
    """What a token allows."""

    CUSTOMER = "customer"
    OPERATOR = "operator"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as the token says: a customer's owner and device, or an operator's name."""

    scope: Scope
    name: str
    owner_id: OwnerId | None
    device_id: DeviceId | None
    expires_at: int


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    scp: Scope
    exp: int
    dev: str | None = None


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)


class AccessTokens:
    """Mints and verifies; remembers verified tokens until they expire: a known one costs a dictionary look-up."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._clock = clock
        self._signers = {kid: Ed25519PrivateKey.from_private_bytes(seed.reveal()) for kid, seed in keys}
        self._verifiers = {kid: key.public_key() for kid, key in self._signers.items()}
        self._current = keys.current[0]
        self._known: dict[bytes, Principal] = {}

    def customer(self, owner_id: OwnerId, device_id: DeviceId, ttl: timedelta) -> tuple[str, datetime]:
        """A customer's token and its expiry."""
        return self._mint(ids.encode("owner", owner_id), Scope.CUSTOMER, ttl, ids.encode("device", device_id))

    def operator(self, name: str, ttl: timedelta) -> tuple[str, datetime]:
        """An operator's token and its expiry."""
        return self._mint(name, Scope.OPERATOR, ttl, None)

    def _mint(self, subject: str, scope: Scope, ttl: timedelta, device: str | None) -> tuple[str, datetime]:
        now = self._clock.now()
        expires = (now + ttl).replace(microsecond=0)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": subject,
            "scp": scope.value,
            "iat": int(now.timestamp()),
            "exp": int(expires.timestamp()),
        }
        if device is not None:
            claims["dev"] = device
        key = self._signers[self._current]
        return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": self._current}), expires

    def verify(self, token: bytes) -> Principal:
        """Who the token is of; raises `Unauthenticated` or `TokenExpired`."""
        known = self._known.get(token)
        now = self._clock.now().timestamp()
        if known is None:
            known = self._verify_unknown(token)
            if known.expires_at + LEEWAY_S > now:
                self._remember(token, known)
        if known.expires_at + LEEWAY_S <= now:
            self._known.pop(token, None)
            raise TokenExpired()
        return known

    def _remember(self, token: bytes, principal: Principal) -> None:
        if len(self._known) >= CACHE_SIZE:
            del self._known[next(iter(self._known))]
        self._known[token] = principal

    def _verify_unknown(self, token: bytes) -> Principal:
        """Signature first, then the claims: nothing unsigned is interpreted beyond the key id."""
        if len(token) > MAX_TOKEN or token.count(b".") != 2:
            raise Unauthenticated("the access token is not well-formed")
        signed, _, signature = token.rpartition(b".")
        head, _, body = signed.partition(b".")
        try:
            header = _HEADER.decode(_unpadded(head))
            verifier: Ed25519PublicKey | None = self._verifiers.get(header.kid)
            if header.alg != "EdDSA" or verifier is None:
                raise Unauthenticated("the access token is signed with an unknown key")
            verifier.verify(_unpadded(signature), signed)
            return _principal(_CLAIMS.decode(_unpadded(body)))
        except (InvalidSignature, msgspec.DecodeError, binascii.Error, ValueError, ids.MalformedId) as error:
            raise Unauthenticated("the access token is not valid") from error


def _principal(claims: _Claims) -> Principal:
    if claims.iss != ISSUER:
        raise Unauthenticated("the access token is not ours")
    customer = claims.scp is Scope.CUSTOMER
    return Principal(
        scope=claims.scp,
        name=claims.sub,
        owner_id=OwnerId(ids.decode("owner", claims.sub)) if customer else None,
        device_id=_device(claims.dev) if customer else None,
        expires_at=claims.exp,
    )


def _device(text: str | None) -> DeviceId:
    if text is None:
        raise Unauthenticated("the access token names no device")
    found: UUID = ids.decode("device", text)
    return DeviceId(found)


def _unpadded(part: bytes) -> bytes:
    """Base64url without padding, one spelling only (RFC 7515 section 2)."""
    plain = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(plain).rstrip(b"=") != part:
        raise ValueError("not the one spelling")
    return plain

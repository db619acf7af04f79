"""Stripe's webhook signatures: HMAC-SHA256 over `t.body`, checked over the raw bytes before anything is parsed.

Stripe's own library lets timestamps from the future pass and reads the machine's clock; both are not for us.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from app.webhooks.errors import SignatureRefused
from base.settings import Secret

TOLERANCE_S: Final = 300
_LONGEST: Final = 4096
_MOST: Final = 16


def verify(body: bytes, header: str, secrets: Sequence[Secret[str]], now: int) -> str:
    """The name of the secret that fits; raises `SignatureRefused`. Ages are refused both ways."""
    moment, given = _parse(header)
    if moment < now - TOLERANCE_S:
        raise SignatureRefused("too-old")
    if moment > now + TOLERANCE_S:
        raise SignatureRefused("from-the-future")
    found = None
    for secret in secrets:  # every secret and signature is compared: time tells nothing
        wanted = hmac.new(secret.reveal().encode(), b"%d." % moment + body, hashlib.sha256).hexdigest().encode()
        for one in given:
            if hmac.compare_digest(wanted, one):
                found = name_of(secret)
    if found is None:
        raise SignatureRefused("wrong")
    return found


def name_of(secret: Secret[str]) -> str:
    """A name for a secret that does not tell it."""
    return hashlib.sha256(b"webhook-secret:" + secret.reveal().encode()).hexdigest()[:12]


def _parse(header: str) -> tuple[int, list[bytes]]:
    if not header or len(header) > _LONGEST:
        raise SignatureRefused("missing" if not header else "malformed")
    moments: list[str] = []
    given: list[bytes] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            moments.append(value)
        elif name == "v1":
            given.append(value.encode("utf-8", "replace"))
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit() and len(moments[0]) <= 12):
        raise SignatureRefused("malformed")
    if not given or len(given) > _MOST:
        raise SignatureRefused("malformed")
    return int(moments[0]), given

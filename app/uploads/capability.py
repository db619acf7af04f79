"""Capabilities for the background PUT: a path that is permission enough, for one session and until one second.

A phone's system sends the request long after the app was closed, when no access token is good any more. The tag is an
HMAC-SHA256 (128 bits) under keys derived from the token keys: the first signs, every one verifies.
"""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final
from uuid import UUID

from app.uploads.errors import UploadNotFound
from base.clock import Clock
from base.settings import Keys

LABEL: Final = b"upload-content-1"
_TAG: Final = 16


class Capabilities:
    """Makes and checks capabilities."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = [hmac.digest(seed.reveal(), LABEL, hashlib.sha256) for _, seed in keys]
        self._clock = clock

    def of(self, upload_id: UUID, until: datetime) -> str:
        """A capability for a session's bytes."""
        expiry = int(until.timestamp()).to_bytes(5, "big")
        return base64.urlsafe_b64encode(expiry + _tag(self._keys[0], upload_id, expiry)).decode().rstrip("=")

    def require(self, upload_id: UUID, text: str) -> None:
        """Raises `UploadNotFound` unless the capability allows this."""
        if not self.allows(upload_id, text):
            raise UploadNotFound()

    def allows(self, upload_id: UUID, text: str) -> bool:
        """Whether it is a genuine capability for this session that has not ended."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return False
        expiry, tag = raw[:5], raw[5:]
        if not any(hmac.compare_digest(tag, _tag(key, upload_id, expiry)) for key in self._keys):
            return False
        return int.from_bytes(expiry, "big") > self._clock.now().timestamp()


def _tag(key: bytes, upload_id: UUID, expiry: bytes) -> bytes:
    return hmac.digest(key, upload_id.bytes + expiry, hashlib.sha256)[:_TAG]

"""Leases: one renderer a key in the whole region, by a NATS KV entry that ends by itself.

A lease is advice, not a lock: the object store's If-None-Match decides which bytes stand, and bytes are a function of
the key. So a dead leader costs one lease time, and a queue that is away costs a second render at most.
"""

import asyncio
import hashlib
from typing import Any, Final

import nats
from nats.errors import Error as NatsError
from nats.js.errors import BucketNotFoundError, KeyWrongLastSequenceError

from base import telemetry

log = telemetry.logger(__name__)

LEASE_S: Final = 15
_ERRORS: Final = (NatsError, OSError, TimeoutError, asyncio.TimeoutError)


class Leases:
    """Leases of one region."""

    def __init__(self, url: str, region: str) -> None:
        self._url, self._bucket = url, f"LEASES-{region}"
        self._connection: Any = None
        self._kv: Any = None

    async def take(self, key: str) -> bool:
        """Whether this caller renders; True as well when the queue is away."""
        try:
            kv = await self._open()
            await kv.create(_name(key), b"1")
        except KeyWrongLastSequenceError:
            return False
        except _ERRORS as error:
            log.warning("leases_away", error=type(error).__name__)
            self._kv = None
        return True

    async def release(self, key: str) -> None:
        """The rendition is stored (or failed): let others try."""
        try:
            if self._kv is not None:
                await self._kv.purge(_name(key))
        except _ERRORS:
            self._kv = None

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> Any:
        if self._kv is None:
            if self._connection is None:
                self._connection = await nats.connect(
                    self._url, connect_timeout=1, max_reconnect_attempts=-1, error_cb=_quiet
                )
            js = self._connection.jetstream(timeout=1)
            try:
                self._kv = await js.key_value(self._bucket)
            except BucketNotFoundError:
                self._kv = await js.create_key_value(bucket=self._bucket, ttl=LEASE_S, history=1)
        return self._kv


async def _quiet(error: Exception) -> None:
    log.warning("leases_error", error=type(error).__name__)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:40]

"""Leases: one renderer a key in the whole region, by a NATS KV entry that ends by itself unless it is renewed.

A lease is advice, not a lock: the object store's If-None-Match decides which bytes stand, and bytes are a function of
the key. So a dead leader costs one lease time, and a queue that is away costs a render a process at most.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from typing import Any, Final

import nats
from nats.errors import Error as NatsError
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError

from base import telemetry

log = telemetry.logger(__name__)

LEASE_S: Final = 4
RENEWALS: Final = 4  # looks within one lease time: a renewal may be lost
CONNECT_S: Final = 2
AWAY_S: Final = 5.0  # after a failure nobody waits for the queue again before that
_ERRORS: Final = (NatsError, OSError, TimeoutError, asyncio.TimeoutError)


class Lease:
    """A key held by this process; renewed until `release`. `is_held` is False where the queue was away."""

    def __init__(self, kv: Any, name: str, revision: int, lease_s: int) -> None:
        self._kv, self._name, self._revision, self._lease_s = kv, name, revision, lease_s
        self._renewing = asyncio.create_task(self._renew()) if kv is not None else None

    @property
    def is_held(self) -> bool:
        """Whether others can see it."""
        return self._renewing is not None and not self._renewing.done()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            try:
                self._revision = await self._kv.update(self._name, b"1", last=self._revision)
            except KeyWrongLastSequenceError:
                log.warning("lease_lost")
                return
            except _ERRORS as error:
                log.warning("lease_not_renewed", error=type(error).__name__)

    async def release(self) -> None:
        """The rendition is stored (or failed): let others try. A lease that somebody else took meanwhile stays."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._renewing
        with contextlib.suppress(*_ERRORS):
            await self._kv.delete(self._name, last=self._revision)


class Leases:
    """Leases of one region, each for `lease_s` seconds unless renewed; one region has one lease time."""

    def __init__(self, url: str, region: str, ca_file: str | None = None, lease_s: int = LEASE_S) -> None:
        self._url, self._bucket, self._lease_s = url, f"RENDERS-{region}", lease_s
        self._tls = {"tls": ssl.create_default_context(cafile=ca_file)} if ca_file else {}
        self._connection: Any = None
        self._kv: Any = None
        self._opening = asyncio.Lock()
        self._away_until = 0.0

    async def take(self, key: str) -> Lease | None:
        """A lease for the caller, who then renders; None when somebody else has it.

        When the queue is away, a lease that nobody sees: better two renders than none.
        """
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        try:
            kv = await self._open()
            return Lease(kv, name, await kv.create(name, b"1"), self._lease_s)
        except (KeyWrongLastSequenceError, KeyNotFoundError):  # not found: it ended between two looks
            return None
        except _ERRORS as error:
            log.warning("leases_away", error=type(error).__name__)
            self._kv, self._away_until = None, time.monotonic() + AWAY_S
            return Lease(None, name, 0, self._lease_s)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> Any:
        if self._kv is None and time.monotonic() < self._away_until:
            raise ConnectionError("the queue was away a moment ago")
        async with self._opening:
            if self._connection is None:
                # Without a time limit nats-py tries for ever where it may reconnect for ever.
                connecting = nats.connect(
                    self._url, connect_timeout=1, max_reconnect_attempts=-1, error_cb=_quiet, **self._tls
                )
                self._connection = await asyncio.wait_for(connecting, CONNECT_S)
            if self._kv is None:
                js = self._connection.jetstream(timeout=1)
                try:
                    self._kv = await js.key_value(self._bucket)
                except BucketNotFoundError:
                    self._kv = await js.create_key_value(bucket=self._bucket, ttl=self._lease_s, history=1)
            return self._kv


async def _quiet(error: Exception) -> None:
    log.warning("leases_error", error=type(error).__name__)

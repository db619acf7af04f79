"""Leases: one renderer a key in the whole region, by a NATS KV entry that ends by itself unless it is renewed.

The entry's value is a subject that its holder serves until it has finished. Who wants the lease asks there and is
answered at the end. When nobody serves it any more, NATS says so at once, and the lease is taken over from the dead.
Who dies after being asked answers nothing, so the question is put again every `ASK_S`.

A lease is advice, not a lock: the object store's If-None-Match decides which bytes stand, and bytes are a function of
the key. So a holder that hangs costs one lease time, and a queue that is away costs a render a process at most.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from enum import Enum
from typing import Any, Final

import nats
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError

from base import telemetry

log = telemetry.logger(__name__)

LEASE_S: Final = 4
RENEWALS: Final = 4  # within one lease time: a renewal may be lost
ASK_S: Final = 0.02
CONNECT_S: Final = 2
AWAY_S: Final = 5.0  # after a failure nobody waits for the queue again before that
_ERRORS: Final = (NatsError, OSError, TimeoutError, asyncio.TimeoutError)


class Lease:
    """A key held by this process, renewed and served on a subject of its own until `release`."""

    def __init__(self, kv: Any, name: str, lease_s: int) -> None:
        self._kv, self._name, self._lease_s = kv, name, lease_s
        self._questions: list[Any] = []
        self._serving: Any = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether others can see it; not where the queue was away."""
        return self._renewing is not None and not self._renewing.done()

    async def begin(self, connection: Any, revision: int) -> None:
        """Take what is free at this revision; raises `KeyWrongLastSequenceError` where another was faster."""
        self._subject = connection.new_inbox()
        # Served before the entry can be read: its readers believe a subject that nobody serves to be a death.
        self._serving = await connection.subscribe(self._subject, cb=self._asked)
        try:
            self._revision = await self._written(revision)
        except BaseException:
            await self._end_serving()
            raise
        self._renewing = asyncio.create_task(self._renew())

    async def _written(self, last: int) -> int:
        revision: int = await self._kv.update(self._name, self._subject.encode(), last=last)
        return revision

    async def _asked(self, question: Any) -> None:
        self._questions.append(question)

    async def _end_serving(self) -> None:
        with contextlib.suppress(*_ERRORS):
            await self._serving.unsubscribe()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            try:
                self._revision = await self._written(self._revision)
            except KeyWrongLastSequenceError:
                log.warning("lease_lost")
                return
            except _ERRORS as error:
                log.warning("lease_not_renewed", error=type(error).__name__)

    async def release(self) -> None:
        """The rendition is stored (or failed): let others look. A lease that somebody else took meanwhile stays."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._renewing
        await self._end_serving()
        with contextlib.suppress(*_ERRORS):
            for question in self._questions:
                await question.respond(b"")
            await self._kv.delete(self._name, last=self._revision)


class _Told(Enum):
    """What asking a holder may give."""

    FINISHED = "finished"
    NOTHING = "nothing"
    FREE = "free"


class Leases:
    """Leases of one region, each for `lease_s` seconds unless renewed; one region has one lease time."""

    def __init__(self, url: str, region: str, ca_file: str | None = None, lease_s: int = LEASE_S) -> None:
        self._url, self._bucket, self._lease_s = url, f"RENDERS-{region}", lease_s
        self._tls = {"tls": ssl.create_default_context(cafile=ca_file)} if ca_file else {}
        self._connection: Any = None
        self._kv: Any = None
        self._opening = asyncio.Lock()
        self._away_until = 0.0

    async def take(self, key: str, patience_s: float) -> Lease | None:
        """A lease for the caller, who then renders; None when another had it and finished, or holds it too long.

        When the queue is away, a lease that nobody sees: better two renders than none.
        """
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        try:
            return await self._take(await self._open(), name, time.monotonic() + patience_s)
        except _ERRORS as error:
            log.warning("leases_away", error=type(error).__name__)
            self._kv, self._away_until = None, time.monotonic() + AWAY_S
            return Lease(None, name, self._lease_s)

    async def _take(self, kv: Any, name: str, until: float) -> Lease | None:
        while time.monotonic() < until:
            revision, holder = await _seen(kv, name)
            told = await self._ask(holder) if holder else _Told.FREE
            if told is _Told.FINISHED:
                return None
            if told is _Told.FREE:
                lease = Lease(kv, name, self._lease_s)
                with contextlib.suppress(KeyWrongLastSequenceError):
                    await lease.begin(self._connection, revision)
                    return lease
        return None

    async def _ask(self, holder: str) -> _Told:
        try:
            await self._connection.request(holder, timeout=ASK_S)
        except NatsTimeout:
            return _Told.NOTHING
        except NoRespondersError:
            return _Told.FREE
        return _Told.FINISHED

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(*_ERRORS):
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


async def _seen(kv: Any, name: str) -> tuple[int, str]:
    """The entry's revision (0: none) and its holder's subject, empty where the lease is free."""
    try:
        entry = await kv.get(name)
    except KeyNotFoundError as absent:
        return (absent.entry.revision if absent.entry else 0), ""
    return entry.revision, entry.value.decode()


async def _quiet(error: Exception) -> None:
    log.warning("leases_error", error=type(error).__name__)

"""JetStream: one connection a process, a work-queue stream for jobs and one for results, one pull consumer a lane."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from base import telemetry
from base.errors import ServiceUnavailable
from base.jobs import LANES, Lane, result_subject

log = telemetry.logger(__name__)

QUEUE_ERRORS: Final = (NatsError, OSError, TimeoutError, asyncio.TimeoutError)
PUBLISH_TIMEOUT_S: Final = 5
RESULTS_CONSUMER: Final = "record"
RESULTS_ACK_WAIT_S: Final = 30


def jobs_stream(region: str) -> str:
    """The stream of a region's jobs."""
    return f"JOBS-{region}"


def results_stream(region: str) -> str:
    """The stream of a region's results."""
    return f"RESULTS-{region}"


class Queue:
    """A process's connection; streams and consumers are made again whenever the server has lost them.

    `domain` is where the region's streams are, when they are not at the server that is connected to but behind a leaf
    node: its JetStream domain.
    """

    def __init__(self, url: str, region: str, ca_file: str | None = None, domain: str | None = None) -> None:
        self._url, self.region, self._ca_file, self._domain = url, region, ca_file, domain
        self._connection: Any = None
        self.js: Any = None

    async def connect(self) -> None:
        """Connect, waiting for the server as long as it takes; later losses are reconnected without end."""
        tls = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else None
        while self._connection is None:
            try:
                self._connection = await nats.connect(
                    self._url,
                    error_cb=self._on_error,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    allow_reconnect=True,
                    **({"tls": tls} if tls else {}),
                )
            except QUEUE_ERRORS as error:
                log.warning("queue_unreachable", error=type(error).__name__)
                await asyncio.sleep(0.5)
        self.js = self._connection.jetstream(timeout=PUBLISH_TIMEOUT_S, domain=self._domain)

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return bool(self._connection is not None and self._connection.is_connected)

    async def close(self) -> None:
        """Close at once; `drain` would wait for pull requests that nobody answers."""
        if self._connection is not None:
            await self._connection.close()

    async def _on_error(self, error: Exception) -> None:
        log.warning("queue_error", error=type(error).__name__)

    async def publish(self, subject: str, message_id: str, data: bytes) -> None:
        """Publish and wait for the stream's own acknowledgement; raises `ServiceUnavailable`."""
        try:
            await self.js.publish(subject, data, timeout=PUBLISH_TIMEOUT_S, headers={"Nats-Msg-Id": message_id})
        except QUEUE_ERRORS as error:
            raise ServiceUnavailable("the queue does not answer") from error

    async def probe(self) -> None:
        """Ask the region's JetStream whether it is there; raises `ServiceUnavailable`."""
        if self.js is None:
            raise ServiceUnavailable("the queue was not reached yet")
        try:
            await self.js.account_info()
        except QUEUE_ERRORS as error:
            raise ServiceUnavailable("the queue does not answer") from error

    async def ensure_jobs(self, lanes: Iterable[Lane] = LANES.values()) -> datetime:
        """Make the jobs stream and its consumers where they are missing; when the stream was made (UTC)."""
        name = jobs_stream(self.region)
        created = await self._ensure_stream(name, [f"jobs.{self.region}.*"])
        for lane in lanes:
            await self._ensure_consumer(name, lane.name, f"jobs.{self.region}.{lane.name}", lane.ack_wait_s)
        return created

    async def ensure_results(self) -> datetime:
        """Make the results stream and its consumer where they are missing."""
        name = results_stream(self.region)
        created = await self._ensure_stream(name, [result_subject(self.region)])
        await self._ensure_consumer(name, RESULTS_CONSUMER, result_subject(self.region), RESULTS_ACK_WAIT_S)
        return created

    async def ensure_results_quietly(self) -> None:
        """Make the results stream again if the server lost it and is there."""
        with contextlib.suppress(*QUEUE_ERRORS):
            await self.ensure_results()

    async def _ensure_stream(self, name: str, subjects: list[str]) -> datetime:
        try:
            info = await self.js.stream_info(name)
        except NotFoundError:
            config = StreamConfig(
                name=name,
                subjects=subjects,
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                duplicate_window=120,
            )
            info = await self.js.add_stream(config)
            log.info("stream_made", stream=name)
        return _utc(info.created)

    async def _ensure_consumer(self, stream: str, durable: str, subject: str, ack_wait_s: int) -> None:
        config = ConsumerConfig(
            durable_name=durable,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=-1,
            max_ack_pending=1024,
        )
        try:
            await self.js.add_consumer(stream, config)
        except APIError as error:
            log.warning("consumer_kept", consumer=durable, error=str(error.description))

    async def subscribe_lane(self, lane: Lane) -> Any:
        """A pull subscription on a lane's consumer."""
        return await self.js.pull_subscribe_bind(durable=lane.name, stream=jobs_stream(self.region))

    async def subscribe_results(self) -> Any:
        """A pull subscription on the results."""
        return await self.js.pull_subscribe_bind(durable=RESULTS_CONSUMER, stream=results_stream(self.region))


def _utc(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(str(value).replace("Z", "+00:00"))

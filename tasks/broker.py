"""Our taskiq broker on JetStream: one a lane, pulling one message whenever a slot is free.

taskiq acknowledges whatever came of a task and drops names it does not know. Here a message is acknowledged only after
its work is durable, is kept alive by heartbeats while it runs, and goes back to the queue when this process does not
know its kind (an older worker during a deployment).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import Any, Final

import msgspec
from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.acks import AcknowledgeType
from taskiq.message import TaskiqMessage
from taskiq.receiver import Receiver

from base import telemetry
from base.jobs import JOB_DECODER, Job, Lane, job_subject
from tasks.queue import QUEUE_ERRORS, Queue

log = telemetry.logger(__name__)

FETCH_S: Final = 5
UNKNOWN_DELAY_S: Final = 5
MAX_DELIVERIES: Final = 3


class Delivery:
    """One message in this worker's hands. `count` is how often the queue has handed it out, this time included."""

    def __init__(self, message: Any, job: Job, lane: Lane) -> None:
        self._message, self.job = message, job
        self.count = int(message.metadata.num_delivered)
        self.durable = False
        self._beat = asyncio.create_task(self._heartbeat(lane.ack_wait_s / 3))

    @property
    def is_lost(self) -> bool:
        """Whether earlier workers died with this message too often for another try."""
        return self.count > MAX_DELIVERIES

    async def ack(self) -> None:
        """Acknowledge when the work is durable, else give the message back."""
        self._beat.cancel()
        try:
            await (self._message.ack_sync(timeout=FETCH_S) if self.durable else self._message.nak(delay=1))
        except QUEUE_ERRORS as error:
            log.warning("ack_failed", job=str(self.job.id), error=type(error).__name__)

    async def _heartbeat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            with contextlib.suppress(*QUEUE_ERRORS):
                await self._message.in_progress()


Work = Callable[[Delivery], Awaitable[None]]


class _JobFormatter(TaskiqFormatter):
    """taskiq's envelope from and to our job's bytes."""

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        raise NotImplementedError("jobs are published by the dispatcher, from their rows")

    def loads(self, message: bytes) -> TaskiqMessage:
        job = JOB_DECODER.decode(message)
        return TaskiqMessage(task_id=_task_id(job), task_name=job.kind, labels={}, args=[_task_id(job)], kwargs={})


def _task_id(job: Job) -> str:
    return f"{job.id}:{job.attempt}"


class LaneBroker(AsyncBroker):
    """One lane of one region. `work` gets each delivery and marks it durable; `kinds` are the names it knows."""

    def __init__(self, queue: Queue, lane: Lane, kinds: Collection[str] = (), work: Work | None = None) -> None:
        super().__init__()
        self._queue, self._lane, self._kinds = queue, lane, frozenset(kinds)
        self.formatter = _JobFormatter()
        self._held: dict[str, Delivery] = {}
        if work is not None:
            for kind in self._kinds:
                self.register_task(self._task(work), task_name=kind)

    def _task(self, work: Work) -> Callable[[str], Awaitable[None]]:
        async def run(task_id: str) -> None:
            await work(self._held[task_id])

        return run

    async def kick(self, message: BrokerMessage) -> None:
        """Publish a job; returns after the stream has it. Raises `ServiceUnavailable`."""
        await self._queue.publish(job_subject(self._queue.region, self._lane.name), message.task_id, message.message)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Deliveries, one whenever taskiq has a free slot."""
        subscription = None
        while True:
            try:
                if subscription is None:
                    await self._queue.ensure_jobs([self._lane])
                    subscription = await self._queue.subscribe_lane(self._lane)
                message = (await subscription.fetch(1, timeout=FETCH_S))[0]
            except TimeoutError:
                subscription = await self._still_there(subscription)
                continue
            except QUEUE_ERRORS as error:
                log.warning("fetch_failed", lane=self._lane.name, error=type(error).__name__)
                subscription = None
                await asyncio.sleep(0.2)
                continue
            delivery = await self._take(message)
            if delivery is not None:
                yield AckableMessage(data=message.data, ack=self._releaser(delivery))

    async def _still_there(self, subscription: Any) -> Any:
        """Nothing came: either there is nothing, or the server lost the consumer with its data."""
        try:
            await subscription.consumer_info()
        except QUEUE_ERRORS:
            return None
        return subscription

    async def _take(self, message: Any) -> Delivery | None:
        try:
            job = JOB_DECODER.decode(message.data)
        except msgspec.MsgspecError:
            job = None
        if job is None or job.kind not in self._kinds:
            log.warning("unknown_job", kind=job.kind if job else "unreadable", lane=self._lane.name)
            with contextlib.suppress(*QUEUE_ERRORS):
                await message.nak(delay=UNKNOWN_DELAY_S)
            return None
        delivery = self._held[_task_id(job)] = Delivery(message, job, self._lane)
        return delivery

    def _releaser(self, delivery: Delivery) -> Callable[[], Awaitable[None]]:
        async def release() -> None:
            self._held.pop(_task_id(delivery.job), None)
            await delivery.ack()

        return release


async def serve(broker: LaneBroker, slots: int, stop: asyncio.Event, grace_s: int) -> None:
    """Run a lane with `slots` jobs at once until `stop`; then wait up to `grace_s` seconds for the running ones."""
    broker.is_worker_process = True
    receiver = Receiver(
        broker=broker,
        validate_params=False,
        max_async_tasks=slots,
        max_prefetch=0,
        ack_type=AcknowledgeType.WHEN_EXECUTED,
        wait_tasks_timeout=grace_s,
    )
    await receiver.listen(stop)

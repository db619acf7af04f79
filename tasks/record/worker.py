"""Record workers: run our own jobs and apply the answers of pixel workers, in the transaction that closes the row."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from app.handlers import HANDLERS, Attempt, Handler, appliers
from app.kernel import jobs
from app.kernel.jobs import Applied, Applier, JobState
from app.services import Services
from base import telemetry, tracing
from base.errors import ServiceUnavailable
from base.jobs import RESULT_DECODER, Job, Lane, Result
from tasks import policy
from tasks.broker import Delivery, LaneBroker, serve
from tasks.queue import QUEUE_ERRORS, Queue

log = telemetry.logger(__name__)

BATCH: Final = 64
FETCH_S: Final = 5
EARLY_DELAY_S: Final = 0.2
RUNS: Final = 3  # of a transaction that the database gives up, before its answer is offered again later
PAUSE_S: Final = 0.05


class RecordWorker:
    """Serves record lanes with so many slots each, and the results of its own region and of those in `away`."""

    def __init__(
        self,
        services: Services,
        queue: Queue,
        lanes: Sequence[tuple[Lane, int]],
        handlers: Mapping[str, Handler] = HANDLERS,
        applying: Mapping[str, Applier] | None = None,
        away: Sequence[Queue] = (),
    ) -> None:
        self._services, self._queue, self._lanes, self._handlers = services, queue, lanes, handlers
        self._away = away
        self._appliers = appliers(services) if applying is None else applying
        self._key = services.settings.result_key.reveal()

    async def run(self, stop: asyncio.Event, grace_s: int = 20) -> None:
        """Work until `stop`, then end what runs. A region that cannot be reached holds up no other."""
        for queue in (self._queue, *self._away):
            await queue.connect()
        serving = [
            serve(LaneBroker(self._queue, lane, self._handlers, self._work), slots, stop, grace_s)
            for lane, slots in self._lanes
        ]
        results = [self._apply_results(queue, stop) for queue in (self._queue, *self._away)]
        await asyncio.gather(*serving, *results)

    async def _work(self, delivery: Delivery) -> None:
        """One delivery of a record job; durable as soon as Postgres knows how it ended."""
        job = delivery.job
        telemetry.follow(job.traceparent)
        with tracing.span(f"job {job.kind}", "consumer", job=str(job.id), lane=job.lane, attempt=job.attempt):
            while not delivery.durable:
                try:
                    await self._attempt(delivery, job)
                    delivery.durable = True
                except ServiceUnavailable as error:
                    log.warning("record_job_waits", job=str(job.id), error=str(error))
                    await asyncio.sleep(0.5)

    async def _attempt(self, delivery: Delivery, job: Job) -> None:
        async with self._services.db.transaction() as tx:
            row = await jobs.lock(tx, job.id)
            if row is None or row.attempt != job.attempt or row.state not in (JobState.QUEUED, JobState.PUBLISHED):
                return
            if delivery.is_lost:
                await jobs.park(tx, row, "worker-lost")
                return
        attempt = Attempt(row)
        try:
            async with asyncio.timeout(job.time_limit_s):
                await self._handlers[job.kind](self._services, attempt)
            if not attempt.finished:
                async with self._services.db.transaction() as tx:
                    await attempt.finish(tx)
        except ServiceUnavailable:
            raise
        except Exception as error:
            log.exception("record_job_failed", job=str(job.id), kind=job.kind)
            await self._fail(job.id, job.attempt, error)

    async def _fail(self, job_id: UUID, attempt: int, error: Exception) -> None:
        async with self._services.db.transaction() as tx:
            await jobs.failed(tx, job_id, attempt, policy.reason(error), final=policy.is_final(error))

    async def _apply_results(self, queue: Queue, stop: asyncio.Event) -> None:
        subscription: Any = None
        while not stop.is_set():
            try:
                if subscription is None:
                    await queue.ensure_results()
                    subscription = await queue.subscribe_results()
                messages = await _fetch(subscription, stop)
                for message in messages:
                    await self._apply(message)
            except ServiceUnavailable as error:
                log.warning("results_wait", error=str(error))
                await asyncio.sleep(0.5)
            except QUEUE_ERRORS as error:
                log.warning("results_fetch_failed", region=queue.region, error=type(error).__name__)
                subscription = None
                await asyncio.sleep(0.2)

    async def _apply(self, message: Any) -> None:
        try:
            result = RESULT_DECODER.decode(message.data)
        except msgspec.MsgspecError:
            log.error("result_unreadable")
            await message.term()
            return
        telemetry.follow(result.traceparent)
        try:
            applied = await self.apply(result)
        except ServiceUnavailable:
            await message.nak(delay=1)
            raise
        if applied is Applied.EARLY:
            await message.nak(delay=EARLY_DELAY_S)
        else:
            await message.ack_sync(timeout=FETCH_S)

    async def apply(self, result: Result) -> Applied:
        """Apply one result in one transaction; one that cannot be applied ends its attempt, as a failed one does.

        Raises `ServiceUnavailable`: offer it again.
        """
        with tracing.span(f"result {result.kind}", "consumer", job=str(result.job_id), step=result.step) as span:
            applied = await self._applied_with_patience(result)
            span.attributes["applied"] = applied.value
        if applied is not Applied.APPLIED:
            log.info("result_not_applied", job=str(result.job_id), step=result.step, why=applied.value)
        return applied

    async def _applied_with_patience(self, result: Result) -> Applied:
        for _ in range(RUNS - 1):
            with contextlib.suppress(ServiceUnavailable):
                return await self._applied_or_failed(result)
            await asyncio.sleep(PAUSE_S)
        return await self._applied_or_failed(result)

    async def _applied_or_failed(self, result: Result) -> Applied:
        try:
            async with self._services.db.transaction() as tx:
                return await jobs.apply(tx, self._key, result, self._appliers)
        except jobs.AttemptOver:
            return Applied.LATE
        except ServiceUnavailable:
            raise
        except Exception as error:
            log.exception("result_failed", job=str(result.job_id), kind=result.kind, step=result.step)
            await self._fail(result.job_id, result.attempt, error)
            return Applied.FAILED


async def _fetch(subscription: Any, stop: asyncio.Event) -> list[Any]:
    """A batch of results, or none after some seconds or when stopping; raises when the consumer is gone."""
    fetching = asyncio.ensure_future(subscription.fetch(BATCH, timeout=FETCH_S))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not fetching.done():
        fetching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await fetching
        return []
    try:
        messages: list[Any] = fetching.result()
    except TimeoutError:
        await subscription.consumer_info()
        return []
    return messages

"""Pixel workers: take a job, answer step by step, know no database.

Each step's answer is published, and acknowledged by the stream, before the next step begins; the job is acknowledged
last. Killed anywhere, the job comes again and says which steps are already recorded.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import Histogram

from base import telemetry, tracing
from base.errors import ServiceUnavailable
from base.jobs import ENCODER, Job, Lane, Outcome, Result, result_subject, signed
from tasks import policy
from tasks.broker import Delivery, LaneBroker, serve
from tasks.queue import Queue

log = telemetry.logger(__name__)

STEP_SECONDS: Final = Histogram(
    "tirage_step_seconds",
    "Time of each step of pixel jobs, by how it ended",
    ("kind", "step", "outcome"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)


class StepDone(msgspec.Struct, frozen=True, kw_only=True):
    """A step's answer: its own struct, the engine that made pixels, if any, and what was not as wanted (a code)."""

    step: str
    body: msgspec.Struct
    engine: str | None = None
    reason: str | None = None


class Refusal(Exception):
    """The input is bad for good: the answer is final, with a reason code and what was learned."""

    def __init__(self, reason: str, body: msgspec.Struct) -> None:
        super().__init__(reason)
        self.reason, self.body = reason, body


Steps = Callable[[Job], AsyncIterator[StepDone]]


class PixelKind(msgspec.Struct, frozen=True):
    """A kind of pixel job: its steps in order, and the generator that runs those not yet done."""

    steps: tuple[str, ...]
    run: Steps


class PixelWorker:
    """Serves pixel lanes with so many slots each."""

    def __init__(
        self, queue: Queue, result_key: bytes, kinds: Mapping[str, PixelKind], lanes: Sequence[tuple[Lane, int]]
    ) -> None:
        self._queue, self._key, self._kinds, self._lanes = queue, result_key, kinds, lanes

    async def run(self, stop: asyncio.Event, grace_s: int = 60) -> None:
        """Work until `stop`, then end what runs."""
        await self._queue.connect()
        await self._queue.ensure_results()
        await asyncio.gather(
            *(
                serve(LaneBroker(self._queue, lane, self._kinds, self._work), slots, stop, grace_s)
                for lane, slots in self._lanes
            )
        )

    async def _work(self, delivery: Delivery) -> None:
        job = delivery.job
        telemetry.follow(job.traceparent)
        answer = _Answers(self._queue, self._key, job, self._kinds[job.kind].steps)
        with tracing.span(f"job {job.kind}", "consumer", job=str(job.id), lane=job.lane, attempt=job.attempt):
            if delivery.is_lost:
                await answer.end(Outcome.LOST, "worker-lost")
            else:
                await self._attempt(job, answer)
        delivery.durable = True

    async def _attempt(self, job: Job, answer: "_Answers") -> None:
        try:
            async with asyncio.timeout(job.time_limit_s):
                async for done in self._kinds[job.kind].run(job):
                    await answer.step(done)
        except Refusal as refusal:
            await answer.end(Outcome.REFUSED, refusal.reason, refusal.body)
        except TimeoutError:
            await answer.end(Outcome.FAILED, "deadline")
        except ServiceUnavailable as error:
            await answer.end(Outcome.FAILED, error.code)
        except Exception as error:
            log.exception("pixel_job_failed", job=str(job.id), kind=job.kind)
            await answer.end(Outcome.FAILED, policy.reason(error))


class _Answers:
    """Signs and publishes the answers of one attempt, trying as long as it takes: heartbeats keep the job ours."""

    def __init__(self, queue: Queue, key: bytes, job: Job, steps: tuple[str, ...]) -> None:
        self._queue, self._key, self._job, self._steps = queue, key, job, steps
        self._begun, self._begun_ns = time.monotonic(), time.time_ns()
        self._next = len([step for step in steps if step in job.done])

    async def step(self, done: StepDone) -> None:
        """One step went well."""
        self._next = self._steps.index(done.step)
        last = done.step == self._steps[-1]
        await self._send(done.step, Outcome.OK, done.reason, msgspec.json.encode(done.body), done.engine, last)
        self._next += 1

    async def end(self, outcome: Outcome, reason: str, body: msgspec.Struct | None = None) -> None:
        """The attempt ended without its last step."""
        step = self._steps[min(self._next, len(self._steps) - 1)]
        await self._send(step, outcome, reason, msgspec.json.encode(body) if body else b"{}", None, True)

    async def _send(
        self, step: str, outcome: Outcome, reason: str | None, body: bytes, engine: str | None, last: bool
    ) -> None:
        job, now = self._job, time.monotonic()
        result = Result(
            job_id=job.id,
            kind=job.kind,
            attempt=job.attempt,
            step=step,
            index=self._steps.index(step),
            last=last,
            outcome=outcome,
            reason=reason,
            ms=int((now - self._begun) * 1000),
            engine=engine,
            body=body,
            traceparent=telemetry.traceparent(),
        )
        STEP_SECONDS.labels(job.kind, step, outcome.value).observe(now - self._begun)
        tracing.past(f"step {step}", self._begun_ns, reason, kind=job.kind, attempt=job.attempt, outcome=outcome.value)
        self._begun, self._begun_ns = now, time.time_ns()
        data = ENCODER.encode(signed(self._key, job.nonce, result))
        name = f"{job.id}:{job.attempt}:{step}:{outcome}"
        while True:
            try:
                await self._queue.publish(result_subject(self._queue.region), name, data)
                return
            except ServiceUnavailable:
                log.warning("answer_waits", job=str(job.id), step=step)
                await self._queue.ensure_results_quietly()
                await asyncio.sleep(0.5)

"""The line of work, with real servers: a row is published, worked on, answered, applied and closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from app.handlers import Attempt
from app.kernel import alerts, jobs
from app.kernel.db import Database, Transaction
from app.kernel.jobs import JobKind, JobRow, JobState, Plan
from app.services import Services
from base.errors import DomainError, Kind
from base.jobs import LANES, Job, Outcome, Result, signed
from tasks.broker import MAX_DELIVERIES
from tasks.dispatcher import Dispatcher
from tasks.pixel.worker import PixelKind, PixelWorker, Refusal, StepDone
from tasks.queue import Queue
from tasks.record.worker import RUNS, RecordWorker

QUICK = {
    name: msgspec.structs.replace(lane, ack_wait_s=1, republish_after_s=600, in_flight=16, per_owner=4)
    for name, lane in LANES.items()
}


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    number: int


class Bad(DomainError):
    code, title, kind, next_step = "test-bad", "bad", Kind.INVALID, "stop"


class Flaky(DomainError):
    code, title, kind, next_step = "test-flaky", "flaky", Kind.UNAVAILABLE, "again"


class Line:
    """A dispatcher, a pixel worker and a record worker of one region of its own, in this process."""

    def __init__(self, services: Services, url: str) -> None:
        self.services, self.region = services, f"t{uuid4().hex[:10]}"
        self._url, self._stop = url, asyncio.Event()
        self.ran: list[tuple[str, int, int]] = []
        self.applied: list[tuple[UUID, str]] = []
        self.last_reasons: list[str | None] = []
        self.pixel_kinds = {"t.pixel": PixelKind(("one", "two"), self._pixel)}
        self.handlers = {"t.record": self._record}
        self.behave: Callable[[str, int, int], Awaitable[None]] = _nothing
        self.applying: Callable[[str, int], Awaitable[None]] = _fine
        self._tasks: list[asyncio.Task[None]] = []
        self._queues: list[Queue] = []

    def queue(self) -> Queue:
        self._queues.append(Queue(self._url, self.region))
        return self._queues[-1]

    async def _pixel(self, job: Job) -> AsyncIterator[StepDone]:
        self.last_reasons.append(job.last_reason)
        number = msgspec.json.decode(job.payload, type=Numbered).number
        for step in ("one", "two"):
            if step not in job.done:
                await self.behave(step, number, job.attempt)
                self.ran.append((step, number, job.attempt))
                yield StepDone(step=step, body=Numbered(number=number))

    async def _record(self, services: Services, attempt: Attempt) -> None:
        number = msgspec.json.decode(attempt.job.payload, type=Numbered).number
        await self.behave("record", number, attempt.job.attempt)
        self.ran.append(("record", number, attempt.job.attempt))

    async def _apply(self, tx: Transaction, job: JobRow, result: Result) -> None:
        self.applied.append((job.id, result.step))
        await self.applying(result.step, result.attempt)

    async def answers_left(self) -> int:
        """How many answers the queue has still."""
        state = (await self._queues[0].js.stream_info(f"RESULTS-{self.region}")).state
        return int(state.messages)

    async def start(self, *, dispatch: bool = True, slots: int = 4) -> None:
        preview, record = QUICK["preview"], QUICK["record"]
        pixel = PixelWorker(
            self.queue(), self.services.settings.result_key.reveal(), self.pixel_kinds, [(preview, slots)]
        )
        records = RecordWorker(self.services, self.queue(), [(record, slots)], self.handlers, {"t.pixel": self._apply})
        work = [pixel.run(self._stop, 5), records.run(self._stop, 5)]
        if dispatch:
            work.append(Dispatcher(self.services.db, self.queue(), [preview, record]).run(self._stop))
        self._tasks = [asyncio.create_task(w) for w in work]

    async def stop(self) -> None:
        self._stop.set()
        done = await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 20)
        for queue in self._queues:
            with contextlib.suppress(Exception):
                await queue.js.delete_stream(f"JOBS-{self.region}")
                await queue.js.delete_stream(f"RESULTS-{self.region}")
            await queue.close()
        assert [d for d in done if isinstance(d, BaseException)] == []

    async def plan(
        self, lane: str, number: int, owner: UUID | None = None, attempts: int = 5, limit_s: int = 20
    ) -> UUID:
        name = "t.pixel" if lane == "preview" else "t.record"
        kind = JobKind(name=name, lane=lane, time_limit_s=limit_s, max_attempts=attempts)
        async with self.services.db.transaction() as tx:
            wanted = Plan(kind=name, payload=Numbered(number=number), owner_id=owner)
            made = await jobs.plan(tx, kind, wanted, self.region, None)
        assert made is not None
        return made

    async def row(self, job_id: UUID) -> JobRow:
        async with self.services.db.transaction() as tx:
            found = await jobs.lock(tx, job_id)
        assert found is not None
        return found

    async def answer(self, job_id: UUID, outcome: Outcome) -> Result:
        """What a worker answers for the first step of a pixel job's first attempt."""
        result = Result(
            job_id=job_id,
            kind="t.pixel",
            attempt=1,
            step="one",
            index=0,
            last=True,
            outcome=outcome,
            reason=None,
            ms=1,
            engine=None,
            body=b"{}",
        )
        return signed(self.services.settings.result_key.reveal(), (await self.row(job_id)).nonce, result)

    async def ends(self, job_id: UUID, state: JobState = JobState.DONE) -> JobRow:
        async with asyncio.timeout(30):
            while (row := await self.row(job_id)).state is not state:
                await asyncio.sleep(0.05)
        return row


async def _nothing(step: str, number: int, attempt: int) -> None:
    return None


async def _fine(step: str, attempt: int) -> None:
    return None


@pytest.fixture
async def line(services: Services, stack_env: dict[str, str]) -> AsyncIterator[Line]:
    made = Line(services, stack_env["TIRAGE_NATS_URL"])
    yield made
    await made.stop()


class TestPixelJob:
    async def test_runs_and_is_recorded_step_by_step(self, line: Line, db: Database) -> None:
        await line.start()
        job = await line.plan("preview", 1)
        await line.ends(job)
        assert line.ran == [("one", 1, 1), ("two", 1, 1)]
        assert line.applied == [(job, "one"), (job, "two")]
        async with db.transaction() as tx:
            steps = await tx.fetch("SELECT step, attempt, outcome FROM step_runs WHERE job_id = $1 ORDER BY step", job)
        assert [tuple(s) for s in steps] == [("one", 1, "ok"), ("two", 1, "ok")]
        labels = {"kind": "t.pixel", "step": "two", "outcome": "ok"}
        counted = REGISTRY.get_sample_value("tirage_step_seconds_count", labels)
        assert counted is not None
        assert counted >= 1

    async def test_retry_does_only_what_is_missing(self, line: Line) -> None:
        async def behave(step: str, number: int, attempt: int) -> None:
            if step == "two" and attempt == 1:
                raise Flaky()

        line.behave = behave
        await line.start()
        row = await line.ends(await line.plan("preview", 2))
        assert row.attempt == 2
        assert list(dict.fromkeys(line.ran)) == [
            ("one", 2, 1),
            ("two", 2, 2),
        ]  # a late heartbeat lets an attempt run twice
        assert list(dict.fromkeys(line.last_reasons)) == [None, "test-flaky"]

    async def test_refusal_is_final(self, line: Line) -> None:
        async def behave(step: str, number: int, attempt: int) -> None:
            raise Refusal("unreadable", Numbered(number=0))

        line.behave = behave
        await line.start()
        job = await line.plan("preview", 3)
        row = await line.ends(job)
        assert row.attempt == 1
        assert line.applied == [(job, "one")]

    async def test_longer_than_the_ack_wait_runs_once(self, line: Line) -> None:
        async def behave(step: str, number: int, attempt: int) -> None:
            await asyncio.sleep(1.8)

        line.behave = behave
        await line.start()
        await line.ends(await line.plan("preview", 4))
        assert line.ran == [("one", 4, 1), ("two", 4, 1)]

    async def test_over_its_time_limit_is_tried_again_then_parked(self, line: Line, db: Database) -> None:
        async def behave(step: str, number: int, attempt: int) -> None:
            await asyncio.sleep(30)

        line.behave = behave
        await line.start()
        job = await line.plan("preview", 5, attempts=1, limit_s=1)
        await line.ends(job, JobState.PARKED)
        async with db.transaction() as tx:
            raised = await alerts.open_alerts(tx)
        assert [(a.rule, a.subject, a.detail) for a in raised] == [("job-parked", f"t.pixel:{job}", "deadline")]

    async def test_one_owner_does_not_delay_anothers_first(self, line: Line) -> None:
        crowd, single = uuid4(), uuid4()
        for number in range(120):
            await line.plan("preview", number, crowd)
        last = await line.plan("preview", 999, single)
        await line.start(slots=1)
        await line.ends(last)
        before = [number for step, number, _ in line.ran[: line.ran.index(("one", 999, 1))] if step == "one"]
        assert len(before) <= 2 * QUICK["preview"].per_owner

    @pytest.mark.parametrize(("error", "attempts"), [(Bad(), 5), (RuntimeError("not foreseen"), 1)])
    async def test_answer_that_cannot_be_applied_is_parked_and_comes_no_more(
        self, line: Line, db: Database, error: Exception, attempts: int
    ) -> None:
        async def applying(step: str, attempt: int) -> None:
            raise error

        line.applying = applying
        await line.start()
        job = await line.plan("preview", 7, attempts=attempts)
        await line.ends(job, JobState.PARKED)
        async with asyncio.timeout(20):
            while await line.answers_left():
                await asyncio.sleep(0.05)
        assert set(line.applied) == {(job, "one")}
        async with db.transaction() as tx:
            raised = await alerts.open_alerts(tx)
            assert await tx.value("SELECT count(*) FROM step_runs WHERE job_id = $1", job) == 0
        assert [(a.rule, a.subject) for a in raised] == [("job-parked", f"t.pixel:{job}")]

    async def test_answer_that_could_not_be_applied_once_is_made_again(self, line: Line) -> None:
        async def applying(step: str, attempt: int) -> None:
            if attempt == 1:
                raise RuntimeError("not foreseen")

        line.applying = applying
        await line.start()
        job = await line.plan("preview", 8)
        assert (await line.ends(job)).attempt == 2

    async def test_answer_that_the_database_gives_up_costs_no_attempt(self, line: Line) -> None:
        async def applying(step: str, attempt: int) -> None:
            if len(line.applied) <= RUNS:
                raise asyncpg.DeadlockDetectedError("deadlock detected")

        line.applying = applying
        await line.start()
        job = await line.plan("preview", 9, attempts=1)
        await line.ends(job)
        assert line.applied == [(job, "one")] * (RUNS + 1) + [(job, "two")]

    async def test_answer_that_the_database_gives_up_is_run_again_at_once(self, line: Line) -> None:
        async def applying(step: str, attempt: int) -> None:
            if len(line.applied) < RUNS:
                raise asyncpg.DeadlockDetectedError("deadlock detected")

        line.applying = applying
        job = await line.plan("preview", 12)
        worker = RecordWorker(line.services, line.queue(), [], {}, {"t.pixel": line._apply})
        assert await worker.apply(await line.answer(job, Outcome.OK)) == "applied"
        assert len(line.applied) == RUNS

    async def test_a_failure_that_the_database_does_not_take_down_ends_no_worker(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        note, refused = jobs.failed, 0

        async def failed(tx: Transaction, job_id: UUID, attempt: int, reason: str, *, final: bool) -> None:
            nonlocal refused
            refused += 1
            if refused == 1:
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            await note(tx, job_id, attempt, reason, final=final)

        async def applying(step: str, attempt: int) -> None:
            if attempt == 1:
                raise RuntimeError("not foreseen")

        monkeypatch.setattr(jobs, "failed", failed)
        line.applying = applying
        await line.start()
        assert (await line.ends(await line.plan("preview", 10))).attempt == 2
        assert refused == 2

    async def test_refusal_that_would_park_the_attempt_after_it_is_late(self, line: Line) -> None:
        async def set_aside(tx: Transaction, job: JobRow, result: Result) -> Outcome:
            return Outcome.LOST

        job = await line.plan("preview", 11)
        async with line.services.db.transaction() as tx:
            await jobs.failed(tx, job, 1, "test", final=False)
        waiting = await line.row(job)
        worker = RecordWorker(line.services, line.queue(), [], {}, {"t.pixel": set_aside})
        assert await worker.apply(await line.answer(job, Outcome.REFUSED)) == "late"
        assert await line.row(job) == waiting

    async def test_answer_with_a_wrong_mac_changes_nothing(self, line: Line, db: Database) -> None:
        job = await line.plan("preview", 6)
        forged = msgspec.structs.replace(await line.answer(job, Outcome.OK), mac=b"0" * 32)
        worker = RecordWorker(line.services, line.queue(), [], {}, {"t.pixel": line._apply})
        assert await worker.apply(forged) == "forged"
        assert (await line.row(job)).state is JobState.QUEUED
        assert line.applied == []
        async with db.transaction() as tx:
            assert [a.rule for a in await alerts.open_alerts(tx)] == ["result-forged"]


class TestRecordJob:
    async def test_runs_and_closes(self, line: Line) -> None:
        await line.start()
        await line.ends(await line.plan("record", 1))
        assert line.ran == [("record", 1, 1)]

    async def test_final_error_is_parked_and_replayed_by_command(self, line: Line, db: Database) -> None:
        broken = True

        async def behave(step: str, number: int, attempt: int) -> None:
            if broken:
                raise Bad()

        line.behave = behave
        await line.start()
        job = await line.plan("record", 2)
        await line.ends(job, JobState.PARKED)
        assert line.ran == []
        broken = False
        async with db.transaction() as tx:
            assert await jobs.replay(tx, job, None) == [job]
        await line.ends(job)
        assert line.ran == [("record", 2, 2)]

    async def test_a_crash_is_tried_again(self, line: Line) -> None:
        async def behave(step: str, number: int, attempt: int) -> None:
            if attempt == 1:
                raise RuntimeError("not foreseen")

        line.behave = behave
        await line.start()
        row = await line.ends(await line.plan("record", 3))
        assert row.attempt == 2

    async def test_work_that_the_database_gives_up_costs_no_attempt(self, line: Line) -> None:
        tried = 0

        async def behave(step: str, number: int, attempt: int) -> None:
            nonlocal tried
            tried += 1
            if tried == 1:
                async with line.services.db.transaction() as tx:
                    await tx.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

        line.behave = behave
        await line.start()
        await line.ends(await line.plan("record", 5, attempts=1))
        assert line.ran == [("record", 5, 1)]

    async def test_unknown_kind_waits_for_a_worker_that_knows_it(self, line: Line) -> None:
        handlers, line.handlers = line.handlers, {}
        await line.start()
        job = await line.plan("record", 4)
        await line.ends(job, JobState.PUBLISHED)
        await asyncio.sleep(0.3)
        assert (await line.row(job)).state is JobState.PUBLISHED
        newer = RecordWorker(line.services, line.queue(), [(QUICK["record"], 1)], handlers, {})
        line._tasks.append(asyncio.create_task(newer.run(line._stop, 5)))
        await line.ends(job)
        assert line.ran == [("record", 4, 1)]


class TestQueueLoss:
    async def test_lost_streams_converge_from_the_rows(self, line: Line) -> None:
        await line.start(dispatch=True)
        first = await line.plan("record", 1)
        await line.ends(first)

        async def slow(step: str, number: int, attempt: int) -> None:
            await asyncio.sleep(0.05)

        line.behave = slow
        wanted = [await line.plan("preview", number, uuid4()) for number in range(40)]
        await asyncio.sleep(0.3)
        await line._queues[0].js.delete_stream(f"JOBS-{line.region}")
        await line._queues[0].js.delete_stream(f"RESULTS-{line.region}")
        for job in wanted:
            await line.ends(job)
        assert {job for job, step in line.applied if step == "two"} >= set(wanted)
        assert len([entry for entry in line.applied if entry[1] == "two"]) == len(wanted)


def test_deliveries_before_parking_are_few() -> None:
    """A job that kills its worker may kill this many."""
    assert MAX_DELIVERIES == 3

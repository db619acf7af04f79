"""Jobs as rows: planned once, superseded, held back, handed out fairly, parked and replayed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from app.kernel import alerts, jobs
from app.kernel.db import Database, Transaction
from app.kernel.jobs import Applied, JobKind, JobRow, JobState, Plan
from base.jobs import Outcome, Result, signed

KIND = JobKind(name="t.kind", lane="record", time_limit_s=5, max_attempts=3)


class Empty(msgspec.Struct, frozen=True):
    pass


async def plan(tx: Transaction, **fields: Any) -> UUID | None:
    return await jobs.plan(tx, KIND, Plan(kind=KIND.name, payload=Empty(), **fields), "home", None)


async def due(tx: Transaction, in_flight: int = 100, per_owner: int = 100) -> list[UUID]:
    return [row.id for row in await jobs.due(tx, "home", "record", in_flight=in_flight, per_owner=per_owner)]


async def publish(tx: Transaction, **bounds: int) -> list[UUID]:
    limits = {"in_flight": 100, "per_owner": 100, **bounds}
    rows = await jobs.due(tx, "home", "record", in_flight=limits["in_flight"], per_owner=limits["per_owner"])
    await jobs.mark_published(tx, rows)
    return [row.id for row in rows]


async def state(tx: Transaction, job: UUID) -> str:
    return str(await tx.value("SELECT state FROM jobs WHERE id = $1", job))


class TestPlan:
    async def test_same_work_is_planned_once_while_unfinished(self, db: Database) -> None:
        async with db.transaction() as tx:
            first = await plan(tx, dedupe="d")
            assert first is not None
            assert await plan(tx, dedupe="d") is None
            await jobs.finish(tx, first)
            assert await plan(tx, dedupe="d") is not None

    async def test_newer_cancels_older_that_is_not_out_yet(self, db: Database) -> None:
        async with db.transaction() as tx:
            out = await plan(tx, supersede="crop")
            await publish(tx)
            older = await plan(tx, supersede="crop")
            newer = await plan(tx, supersede="crop")
            assert [await state(tx, j) for j in (out, older, newer) if j is not None] == [
                "published",
                "cancelled",
                "queued",
            ]

    async def test_not_before_is_waited_for(self, db: Database) -> None:
        async with db.transaction() as tx:
            await plan(tx, not_before=datetime.now(UTC) + timedelta(hours=1))
            now = await plan(tx)
            assert await due(tx) == [now]


class TestDue:
    async def test_one_owner_with_thousands_does_not_delay_another(self, db: Database) -> None:
        crowd, single = uuid4(), uuid4()
        async with db.transaction() as tx:
            for _ in range(3_000):
                await plan(tx, owner_id=crowd)
            first = await plan(tx, owner_id=single)
            handed = await due(tx, in_flight=64, per_owner=8)
        assert first in handed[:2]
        assert len(handed) == 9

    async def test_turns_go_round(self, db: Database) -> None:
        owners = [uuid4() for _ in range(3)]
        async with db.transaction() as tx:
            planned = {owner: [await plan(tx, owner_id=owner) for _ in range(4)] for owner in owners}
            handed = await due(tx, in_flight=6, per_owner=4)
        assert [sum(job in planned[owner] for job in handed) for owner in owners] == [2, 2, 2]

    async def test_lane_is_bounded(self, db: Database) -> None:
        async with db.transaction() as tx:
            for _ in range(10):
                await plan(tx, owner_id=uuid4())
            assert len(await publish(tx, in_flight=4)) == 4
            assert await publish(tx, in_flight=4) == []
            assert len(await publish(tx, in_flight=7)) == 3

    async def test_work_of_nobody_is_not_throttled_as_one_owner(self, db: Database) -> None:
        async with db.transaction() as tx:
            for _ in range(10):
                await plan(tx)
            assert len(await due(tx, per_owner=2)) == 10

    async def test_held_lane_hands_out_nothing(self, db: Database) -> None:
        async with db.transaction() as tx:
            await plan(tx)
            await jobs.hold(tx, "home", "record")
            assert await due(tx) == []
            assert (await jobs.survey(tx))[0].held
            await jobs.release(tx, "home", "record")
            assert len(await due(tx)) == 1


class TestStale:
    async def test_unanswered_is_the_next_attempt_then_parked(self, db: Database) -> None:
        async with db.transaction() as tx:
            job = await plan(tx)
        assert job is not None
        for attempt in (1, 2, 3):
            async with db.transaction() as tx:
                assert await publish(tx) == [job]
                row = await jobs.lock(tx, job)
            assert row is not None
            assert row.attempt == attempt
            async with db.transaction() as tx:
                assert await jobs.requeue_stale(tx, "home", "record", 0) == 1
        async with db.transaction() as tx:
            assert await state(tx, job) == "parked"
            raised = await alerts.open_alerts(tx)
        assert [(a.rule, a.detail) for a in raised] == [("job-parked", "unanswered")]

    async def test_young_ones_are_left_alone(self, db: Database) -> None:
        async with db.transaction() as tx:
            await plan(tx)
            await publish(tx)
            assert await jobs.requeue_stale(tx, "home", "record", 60) == 0

    async def test_lost_stream_costs_no_attempt(self, db: Database) -> None:
        async with db.transaction() as tx:
            job = await plan(tx)
            await publish(tx)
        async with db.transaction() as tx:
            assert job is not None
            assert await jobs.requeue_lost(tx, "home", "record", datetime.now(UTC)) == 1
            row = await jobs.lock(tx, job)
        assert row is not None
        assert (row.state, row.attempt) == (JobState.QUEUED, 1)


class TestReplay:
    async def test_parked_work_gets_fresh_attempts(self, db: Database) -> None:
        async with db.transaction() as tx:
            job = await plan(tx, dedupe="d")
            assert job is not None
            row = await jobs.lock(tx, job)
            assert row is not None
            await jobs.park(tx, row, "bad")
            assert await jobs.replay(tx, None, KIND.name) == [job]
            row = await jobs.lock(tx, job)
        assert row is not None
        assert (row.state, row.attempt, row.max_attempts) == (JobState.QUEUED, 2, 4)

    async def test_work_planned_anew_is_not_doubled(self, db: Database) -> None:
        async with db.transaction() as tx:
            job = await plan(tx, dedupe="d")
            assert job is not None
            row = await jobs.lock(tx, job)
            assert row is not None
            await jobs.park(tx, row, "bad")
            await plan(tx, dedupe="d")
            assert await jobs.replay(tx, job, None) == []


class TestAlerts:
    async def test_same_rule_and_subject_merge_until_closed(self, db: Database) -> None:
        async with db.transaction() as tx:
            for _ in range(3):
                await alerts.alert(tx, "r", alerts.Severity.WARNING, "s")
            await alerts.alert(tx, "r", alerts.Severity.WARNING, "other")
            found = {a.subject: a for a in await alerts.open_alerts(tx)}
            assert found["s"].count == 3
            assert await alerts.close(tx, found["s"].id)
            assert not await alerts.close(tx, found["s"].id)
            await alerts.alert(tx, "r", alerts.Severity.WARNING, "s")
            assert {a.subject: a.count for a in await alerts.open_alerts(tx)} == {"s": 1, "other": 1}


class Answers:
    """One published job, and its answers as a worker would sign them."""

    KEY = b"k" * 32

    def __init__(self, db: Database, job: UUID) -> None:
        self.db, self.job = db, job
        self.applied: list[tuple[str, Outcome]] = []
        self.closes_by: Outcome | None = None
        self.appliers: dict[str, jobs.Applier] = {KIND.name: self._apply}

    @classmethod
    async def to_a_new_job(cls, db: Database) -> "Answers":
        async with db.transaction() as tx:
            job = await plan(tx)
            await publish(tx)
        assert job is not None
        return cls(db, job)

    async def row(self) -> JobRow:
        async with self.db.transaction() as tx:
            row = await jobs.lock(tx, self.job)
        assert row is not None
        return row

    async def give(self, outcome: Outcome, step: str = "one", attempt: int = 1, *, last: bool = True) -> Applied:
        result = Result(
            job_id=self.job,
            kind=KIND.name,
            attempt=attempt,
            step=step,
            index=("one", "two").index(step),
            last=last,
            outcome=outcome,
            reason=None if outcome is Outcome.OK else "test",
            ms=1,
            engine=None,
            body=b"{}",
        )
        nonce = (await self.row()).nonce
        async with self.db.transaction() as tx:
            return await jobs.apply(tx, self.KEY, signed(self.KEY, nonce, result), self.appliers)

    async def _apply(self, tx: Transaction, job: JobRow, result: Result) -> Outcome | None:
        self.applied.append((result.step, result.outcome))
        return self.closes_by


class TestApply:
    """Answers in the orders that lost acknowledgements and dying workers make."""

    @pytest.mark.parametrize("before", [Outcome.FAILED, Outcome.LOST])
    async def test_success_after_another_answer_of_its_attempt_is_applied(self, db: Database, before: Outcome) -> None:
        """The message came again after its answer, and this time the work went well."""
        answers = await Answers.to_a_new_job(db)
        await answers.give(before)
        assert await answers.give(Outcome.OK) is Applied.APPLIED
        assert answers.applied[-1] == ("one", Outcome.OK)
        assert (await answers.row()).state is JobState.DONE

    async def test_success_is_applied_once_over_two_attempts(self, db: Database) -> None:
        answers = await Answers.to_a_new_job(db)
        assert await answers.give(Outcome.OK, last=False) is Applied.APPLIED
        assert await answers.give(Outcome.OK, attempt=2, last=False) is Applied.REPEATED
        assert answers.applied == [("one", Outcome.OK)]

    async def test_killed_after_a_recorded_step_is_parked(self, db: Database) -> None:
        """The message was written before that step was recorded, so the answer names the step as undone."""
        answers = await Answers.to_a_new_job(db)
        await answers.give(Outcome.OK, last=False)
        assert await answers.give(Outcome.LOST) is Applied.APPLIED
        assert (await answers.row()).state is JobState.PARKED

    async def test_failed_after_a_recorded_step_is_tried_again(self, db: Database) -> None:
        answers = await Answers.to_a_new_job(db)
        await answers.give(Outcome.OK, last=False)
        assert await answers.give(Outcome.FAILED) is Applied.APPLIED
        row = await answers.row()
        assert (row.state, row.attempt) == (JobState.QUEUED, 2)

    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST])
    async def test_an_older_attempts_failure_does_not_end_the_newer(self, db: Database, outcome: Outcome) -> None:
        answers = await Answers.to_a_new_job(db)
        await answers.give(Outcome.FAILED)
        assert await answers.give(outcome) is Applied.LATE
        row = await answers.row()
        assert (row.state, row.attempt) == (JobState.QUEUED, 2)

    @pytest.mark.parametrize("before", [Outcome.FAILED, Outcome.LOST])
    async def test_a_refusal_that_would_park_does_nothing_once_its_attempt_is_over(
        self, db: Database, before: Outcome
    ) -> None:
        answers = await Answers.to_a_new_job(db)
        await answers.give(before)
        waiting = await answers.row()
        answers.closes_by = Outcome.LOST
        with pytest.raises(jobs.AttemptOver):
            await answers.give(Outcome.REFUSED, "two")
        assert await answers.row() == waiting
        async with db.transaction() as tx:
            assert [a.count for a in await alerts.open_alerts(tx)] == [1] * (before is Outcome.LOST)
            assert await tx.value("SELECT count(*) FROM step_runs WHERE step = 'two'") == 0

    async def test_an_older_attempts_refusal_ends_the_job(self, db: Database) -> None:
        answers = await Answers.to_a_new_job(db)
        await answers.give(Outcome.FAILED)
        assert await answers.give(Outcome.REFUSED) is Applied.APPLIED
        assert (await answers.row()).state is JobState.DONE

    async def test_lost_twice_raises_one_alert(self, db: Database) -> None:
        answers = await Answers.to_a_new_job(db)
        assert await answers.give(Outcome.LOST) is Applied.APPLIED
        assert await answers.give(Outcome.LOST) is Applied.LATE
        async with db.transaction() as tx:
            assert [a.count for a in await alerts.open_alerts(tx)] == [1]

    async def test_a_step_is_not_waited_for_once_its_attempt_is_over(self, db: Database) -> None:
        """The step before it could not be applied: this answer would come for ever."""
        answers = await Answers.to_a_new_job(db)
        assert await answers.give(Outcome.OK, "two") is Applied.EARLY
        async with db.transaction() as tx:
            await jobs.failed(tx, answers.job, 1, "test", final=False)
        assert await answers.give(Outcome.OK, "two") is Applied.LATE
        assert await answers.give(Outcome.OK, "two", attempt=2) is Applied.EARLY
        async with db.transaction() as tx:
            await jobs.failed(tx, answers.job, 2, "test", final=True)
        assert await answers.give(Outcome.OK, "two", attempt=2) is Applied.LATE
        assert answers.applied == []

    async def test_a_kind_that_is_newer_than_the_process_waits_for_one_that_knows_it(self, db: Database) -> None:
        answers = await Answers.to_a_new_job(db)
        known, answers.appliers = answers.appliers, {}
        assert await answers.give(Outcome.OK) is Applied.EARLY
        answers.appliers = known
        assert await answers.give(Outcome.OK) is Applied.APPLIED

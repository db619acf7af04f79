"""Jobs: the consequences of facts, as rows. The row is the job; it is finished only when its result is applied.

Planned in the transaction of the fact (`spine.py`), handed out by a region's dispatcher, answered by workers. Every
function here is one statement or a few in the caller's transaction.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from app.kernel import alerts
from app.kernel.db import Transaction
from app.kernel.states import Machine
from base import telemetry
from base.ids import new_id
from base.jobs import Outcome, Result, is_genuine

log = telemetry.logger(__name__)

NOBODY: Final = UUID(int=0)
BACKOFF_S: Final = (1, 5, 30, 120, 600)


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    PUBLISHED = "published"
    DONE = "done"
    PARKED = "parked"
    CANCELLED = "cancelled"


_Q, _P, _D, _X, _C = JobState.QUEUED, JobState.PUBLISHED, JobState.DONE, JobState.PARKED, JobState.CANCELLED
MACHINE: Final[Machine[JobState]] = Machine(
    "job",
    "jobs",
    {_Q: None},
    {
        (_Q, _P): None,
        (_Q, _D): None,  # the answer came before the dispatcher could mark the row
        (_Q, _X): None,
        (_Q, _C): None,
        (_P, _Q): None,  # tried again, or published too long ago
        (_P, _D): None,
        (_P, _X): None,
        (_P, _C): None,
        (_X, _Q): None,  # replayed by an operator
        (_X, _D): None,  # a late answer is still an answer
        (_X, _C): None,  # what it was for is over
    },
)


class JobKind(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of job needs: its lane, how long one attempt may run, how many attempts before it is parked."""

    name: str
    lane: str
    time_limit_s: int
    max_attempts: int = 5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be planned. `dedupe` is unique while unfinished; `supersede` cancels older unpublished ones."""

    kind: str
    payload: msgspec.Struct
    owner_id: UUID | None = None
    region: str | None = None
    dedupe: str | None = None
    supersede: str | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job as stored."""

    id: UUID
    kind: str
    region: str
    lane: str
    owner_id: UUID | None
    payload: bytes
    state: JobState
    attempt: int
    max_attempts: int
    time_limit_s: int
    nonce: bytes
    cause: UUID | None
    deadline: datetime | None
    traceparent: str | None
    last_reason: str | None


# Called for ok, refused and lost answers, never for failed ones; a lost one has no body. Tells by which outcome the job
# is to be closed, if not by the answer's own.
Applier = Callable[[Transaction, JobRow, Result], Awaitable[Outcome | None]]

_FIELDS: Final = """id, kind, region, lane, owner_id, payload::text AS payload, state, attempt, max_attempts,
    time_limit_s, nonce, cause, deadline, traceparent, last_reason"""

SUPERSEDE: Final = (
    "UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE supersede_key = $1 AND state = 'queued'"
)
INSERT: Final = """
INSERT INTO jobs (id, kind, region, lane, owner_id, share, payload, dedupe_key, supersede_key, not_before, deadline,
                  max_attempts, time_limit_s, nonce, cause, traceparent, state)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, coalesce($10, now()), $11, $12, $13, $14, $15, $16, 'queued')
ON CONFLICT (dedupe_key) WHERE state IN ('queued', 'published') DO NOTHING
RETURNING id
"""


async def plan(tx: Transaction, kind: JobKind, wanted: Plan, region: str, cause: UUID | None) -> UUID | None:
    """Write the row and wake the region's dispatcher after the commit; None when the same work is already planned."""
    if wanted.supersede is not None:
        await tx.execute(SUPERSEDE, wanted.supersede)
    job_id: UUID | None = await tx.value(
        INSERT,
        new_id(),
        kind.name,
        region,
        kind.lane,
        wanted.owner_id,
        wanted.owner_id or NOBODY,
        msgspec.json.encode(wanted.payload).decode(),
        wanted.dedupe,
        wanted.supersede,
        wanted.not_before,
        wanted.deadline,
        kind.max_attempts,
        kind.time_limit_s,
        secrets.token_bytes(16),
        cause,
        telemetry.traceparent(),
    )
    if job_id is not None:
        tx.wake_after_commit(f"jobs:{region}")
    return job_id


INSERT_MANY: Final = """
INSERT INTO jobs (id, kind, region, lane, share, payload, not_before, max_attempts, time_limit_s, nonce, traceparent,
                  state)
SELECT p.id, $5, $6, $7, $8, p.payload::jsonb, now(), $9, $10, p.nonce, p.traceparent, 'queued'
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[]) AS p (id, payload, nonce, traceparent)
"""


async def plan_many(
    tx: Transaction, kind: JobKind, wanted: Sequence[tuple[msgspec.Struct, str | None]], region: str
) -> None:
    """Write a row for each payload, with the `traceparent` it came under: nobody's work, to be done at once."""
    await tx.execute(
        INSERT_MANY,
        [new_id() for _ in wanted],
        [msgspec.json.encode(payload).decode() for payload, _ in wanted],
        [secrets.token_bytes(16) for _ in wanted],
        [traceparent for _, traceparent in wanted],
        kind.name,
        region,
        kind.lane,
        NOBODY,
        kind.max_attempts,
        kind.time_limit_s,
    )
    tx.wake_after_commit(f"jobs:{region}")


CLAIM: Final = f"""
WITH RECURSIVE shares AS (
    (SELECT share FROM jobs WHERE state = 'queued' AND region = $1 AND lane = $2 ORDER BY share LIMIT 1)
    UNION ALL
    SELECT (SELECT j.share FROM jobs j
            WHERE j.state = 'queued' AND j.region = $1 AND j.lane = $2 AND j.share > s.share ORDER BY j.share LIMIT 1)
    FROM shares s WHERE s.share IS NOT NULL
), busy AS (
    SELECT share, count(*) AS n FROM jobs WHERE state = 'published' AND region = $1 AND lane = $2 GROUP BY share
)
SELECT {_FIELDS} FROM shares s LEFT JOIN busy b USING (share)
CROSS JOIN LATERAL (
    SELECT j.*, row_number() OVER (ORDER BY j.not_before, j.position) AS turn FROM (
        SELECT * FROM jobs
        WHERE state = 'queued' AND region = $1 AND lane = $2 AND share = s.share AND not_before <= now()
        ORDER BY not_before, position
        LIMIT CASE WHEN s.share = '00000000-0000-0000-0000-000000000000' THEN $4::int
                   ELSE greatest(0, $3::int - coalesce(b.n, 0)) END
    ) j
) j
WHERE s.share IS NOT NULL
ORDER BY j.turn, j.not_before, j.position
LIMIT $4::int
"""  # noqa: S608
IN_FLIGHT: Final = "SELECT count(*) FROM jobs WHERE state = 'published' AND region = $1 AND lane = $2"
HELD: Final = "SELECT EXISTS (SELECT FROM lane_holds WHERE region = $1 AND lane = $2)"


async def due(tx: Transaction, region: str, lane: str, *, in_flight: int, per_owner: int) -> list[JobRow]:
    """Rows to publish now: oldest first in turns of one an owner, within the lane's bounds; none while it is held.

    One dispatcher a region calls this (it holds the region's advisory lock), so no row lock is taken.
    """
    if await tx.value(HELD, region, lane):
        return []
    room = in_flight - int(await tx.value(IN_FLIGHT, region, lane))
    if room <= 0:
        return []
    return [_row(r) for r in await tx.fetch(CLAIM, region, lane, per_owner, room)]


MARK: Final = """
UPDATE jobs SET state = 'published', published_at = now() FROM unnest($1::uuid[], $2::int[]) AS p (id, attempt)
WHERE jobs.id = p.id AND jobs.attempt = p.attempt AND jobs.state = 'queued'
"""


async def mark_published(tx: Transaction, rows: Sequence[JobRow]) -> int:
    """Note that the broker has these; rows that were answered or cancelled meanwhile stay as they are."""
    return await tx.execute(MARK, [r.id for r in rows], [r.attempt for r in rows])


STEPS_DONE: Final = "SELECT job_id, step FROM step_runs WHERE job_id = ANY($1::uuid[]) AND outcome = 'ok'"


async def steps_done(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, tuple[str, ...]]:
    """For each job, the steps whose results are recorded."""
    found: dict[UUID, tuple[str, ...]] = {}
    for row in await tx.fetch(STEPS_DONE, list(ids)):
        found[row["job_id"]] = (*found.get(row["job_id"], ()), row["step"])
    return found


REQUEUE_LOST: Final = """
UPDATE jobs SET state = 'queued' WHERE state = 'published' AND region = $1 AND lane = $2 AND published_at < $3
"""
STALE: Final = f"""
SELECT {_FIELDS} FROM jobs
WHERE state = 'published' AND region = $1 AND lane = $2 AND published_at < now() - make_interval(secs => $3)
ORDER BY published_at LIMIT 500 FOR UPDATE SKIP LOCKED
"""  # noqa: S608
REQUEUE: Final = """
UPDATE jobs SET state = 'queued', attempt = attempt + 1, last_reason = $3,
       not_before = coalesce(now() + make_interval(secs => $2), not_before)
WHERE id = $1
"""


async def requeue_lost(tx: Transaction, region: str, lane: str, published_before: datetime) -> int:
    """The broker lost its stream: everything published before it was made again is due again, same attempt."""
    return await tx.execute(REQUEUE_LOST, region, lane, published_before)


async def requeue_stale(tx: Transaction, region: str, lane: str, age_s: int) -> int:
    """Rows published too long ago are due again as the next attempt, since when they were; or parked after the last."""
    rows = [_row(r) for r in await tx.fetch(STALE, region, lane, float(age_s))]
    for row in rows:
        await _again_or_park(tx, row, "unanswered", None)
    return len(rows)


PARK: Final = "UPDATE jobs SET state = 'parked', last_reason = $2, finished_at = now() WHERE id = $1"


async def park(tx: Transaction, row: JobRow, reason: str) -> None:
    """Set a job aside and tell an operator."""
    await tx.execute(PARK, row.id, reason)
    await alerts.alert(tx, "job-parked", alerts.Severity.ERROR, f"{row.kind}:{row.id}", detail=reason)


async def _again_or_park(tx: Transaction, row: JobRow, reason: str, delay_s: int | None) -> None:
    """`delay_s` None: as due as it was, so that its age tells for how long nobody has done it."""
    if row.attempt >= row.max_attempts:
        await park(tx, row, reason)
        return
    await tx.execute(REQUEUE, row.id, None if delay_s is None else float(delay_s), reason)
    tx.wake_after_commit(f"jobs:{row.region}")


LOCK: Final = f"SELECT {_FIELDS} FROM jobs WHERE id = $1 FOR UPDATE"  # noqa: S608
FINISH: Final = """
UPDATE jobs SET state = 'done', outcome = $2, last_reason = $3, finished_at = now()
WHERE id = $1 AND state <> 'cancelled'  -- superseded while it ran
"""
STEPS_BEFORE: Final = "SELECT count(*) FROM step_runs WHERE job_id = $1 AND outcome = 'ok'"
STEP: Final = """
INSERT INTO step_runs AS run (job_id, step, attempt, outcome, reason, ms, engine, body, trace_id)
SELECT $1, $2, $3, $4::text, $5, $6, $7, $8::jsonb, $9
WHERE $4::text <> 'ok' OR NOT EXISTS (SELECT FROM step_runs WHERE job_id = $1 AND step = $2 AND outcome = 'ok')
ON CONFLICT (job_id, step, attempt) DO UPDATE
SET outcome = excluded.outcome, reason = excluded.reason, ms = excluded.ms, engine = excluded.engine,
    body = excluded.body, trace_id = excluded.trace_id, recorded_at = now()
WHERE run.outcome <> 'ok' AND excluded.outcome = 'ok'
RETURNING job_id
"""


class AttemptOver(Exception):
    """The answer would set aside a job that no longer waits for its attempt: nothing of it counts."""


class Applied(StrEnum):
    """What became of a result."""

    APPLIED = "applied"
    REPEATED = "repeated"
    LATE = "late"
    EARLY = "early"
    UNKNOWN = "unknown"
    FORGED = "forged"
    FAILED = "failed"


async def lock(tx: Transaction, job_id: UUID) -> JobRow | None:
    """The job's row, locked until the transaction ends."""
    row = await tx.one(LOCK, job_id)
    return None if row is None else _row(row)


async def finish(tx: Transaction, job_id: UUID, outcome: Outcome = Outcome.OK, reason: str | None = None) -> None:
    """Mark a job done, in the transaction that applied its result."""
    await tx.execute(FINISH, job_id, outcome.value, reason)


async def apply(tx: Transaction, key: bytes, result: Result, appliers: Mapping[str, Applier]) -> Applied:
    """Apply one result exactly once, with everything it changes, in the caller's transaction.

    `EARLY` means a step before it is not applied yet, or that this process is older than the kind: offer it again a
    little later. Raises `AttemptOver`: undo the transaction, the answer is late.
    """
    row = await lock(tx, result.job_id)
    if row is None or row.kind != result.kind:
        return Applied.UNKNOWN
    if not is_genuine(key, row.nonce, result):
        await alerts.alert(tx, "result-forged", alerts.Severity.CRITICAL, f"{row.kind}:{row.id}")
        return Applied.FORGED
    if row.state in (JobState.DONE, JobState.CANCELLED):
        return Applied.LATE
    if row.kind not in appliers or (
        result.outcome is Outcome.OK and await tx.value(STEPS_BEFORE, row.id) < result.index
    ):
        return Applied.EARLY if _may_end_attempt(row, result) else Applied.LATE
    if result.outcome in (Outcome.FAILED, Outcome.LOST) and not _may_end_attempt(row, result):
        return Applied.LATE
    if await _record_step(tx, result) is None and result.outcome is Outcome.OK:
        return await _repeated(tx, row, result)
    if result.outcome is Outcome.FAILED:
        await _again_or_park(tx, row, result.reason or "failed", _delay(row.attempt))
        return Applied.APPLIED
    outcome = await appliers[row.kind](tx, row, result)
    await _close(tx, row, result, outcome or result.outcome)
    return Applied.APPLIED


def _may_end_attempt(row: JobRow, result: Result) -> bool:
    """Whether the row still waits for this attempt: an older one must not end the newer, nor be waited for."""
    return result.attempt == row.attempt and row.state is not JobState.PARKED


async def _record_step(tx: Transaction, result: Result) -> Any:
    trace = result.traceparent.split("-")[1] if result.traceparent else None
    return await tx.value(
        STEP,
        result.job_id,
        result.step,
        result.attempt,
        result.outcome.value,
        result.reason,
        result.ms,
        result.engine,
        result.body.decode() or "{}",
        trace,
    )


async def _repeated(tx: Transaction, row: JobRow, result: Result) -> Applied:
    """The step was applied before; its attempt may still have to be closed."""
    if result.last:
        await finish(tx, row.id)
    return Applied.REPEATED


async def _close(tx: Transaction, row: JobRow, result: Result, outcome: Outcome) -> None:
    if outcome is Outcome.LOST:
        if not _may_end_attempt(row, result):
            raise AttemptOver()
        await park(tx, row, result.reason or "worker-lost")
    elif result.last or outcome is Outcome.REFUSED:
        await finish(tx, row.id, outcome, result.reason)


def _delay(attempt: int) -> int:
    return BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1]


async def failed(tx: Transaction, job_id: UUID, attempt: int, reason: str, *, final: bool) -> None:
    """A job's attempt ended with an error of ours: try again later, or park it when `final` or out of attempts."""
    row = await lock(tx, job_id)
    if row is None or row.attempt != attempt or row.state not in (JobState.QUEUED, JobState.PUBLISHED):
        return
    if final:
        await park(tx, row, reason)
        return
    await _again_or_park(tx, row, reason, _delay(attempt))


WITHDRAW: Final = """
UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id IN (
    SELECT id FROM jobs WHERE dedupe_key = ANY($1::text[]) AND state IN ('queued', 'parked') FOR UPDATE SKIP LOCKED)
RETURNING id, kind
"""


async def withdraw(tx: Transaction, dedupe_keys: Sequence[str]) -> None:
    """Cancel work that nobody has begun, or that was set aside: what it was for is over. What runs ends by itself."""
    for row in await tx.fetch(WITHDRAW, list(dedupe_keys)):
        await alerts.settle(tx, "job-parked", f"{row['kind']}:{row['id']}")


FORGET_STEPS: Final = "UPDATE step_runs SET body = '{}' WHERE job_id = ANY($1::uuid[])"
FORGET_DIGESTS: Final = """
UPDATE jobs SET payload = jsonb_set(payload, '{sha256}', 'null') WHERE id = ANY($1::uuid[]) AND payload ? 'sha256'
"""
OF_OWNER: Final = """
SELECT id, state IN ('queued', 'published') AND kind = ANY($2::text[]) AS needed FROM jobs WHERE owner_id = $1
FOR UPDATE SKIP LOCKED
"""


async def forget(tx: Transaction, job_id: UUID) -> None:
    """Empty what a job told of a picture, and the digest by which it knew it; that it ran, and how long, stays."""
    await tx.execute(FORGET_STEPS, [job_id])
    await tx.execute(FORGET_DIGESTS, [job_id])


async def forget_owner(tx: Transaction, owner_id: UUID, bound: Sequence[str] = ()) -> None:
    """`forget` for all jobs of an owner, but for those whose answer is being applied just now.

    Jobs of `bound` kinds cannot be read without the digest: unfinished ones keep it. Whoever applies an answer about an
    erased photo must `forget` its job.
    """
    rows = await tx.fetch(OF_OWNER, owner_id, list(bound))
    await tx.execute(FORGET_STEPS, [row["id"] for row in rows])
    await tx.execute(FORGET_DIGESTS, [row["id"] for row in rows if not row["needed"]])


REPLAY: Final = """
UPDATE jobs SET state = 'queued', attempt = attempt + 1, max_attempts = max_attempts + attempt, not_before = now(),
       finished_at = NULL
WHERE state = 'parked' AND (id = $1 OR $1 IS NULL) AND ($2::text IS NULL OR kind = $2)
  AND NOT EXISTS (SELECT FROM jobs o WHERE o.dedupe_key = jobs.dedupe_key AND o.state IN ('queued', 'published'))
RETURNING id, region
"""


async def replay(tx: Transaction, job_id: UUID | None, kind: str | None) -> list[UUID]:
    """Queue parked jobs again with fresh attempts; one whose work is already planned anew stays parked."""
    rows = await tx.fetch(REPLAY, job_id, kind)
    for region in {r["region"] for r in rows}:
        tx.wake_after_commit(f"jobs:{region}")
    return [r["id"] for r in rows]


HOLD: Final = "INSERT INTO lane_holds (region, lane) VALUES ($1, $2) ON CONFLICT DO NOTHING"
RELEASE: Final = "DELETE FROM lane_holds WHERE region = $1 AND lane = $2"


async def hold(tx: Transaction, region: str, lane: str) -> None:
    """Hand out no more jobs of a lane (draining); running ones end."""
    await tx.execute(HOLD, region, lane)


async def release(tx: Transaction, region: str, lane: str) -> None:
    """End a hold."""
    await tx.execute(RELEASE, region, lane)
    tx.wake_after_commit(f"jobs:{region}")


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as an operator or an autoscaler sees it; ages in whole seconds.

    `predicted_wait_s` is how long a job planned now would wait at the pace of the last minute; -1 when nothing moved.
    """

    region: str
    lane: str
    queued: int
    published: int
    parked: int
    oldest_s: int
    predicted_wait_s: int
    held: bool


SURVEY: Final = """
SELECT region, lane,
       count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE state = 'published') AS published,
       count(*) FILTER (WHERE state = 'parked') AS parked,
       coalesce(extract(epoch FROM now() - min(not_before)
           FILTER (WHERE state IN ('queued', 'published') AND not_before <= now())), 0)::int AS oldest_s,
       CASE WHEN count(*) FILTER (WHERE state = 'queued' AND not_before <= now()) = 0 THEN 0
            WHEN min(pace.n) IS NULL THEN -1
            ELSE (60 * count(*) FILTER (WHERE state = 'queued' AND not_before <= now()) / min(pace.n))::int
       END AS predicted_wait_s,
       EXISTS (SELECT FROM lane_holds h WHERE h.region = jobs.region AND h.lane = jobs.lane) AS held
FROM jobs LEFT JOIN (
    SELECT region, lane, count(*) AS n FROM jobs
    WHERE finished_at > now() - interval '1 minute' GROUP BY region, lane
) pace USING (region, lane)
WHERE state IN ('queued', 'published', 'parked') GROUP BY region, lane ORDER BY region, lane
"""
LIST: Final = f"""
SELECT {_FIELDS} FROM jobs
WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR kind = $2) ORDER BY position DESC LIMIT $3
"""  # noqa: S608


async def survey(tx: Transaction) -> list[LaneState]:
    """Depth, age and holds of every lane that has unfinished jobs."""
    return [LaneState(**dict(r)) for r in await tx.fetch(SURVEY)]


async def list_jobs(tx: Transaction, state: JobState | None, kind: str | None, limit: int) -> list[JobRow]:
    """The newest jobs, by state and kind."""
    return [_row(r) for r in await tx.fetch(LIST, state.value if state else None, kind, limit)]


def _row(row: Any) -> JobRow:
    return JobRow(
        id=row["id"],
        kind=row["kind"],
        region=row["region"],
        lane=row["lane"],
        owner_id=row["owner_id"],
        payload=row["payload"].encode(),
        state=JobState(row["state"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        time_limit_s=row["time_limit_s"],
        nonce=row["nonce"],
        cause=row["cause"],
        deadline=row["deadline"],
        traceparent=row["traceparent"],
        last_reason=row["last_reason"],
    )

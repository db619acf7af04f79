"""Record jobs run one by one, as a worker runs them, without a queue."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.kernel.jobs import JobState
from app.services import Services
from tasks import policy

DUE = "SELECT id FROM jobs WHERE kind = ANY($1) AND state = 'queued' AND not_before <= $2 ORDER BY position"


async def due(services: Services, kinds: Sequence[str], now: datetime) -> list[UUID]:
    """Jobs of these kinds whose time has come, in the order of their planning."""
    async with services.db.reading() as db:
        return [row["id"] for row in await db.fetch(DUE, list(kinds), now)]


async def attempt(services: Services, job_id: UUID) -> str | None:
    """One attempt at a job; what went wrong, by code. One that was cancelled or done meanwhile is left alone."""
    async with services.db.transaction() as tx:
        row = await jobs.lock(tx, job_id)
        if row is None or row.state not in (JobState.QUEUED, JobState.PUBLISHED):
            return None
        await jobs.mark_published(tx, [row])
    made = Attempt(row)
    try:
        await HANDLERS[row.kind](services, made)
        if not made.finished:
            async with services.db.transaction() as tx:
                await made.finish(tx)
    except Exception as error:
        async with services.db.transaction() as tx:
            await jobs.failed(tx, row.id, row.attempt, policy.reason(error), final=policy.is_final(error))
        return policy.reason(error)
    return None

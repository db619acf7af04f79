"""What Postgres knows of one trace: the events it told, the jobs it planned and how each of their steps went."""

from datetime import datetime
from typing import Final

import msgspec

from app.kernel.db import Readable


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of a trace: `what` is `event`, `job` or `step`; `state` how it stands; `ms` how long a step took."""

    at: datetime
    what: str
    name: str
    state: str
    ms: int | None


TRACE: Final = """
WITH mine AS (SELECT * FROM jobs WHERE traceparent LIKE '00-' || $1 || '-%')
SELECT occurred_at AS at, 'event' AS what, type AS name, actor AS state, NULL::int AS ms FROM events
WHERE trace_id = $1 AND occurred_at > now() - interval '90 days'
UNION ALL
SELECT created_at, 'job', kind || ' (' || lane || ')',
       state || coalesce(' ' || outcome, '') || coalesce(': ' || last_reason, ''), NULL FROM mine
UNION ALL
SELECT s.recorded_at, 'step', mine.kind || ' ' || s.step, s.outcome || coalesce(': ' || s.reason, ''), s.ms
FROM mine JOIN step_runs s ON s.job_id = mine.id
ORDER BY at, what
LIMIT 1000
"""


async def read(db: Readable, trace_id: str) -> list[Row]:
    """Everything of a trace, in order of time. An operator's question: it scans, so it is not for customers."""
    return [Row(**dict(row)) for row in await db.fetch(TRACE, trace_id)]

"""Lanes whose due jobs nobody takes: every worker of a lane is down, or the dispatcher that hands its jobs out is.

Looked for by the scheduler, which is neither. A lane moves as long as anything of it ends in time; a job that fails is
due later and so is not late. What an operator holds is not stalled.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Transaction
from base.jobs import LANES, Lane, Plane

LATE_S: Final = 300
"""A lane is stalled when a job has been late for so long, and nothing of the lane has ended since it was due."""
LATE: Final = """
SELECT jobs.region, jobs.lane, count(*) AS jobs, extract(epoch FROM now() - min(jobs.not_before))::int AS oldest_s,
       count(*) FILTER (WHERE jobs.state = 'queued') AS queued
FROM jobs JOIN unnest($1::text[], $2::int[]) AS bound (lane, after_s) ON bound.lane = jobs.lane
WHERE jobs.state IN ('queued', 'published') AND jobs.not_before <= now() - make_interval(secs => bound.after_s)
  AND NOT EXISTS (SELECT FROM lane_holds h WHERE h.region = jobs.region AND h.lane = jobs.lane)
GROUP BY jobs.region, jobs.lane
"""
MOVES: Final = """
SELECT EXISTS (SELECT FROM jobs WHERE region = $1 AND lane = $2 AND finished_at > now() - make_interval(secs => $3)
               AND coalesce(last_reason, '') <> 'unanswered')
"""  # what is parked because nobody answered is no sign of life


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """A lane that stands still: its late jobs, how many of them nobody has handed out, the age of the oldest."""

    region: str
    lane: str
    jobs: int
    queued: int
    oldest_s: int


async def look(tx: Transaction, lanes: Mapping[str, Lane] = LANES) -> list[Stalled]:
    """Raise `lane-stalled` once for each lane that stands still, and settle it for those that move again."""
    found = {f"{one.region}/{one.lane}": one for one in await _stalled(tx, lanes)}
    known = await alerts.open_subjects(tx, "lane-stalled")
    for subject in sorted(found.keys() - known):
        one = found[subject]
        severity = Severity.CRITICAL if lanes[one.lane].plane is Plane.RECORD else Severity.ERROR
        detail = f"{one.jobs} jobs, the oldest due for {one.oldest_s} s, {one.queued} of them not handed out"
        await alerts.alert(tx, "lane-stalled", severity, subject, detail=detail)
    for subject in sorted(known - found.keys()):
        await alerts.settle(tx, "lane-stalled", subject)
    return list(found.values())


async def _stalled(tx: Transaction, lanes: Mapping[str, Lane]) -> list[Stalled]:
    after = {lane.name: lane.ttl_s + LATE_S for lane in lanes.values()}
    late = [Stalled(**dict(row)) for row in await tx.fetch(LATE, list(after), list(after.values()))]
    return [one for one in late if not await tx.value(MOVES, one.region, one.lane, float(after[one.lane]))]

"""What an event causes: one literal table. Reading it is reading the workflow."""

from typing import Final

from app.kernel.jobs import JobKind
from app.kernel.spine import Reaction

KINDS: Final[dict[str, JobKind]] = {
    kind.name: kind
    for kind in (
        # Housekeeping, planned by the scheduler.
        JobKind(name="events.partitions", lane="sweep", time_limit_s=30),
    )
}

REACTIONS: Final[dict[str, tuple[Reaction, ...]]] = {}

"""The spine: record a fact's event and, in the same transaction, plan the jobs it causes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from app.kernel import events, jobs
from app.kernel.db import Transaction
from app.kernel.events import Event, Origin, Recorded
from app.kernel.jobs import JobKind, Plan

Planner = Callable[[Transaction, Recorded], Awaitable[Plan | None]]


class Reaction(msgspec.Struct, frozen=True):
    """An event causes a job of this kind; `plan` builds its payload, or None when there is nothing to do."""

    kind: str
    plan: Planner


class Spine:
    """What services use to tell what happened. Holds the reaction table and the job kinds, and no state."""

    def __init__(
        self, region: str, kinds: Mapping[str, JobKind], reactions: Mapping[str, tuple[Reaction, ...]]
    ) -> None:
        self.region, self._kinds, self._reactions = region, kinds, reactions

    async def record(
        self,
        tx: Transaction,
        told: Event,
        *,
        aggregate_id: UUID,
        owner_id: UUID | None,
        origin: Origin,
    ) -> Recorded:
        """Append the event and plan every job the reaction table names for it."""
        recorded = await events.append(tx, told, aggregate_id=aggregate_id, owner_id=owner_id, origin=origin)
        tx.wake_after_commit("events")
        for reaction in self._reactions.get(told.type, ()):
            wanted = await reaction.plan(tx, recorded)
            if wanted is not None:
                await self.plan(tx, wanted, cause=recorded.id)
        return recorded

    async def plan(self, tx: Transaction, wanted: Plan, *, cause: UUID | None) -> UUID | None:
        """Plan one job (a schedule's, or a reaction's); None when the same work is already planned."""
        kind = self._kinds[wanted.kind]
        return await jobs.plan(tx, kind, wanted, wanted.region or self.region, cause)

    async def plan_many(self, tx: Transaction, kind: str, wanted: Sequence[tuple[msgspec.Struct, str | None]]) -> None:
        """Plan a job of one kind for each payload, with the `traceparent` it came under."""
        await jobs.plan_many(tx, self._kinds[kind], wanted, self.region)

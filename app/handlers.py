"""What record workers run: one table for jobs of our own, one for the answers of pixel workers.

A job handler opens its own transactions and finishes the job in the one that applies its effect; a result applier runs
inside the transaction that closes the job.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from app.kernel import events, jobs
from app.kernel.db import Transaction
from app.kernel.jobs import Applier, JobRow
from app.services import Services


class Attempt:
    """One attempt at a record job."""

    def __init__(self, job: JobRow) -> None:
        self.job = job
        self.finished = False

    async def finish(self, tx: Transaction) -> None:
        """Close the job in this transaction."""
        await jobs.finish(tx, self.job.id)
        self.finished = True


Handler = Callable[[Services, Attempt], Awaitable[None]]


async def make_partitions(services: Services, attempt: Attempt) -> None:
    """Make the event partitions of the coming months."""
    async with services.db.transaction() as tx:
        await events.ensure_partitions(tx)
        await attempt.finish(tx)


HANDLERS: Final[dict[str, Handler]] = {"events.partitions": make_partitions}

APPLIERS: Final[dict[str, Applier]] = {}

"""State machines as data: every legal move and the event that tells of it; refused in Postgres as well.

A slice declares one `Machine` in its `domain.py` and moves rows by one function in its `store.py`, which calls
`compare_and_set`. `sync` writes the same data into `transitions`, where the generic triggers read it: a move that is
not in the table, a wrong first state, and a move without its event in the same transaction are refused by Postgres.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

from app.kernel.db import Transaction
from base.errors import DomainError, Kind

S = TypeVar("S", bound=StrEnum)


class IllegalTransition(DomainError):
    """The lifecycle has no such move."""

    code, title, kind = "illegal-transition", "This is not possible in the present state", Kind.CONFLICT
    next_step = "Read the resource again; its state says what is possible now."


class StateMoved(DomainError):
    """Somebody else moved the state first."""

    code, title, kind = "state-moved", "The state has changed meanwhile", Kind.CONFLICT
    next_step = "Read the resource again and decide anew."


class Machine(Generic[S]):
    """One lifecycle: the first states and the legal moves, each with the event type that records it (or None)."""

    def __init__(
        self, name: str, table: str, initial: Mapping[S, str | None], moves: Mapping[tuple[S, S], str | None]
    ) -> None:
        self.name, self.table = name, table
        self.initial, self.moves = dict(initial), dict(moves)

    def check(self, old: S, new: S) -> None:
        """Raise `IllegalTransition` unless old → new is a legal move."""
        if (old, new) not in self.moves:
            raise IllegalTransition(f"{self.name}: {old} cannot become {new}")

    def rows(self) -> list[tuple[str, str, str, str | None]]:
        """(machine, from, to, event type) as the database keeps them; a first state comes from ''."""
        first = [(self.name, "", new.value, event) for new, event in self.initial.items()]
        return first + [(self.name, old.value, new.value, event) for (old, new), event in self.moves.items()]


async def compare_and_set(tx: Transaction, machine: Machine[S], row: UUID, old: S, new: S) -> None:
    """Move one row; raises `IllegalTransition` or, when the row is not in `old` any more, `StateMoved`.

    The table's name comes from our own `Machine`, never from input.
    """
    machine.check(old, new)
    sql = f"UPDATE {machine.table} SET state = $3 WHERE id = $1 AND state = $2"  # noqa: S608
    if await tx.execute(sql, row, old.value, new.value) != 1:
        raise StateMoved(f"{machine.name} is not {old} any more")


SYNC_DELETE = "DELETE FROM transitions"
SYNC_INSERT = "INSERT INTO transitions (machine, from_state, to_state, event_type) VALUES ($1, $2, $3, $4)"


async def sync(tx: Transaction, machines: Iterable[Machine[StrEnum]]) -> None:
    """Make the database's table of legal moves equal to the code's."""
    await tx.execute(SYNC_DELETE)
    await tx.many(SYNC_INSERT, [row for machine in machines for row in machine.rows()])

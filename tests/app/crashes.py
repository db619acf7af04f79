"""Use cases that really die: which suspensions, in which children, for which subjects."""

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

PROGRAM = Path(__file__).with_name("crashing.py")
Case = dict[str, str]


class Crashes:
    """Deaths of one use case: `prepare` makes a subject for each, and gives what the child is told.

    They die at every suspension, or at the first, the last and `seeded` others.
    """

    def __init__(self, env: Mapping[str, str], *, every: bool, seeded: int = 3) -> None:
        self._env, self._every, self._seeded = dict(env), every, seeded

    async def happen(self, op: str, prepare: Callable[[], Awaitable[Case]]) -> list[Case]:
        """Let it die at the chosen suspensions; the cases. Prints covered/total."""
        whole, counted = await prepare(), [await prepare()] if self._every else []
        places = [0, 1000, *(random.Random(op).randrange(1, 1000) for _ in range(self._seeded))]
        if self._every:
            places = list(range(1, 1 + (await self._run(op, counted[0], []))["total"]))
        cases = [(place, await prepare()) for place in places]
        found = await self._run(op, whole, cases)
        print(f"{op}: died at {found['died']} of {found['total']} suspensions")
        assert found["died"] >= len(cases) - 2  # how bytes arrive shifts the last ones
        return [whole, *counted, *(case for _, case in cases)]

    async def _run(self, op: str, whole: Case, cases: list[tuple[int, Case]]) -> dict[str, int]:
        told = json.dumps({"op": op, "whole": whole, "cases": cases, "every": self._every})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PROGRAM), told),
            env={**self._env, "PYTHONPATH": str(PROGRAM.parents[2]), "PYTHONWARNINGS": "ignore"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        counted: dict[str, int] = json.loads(said)
        return counted

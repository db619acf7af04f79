"""Keeping parts up: one that ended is started again, later each time; one that no longer reacts is ended first."""

from collections.abc import Callable, Iterable
from typing import Final

from devstack.child import StartFailed
from devstack.parts import Part

BACKOFF_S: Final = (0.2, 1, 5, 15, 30)
STEADY_S: Final = 60
LOOK_S: Final = 5
MISSES: Final = 3

Say = Callable[[str], None]


class _Watch:
    """What is remembered of one part: times are the keeper's."""

    def __init__(self, part: Part, now: float) -> None:
        self.part = part
        self.restarts = 0
        self.deaths = 0
        self.misses = 0
        self.up_since = now
        self.next_look = now + LOOK_S
        self.due: float | None = None


class Keeper:
    """Looks after parts at each `tick`. A part that ran for a minute starts its back-off from the beginning."""

    def __init__(self, parts: Iterable[Part], say: Say, now: float, *, tied: bool) -> None:
        self._watches = [_Watch(part, now) for part in parts]
        self._say, self._tied = say, tied

    @property
    def restarts(self) -> dict[str, int]:
        """How often each part was started again."""
        return {watch.part.name: watch.restarts for watch in self._watches}

    def tick(self, now: float) -> bool:
        """Look at every part once, `now` in monotonic seconds; whether one was started again."""
        again = [self._look(watch, now) for watch in self._watches]
        return any(again)

    def _look(self, watch: _Watch, now: float) -> bool:
        if watch.due is not None:
            return now >= watch.due and self._start(watch, now)
        if watch.part.child.returncode is not None:
            self._mourn(watch, now)
        elif now >= watch.next_look:
            watch.next_look = now + LOOK_S
            watch.misses = 0 if watch.part.is_alive() else watch.misses + 1
            if watch.misses >= MISSES:
                self._say(f"{watch.part.name} did not answer {MISSES} times: ending it")
                watch.part.child.kill()
        return False

    def _mourn(self, watch: _Watch, now: float) -> None:
        watch.deaths = 1 if now - watch.up_since >= STEADY_S else watch.deaths + 1
        wait = BACKOFF_S[min(watch.deaths, len(BACKOFF_S)) - 1]
        watch.due = now + wait
        child = watch.part.child
        self._say(f"{child.name} ended with code {child.returncode}; again in {wait} s (log: {child.log})")

    def _start(self, watch: _Watch, now: float) -> bool:
        watch.due, watch.misses, watch.up_since, watch.next_look = None, 0, now, now + LOOK_S
        try:
            watch.part.start(tied=self._tied)
        except (StartFailed, OSError) as error:
            self._say(f"{watch.part.name} could not be started: {error}")
            self._mourn(watch, now)
            return False
        watch.restarts += 1
        return True

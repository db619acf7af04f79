"""Keeping parts up: real processes, and a clock that the test moves."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.child import Child, StartFailed, end_all
from devstack.keeper import BACKOFF_S, LOOK_S, MISSES, STEADY_S, Keeper


class Sleeper:
    """A part whose answers the test sets."""

    name = "sleeper"
    address = None

    def __init__(self, folder: Path) -> None:
        self.child = Child(self.name, folder, grace_s=1)
        self.alive = True
        self.broken = False

    def start(self, *, tied: bool) -> None:
        if self.broken:
            raise StartFailed("cannot")
        self.child.start(["sleep", "600"], {"PATH": os.environ["PATH"]}, tied=tied)

    def is_ready(self) -> bool:
        return True

    def is_alive(self) -> bool:
        return self.alive

    def die(self) -> None:
        pid = self.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while self.child.returncode is None:
            time.sleep(0.005)


class Kept:
    """A part under a keeper at the test's own time."""

    def __init__(self, folder: Path) -> None:
        self.part = Sleeper(folder)
        self.part.start(tied=True)
        self.said: list[str] = []
        self.now = 1000.0
        self.keeper = Keeper([self.part], self.said.append, self.now, tied=True)

    def after(self, seconds: float) -> bool:
        self.now += seconds
        return self.keeper.tick(self.now)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    end_all([made.part.child])


def test_a_dead_part_is_started_again_later_each_time(kept: Kept) -> None:
    for wait in (*BACKOFF_S, BACKOFF_S[-1]):
        kept.part.die()
        assert not kept.after(0.01)
        assert not kept.after(wait * 0.9)
        assert kept.part.child.pid is None
        assert kept.after(wait * 0.2)
        assert kept.part.child.pid is not None
    assert kept.keeper.restarts == {"sleeper": len(BACKOFF_S) + 1}
    assert "ended with code -9" in kept.said[0]


def test_a_long_life_starts_the_back_off_again(kept: Kept) -> None:
    for _ in range(2):
        kept.part.die()
        kept.after(0.01)
        kept.after(BACKOFF_S[-1])
    kept.after(STEADY_S)
    kept.part.die()
    kept.after(0.01)
    assert kept.after(BACKOFF_S[0])


def test_one_that_does_not_answer_is_ended_and_started_again(kept: Kept) -> None:
    first = kept.part.child.pid
    kept.part.alive = False
    for _ in range(MISSES - 1):
        kept.after(LOOK_S)
    assert kept.part.child.pid == first
    kept.after(LOOK_S)
    assert kept.part.child.pid is None
    kept.after(0.01)
    assert kept.after(BACKOFF_S[0])


def test_a_missed_look_is_forgotten_by_an_answer(kept: Kept) -> None:
    first = kept.part.child.pid
    for _ in range(MISSES * 2):
        kept.part.alive = not kept.part.alive
        kept.after(LOOK_S)
    assert kept.part.child.pid == first


def test_a_start_that_fails_is_tried_again(kept: Kept) -> None:
    kept.part.broken = True
    kept.part.die()
    kept.after(0.01)
    assert not kept.after(BACKOFF_S[0])
    assert "could not be started: cannot" in kept.said[1]
    kept.part.broken = False
    assert kept.after(BACKOFF_S[1])

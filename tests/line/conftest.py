"""Two stacks for all that is shown on a whole one; each is started when a test first asks for it."""

from collections.abc import Iterator

import pytest

from tests.line.running import Running


def _running(name: str, factory: pytest.TempPathFactory) -> Iterator[Running]:
    started = Running(factory.mktemp(name))
    try:
        started.wait()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stack whose processes are killed."""
    yield from _running("one", tmp_path_factory)


@pytest.fixture(scope="package")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stack that takes the orders."""
    yield from _running("two", tmp_path_factory)

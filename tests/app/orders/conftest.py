"""An order to pay, at the Stripe simulator; and addresses of everybody whom an order passes."""

from collections.abc import AsyncIterator

import pytest

from tests.app.orders.world import Places, World, places
from tests.app.paying import shop

__all__ = ["shop"]


@pytest.fixture(scope="module")
async def at(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    async with places(env, tmp_path_factory.mktemp("histories")) as made:
        yield made


@pytest.fixture
async def world(at: Places) -> AsyncIterator[World]:
    """A person, Stripe and a printer of this test."""
    made = World(at)
    await made.start()
    yield made
    await made.stop()

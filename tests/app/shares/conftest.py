"""Real edge processes, as the edge's own tests start them."""

from tests.edge.conftest import start

__all__ = ["start"]

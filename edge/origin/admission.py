"""Admission by predicted cost: work that would wait too long for its turn is refused before it is begun.

The prediction is a table of whole milliseconds, measured on one core with libvips 8.18.7 (docs/benchmarks.md, section
"edge"); it need only be right in proportion, since a faster machine takes more of everything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from edge.node.sources import Overloaded
from imagecore.recipe import Recipe

READ_MS: Final = 30
"""Fetching and decoding the parent, whatever comes of it."""

ENCODE_MS: Final[dict[tuple[str, int], int]] = {
    ("jpg", 0): 20,
    ("webp", 0): 45,
    ("webp", 1): 50,
    ("webp", 2): 55,
    ("webp", 3): 85,
    ("webp", 4): 115,
    ("webp", 5): 200,
    ("webp", 6): 290,
    ("avif", 0): 75,
    ("avif", 1): 220,
}
"""Milliseconds a megapixel of output, by format and effort."""


def predicted_ms(recipe: Recipe) -> int:
    """What a rendition will cost of one core, at most (a `fit` may come out smaller than its box)."""
    return READ_MS + recipe.width * recipe.height * ENCODE_MS[recipe.format, recipe.effort] // 1_000_000


class Admission:
    """The work this process has taken on. `renders` run at once; nobody waits longer than `patience_ms` for a turn."""

    def __init__(self, renders: int, patience_ms: int) -> None:
        self._renders, self._patience_ms = renders, patience_ms
        self.taken_ms = 0

    @contextmanager
    def take(self, cost_ms: int) -> Iterator[None]:
        """Hold a place for this much work; raises `Overloaded` with the seconds until it is worth asking again."""
        wait_ms = self.taken_ms // self._renders
        if wait_ms >= self._patience_ms:
            raise Overloaded(1 + wait_ms // 1000)
        self.taken_ms += cost_ms
        try:
            yield
        finally:
            self.taken_ms -= cost_ms

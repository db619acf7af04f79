"""Bodies on their way through one process: how many at once, whose, and how fast each must come.

Guests cost nothing, so no one address fills the process either; and the fuller it is, the faster a body must come, so
that those who only hold a place lose it first. The highest pace is below the slowest network we serve (384 kbit/s).
"""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Final

from app.uploads.errors import UploadsAtOnce, UploadsHeld
from app.web.bodies import MIN_RATE
from base.ids import OwnerId

PLACES: Final = 192
"""Each body holds up to a block and a piece of it: some 60 MiB in all."""
OF_AN_ADDRESS: Final = PLACES // 3
OF_AN_OWNER: Final = 8
CROWDED_RATE: Final = 16 * 1024


class Traffic:
    """The places of one process."""

    def __init__(self, places: int = PLACES, of_an_address: int = OF_AN_ADDRESS) -> None:
        self._places, self._of_an_address = places, of_an_address
        self._taken: Counter[Hashable] = Counter()

    @contextlib.contextmanager
    def place(self, owner_id: OwnerId, address: str) -> Iterator[None]:
        """Hold a place while a body comes; raises `UploadsAtOnce` for an owner, `UploadsHeld` for all others."""
        if self._taken[owner_id] >= OF_AN_OWNER:
            raise UploadsAtOnce()
        if self._taken[address] >= self._of_an_address or self._taken[None] >= self._places:
            raise UploadsHeld()
        holders = (owner_id, address, None)
        self._taken.update(holders)
        try:
            yield
        finally:
            self._taken -= Counter(holders)  # drops those who hold none

    def least_rate(self) -> int:
        """How many bytes a second a body must bring now: more from half of the places on."""
        beyond = max(0, 2 * self._taken[None] - self._places)
        return MIN_RATE + (CROWDED_RATE - MIN_RATE) * beyond // self._places

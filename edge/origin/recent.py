"""Facts files read a moment ago: the widths of a `srcset` are asked for within seconds, and all begin with the same.

Only facts, never pixels: an erased photo must not stay in memory (decision 0015). The parent is read from the store
each time, so an asset that is gone is gone here too.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

COUNT: Final = 256
KEEP_S: Final = 60.0


class RecentFacts:
    """Up to `COUNT` files, each for `KEEP_S` seconds (and until the next is asked for); no key's bytes ever change."""

    def __init__(self, read: Callable[[str], Awaitable[bytes]]) -> None:
        self._read = read
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes:
        """The file, from memory or read; raises what reading raises."""
        now = time.monotonic()
        while self._kept and (len(self._kept) > COUNT or next(iter(self._kept.values()))[0] + KEEP_S < now):
            self._kept.popitem(last=False)
        if key in self._kept:
            return self._kept[key][1]
        data = await self._read(key)
        self._kept[key] = (now, data)
        self._kept.move_to_end(key)
        return data

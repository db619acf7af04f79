"""What a node must not serve any more: erased assets, revoked shares, withdrawn pictures; for good, a file of lines.

Ids are never given twice, so the list only grows; a line is on the disk before anybody is told so. What was denied
while the node was down is not in its file: until home has said that it told everything, the list is not `complete`, and
no share is served. Other paths are: a region that is cut off from home shows people their photos (docs/runbooks.md).
"""

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"(?:shr|ast|pic)_[a-z0-9]{26}")


class Denied:
    """The list; `file` is made when first written. Used by one event loop.

    `complete` is False from every start until home's word.
    """

    def __init__(self, file: Path) -> None:
        self._file, self.complete = file, False
        self._lock = asyncio.Lock()
        self._is_kept = dict.fromkeys(_read(file), True)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._is_kept

    def __len__(self) -> int:
        return len(self._is_kept)

    async def add(self, ids: Iterable[str]) -> None:
        """Deny from now on, and after every restart.

        Raises `ValueError` for what is none of these, and `OSError` when the disk does not take it; it is then
        denied by this process all the same.
        """
        wanted = list(dict.fromkeys(ids))
        if any(_LINE.fullmatch(id_) is None for id_ in wanted):
            raise ValueError("not the id of an asset, a share or a picture")
        for id_ in wanted:
            self._is_kept.setdefault(id_, False)  # at once: what is on its way must not be served
        async with self._lock:
            fresh = [id_ for id_ in wanted if not self._is_kept[id_]]
            await asyncio.to_thread(_append, self._file, fresh)
            self._is_kept.update(dict.fromkeys(fresh, True))


def _read(file: Path) -> list[str]:
    """The ids of a file; a line that a crash cut short was never acknowledged."""
    if not file.exists():
        return []
    return [line for line in file.read_text("ascii", "replace").splitlines() if _LINE.fullmatch(line)]


def _append(file: Path, ids: list[str]) -> None:
    if not ids:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    # A line break first: an earlier write may have ended in the middle of a line.
    lines = ("\n" + "\n".join(ids) + "\n").encode()
    with file.open("ab", buffering=0) as out:
        if out.write(lines) != len(lines):
            raise OSError("the disk took only a part")
        os.fsync(out.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""The messages of print masters: what a pixel worker is told of one line of an order, and what it answers."""

from typing import Final, Literal

import msgspec

KIND: Final = "print.master"
LOCK_DAYS: Final = 30
"""Nobody can remove a stored print file for so long: the bucket's default retention."""


class PrintMaster(msgspec.Struct, frozen=True, kw_only=True):
    """Make the file that is printed for one order line, from the original.

    `asset`, `line` and `fulfilment` are TypeIDs; `sha256` (hex), `width` and `height` (upright, pixels) are what the
    original was found to be when it came: another file is refused. `class_` names the output class. `trim_um` is the
    print after cutting, as the picture stands on it; `area_px` the vendor's print area, None for the class's own size.
    `part` is the person's crop (x, y, width, height in pixels of the upright original), None for all of it; `focal` is
    in 1/10000 of the part. `border_um` of white stand inside the trim. `profile` names the target, None for the
    class's. `original_region` keeps the original, None for the job's own region.
    """

    asset: str
    line: str
    fulfilment: str
    sha256: str
    width: int
    height: int
    class_: str
    trim_um: tuple[int, int]
    area_px: tuple[int, int] | None = None
    part: tuple[int, int, int, int] | None = None
    fit: Literal["cover", "whole"] = "cover"
    focal: tuple[int, int] = (5_000, 5_000)
    border_um: int = 0
    profile: str | None = None
    original_region: str | None = None


class MasterMade(msgspec.Struct, frozen=True, kw_only=True):
    """Step `master`: the object as stored under lock, named by key and version; `manifest` is its proof, as JSON."""

    line: str
    key: str
    version: str
    sha256: str
    md5: str
    bytes: int
    width: int
    height: int
    content_type: str
    manifest: msgspec.Raw


class MasterRefused(msgspec.Struct, frozen=True, kw_only=True):
    """The final answer for a line that cannot be printed; the reason is the result's."""

    line: str

"""Calls that are going away: a marker on a route says so in the description and in every answer of the call.

A route is marked by its `opt`: `opt={"ending": Ending(deprecated=…, sunset=…, instead="ReadAsset")}`.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import msgspec

NOTICE: Final = timedelta(days=180)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """When a call is (or was) deprecated, when it stops to answer, and which operation to use instead.

    Raises `ValueError` for less notice than `NOTICE` and for times that are not UTC.
    """

    deprecated: datetime
    sunset: datetime
    instead: str

    def __post_init__(self) -> None:
        if {self.deprecated.tzinfo, self.sunset.tzinfo} != {UTC}:
            raise ValueError("the times of an ending are UTC")
        if self.sunset - self.deprecated < NOTICE:
            raise ValueError(f"a call answers for {NOTICE.days} days after its deprecation")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`Deprecation` (RFC 9745 section 2.1, a structured date) and `Sunset` (RFC 8594 section 3, an HTTP date)."""
        return [
            (b"deprecation", b"@%d" % int(self.deprecated.timestamp())),
            (b"sunset", format_datetime(self.sunset, usegmt=True).encode()),
        ]

    def line(self) -> str:
        """As the description tells it."""
        return f"Deprecated since {self.deprecated:%Y-%m-%d}; ends on {self.sunset:%Y-%m-%d}. Use `{self.instead}`."

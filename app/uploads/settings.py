"""Settings of uploads: what one owner may send."""

from typing import Final

import msgspec

from app.kernel.quotas import Quota
from base.settings import Reader

GB: Final = 1_000_000_000


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions and bytes that one owner may begin in a day (UTC), and the bytes of sessions open at once, all as
    declared. One for all owners: they are guests until an account is claimed.

    By default a day's bytes are ten times 2,000 holiday photos of 5 MB, or a wedding's 4,000 of 25 MB.
    """

    sessions_a_day: int = 20_000
    bytes_a_day: int = 100 * GB
    bytes_open: int = 40 * GB

    @property
    def quotas(self) -> tuple[Quota, Quota]:
        """Of sessions, and of bytes."""
        return Quota("uploads", self.sessions_a_day), Quota("bytes of uploads", self.bytes_a_day)


def read_uploads(read: Reader) -> UploadLimits:
    """The settings in `TIRAGE_UPLOADS_*`."""
    usual = UploadLimits()
    return UploadLimits(
        sessions_a_day=read.number("TIRAGE_UPLOADS_A_DAY", usual.sessions_a_day, 1, 10_000_000),
        bytes_a_day=read.number("TIRAGE_UPLOADS_BYTES_A_DAY", usual.bytes_a_day, GB, 10**15),
        bytes_open=read.number("TIRAGE_UPLOADS_BYTES_OPEN", usual.bytes_open, GB, 10**15),
    )

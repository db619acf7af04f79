"""Daily quotas: how much of something an owner may do in one day (UTC), counted in the transaction of what is counted.

Token buckets (`app/web/rates.py`) keep one process healthy; a quota bounds what one owner can cost in a day, whatever
the number of processes.
"""

from datetime import datetime
from typing import Final

import msgspec

from app.kernel.db import Transaction
from base.errors import DomainError, Kind
from base.ids import OwnerId

KEEP_DAYS: Final = 3


class Quota(msgspec.Struct, frozen=True):
    """`limit` units a day of what `name` says."""

    name: str
    limit: int


class QuotaExceeded(DomainError):
    """The owner's daily quota of something is used up."""

    code, title, kind = "quota-exceeded", "The daily quota is used up", Kind.LIMITED
    next_step = "Wait Retry-After seconds (until midnight UTC), then send the request again; write to us for more."

    def __init__(self, quota: Quota, wait_s: int) -> None:
        super().__init__(f"no more than {quota.limit} {quota.name} a day")
        self.retry_after_s = wait_s


SPEND: Final = """
INSERT INTO quotas AS q (owner_id, name, day, used) VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::date, $3)
ON CONFLICT (owner_id, name, day) DO UPDATE SET used = q.used + excluded.used
RETURNING used, now() AS now
"""


async def spend(tx: Transaction, owner_id: OwnerId, quota: Quota, units: int = 1) -> int:
    """Count `units`; what is left today. Raises `QuotaExceeded`, whose rollback takes the count back.

    No units are never too many: they wait for what others are counting.
    """
    row = await tx.one(SPEND, owner_id, quota.name, units)
    assert row is not None
    if units and row["used"] > quota.limit:
        raise QuotaExceeded(quota, _until_midnight(row["now"]))
    return int(quota.limit - row["used"])


def _until_midnight(now: datetime) -> int:
    return 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)

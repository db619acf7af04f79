"""What stays after an erasure (`app/erasure/service.py` has the table of everything that names an owner)."""

import msgspec


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Something that stays, for the receipt: what, a code for why, and until when (ISO date, time or `unlimited`)."""

    what: str
    reason: str
    until: str

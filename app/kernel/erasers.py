"""Erasers: every slice that keeps something of an owner says how it goes (`app/erasers.py` is the table)."""

import msgspec


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Something that stays after an erasure, for the receipt: what, a code for why, and until when (ISO date)."""

    what: str
    reason: str
    until: str

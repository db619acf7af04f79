"""Settings of reconciliation: how often, how far back, how long things may take."""

import msgspec

from base.settings import Reader


class ReconcileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: it runs once in `every_s`, looks `recent_s` back, now and then `window_s`, and judges nothing younger
    than `grace_s`, which must be longer than a healthy order ever needs for one step. `tolerance` is per mille of a
    printer's quoted cost."""

    every_s: int
    recent_s: int
    window_s: int
    grace_s: int
    tolerance: int


def read_reconcile(read: Reader) -> ReconcileSettings:
    """The settings in `TIRAGE_RECONCILE_*`."""
    return ReconcileSettings(
        every_s=read.number("TIRAGE_RECONCILE_EVERY_S", 900, 10, 86_400),
        recent_s=read.number("TIRAGE_RECONCILE_RECENT_S", 86_400, 3_600, 30 * 86_400),
        window_s=read.number("TIRAGE_RECONCILE_WINDOW_S", 7 * 86_400, 3_600, 30 * 86_400),
        grace_s=read.number("TIRAGE_RECONCILE_GRACE_S", 600, 0, 86_400),
        tolerance=read.number("TIRAGE_RECONCILE_TOLERANCE", 10, 0, 1_000),
    )

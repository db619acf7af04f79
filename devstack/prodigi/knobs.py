"""How the simulated printer behaves: its pace and its faults, set over `/_sim` while it runs."""

from typing import Literal

import msgspec

Operation = Literal["create", "get", "list", "cancel", "actions", "update", "quote", "product", "any"]
Misbehaviour = Literal["error_before", "error_after", "timeout_after", "hang_after", "rate_limit"]


class Fault(msgspec.Struct, kw_only=True):
    """The next `times` calls of `on` go wrong.

    `error_before` answers 500 and does nothing; `error_after`, `timeout_after` and `hang_after` do the work and lose
    the answer (`hang_after` keeps the caller waiting `hang_ms` first); `rate_limit` answers 429 with `retry_after_s`.
    """

    on: Operation
    kind: Misbehaviour
    times: int = 1
    hang_ms: int = 5_000
    retry_after_s: int = 1


class Knobs(msgspec.Struct, kw_only=True):
    """Everything that can be turned. Seconds are of the virtual clock, milliseconds real; an order keeps the knobs
    that it was created under.

    `casing` and `callback_shape` reproduce what the vendor's own pages disagree about. `fetch_failures` is how many of
    ten tries to fetch a file fail; `fetched` makes a file that arrives another one than was sent. `on_cancel` decides
    a cancellation that comes in time: `race` lets production win, `partial` keeps all but the first parcel,
    `late_shipped` says cancelled and ships all the same.
    """

    seed: int = 1
    pause_s: int = 0
    download_s: int = 1
    prepare_s: int = 1
    allocate_s: int = 1
    produce_s: int = 1
    ship_s: int = 1
    retry_s: int = 1
    latency_ms: int = 0
    outage: bool = False
    hidden_s: int = 0
    casing: Literal["pascal", "camel", "lower", "mixed"] = "mixed"
    callbacks: Literal["normal", "off", "duplicate", "reversed", "early"] = "normal"
    callback_delay_ms: int = 0
    callback_shape: Literal["order", "root", "mixed"] = "mixed"
    fetch_failures: int = 0
    fetched: Literal["as_sent", "corrupt", "corrupt_unnoticed"] = "as_sent"
    split: bool = False
    reshipment: bool = False
    item_unavailable: bool = False
    needs_authorisation: bool = False
    created_with_issues: bool = False
    charge_percent: int = 100
    on_cancel: Literal["normal", "race", "fail", "partial", "late_shipped"] = "normal"
    faults: list[Fault] = []


def take(knobs: Knobs, operation: str) -> Fault | None:
    """The fault that this call meets, used up once."""
    for fault in knobs.faults:
        if fault.times > 0 and fault.on in (operation, "any"):
            fault.times -= 1
            return fault
    return None

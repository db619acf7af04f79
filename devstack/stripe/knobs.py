"""How the simulator misbehaves: set over `POST /_sim/knobs`, kept in its book, chosen by its seed."""

import fnmatch
import random
from enum import StrEnum
from typing import Any

import msgspec

from devstack.stripe.book import Book


class What(StrEnum):
    """What happens to a request.

    `latency`: answered `value` ms later. `lost`: done, but the answer never comes. `never_done`: neither done nor
    answered. `error_before`: 503, nothing done or stored. `error_stored`: 500 under the key, nothing done.
    `error_after`: done, then 500 under the key. `rate_limit`: 429 with Retry-After `value`. `outage`: 503.
    """

    LATENCY = "latency"
    LOST = "lost"
    NEVER_DONE = "never_done"
    ERROR_BEFORE = "error_before"
    ERROR_STORED = "error_stored"
    ERROR_AFTER = "error_after"
    RATE_LIMIT = "rate_limit"
    OUTAGE = "outage"


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Requests whose `METHOD /path` matches `on` (as a file name pattern) meet `what`: the first `times` of them, or
    all; each with a chance of `per_mille`."""

    on: str = "*"
    what: What
    times: int | None = None
    per_mille: int = 1000
    value: int = 0


class Signature(StrEnum):
    """How webhooks are signed."""

    GOOD = "good"
    WRONG = "wrong"
    OLD = "old"
    FUTURE = "future"


class Hooks(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Webhook deliveries. `automatic` off: only `/_sim/webhooks/flush` sends. Chances are per mille, times virtual
    seconds; `delay_s` and a chosen part of `jitter_s` pass before the first try. `before_response` sends what a
    request caused before the request is answered. `virtual_time` signs with the virtual clock instead of the wall's."""

    automatic: bool = True
    duplicate: int = 0
    drop: int = 0
    delay_s: int = 0
    jitter_s: int = 0
    shuffle: bool = False
    before_response: bool = False
    signature: Signature = Signature.GOOD
    virtual_time: bool = False


class Knobs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All of them. `settle_s`: how long an asynchronous payment is `processing`; `refund_s`: until a refund that is
    made to fail does; `search_lag_s`: how far search is behind; `stale_s`: a new object is 404 for so long."""

    settle_s: int = 5
    refund_s: int = 5
    search_lag_s: int = 0
    stale_s: int = 0
    faults: list[Fault] = []
    webhooks: Hooks = msgspec.field(default_factory=Hooks)


def load(book: Book) -> Knobs:
    """The knobs as they were last set."""
    return msgspec.convert(book.meta.get("knobs", {}), Knobs)


def save(book: Book, knobs: Knobs) -> None:
    """Keep them."""
    book.meta["knobs"] = msgspec.to_builtins(knobs)
    book.touch("meta", "meta")


def changed(knobs: Knobs, given: dict[str, Any]) -> Knobs:
    """The knobs with what is `given`; webhook knobs that are not named stay; raises `msgspec.ValidationError`."""
    now = msgspec.to_builtins(knobs)
    hooks = {**now["webhooks"], **given.get("webhooks", {})}
    return msgspec.convert({**now, **given, "webhooks": hooks}, Knobs)


def meet(knobs: Knobs, line: str, chance: random.Random) -> list[Fault]:
    """What a request meets; counts down what is for the first few."""
    met = []
    for fault in knobs.faults:
        if fault.times == 0 or not fnmatch.fnmatchcase(line, fault.on) or chance.randrange(1000) >= fault.per_mille:
            continue
        if fault.times is not None:
            fault.times -= 1
        met.append(fault)
    return met

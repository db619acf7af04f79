"""Rate limits in one process: a token bucket a caller, kept as one integer (GCRA, ITU-T I.371: the theoretical arrival
time), told honestly in `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from base.errors import DomainError, Kind

MANY: Final = 100_000
_NS: Final = 1_000_000_000


class RateLimited(DomainError):
    """Too many requests in too short a time."""

    code, title, kind = "rate-limited", "Too many requests in too short a time", Kind.LIMITED
    next_step = "Wait Retry-After seconds, then send the same request again; spread requests out."

    def __init__(self, wait_s: int) -> None:
        super().__init__()
        self.retry_after_s = wait_s


class Verdict(msgspec.Struct, frozen=True):
    """What one request did to its bucket. `policy` is told as it stands; `reset_s` whole seconds until it is full."""

    policy: bytes
    name: bytes
    remaining: int
    reset_s: int
    wait_s: int


class Bucket:
    """Buckets of one policy: `burst` requests at once, `per_minute` in the long run, for each key."""

    def __init__(self, policy: str, rate: tuple[int, int], now: Callable[[], int] = time.monotonic_ns) -> None:
        burst, per_minute = rate
        self._step = 60 * _NS // per_minute
        self._room = burst * self._step
        self._name = b'"%s"' % policy.encode()
        self._policy = b"%s;q=%d;w=%d" % (self._name, burst, max(1, self._room // _NS))
        self._now = now
        self._due: dict[str, int] = {}

    def take(self, key: str) -> Verdict:
        """Count one request; `wait_s` is 0 when it may pass."""
        now = self._now()
        full_in = max(self._due.get(key, 0) - now, 0)
        left = self._room - full_in - self._step
        if left < 0:
            return Verdict(self._policy, self._name, 0, -(-full_in // _NS), -(left // _NS))
        if len(self._due) >= MANY:
            self._due = {k: d for k, d in self._due.items() if d > now}
        full_in += self._step
        self._due[key] = now + full_in
        return Verdict(self._policy, self._name, left // self._step, -(-full_in // _NS), 0)


def headers_of(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """The two header fields for one verdict."""
    return [
        (b"ratelimit-policy", verdict.policy),
        (b"ratelimit", b"%s;r=%d;t=%d" % (verdict.name, verdict.remaining, verdict.reset_s)),
    ]

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
    """What one request did to its bucket. `reset_s` whole seconds until the bucket is full again."""

    policy: str
    burst: int
    window_s: int
    remaining: int
    reset_s: int
    wait_s: int


class Bucket:
    """Buckets of one policy: `burst` requests at once, `per_minute` in the long run, for each key."""

    def __init__(self, policy: str, rate: tuple[int, int], now: Callable[[], int] = time.monotonic_ns) -> None:
        self.policy = policy
        self._burst, per_minute = rate
        self._step = 60 * _NS // per_minute
        self._window = max(1, self._burst * self._step // _NS)
        self._now = now
        self._due: dict[str, int] = {}

    def take(self, key: str) -> Verdict:
        """Count one request; `wait_s` is 0 when it may pass."""
        now = self._now()
        due = max(self._due.get(key, 0), now) + self._step
        over = due - now - self._burst * self._step
        if over > 0:
            return self._verdict(0, due - self._step - now, -(-over // _NS))
        if len(self._due) >= MANY:
            self._due = {k: d for k, d in self._due.items() if d > now}
        self._due[key] = due
        return self._verdict(-over // self._step, due - now, 0)

    def _verdict(self, remaining: int, full_in: int, wait_s: int) -> Verdict:
        return Verdict(self.policy, self._burst, self._window, remaining, -(-full_in // _NS), wait_s)


def headers_of(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """The two header fields for one verdict."""
    return [
        (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (verdict.policy.encode(), verdict.burst, verdict.window_s)),
        (b"ratelimit", b'"%s";r=%d;t=%d' % (verdict.policy.encode(), verdict.remaining, verdict.reset_s)),
    ]

"""Logs and traces: structured JSON lines without bodies, addresses or tokens, tied together by W3C trace ids."""

import logging
import random
import sys
import traceback
from contextvars import ContextVar, Token
from typing import Any, Final

import msgspec
import structlog


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where in which trace something runs: the parts of a `traceparent`, which is its text."""

    trace_id: str
    span_id: str
    flags: str

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_place: ContextVar[Place | None] = ContextVar("place", default=None)
_per_mille = 1000
_random = random.Random()

HIDDEN: Final = frozenset({"authorization", "token", "secret", "password", "address", "email", "body", "url", "cookie"})


def new_traceparent() -> str:
    """A W3C `traceparent` (Trace Context level 1) with a random trace and span id, sampled as `sample` says."""
    return str(new_place())


def new_place() -> Place:
    """The beginning of a new trace."""
    sampled = _per_mille >= 1000 or _random.randrange(1000) < _per_mille
    return Place(f"{_random.getrandbits(128) or 1:032x}", new_span_id(), "01" if sampled else "00")


def new_span_id() -> str:
    """16 hex digits, not all zero. Ids of traces are no secrets, so the fast generator makes them."""
    return f"{_random.getrandbits(64) or 1:016x}"


def sample(per_mille: int) -> None:
    """How many of a thousand traces that begin here are sampled."""
    global _per_mille
    _per_mille = per_mille


def place() -> Place | None:
    """Where this task is."""
    return _place.get()


def enter(place: Place) -> Token[Place | None]:
    """Be at `place` until `leave` is given what this returns."""
    return _place.set(place)


def leave(before: Token[Place | None]) -> None:
    """Go back to where this was before `enter`; in another task than that one there is nothing to go back to."""
    try:
        _place.reset(before)
    except ValueError:
        return


def follow(traceparent: str | None) -> None:
    """Continue the given trace in this task, or begin a new one when it is absent or malformed."""
    given = _read(traceparent) if traceparent else None
    _place.set(given or new_place())


def traceparent() -> str | None:
    """The current `traceparent`, to be handed on."""
    current = _place.get()
    return None if current is None else str(current)


def trace_id() -> str | None:
    """The current trace id: 32 lower-case hex digits."""
    current = _place.get()
    return None if current is None else current.trace_id


def _read(text: str) -> Place | None:
    parts = text.split("-")
    if [len(p) for p in parts] != [2, 32, 16, 2] or parts[0] != "00":
        return None
    if not all(set(p) <= set("0123456789abcdef") for p in parts) or not any(c != "0" for c in parts[1]):
        return None
    return Place(*parts[1:])


def _trace(_: Any, __: str, entry: dict[str, Any]) -> dict[str, Any]:
    current = trace_id()
    if current:
        entry["trace_id"] = current
    return entry


def _hide(_: Any, __: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {key: "(hidden)" if key.lower() in HIDDEN else value for key, value in entry.items()}


def _crash(_: Any, __: str, entry: dict[str, Any]) -> dict[str, Any]:
    """An exception as its types and frames: its text and its locals may hold what a log must not."""
    found = entry.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return entry
    chain: list[dict[str, Any]] = []
    while error is not None and len(chain) < 5:
        frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-20:]]
        chain.append({"type": f"{type(error).__module__}.{type(error).__qualname__}", "frames": frames})
        error = error.__cause__ or error.__context__
    entry["exception"] = chain
    return entry


def configure_logs(process: str, level: str = "info") -> None:
    """One JSON object a line on standard error, for our own and for the libraries' loggers."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace,
        _hide,
        _crash,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("botocore", "boto3", "urllib3", "nats", "asyncio", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def logger(name: str) -> Any:
    """A structured logger: `log.info("what_happened", key=value)`."""
    return structlog.stdlib.get_logger(name)

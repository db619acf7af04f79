"""The outermost layer of every HTTP call: request id, trace, time limit, client address, headers, metrics.

It stands outside Litestar's routing, so that a 404 of the router has a request id and a count as well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from app.web import problems, rates
from app.web.call import CURRENT, Call
from app.web.proxies import client_address
from app.web.settings import WebSettings
from app.web.slow import TimeLimit
from base import telemetry, tracing

log = telemetry.logger(__name__)

SECONDS: Final = Histogram(
    "tirage_http_request_seconds",
    "Time from the request's head to the end of the answer (streams: to its beginning)",
    ("method", "route", "status"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_WORK: Final = Gauge("tirage_http_requests_in_work", "Requests in work, open streams included")
LOOKS: Final = 20
"""How many times in the time limit the clock is looked at for all calls: a timer for each would cost more."""
TIMED_OUT: Final = Counter("tirage_http_timeouts_total", "Requests ended by the time limit", ("route",))
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Frame:
    """Wraps one ASGI application."""

    def __init__(self, app: App, settings: WebSettings) -> None:
        self._app = app
        self._limit_s = settings.limits.request_s
        self._proxies = settings.proxies
        self._hsts = b"max-age=%d; includeSubDomains" % settings.hsts_s if settings.hsts_s else b""
        self._observers: dict[tuple[str, str, int], Any] = {}
        self._calls: set[Call] = set()
        self._looking: asyncio.TimerHandle | None = None
        IN_WORK.set_function(lambda: len(self._calls))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one HTTP request."""
        began = time.perf_counter()
        headers = dict(scope["headers"])
        telemetry.follow(headers.get(b"traceparent", b"").decode("latin-1"))
        address, secure = self._origin(scope, headers)
        call = self._watched(address, headers)
        scope.setdefault("state", {})["call"] = call
        answer = _Answer(send, call, self._hsts if secure else b"")
        with tracing.span("http", "server") as span:
            call.request_id, call.trace_id = span.span_id, span.trace_id
            try:
                await self._app(scope, receive, answer)
            except asyncio.CancelledError:
                if not call.is_late or call.task is None or call.task.uncancel():
                    raise
                await self._too_slow(scope, answer)
            finally:
                self._calls.discard(call)
                call.task = None  # the task's context leads back here: without this only the collector would free both
                route = self._observe(scope, answer.status, (answer.began or time.perf_counter()) - began)
                _describe(span, scope["method"], route, answer.status)

    def _origin(self, scope: Any, headers: Mapping[bytes, bytes]) -> tuple[str, bool]:
        """The caller's address and whether it came by TLS, as a trusted proxy tells it."""
        client = scope.get("client") or ("", 0)
        forwarded = _forwarded(scope["headers"]) if b"x-forwarded-for" in headers else []
        address, trusted = client_address(client[0], forwarded, self._proxies)
        told = headers.get(b"x-forwarded-proto", b"").decode("latin-1") if trusted else ""
        return address, (told.rpartition(",")[2].strip().lower() or scope.get("scheme", "http")) == "https"

    def _watched(self, address: str, headers: Mapping[bytes, bytes]) -> Call:
        loop = asyncio.get_running_loop()
        call = Call(address, headers, asyncio.current_task(loop), loop.time() + self._limit_s)
        self._calls.add(call)
        CURRENT.set(call)
        if self._looking is None:
            self._looking = loop.call_later(self._limit_s / LOOKS, self._look)
        return call

    def _look(self) -> None:
        """End the calls whose time is over; look again as long as there are any."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in self._calls:
            if call.due is not None and call.due <= now:
                call.end_late()
        self._looking = loop.call_later(self._limit_s / LOOKS, self._look) if self._calls else None

    async def _too_slow(self, scope: Any, answer: "_Answer") -> None:
        route = scope.get("path_template", "(none)")
        TIMED_OUT.labels(route).inc()
        log.warning("request_timed_out", route=route)
        if answer.began is not None:
            return
        problem = problems.of_domain(TimeLimit(), f"urn:tirage:request:{answer.call.request_id}")
        await send_problem(answer, problem)

    def _observe(self, scope: Any, status: int, seconds: float) -> str:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route: str = scope.get("path_template", "(none)")
        key = (method, route, status)
        observer = self._observers.get(key)
        if observer is None:
            observer = self._observers[key] = SECONDS.labels(method, route, str(status))
        observer.observe(seconds)
        return route


def _describe(span: tracing.Span, method: str, route: str, status: int) -> None:
    """OpenTelemetry's names for HTTP; the route is the template, never the path."""
    span.name = f"{method if method in METHODS else 'other'} {route}"
    span.attributes["http.route"] = route
    span.attributes["http.response.status_code"] = status
    if status >= 500:
        span.error = span.error or str(status)


class _Answer:
    """`send` that adds our headers and remembers what was answered."""

    __slots__ = ("_hsts", "_send", "began", "call", "status")

    def __init__(self, send: Any, call: Call, hsts: bytes) -> None:
        self._send: Callable[[Message], Awaitable[None]] = send
        self.call, self._hsts = call, hsts
        self.status = 0
        self.began: float | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], time.perf_counter()
            message["headers"] = self._headers(message.get("headers", ()))
        return self._send(message)

    def _headers(self, given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [
            *given,
            (b"x-request-id", self.call.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-trace-id", self.call.trace_id.encode()),
        ]
        if b"cache-control" not in dict(given):
            headers.append((b"cache-control", b"no-store"))
        if self._hsts:
            headers.append((b"strict-transport-security", self._hsts))
        if self.call.rate is not None:
            headers += rates.headers_of(self.call.rate)
        if self.call.ending is not None:
            headers += self.call.ending.headers()
        return headers


async def send_problem(send: Any, problem: problems.Problem) -> None:
    """Answer with a problem outside Litestar."""
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    headers += [(k.lower().encode(), v.encode()) for k, v in problems.headers_of(problem).items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Every `X-Forwarded-For` value, in order."""
    values = ",".join(value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for")
    return [part.strip() for part in values.split(",")]

"""Spans: what took how long within a trace, told to a local file and, where configured, to an OpenTelemetry collector.

A span's context is the current `traceparent` (base/telemetry.py), which travels in HTTP headers, job rows, job messages
and results; so what a job does in another process is a child of the request that caused it. Attributes are codes, ids
and numbers: nothing personal, no address, no token.

The collector is spoken to by OpenTelemetry's own exporter, imported only where an endpoint is set: it costs more memory
than the rest of a small process.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from base import telemetry
from base.settings import Reader

MAX_FILE: Final = 16 * 1024 * 1024
FLUSH_S: Final = 0.3
KEEP_DAYS: Final = 7
LOOK_S: Final = 3600
PENDING: Final = 10_000
SAMPLED: Final = "01"

Attribute = str | int


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go: files in `folder`, a collector at `otlp` (OTLP over HTTP); neither means that none are made.

    `otlp_ca` is the file of the only authorities that are believed of it; None: the system's.
    `per_mille` of the traces that begin here are sampled; one that came with a decision keeps it.
    """

    folder: Path | None
    otlp: str | None
    otlp_ca: str | None
    per_mille: int


def read_tracing(read: Reader) -> TraceSettings:
    """Settings from `TIRAGE_TRACES`, `TIRAGE_OTLP_ENDPOINT`, `TIRAGE_OTLP_CA`, `TIRAGE_TRACE_PER_MILLE`."""
    folder, otlp = read.text("TIRAGE_TRACES", "-"), read.text("TIRAGE_OTLP_ENDPOINT", "-")
    if otlp != "-":
        read.url("TIRAGE_OTLP_ENDPOINT", frozenset({"http", "https"}))
    return TraceSettings(
        folder=None if folder == "-" else Path(folder),
        otlp=None if otlp == "-" else otlp,
        otlp_ca=read.file("TIRAGE_OTLP_CA"),
        per_mille=read.number("TIRAGE_TRACE_PER_MILLE", 1000, 0, 1000),
    )


class Span(msgspec.Struct):
    """A span in work; set `name`, `attributes` and `error` before it ends. Encoded, it is a line of a file.

    `began` is UNIX time in nanoseconds, `us` how long it took.
    """

    trace_id: str = msgspec.field(name="traceId")
    span_id: str = msgspec.field(name="spanId")
    parent_id: str = msgspec.field(name="parentId")
    name: str
    kind: str
    attributes: dict[str, Attribute]
    began: int = msgspec.field(name="startNs")
    us: int = 0
    error: str | None = None
    process: str = ""


Sink = Callable[[Span], None]
_sinks: list[Sink] = []
_closers: list[Callable[[], None]] = []


def span(name: str, kind: str = "internal", **attributes: Attribute) -> "_Within":
    """Run something as a child of the current context; what runs inside, jobs planned included, is its child."""
    return _Within(name, kind, attributes)


class _Within:
    """What `span` gives; a class, since every request passes here and generators cost more."""

    __slots__ = ("_attributes", "_before", "_flags", "_kind", "_made", "_name")

    def __init__(self, name: str, kind: str, attributes: dict[str, Attribute]) -> None:
        self._name, self._kind, self._attributes = name, kind, attributes

    def __enter__(self) -> Span:
        outer = telemetry.place() or telemetry.new_place()
        self._flags = outer.flags
        self._made = made = _child(outer, self._name, self._kind, self._attributes, time.time_ns())
        self._before = telemetry.enter(telemetry.Place(made.trace_id, made.span_id, outer.flags))
        return made

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._made.error = self._made.error or kind.__name__
        telemetry.leave(self._before)
        if self._flags == SAMPLED:
            _end(self._made)


def past(name: str, began_ns: int, error: str | None = None, **attributes: Attribute) -> None:
    """Tell of something that ran from `began_ns` (UNIX time) until now, as a child of the current context."""
    current = telemetry.place()
    if current is not None and current.flags == SAMPLED:
        made = _child(current, name, "internal", attributes, began_ns)
        made.error = error
        _end(made)


def _child(of: telemetry.Place, name: str, kind: str, attributes: dict[str, Attribute], began_ns: int) -> Span:
    return Span(of.trace_id, telemetry.new_span_id(), of.span_id, name, kind, attributes, began_ns)


def _end(made: Span) -> None:
    made.us = (time.time_ns() - made.began) // 1000
    for sink in _sinks:
        sink(made)


def configure(process: str, settings: TraceSettings) -> None:
    """Begin to tell spans; once a process, after any fork."""
    telemetry.sample(settings.per_mille)
    if settings.folder is not None:
        files = _Files(settings.folder, process)
        _sinks.append(files.add)
        _closers.append(files.close)
    if settings.otlp is not None:
        sink, close = _collector(process, settings.otlp, settings.otlp_ca)
        _sinks.append(sink)
        _closers.append(close)


def close() -> None:
    """Tell what is still pending and stop."""
    _sinks.clear()
    while _closers:
        _closers.pop()()


_LINES: Final = msgspec.json.Encoder()


class _Files:
    """One JSON object a line in `PROCESS.PID.jsonl`, written by a thread; the file before is kept as `….1`."""

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._process = folder / f"{process}.{os.getpid()}.jsonl", process
        self._pending: list[Span] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def add(self, ended: Span) -> None:
        """Keep a span for the next flush; when the disk cannot follow, spans are dropped, never requests delayed."""
        if len(self._pending) < PENDING:
            ended.process = self._process
            self._pending.append(ended)

    def close(self) -> None:
        """Write what is pending."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        look = 0.0
        while not self._stop.wait(FLUSH_S):
            self._flush()
            if time.monotonic() >= look:
                look = time.monotonic() + LOOK_S
                forget_old(self._path.parent)
        self._flush()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        lines = _LINES.encode_lines(pending)
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > MAX_FILE:
                self._path.replace(self._path.with_suffix(".jsonl.1"))
            with self._path.open("ab") as out:
                out.write(lines)


def forget_old(folder: Path, days: int = KEEP_DAYS) -> None:
    """Remove span files whose last line is older than `days`, whoever wrote them."""
    for path in folder.glob("*.jsonl*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - days * 86_400:
                path.unlink()


def _collector(process: str, endpoint: str, ca: str | None) -> tuple[Sink, Callable[[], None]]:
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    resource = Resource.create({"service.name": f"tirage-{process}", "service.instance.id": str(os.getpid())})
    session = requests.Session()
    session.trust_env = ca is None  # REQUESTS_CA_BUNDLE would be believed instead of `ca`
    batches = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, certificate_file=ca, session=session))
    sampled = TraceFlags(TraceFlags.SAMPLED)

    def sink(ended: Span) -> None:
        trace_id = int(ended.trace_id, 16)
        batches.on_end(
            ReadableSpan(
                name=ended.name,
                context=SpanContext(trace_id, int(ended.span_id, 16), is_remote=False, trace_flags=sampled),
                parent=SpanContext(trace_id, int(ended.parent_id, 16), is_remote=True, trace_flags=sampled),
                resource=resource,
                attributes=ended.attributes,
                kind=SpanKind[ended.kind.upper()],
                status=Status(StatusCode.ERROR, ended.error) if ended.error else Status(),
                start_time=ended.began,
                end_time=ended.began + ended.us * 1000,
            )
        )

    return sink, batches.shutdown

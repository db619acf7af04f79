"""Spans told to an OpenTelemetry collector: what leaves a real API process, decoded by OpenTelemetry's own messages."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from base import tracing
from base.settings import Reader
from tests.app.conftest import ApiProcess, Guest

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MARK = "MARKED-REFERENCE"


class Receiver(ThreadingHTTPServer):
    """OTLP over HTTP with protobuf bodies, as a collector takes it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self) -> list[tuple[str, Span]]:
        """Every span with its service's name."""
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                found += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        assert self.headers["content-type"] == "application/x-protobuf"
        self.server.bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


HEADERS = {"Idempotency-Key": "otlp-test-1", "traceparent": f"00-{TRACE}-{CALLER}-01"}
BODY = {"bytes": 5, "contentType": "image/jpeg", "clientReference": MARK}


async def test_a_collector_gets_each_request(client: httpx.AsyncClient, guest: Guest, receiver: Receiver) -> None:
    read = Reader({"TIRAGE_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}/v1/traces"})
    tracing.configure("api", tracing.read_tracing(read))
    try:
        grant = await guest()
        answer = await client.post("/v1/uploads", json=BODY, headers={**grant["auth"], **HEADERS})
        assert answer.status_code == 201
    finally:
        await asyncio.to_thread(tracing.close)  # tells what is pending
    check(receiver, answer, grant)


@pytest.mark.soak
def test_so_does_a_process(env: dict[str, str], db: object, receiver: Receiver, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{receiver.server_port}/v1/traces"
    api = ApiProcess(env, tmp_path / "log", TIRAGE_OTLP_ENDPOINT=endpoint)
    try:
        grant = httpx.post(f"{api.base}/v1/devices", json={"platform": "ios"}).json()
        auth = {"Authorization": f"Bearer {grant['accessToken']}"}
        answer = httpx.post(f"{api.base}/v1/uploads", json=BODY, headers={**auth, **HEADERS})
        assert answer.status_code == 201
    finally:
        assert api.stop() == 0  # ending tells what is pending
    check(receiver, answer, grant)


def check(receiver: Receiver, answer: httpx.Response, grant: dict[str, Any]) -> None:
    """One span of the request, a child of the caller's, without anything marked."""
    mine = [(service, span) for service, span in receiver.spans() if span.trace_id.hex() == TRACE]
    assert [(service, span.name, span.kind) for service, span in mine] == [
        ("tirage-api", "POST /v1/uploads", Span.SPAN_KIND_SERVER)
    ]
    span = mine[0][1]
    assert (span.parent_span_id.hex(), span.span_id.hex()) == (CALLER, answer.headers["x-request-id"])
    attributes = {pair.key: pair.value for pair in span.attributes}
    assert attributes["http.route"].string_value == "/v1/uploads"
    assert attributes["http.response.status_code"].int_value == 201
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    assert set(receiver.paths) == {"/v1/traces"}
    for secret in (MARK, grant["accessToken"], grant["refreshToken"], "otlp-test-1"):
        assert not any(secret.encode() in body for body in receiver.bodies)

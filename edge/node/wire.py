"""HTTP/1.1 for the edge node, on asyncio and llhttp: the application sees a request's target as the bytes came.

A server that splits the target first hides an empty query, a fragment and the absolute form (docs/adr/0010). Here
`raw_path` is the whole target and `query_string` is empty. What the application can answer at once is written from
where its bytes arrived, without a task; all else runs as ASGI. RFC 9110, RFC 9112.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import httptools
from prometheus_client import Counter

from base import telemetry
from edge.node.answers import Reply, Scope, Send, lines_of
from edge.node.headers import Headers
from edge.node.request import MAX_HEAD, Request

log = telemetry.logger(__name__)

SLICE: Final = 16 * 1024
"""Bytes parsed before the bounds are looked at again: one read may hold thousands of requests."""
QUEUED: Final = 16
"""Requests of one connection that may wait for the one before them."""
UNREAD: Final = 256 * 1024
PIECE: Final = 128 * 1024
"""A longer body is handed over in pieces, as the client takes them."""
UNSENT: Final = 16 * 1024
"""Bytes of a connection that may wait to be sent before it counts as waiting."""
WAITING: Final = 256 * 1024 * 1024
"""Bytes that may wait for clients, over all connections; beyond it who has taken nothing for longest is ended.

A body counts whole until its last piece was handed over: no cache may let go of it before.
"""
IDLE_S: Final = 75
HEAD_S: Final = 15
STALL_S: Final = 60
LINGER_S: Final = 5
"""What still comes from a client that was told of the end is read for so long and dropped: unread, the system would
answer it with a reset, and a reset takes the answer with it (RFC 9112 section 9.6)."""
GRACE_S: Final = 20
CONNECTIONS: Final = 8192
ENDED: Final = Counter("tirage_edge_slow_clients_total", "Clients ended because too much waited for slow ones")
_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Application(Protocol):
    """What is served: an ASGI application that can answer some requests without awaiting anything."""

    def at_once(self, method: str, target: bytes, headers: Headers) -> Reply | None:
        """The answer, or None where the application has to be awaited."""
        ...

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None: ...


class Connection(asyncio.Protocol):
    """One client. `since` is when it last got further (loop time)."""

    def __init__(self, server: "Server") -> None:
        self._server, self._app = server, server.app
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._request = Request()
        self._head = 0
        self._rest: deque[memoryview] = deque()
        self._in_head = self._closing = self._paused = self._deaf = False
        self._task: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._left = self._pouring = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self.since = self._server.loop.time()
        if len(self._server.connections) >= CONNECTIONS or self._server.is_stopping:
            self.transport.abort()
            return
        self._server.connections.add(self)
        self.transport.set_write_buffer_limits(UNSENT)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._server.waits(self, 0)
        self._closing = True
        self._drained.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._rest.append(memoryview(data))
        self._parse()

    def _parse(self) -> None:
        """Parse what came, as far as the bounds allow; nothing after a request that is the last one."""
        while self._rest and not (self._paused or self._closing or self._deaf):
            data = self._rest.popleft()
            if len(data) > SLICE:
                self._rest.appendleft(data[SLICE:])
                data = data[:SLICE]
            self._feed(data)
        if self._closing or self._deaf:
            self._rest.clear()

    def _feed(self, data: memoryview) -> None:
        self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # answered as if nothing had been asked (RFC 9110 section 7.8), and then closed
        except httptools.HttpParserInvalidURLError:
            self._refuse(404)  # in no form of RFC 9112 section 3.2: nothing has such an address
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400)
        else:
            if self._head > MAX_HEAD:
                self._refuse(431)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        self._request, self._in_head = Request(), True
        if not self._queue:
            self.since = self._server.loop.time()

    def on_url(self, part: bytes) -> None:
        self._request.target += part
        self._request.size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is no header (RFC 9110 section 6.5.1)
            self._request.add(name.lower(), value)

    def on_headers_complete(self) -> None:
        request, self._in_head, self._head = self._request, False, 0
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keeps = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        fault = request.fault()
        if fault is not None:
            self._refuse(fault)
        elif request.has_body:
            request.is_awaited = request.expects_word()
            self._take(request)

    def on_body(self, data: bytes) -> None:
        request = self._request
        request.body.append(data)
        request.unread += len(data)
        self._head = 0
        request.came.set()
        self._throttle()

    def on_message_complete(self) -> None:
        request = self._request
        request.is_whole, self._head = True, 0
        self._deaf = self._deaf or not request.keeps
        request.came.set()
        if not request.has_body:
            self._take(request)

    # answers

    def _take(self, request: Request) -> None:
        if self._closing:
            return
        if self._task is None and not self._queue and not request.has_body and self._drained.is_set():
            reply = self._app.at_once(request.method, request.target, request.headers)
            if reply is not None and len(reply.body) <= PIECE:
                self._answer(request, reply)
                return
            request.reply = reply
        self._queue.append(request)
        self._throttle()
        if self._task is None:
            self._task = self._server.loop.create_task(self._work())

    def _answer(self, request: Request, reply: Reply) -> None:
        head = self._head_of(reply.status, reply.lines or lines_of(reply.headers), request.keeps)
        if request.method == "HEAD" or not reply.body:
            self.transport.write(head)
        else:
            self.transport.writelines((head, reply.body))
        self.since = self._server.loop.time()
        if not request.keeps:
            self._close()

    def _head_of(self, status: int, lines: bytes, keeps: bool) -> bytes:
        end = b"\r\n" if keeps else b"connection: close\r\n\r\n"
        return _LINES[status] + self._server.date() + lines + end

    async def _work(self) -> None:
        """Answer what is queued, one after another, in the order it came."""
        try:
            while self._queue and not self._closing:
                request = self._queue[0]
                await self._drained.wait()
                await self._run(request)
                if not request.is_told:
                    raise ConnectionResetError
                self._queue.popleft()
                self.since = self._server.loop.time()
                if not request.keeps or not request.is_whole:
                    self._close(lingers=not request.is_whole)
                self._throttle()
        except ConnectionResetError:
            self.transport.abort()
        except Exception:
            log.exception("request_failed")
            self.transport.abort()
        finally:
            self._task = None
        if self._queue and not self._closing:
            self._task = self._server.loop.create_task(self._work())

    async def _run(self, request: Request) -> None:
        reply, request.reply = request.reply, None
        if reply is not None:
            await self._send(request, {"type": _START, "status": reply.status, "headers": reply.headers})
            await self._send(request, {"type": _BODY, "body": reply.body})
            return
        scope = {
            "type": "http",
            "method": request.method,
            "raw_path": request.target,
            "query_string": b"",
            "headers": request.headers,
        }
        await self._app(scope, lambda: self._receive(request), lambda message: self._send(request, message))

    async def _receive(self, request: Request) -> dict[str, Any]:
        if request.is_awaited and not request.unread and not request.is_whole:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.is_awaited = False
        while not request.body and not request.is_whole:
            request.came.clear()
            await request.came.wait()
        data = b"".join(request.body)
        request.body.clear()
        request.unread = 0
        self._throttle()
        return {"type": "http.request", "body": data, "more_body": not request.is_whole}

    async def _send(self, request: Request, message: dict[str, Any]) -> None:
        if message["type"] == _START:
            keeps = request.keeps and request.is_whole
            self.transport.write(self._head_of(message["status"], lines_of(message["headers"]), keeps))
        elif request.method != "HEAD" and message.get("body"):
            await self._pour(message["body"])
        request.is_told = message["type"] == _BODY and not message.get("more_body")
        self.since = self._server.loop.time()
        await self._taken()

    async def _pour(self, body: bytes | memoryview) -> None:
        self._pouring = len(body)
        for begin in range(0, len(body), PIECE):
            await self._taken()
            self.transport.write(memoryview(body)[begin : begin + PIECE])
        self._pouring = 0

    async def _taken(self) -> None:
        """Wait until the client has taken what it was sent."""
        await self._drained.wait()
        if self.transport.is_closing():
            raise ConnectionResetError

    # bounds

    def pause_writing(self) -> None:
        self._drained.clear()
        self._server.waits(self, max(self._pouring, self.transport.get_write_buffer_size()))

    def resume_writing(self) -> None:
        self.since = self._server.loop.time()
        self._server.waits(self, 0)
        self._drained.set()

    def _throttle(self) -> None:
        waits = len(self._queue) >= QUEUED or sum(request.unread for request in self._queue) > UNREAD
        full = waits and not self._closing
        if full != self._paused and not self.transport.is_closing():
            self._paused = full
            (self.transport.pause_reading if full else self.transport.resume_reading)()
            if not full and self._rest:
                self._server.loop.call_soon(self._parse)

    def _refuse(self, status: int) -> None:
        """Say that this is no HTTP for us, unless an answer is under way, and close."""
        if self._task is None:
            self.transport.write(self._head_of(status, b"content-length: 0\r\n", keeps=False))
            self._close(lingers=True)
        else:
            self.transport.abort()

    def _close(self, *, lingers: bool = False) -> None:
        self._closing = True
        if not lingers or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.since = self._server.loop.time()
        self._throttle()
        self.transport.write_eof()

    @property
    def is_busy(self) -> bool:
        """Whether an answer is being made or is on its way."""
        return self._task is not None or self.transport.get_write_buffer_size() > 0

    def sweep(self, now: float) -> None:
        """End a client that does not get further: silent, dripping a head, or not reading."""
        left = self.transport.get_write_buffer_size()
        if left and left != self._left:
            self.since = now
        self._left = left
        limit = IDLE_S
        if self.is_busy:
            limit = STALL_S
        elif self._closing:
            limit = LINGER_S
        elif self._in_head:
            limit = HEAD_S
        if now - self.since > limit:
            self.transport.abort()


_START: Final = "http.response.start"
_BODY: Final = "http.response.body"


class Server:
    """Listens and serves until told to stop."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.is_stopping = False
        self.waiting = 0
        self._waits: dict[Connection, int] = {}
        self._date = (0, b"")

    def waits(self, connection: Connection, size: int) -> None:
        """Note how many bytes wait for a client from now on; too many, and who has waited longest is ended."""
        self.waiting += size - self._waits.pop(connection, 0)
        if size:
            self._waits[connection] = size
        while self.waiting > WAITING:
            slowest = next(iter(self._waits))
            self.waiting -= self._waits.pop(slowest)
            self.loop.call_soon(slowest.transport.abort)
            ENDED.inc()

    def date(self) -> bytes:
        """The Date field's line, made once a second."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode())
        return self._date[1]

    async def run(self, host: str, port: int, stop: asyncio.Event, tls: ssl.SSLContext | None = None) -> None:
        """Serve until `stop`; what runs is finished, for at most `GRACE_S` seconds."""
        shaking = HEAD_S if tls else None
        server = await self.loop.create_server(
            lambda: Connection(self), host, port, backlog=1024, ssl=tls, ssl_handshake_timeout=shaking
        )
        with self._sweeping():
            await stop.wait()
            self.is_stopping = True
            server.close()
            for _ in range(GRACE_S * 20):
                if not any(connection.is_busy for connection in self.connections):
                    break
                await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def _sweeping(self) -> Iterator[None]:
        task = self.loop.create_task(self._sweep())
        try:
            yield
        finally:
            task.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(5)
            for connection in list(self.connections):
                connection.sweep(self.loop.time())

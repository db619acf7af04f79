"""A proxy in front of an object store that misbehaves on command, and is strict where stores are lenient.

It passes requests on as they came, `Host` included, so signatures hold. Faults are given for an operation (S3's own
names) and so many requests. `strict` refuses a second Complete of one multipart upload, as some stores do.
"""

import asyncio
import contextlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

PIECE: Final = 64 * 1024
_HEAD_MAX: Final = 64 * 1024


class Kind(StrEnum):
    """What goes wrong."""

    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    SLOW_DOWN = "slow-down"
    INTERNAL = "internal"
    OK_WITH_ERROR = "ok-with-error"
    CUT = "cut"  # the connection ends after `after` bytes of the body; the store sees nothing of it
    HANG = "hang"  # the store does it, the answer never comes
    LOST = "lost"  # the store does it, the connection ends instead of an answer
    BEFORE = "before"  # calls `hook` before the store sees the request
    AFTER = "after"  # calls `hook` when the store has done it, before the answer goes on


class Fault(msgspec.Struct, kw_only=True):
    """One kind of misbehaviour for the next `times` requests of `operation`, after letting `skip` of them pass."""

    kind: Kind
    operation: str
    times: int = 1
    skip: int = 0
    after: int = 0
    hook: Callable[[], None] | None = None


_ANSWERS: Final[dict[Kind, tuple[int, str, str]]] = {
    Kind.EXPIRED: (403, "AccessDenied", "Request has expired"),
    Kind.FORBIDDEN: (403, "AccessDenied", "Access Denied"),
    Kind.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Kind.INTERNAL: (500, "InternalError", "We encountered an internal error. Please try again."),
    Kind.OK_WITH_ERROR: (200, "InternalError", "We encountered an internal error. Please try again."),
}
_PLAIN: Final = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_MULTIPART: Final = {
    "PUT": "UploadPart",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
    "GET": "ListParts",
}


class _Request(msgspec.Struct):
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def operation(self) -> str:
        query = self.query
        if "uploads" in query:
            return "CreateMultipartUpload" if self.method == "POST" else "ListMultipartUploads"
        if "uploadId" in query:
            return _MULTIPART.get(self.method, "other")
        if "list-type" in query:
            return "ListObjectsV2"
        return _PLAIN.get(self.method, "other")


class S3Faults:
    """The proxy; `async with S3Faults(url) as proxy`, then use `proxy.url` in place of the store's."""

    def __init__(self, upstream: str, *, strict: bool = False, port: int = 0) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._strict, self._port = strict, port
        self._faults: list[Fault] = []
        self._ended: set[str] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self.seen: list[tuple[str, str]] = []
        """Every operation that came, and the path it was for, in order."""

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> "S3Faults":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_HEAD_MAX)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def inject(self, kind: Kind, operation: str, **how: Any) -> Fault:
        """Misbehave for the next requests of an operation; the fault, whose `times` counts down."""
        fault = Fault(kind=kind, operation=operation, **how)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Behave."""
        self._faults.clear()

    def _fault_for(self, operation: str) -> Fault | None:
        for fault in self._faults:
            if fault.operation != operation or fault.times <= 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._handle(reader, writer)
        finally:
            self._running.discard(task)
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = _parsed(await reader.readuntil(b"\r\n\r\n"))
        operation = request.operation
        self.seen.append((operation, urlsplit(request.target).path))
        fault = self._fault_for(operation)
        kind = None if fault is None else fault.kind
        if request.header(b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault is not None and fault.kind is Kind.CUT:
            await _swallow(reader, request, fault.after)
            return
        refusal = self._refusal(request, operation, kind)
        if refusal is not None:
            await _swallow(reader, request, None)
            writer.write(refusal)
            await writer.drain()
            return
        if fault is not None and fault.kind is Kind.BEFORE and fault.hook:
            fault.hook()
        answer = await self._forward(request, reader)
        if operation == "CompleteMultipartUpload" and b" 200 " in answer[:20] and b"<Error>" not in answer:
            self._ended.add(request.query["uploadId"][0])
        if fault is not None and fault.kind is Kind.AFTER and fault.hook:
            fault.hook()
        await _answer(kind, answer, reader, writer)

    def _refusal(self, request: _Request, operation: str, kind: Kind | None) -> bytes | None:
        if kind in _ANSWERS:
            return _error(*_ANSWERS[kind])
        again = operation == "CompleteMultipartUpload" and request.query["uploadId"][0] in self._ended
        if self._strict and again:
            return _error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return None

    async def _forward(self, request: _Request, reader: asyncio.StreamReader) -> bytes:
        """Send the request on and read the whole answer; the client's going away is the store's as well."""
        upstream, sending = await asyncio.open_connection(*self._upstream)
        try:
            head = [f"{request.method} {request.target} HTTP/1.1".encode()]
            dropped = (b"connection", b"expect")
            head += [name + b": " + value for name, value in request.headers if name.lower() not in dropped]
            sending.write(b"\r\n".join([*head, b"Connection: close", b"", b""]))
            async for piece in _body(reader, request):
                sending.write(piece)
                await sending.drain()
            return await upstream.read(-1)
        finally:
            sending.close()


def _parsed(head: bytes) -> _Request:
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ", 2)
    pairs = [line.partition(b":") for line in lines]
    return _Request(method, target, [(name, value.strip()) for name, _, value in pairs])


async def _body(reader: asyncio.StreamReader, request: _Request) -> Any:
    """The body's bytes as they are on the wire."""
    if request.header(b"transfer-encoding").lower() == b"chunked":
        while True:
            line = await reader.readline()
            yield line
            size = int(line.partition(b";")[0], 16)
            yield await reader.readexactly(size + 2)
            if size == 0:
                return
    left = int(request.header(b"content-length") or 0)
    while left > 0:
        piece = await reader.read(min(PIECE, left))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def _swallow(reader: asyncio.StreamReader, request: _Request, most: int | None) -> None:
    """Read the body, or `most` bytes of it."""
    taken = 0
    async for piece in _body(reader, request):
        taken += len(piece)
        if most is not None and taken >= most:
            return


async def _answer(kind: Kind | None, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if kind is Kind.HANG:
        await reader.read(1)  # until the client gives up
    elif kind is not Kind.LOST:
        writer.write(answer)
        await writer.drain()


def _error(status: int, code: str, message: str) -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return (head + "Connection: close\r\n\r\n" + body).encode()

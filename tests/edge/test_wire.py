"""The node's HTTP/1.1: order, bodies, what is no request, clients that do not get further, a graceful end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from edge.node.answers import Reply
from edge.node.headers import Headers
from edge.node.wire import CONNECTIONS, IDLE_S, LINGER_S, PIECE, QUEUED, SLICE, STALL_S, UNSENT, Server

LARGE = bytes(16 * 1024 * 1024)


class App:
    """Says what it was asked for: `/now...` at once, all else later and with the body's length."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.headers: dict[bytes, Headers] = {}

    def at_once(self, method: str, target: bytes, headers: Headers) -> Reply | None:
        if not target.startswith((b"/now", b"/large")):
            return None
        body = LARGE[: int(target[6:] or len(LARGE))] if target.startswith(b"/large") else target
        return Reply(200, [(b"content-length", b"%d" % len(body))], body)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        known = self.at_once(scope["method"], scope["raw_path"], scope["headers"])
        if known is not None:
            await send({"type": "http.response.start", "status": known.status, "headers": known.headers})
            await send({"type": "http.response.body", "body": known.body})
            return
        body, more = b"", scope["raw_path"] != b"/unread"
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.headers[scope["raw_path"]] = scope["headers"]
        await self.gate.wait()
        if scope["raw_path"] == b"/nothing":
            return
        told: bytes = scope["raw_path"]
        told += b" %d" % len(body)
        headers = [(b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():
            await asyncio.sleep(0.01)


class Served:
    def __init__(self, app: App, server: Server, port: int, stop: asyncio.Event, run: "asyncio.Task[None]") -> None:
        self.app, self.server, self.port, self.stop, self.run = app, server, port, stop, run

    async def say(self, data: bytes) -> bytes:
        """All that comes back until the server closes, or has nothing more to say."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = b""
        try:
            async with asyncio.timeout(0.3):
                while piece := await reader.read(1 << 20):
                    answer += piece
            return answer + b"<closed>"
        except TimeoutError:
            return answer
        finally:
            writer.close()

    async def slow(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has asked for much and takes nothing yet."""
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=wire, limit=1024)
        known = set(self.server._waits)
        writer.write(get("/large"))
        await until(lambda: not set(self.server._waits) <= known)
        return reader, writer


@pytest.fixture
async def served(free_ports: Any) -> AsyncIterator[Served]:
    app, stop, port = App(), asyncio.Event(), free_ports()
    server = Server(app)
    run = asyncio.create_task(server.run("127.0.0.1", port, stop))
    await asyncio.sleep(0.05)
    yield Served(app, server, port, stop, run)
    app.gate.set()
    stop.set()
    await run


def get(target: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: edge", *headers, "", ""]
    return "\r\n".join(lines).encode()


def bodies(answer: bytes) -> list[bytes]:
    return [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]


async def test_targets_come_whole(served: Served) -> None:
    targets = ["/now?", "/now#x", "/now?a=%20", "/now//./%2e", "/later?", "/later#"]
    answer = await served.say(b"".join(get(target) for target in targets))
    assert bodies(answer) == [b"/now?", b"/now#x", b"/now?a=%20", b"/now//./%2e", b"/later? 0", b"/later# 0"]
    assert bodies(await served.say(get("http://edge/now"))) == [b"http://edge/now 0"]


async def test_answers_come_in_order(served: Served) -> None:
    order = ["/now1", "/slow1", "/now2", "/now3", "/slow2", "/now4"] * 10
    wanted = [each.encode() + (b" 0" if "slow" in each else b"") for each in order]
    assert bodies(await served.say(b"".join(get(each) for each in order))) == wanted


async def test_bodies(served: Served) -> None:
    whole = get("/a", "Content-Length: 400000") + bytes(400_000)
    chunked = get("/b", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    assert bodies(await served.say(whole + chunked + get("/now"))) == [b"/a 400000", b"/b 7", b"/now"]
    waits = await served.say(get("/c", "Content-Length: 5", "Expect: 100-continue"))
    assert waits == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_body_that_nobody_reads_ends_the_connection(served: Served) -> None:
    answer = await served.say(get("/unread", "Content-Length: 5"))
    assert answer.endswith(b"connection: close\r\n\r\n/unread 0<closed>")


@pytest.mark.parametrize("refused", [False, True])
async def test_the_answer_reaches_who_is_still_sending(served: Served, refused: bool) -> None:
    """A body of which nothing is read, and what is no request: no reset overtakes the answer."""
    asked = b"no request\r\n\r\n" if refused else get("/unread", f"Content-Length: {len(LARGE)}")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(asked)
    await asyncio.sleep(0.05)
    for start in range(0, len(LARGE), 1 << 20):
        writer.write(LARGE[start : start + (1 << 20)])
        await writer.drain()
    assert (await reader.read()).startswith(b"HTTP/1.1 400" if refused else b"HTTP/1.1 200")
    (connection,) = served.server.connections
    connection.sweep(connection.since + LINGER_S)
    assert not connection.transport.is_closing()
    connection.sweep(connection.since + LINGER_S + 1)
    assert connection.transport.is_closing()
    writer.close()


async def test_head_sends_no_bytes(served: Served) -> None:
    for target in ("/now", "/later"):
        answer = await served.say(get(target, method="HEAD"))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("request_", [get("/now", version="1.0"), get("/now", "Connection: close")])
async def test_closes_when_asked(served: Served, request_: bytes) -> None:
    answer = await served.say(request_ + get("/now"))
    assert answer.endswith(b"/now<closed>")
    assert answer.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /now HTTP/1.1\r\n\r\n", 400),
        (get("/now", "Host: other"), 400),
        (b"nonsense\r\n\r\n", 400),
        (get("/now", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (get("/now", "Content-Length: 3", "Content-Length: 4"), 400),
        (get("/now", "X: " + "y" * 20_000), 431),
        (b"GET /now HTTP/1.1\r\nHost: edge\r\nX: " + b"y" * 20_000, 431),
        (get("#now"), 404),
        # What one server reads otherwise than the next is read by nobody (RFC 9112 section 11.2).
        (get("/now", "Transfer-Encoding: chunked", "Content-Length: 3"), 400),
        (get("/now", "Content-Length: 3", "Content-Length: 3"), 400),
        (get("/now", "Content-Length: 3, 3"), 400),
        (get("/now", "Content-Length: +3"), 400),
        (get("/now", "Content-Length: -1"), 400),
        (get("/now", "Content-Length: 0x3"), 400),
        (get("/now", "Content-Length: "), 400),
        (get("/now", "Content-Length: 18446744073709551617"), 400),
        (get("/now", "Content-Length : 3"), 400),
        (get("/now", "Content-Length\t: 3"), 400),
        (get("/now", "Transfer-Encoding : chunked"), 400),
        (get("/now", "Transfer-Encoding: xchunked"), 400),
        (get("/now", "Transfer-Encoding: identity"), 400),
        (get("/now", "Transfer-Encoding: chunked, identity"), 400),
        (get("/now", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400),
        (get("/now", "Transfer-Encoding:\x0bchunked"), 400),
        (get("/now", "Transfer-Encoding: chunked", "Connection: keep-alive", version="1.0"), 400),
        (get("/now", "A: b", " folded: c"), 400),
        (get("/now", "A: b", "\tfolded"), 400),
        (get("/now", " First: b"), 400),
        (get("/now", "A: b\x00c"), 400),
        (get("/now", "A\x00: b"), 400),
        (get("/now", "A: b\nInner: c"), 400),
        (get("/now", "A: b\rInner: c"), 400),
        (get("/now", "A\xe9: b"), 400),
        (get("/now", ": b"), 400),
        (get("/now", "no colon"), 400),
        (get("/now").replace(b"\r\n", b"\n"), 400),
        (get("/n\x00ow"), 404),
        (get("/n\tow"), 404),
        (get("/now", method="get"), 400),
        (get("/now", method="GET\x00"), 400),
        (get("/now", method="NONE"), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (get("/now", version="2.0"), 505),
        (get("/now", version="1.2"), 400),
        (b"GET /now\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (get("/now", *(f"H{n}: x" for n in range(200))), 431),
        (b"\r\n" * 9000, 431),
    ],
    ids=lambda value: repr(value)[:80],
)
async def test_what_is_no_request(served: Served, request_: bytes, status: int) -> None:
    answer = await served.say(request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"connection: close\r\n\r\n<closed>")


async def test_clients_that_do_not_get_further_are_ended(served: Served) -> None:
    silent = await asyncio.open_connection("127.0.0.1", served.port)
    deaf = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    deaf[1].write(get("/large"))
    await asyncio.sleep(0.1)
    now = served.server.loop.time()
    for connection in list(served.server.connections):
        connection.sweep(now)
    assert len(served.server.connections) == 2
    for connection in list(served.server.connections):
        connection.sweep(now + max(IDLE_S, STALL_S) + 1)
    await asyncio.sleep(0.05)
    assert len(served.server.connections) == 0
    for _, writer in (silent, deaf):
        writer.close()


async def test_a_crowd_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONNECTIONS > 1000
    monkeypatch.setattr("edge.node.wire.CONNECTIONS", 1)
    first = await asyncio.open_connection("127.0.0.1", served.port)
    await asyncio.sleep(0.05)
    assert await served.say(get("/now")) == b"<closed>"
    first[1].write(get("/now"))
    assert (await first[0].read(100)).startswith(b"HTTP/1.1 200")
    first[1].close()


async def test_the_end_waits_for_what_runs(served: Served) -> None:
    served.app.gate.clear()
    running = asyncio.create_task(served.say(get("/last")))
    await asyncio.sleep(0.05)
    served.stop.set()
    await asyncio.sleep(0.1)
    assert not served.run.done()
    served.app.gate.set()
    assert b"/last 0" in await running
    await served.run


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "body",
    [
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"-1\r\n",
        b"3\nabc\n",
        b"3\r\nabcd\r\n",
        b"F" * 17 + b"\r\n",
    ],
)
async def test_no_chunks(served: Served, body: bytes) -> None:
    """Sizes that others read otherwise."""
    answer = await served.say(get("/later", CHUNKED) + body + b"\r\n0\r\n\r\n" + get("/now"))
    assert answer == b"<closed>"
    assert not served.server.connections


@pytest.mark.parametrize("start", [b"3;", b"3\r\nabc\r\n0\r\nA: ", b"3\r\nabc\r\n0\r\nA: b\r\nB: "])
async def test_what_stands_beside_a_body_is_bounded(served: Served, start: bytes) -> None:
    """Extensions of chunks, and trailers."""
    asked = get("/later", CHUNKED) + start
    assert await served.say(asked + b"x" * 10_000) == b""
    assert await served.say(asked + b"x" * 40_000) == b"<closed>"


async def test_trailers_are_no_headers(served: Served) -> None:
    trailer = b"0\r\nAuthorization: stolen\r\nHost: other\r\n\r\n"
    answer = await served.say(get("/headers", CHUNKED) + b"3;name=value\r\nabc\r\n" + trailer + get("/now"))
    assert bodies(answer) == [b"/headers 3", b"/now"]
    assert [name for name, _ in served.app.headers[b"/headers"]] == [b"host", b"transfer-encoding"]


async def test_what_follows_the_last_request_is_not_read(served: Served) -> None:
    for last in (get("/later", "Connection: close"), get("/later", version="1.0"), get("/now", "Connection: close")):
        answer = await served.say(last + get("/now") + b"nonsense\r\n\r\n")
        assert answer.endswith(b"<closed>")
        assert answer.count(b"HTTP/1.1 ") == 1 == answer.count(b"HTTP/1.1 200 ")


async def test_an_upgrade_is_not_taken(served: Served) -> None:
    """One answer, as if nothing had been asked; what follows may be another protocol."""
    for target in ("/now", "/later"):
        asked = get(target, "Connection: upgrade", "Upgrade: h2c") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        answer = await served.say(asked)
        assert answer.count(b"HTTP/1.1 ") == 1 == answer.count(b"HTTP/1.1 200 ")
        assert answer.endswith(b"<closed>")


async def test_a_body_is_asked_for_when_it_is_read(served: Served) -> None:
    unread = await served.say(get("/unread", "Content-Length: 5", "Expect: 100-continue"))
    assert unread.startswith(b"HTTP/1.1 200 ")
    old = get("/c", "Content-Length: 5", "Expect: 100-continue", version="1.0")
    assert await served.say(old) == b""
    assert (await served.say(old + b"12345")).endswith(b"/c 5<closed>")


async def test_waiting_requests_are_bounded(served: Served) -> None:
    served.app.gate.clear()
    asked = [b"/slow%d" % number for number in range(5000)]
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 20)
    writer.write(b"".join(get(target.decode()) for target in asked))
    await asyncio.sleep(0.2)
    (connection,) = served.server.connections
    assert len(connection._queue) < QUEUED + SLICE // len(get("/slow0"))
    served.app.gate.set()
    answer = await reader.readuntil(b"/slow4999 0")
    assert bodies(answer) == [target + b" 0" for target in asked]
    writer.close()


async def test_a_deaf_client_holds_few_answers(served: Served) -> None:
    _, writer = await served.slow()
    writer.write(get("/large") * 100)
    (connection,) = served.server.connections
    assert connection.transport.get_write_buffer_size() <= UNSENT + PIECE
    assert served.server.waiting == len(LARGE)
    writer.close()
    await until(lambda: served.server.waiting == 0)


async def test_what_waits_for_slow_clients_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has taken nothing for longest is ended, and nobody else; who reads gets all, also of what waited."""
    monkeypatch.setattr("edge.node.wire.WAITING", 2 * len(LARGE))
    waits = served.server._waits
    first, second = await served.slow(), await served.slow()
    (held, longest), sizes = waits, list(waits.values())
    assert sizes == [len(LARGE)] * 2
    taken = await first[0].readexactly(6 << 20)
    await until(lambda: list(waits) == [longest, held])
    third = await served.slow()
    assert bodies(await served.say(get("/now"))) == [b"/now"]
    assert longest not in waits
    assert served.server.waiting == sum(waits.values()) == 2 * len(LARGE)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await second[0].readexactly(len(LARGE))
    begin = taken.index(b"\r\n\r\n") + 4
    assert await first[0].readexactly(len(LARGE) + begin - len(taken)) == LARGE[len(taken) - begin :]
    await third[0].readuntil(b"\r\n\r\n")
    assert await third[0].readexactly(len(LARGE)) == LARGE
    assert served.server.waiting == len(waits) == 0
    for _, writer in (first, second, third):
        writer.close()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
async def test_bodies_of_every_length_come_whole(served: Served, size: int) -> None:
    """Also when the next request has come before the answer was taken."""
    answer = await served.say(get(f"/large{size}") + get("/now") + get(f"/large{size}", "Connection: close"))
    large = bytes(size)
    assert bodies(answer.removesuffix(b"<closed>")) == [large, b"/now", large]
    assert answer.endswith(b"<closed>")


async def test_a_client_that_goes_ends_its_work(served: Served) -> None:
    served.app.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(get("/later"))
    await asyncio.sleep(0.05)
    (connection,) = served.server.connections
    task = connection._task
    assert task is not None
    writer.close()
    await asyncio.sleep(0.1)
    assert task.cancelled()
    assert not served.server.connections


async def test_an_answer_that_is_not_whole_ends_the_connection(served: Served) -> None:
    assert await served.say(get("/nothing") + get("/now")) == b"<closed>"

"""One request of HTTP/1.1 while it is read and answered, and what is wrong with its head. RFC 9110, RFC 9112."""

import asyncio
from collections import deque
from typing import Final

from edge.node.answers import Reply
from edge.node.headers import Headers

MAX_HEAD: Final = 16 * 1024
"""Bytes of a head; also of what may come between two pieces of a body (chunk extensions) and after it (trailers)."""
MAX_FIELDS: Final = 100


class Request:
    """What came of it; the target as the bytes came."""

    def __init__(self) -> None:
        self.method = self.version = ""
        self.target = b""
        self.headers: Headers = []
        self.has_body = self.is_whole = self.keeps = False
        self.is_coded = self.is_garbled = False
        """Whether there is a Transfer-Encoding, and one that is not just `chunked`."""
        self.is_awaited = self.is_told = False
        """Whether the client waits for 100 Continue; whether the whole answer was given."""
        self.hosts = self.size = 0
        self.body: deque[bytes] = deque()
        self.unread = 0
        self.came = asyncio.Event()
        self.reply: Reply | None = None
        """What the application answered at once, where that is long."""

    def add(self, name: bytes, value: bytes) -> None:
        """Take a header field; the name in small letters."""
        self.headers.append((name, value))
        self.size += len(name) + len(value)
        if name == b"host":
            self.hosts += 1
        elif name == b"transfer-encoding":
            self.is_garbled = self.is_coded or value.lower() != b"chunked"
            self.has_body = self.is_coded = True
        elif name == b"content-length" and value != b"0":
            self.has_body = True

    def fault(self) -> int | None:
        """The status that a head which is none for us is answered with."""
        if self.size > MAX_HEAD or len(self.headers) > MAX_FIELDS:
            return 431
        if self.version not in ("1.0", "1.1"):
            return 505
        if self.hosts != 1 and (self.hosts or self.version != "1.0"):
            return 400  # RFC 9112 section 3.2
        if self.is_garbled or (self.is_coded and self.version == "1.0"):
            return 400  # RFC 9112 section 6.1; after 1.0 somebody before us did not understand it
        return None

    def expects_word(self) -> bool:
        """Whether the client sends its body only after 100 Continue."""
        waits = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers)
        return waits and self.version == "1.1"

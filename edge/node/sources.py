"""Where bytes come from on a miss: the region's bucket, then the origin."""

import asyncio
import base64
import hashlib
import re
import ssl
from typing import Final, Protocol

import httpx
import msgspec

from base.errors import ServiceUnavailable
from base.objects import ObjectAbsent, ObjectStore

ORIGIN_TIMEOUT_S: Final = 30
RETRY_S: Final = 0.2
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


class Gone(Exception):
    """The rendition can never be made again; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Overloaded(Exception):
    """The origin takes no more work now; seconds until it is worth asking again."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("overloaded")
        self.retry_after_s = retry_after_s


class Found(msgspec.Struct, frozen=True):
    """The bytes of a key and who had them (`bucket` or `origin`)."""

    data: bytes
    source: str


class Source(Protocol):
    """Anything that may have a rendition."""

    name: str

    async def get(self, key: str, path: str) -> bytes | None:
        """The bytes, or None; raises `Gone`, `Overloaded`, `ServiceUnavailable`."""
        ...


class Bucket:
    """The region's derivatives."""

    name = "bucket"

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store, self._bucket = store, bucket

    async def get(self, key: str, path: str) -> bytes | None:
        try:
            return await self._store.get(self._bucket, key)
        except ObjectAbsent:
            return None


class Origin:
    """The region's origin, asked with the signed path itself; what it sends is checked against its digest."""

    name = "origin"

    def __init__(self, url: str, ca: str | None = None) -> None:
        """`ca` is the file of the only authorities that are believed; None: the system's."""
        limits = httpx.Timeout(ORIGIN_TIMEOUT_S, connect=2)
        self._client = httpx.AsyncClient(base_url=url, timeout=limits, verify=ssl.create_default_context(cafile=ca))

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def get(self, key: str, path: str) -> bytes | None:
        answer = await self._ask(path)
        if answer.status_code == 200:
            return _checked(answer)
        if answer.status_code == 410:
            raise Gone(answer.headers.get("tirage-reason", "gone"))
        if answer.status_code in (429, 503):
            raise Overloaded(int(answer.headers.get("retry-after", "1")))
        if answer.status_code == 404:
            return None
        raise ServiceUnavailable(f"the origin answered {answer.status_code}")

    async def _ask(self, path: str) -> httpx.Response:
        """The origin's answer; when it dies over it, another one's."""
        for is_last in (False, True):
            try:
                return await self._client.get(path)
            except httpx.HTTPError as error:
                if is_last or isinstance(error, httpx.TimeoutException):
                    raise ServiceUnavailable("the origin does not answer") from error
                await asyncio.sleep(RETRY_S)
        raise AssertionError("not reached")


def _checked(answer: httpx.Response) -> bytes:
    found = _DIGEST.fullmatch(answer.headers.get("repr-digest", ""))
    if found is None or base64.b64decode(found[1]) != hashlib.sha256(answer.content).digest():
        raise ServiceUnavailable("the origin's bytes are not what it said")
    return answer.content

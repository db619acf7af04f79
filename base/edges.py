"""What the rest of the system tells an edge: here is a rendition, this asset is erased, that share is revoked.

A call is signed, so an edge needs no list of callers: `Authorization: Tirage KID:TIME:MAC`, where MAC is HMAC-SHA256
over the edge's address, method, path, time and the body's SHA-256. Every call may be sent again to the same edge: the
same call twice changes nothing more.
"""

import hashlib
import hmac
import re
import ssl
import time
from base64 import b64encode
from typing import Final

import httpx
import msgspec

from base.errors import ServiceUnavailable
from base.settings import Keys

PURGE: Final = "/-/purge"
RENDITIONS: Final = "/-/renditions/"
WINDOW_S: Final = 300
_HEADER: Final = re.compile(r"Tirage ([a-z0-9]{1,8}):([0-9]{10}):([0-9a-f]{64})")


class Purge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Erased assets, revoked shares and withdrawn pictures, by TypeID; `total` is how long home's whole list is.

    A caller that gives `total` has told everything before: an edge that knows as much then serves shares.
    """

    assets: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    total: int | None = None


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge removed for one asset: files and bytes."""

    asset: str
    files: int
    bytes: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """An edge's word that from `at` (UNIX time) on it begins no answer with it; on its disk before it is given.

    `denied` is the length of its whole list, `listed` whether it was told since its start that this is all.
    """

    node: str
    at: int
    assets: tuple[Purged, ...]
    shares: tuple[str, ...]
    pictures: tuple[str, ...]
    denied: int
    listed: bool


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed: `edge` is the authority of the address that is called, `body_sha256` is hex."""

    edge: str
    method: str
    path: str
    body_sha256: str


def authorise(keys: Keys, call: Call, now: int) -> str:
    """The Authorization header of a call at UNIX time `now`."""
    kid, key = keys.current
    return f"Tirage {kid}:{now}:{_mac(key.reveal(), call, now)}"


def is_authorised(keys: Keys, header: str, call: Call, now: int) -> bool:
    """Whether just this call is signed by one of `keys`, within five minutes of `now`."""
    found = _HEADER.fullmatch(header)
    key = keys.find(found[1]) if found else None
    if found is None or key is None:
        return False
    expected = _mac(key, call, int(found[2]))
    return hmac.compare_digest(expected, found[3]) and abs(int(found[2]) - now) <= WINDOW_S


def _mac(key: bytes, call: Call, at: int) -> str:
    signed = f"{call.edge}\n{call.method}\n{call.path}\n{at}\n{call.body_sha256}"
    return hmac.digest(key, signed.encode(), "sha256").hex()


def repr_digest(sha256: bytes) -> str:
    """The value of a Repr-Digest field (RFC 9530)."""
    return f"sha-256=:{b64encode(sha256).decode()}:"


class EdgeClient:
    """Calls to one edge node; raises `ServiceUnavailable` when it does not do what was asked.

    `ca` is the file of the only authorities that are believed; None: the system's.
    """

    def __init__(self, url: str, keys: Keys, ca: str | None = None, timeout_s: int = 10) -> None:
        self._keys, self._edge = keys, httpx.URL(url).netloc.decode()
        believed, limits = ssl.create_default_context(cafile=ca), httpx.Timeout(timeout_s, connect=2)
        self._client = httpx.AsyncClient(base_url=url, timeout=limits, verify=believed)

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def push(self, asset: str, recipe: str, extension: str, data: bytes) -> bool:
        """Hand over a rendition; False when the edge will not have it (erased, or other bytes stand already)."""
        status, _ = await self._call("PUT", f"{RENDITIONS}{asset}/{recipe}.{extension}", data)
        return status in (200, 201)

    async def purge(self, purge: Purge) -> Receipt:
        """Make the edge forget; its receipt."""
        status, body = await self._call("POST", PURGE, msgspec.json.encode(purge))
        if status != 200:
            raise ServiceUnavailable(f"the edge answered {status} to a purge")
        return msgspec.json.decode(body, type=Receipt)

    async def _call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        digest = hashlib.sha256(body)
        call = Call(edge=self._edge, method=method, path=path, body_sha256=digest.hexdigest())
        headers = {
            "authorization": authorise(self._keys, call, int(time.time())),
            "repr-digest": repr_digest(digest.digest()),
        }
        try:
            answer = await self._client.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise ServiceUnavailable("the edge does not answer") from error
        if answer.status_code in (401, 503) or answer.status_code >= 500:
            raise ServiceUnavailable(f"the edge answered {answer.status_code}")
        return answer.status_code, answer.content

"""Calls to the node from inside (`base/edges.py` has their other end): push of renditions, purge with a receipt.

Nothing of a call's body is read before its signature holds, and workers' keys cannot purge.
"""

import hashlib
import re
from base64 import b64decode
from typing import Any, Final

import msgspec

from base import keys, telemetry
from base.edges import PURGE, RENDITIONS, Call, Purge, Purged, Receipt, is_authorised
from base.settings import Keys
from edge.node.answers import Scope, Send, answer, refuse
from edge.node.cache import DiskCache, NotKept
from edge.node.denied import Denied
from imagecore import recipe as recipes

log = telemetry.logger(__name__)

MAX_BODY: Final = 32 * 1024 * 1024
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_RENDITION: Final = re.compile(re.escape(RENDITIONS) + r"(ast_[a-z0-9]{26})/([a-z0-9._]{16,160})\.(jpg|webp|avif)")
_PURGE: Final = msgspec.json.Decoder(Purge)


class _Refused(Exception):
    def __init__(self, status: int, code: bytes) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Control:
    """The node's inside face; `node` is the authority of the address that it is called by, and names it in receipts."""

    def __init__(self, node: str, push: Keys, purge: Keys, cache: DiskCache, denied: Denied) -> None:
        self._node, self._push_keys, self._purge_keys = node, push, purge
        self._cache, self._denied = cache, denied

    async def __call__(self, scope: Scope, receive: Any, send: Send, now: int) -> None:
        """Answer one call at UNIX time `now`."""
        try:
            body = await self._authorised_body(scope, receive, now)
            if scope["method"] == "PUT":
                status = await self._push(scope["raw_path"].decode("latin-1"), body)
                await answer(send, status, b"", [])
            else:
                receipt = await self._purge(body, now)
                content = [(b"content-type", b"application/json")]
                await answer(send, 200, msgspec.json.encode(receipt), content)
        except _Refused as refused:
            await refuse(send, refused.status, refused.code, [(b"cache-control", b"no-store")])

    async def _authorised_body(self, scope: Scope, receive: Any, now: int) -> bytes:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        if method == "PUT" and _RENDITION.fullmatch(path):
            allowed = self._push_keys
        elif method == "POST" and path == PURGE:
            allowed = self._purge_keys
        else:
            raise _Refused(404, b"not-found")
        found = _DIGEST.fullmatch(headers.get(b"repr-digest", ""))
        declared = b64decode(found[1]).hex() if found else ""
        call = Call(edge=self._node, method=method, path=path, body_sha256=declared)
        if not is_authorised(allowed, headers.get(b"authorization", ""), call, now):
            raise _Refused(401, b"not-authorised")
        body = await _whole(receive)
        if hashlib.sha256(body).hexdigest() != declared:
            raise _Refused(400, b"digest-mismatch")
        return body

    async def _push(self, path: str, body: bytes) -> int:
        found = _RENDITION.fullmatch(path)
        assert found is not None
        asset, recipe, extension = found.groups()
        try:
            fits = recipes.parse(recipe).format == extension
        except recipes.MalformedRecipe:
            fits = False
        if not fits:
            raise _Refused(400, b"not-canonical")
        key = keys.derivative(asset, recipe, extension)
        kept, status = await self._cache.get(key), 200
        if asset in self._denied:
            raise _Refused(410, b"erased")
        if kept is None:
            try:
                kept, status = await self._cache.put(key, body), 201
            except NotKept as error:
                raise _Refused(503, b"disk") from error
        if kept.digest != hashlib.sha256(body).hexdigest():
            log.error("push_of_other_bytes", asset=asset, recipe=recipe)
            raise _Refused(409, b"immutable")
        return status

    async def _purge(self, body: bytes, now: int) -> Receipt:
        try:
            told = _PURGE.decode(body)
            for prefix, subjects in (("ast_", told.assets), ("shr_", told.shares), ("pic_", told.pictures)):
                if not all(id_.startswith(prefix) for id_ in subjects):
                    raise ValueError("an id of another kind")
            await self._denied.add([*told.assets, *told.shares, *told.pictures])
        except (msgspec.MsgspecError, ValueError) as error:
            raise _Refused(400, b"malformed") from error
        except OSError as error:
            raise _Refused(503, b"disk") from error
        if told.total is not None and len(self._denied) >= told.total:
            self._denied.complete = True
        removed = []
        for asset in told.assets:
            files, size = await self._cache.purge(asset)
            removed.append(Purged(asset=asset, files=files, bytes=size))
        if told.assets or told.shares or told.pictures:
            log.info("purged", assets=len(told.assets), shares=len(told.shares), pictures=len(told.pictures))
        return Receipt(
            node=self._node,
            at=now,
            assets=tuple(removed),
            shares=told.shares,
            pictures=told.pictures,
            denied=len(self._denied),
            listed=self._denied.complete,
        )


async def _whole(receive: Any) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, b"incomplete")
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise _Refused(413, b"too-large")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)

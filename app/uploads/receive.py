"""Bytes that come through us: appended piece by piece (tus), or whole in one request (background PUT).

No lock is held while a body comes. A block is an object that is stored only if its place is free, so of two writers at
one offset the first wins and the other is told to look again; a dead connection holds nothing up.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import IO, Final
from uuid import UUID

import httpx
import msgspec

from app.kernel.db import Database
from app.uploads import store
from app.uploads.domain import ENDED, HAS_BYTES, Upload, UploadState, opened
from app.uploads.errors import (
    UploadBytesDiffer,
    UploadChecksumMalformed,
    UploadDigestMismatch,
    UploadInPieces,
    UploadNotFound,
    UploadNotOpen,
    UploadOffsetMismatch,
    UploadPastEnd,
    UploadTooSlow,
)
from app.uploads.plan import Held, most_blocks
from app.uploads.service import Uploads
from app.uploads.traffic import Traffic
from app.web.bodies import BodyCut, BodySlow
from base.errors import ServiceUnavailable
from base.ids import OwnerId
from base.objects import ObjectAbsent

BLOCK: Final = 256 * 1024
CHECKED_MAX: Final = 8 * 1024 * 1024
ALGORITHMS: Final = ("sha1", "sha256", "md5")
MEASURABLE: Final = 64 * 1024
SETTLE_LOOKS: Final = 100
SETTLE_S: Final = 0.05

Body = AsyncGenerator[bytes, None]
Block = bytes | bytearray | IO[bytes]
"""Bytes, or a file that was written to its end."""


class Checksum(msgspec.Struct, frozen=True):
    """What a request's body must hash to."""

    algorithm: str
    digest: bytes


def checksum_of(header: str | None) -> Checksum | None:
    """tus's `Upload-Checksum`: an algorithm and base64; raises `UploadChecksumMalformed`."""
    if header is None:
        return None
    algorithm, _, encoded = header.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm not in ALGORITHMS or not digest:
        raise UploadChecksumMalformed()
    return Checksum(algorithm, digest)


class Receiver:
    """The use cases of bodies. `close` when done."""

    def __init__(self, db: Database, uploads: Uploads, traffic: Traffic) -> None:
        self._db, self._uploads, self._storage, self.traffic = db, uploads, uploads.storage, traffic
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(60, connect=5),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # `traffic` is the bound
            trust_env=False,
        )

    async def close(self) -> None:
        """Close connections to the store."""
        await self._client.aclose()

    async def offset(self, owner_id: OwnerId, upload_id: UUID) -> tuple[Upload, int]:
        """A session and where an append goes on; a session with all its bytes is completed on the way.

        Raises `UploadNotFound`, `UploadExpiredGone`, `UploadNotOpen`.
        """
        upload, held = await self._seen(owner_id, upload_id)
        return upload, held.offset

    async def _going_on(self, owner_id: OwnerId, upload_id: UUID) -> tuple[Upload, int]:
        """`offset`, for an append; raises `UploadInPieces` too."""
        upload, held = await self._seen(owner_id, upload_id)
        if len(held.blocks) >= most_blocks(upload.bytes):
            raise UploadInPieces()
        return upload, held.offset

    async def _seen(self, owner_id: OwnerId, upload_id: UUID) -> tuple[Upload, Held]:
        upload = await self._uploads.owned(owner_id, upload_id)
        whole = Held(size=upload.bytes, part_bytes=upload.part_bytes, whole=True)
        if upload.state in HAS_BYTES:
            return upload, whole
        upload, seen = await self._uploads.see(opened(upload))
        if not seen.held.gaps:
            return await self._uploads.finish(owner_id, upload_id), whole
        return upload, seen.held

    async def append(
        self,
        owner_id: OwnerId,
        upload_id: UUID,
        offset: int,
        body: Body,
        checksum: Checksum | None,
        length: int | None = None,
        address: str = "",
    ) -> tuple[Upload, int]:
        """Keep what comes from `offset` on; the session and its offset, all of it durable. The last byte completes it.

        With a checksum all of the body is kept or nothing. Without, what came before the connection ended is kept. Of a
        body that is longer than it can be, by its `length` or as it comes, no more is read.
        Raises `UploadOffsetMismatch`, `UploadPastEnd`, `UploadDigestMismatch`, `UploadTooSlow`, `UploadsAtOnce`,
        `UploadsHeld`, and what `_going_on` raises.
        """
        with self.traffic.place(owner_id, address):
            upload, at = await self._going_on(owner_id, upload_id)
            if at != offset:
                raise UploadOffsetMismatch(at)
            if upload.state in HAS_BYTES:
                return upload, at
            room = upload.bytes - at if checksum is None else min(upload.bytes - at, CHECKED_MAX)
            if length is not None and length > room:
                raise UploadPastEnd(room)
            async with self._db.transaction() as tx:
                await store.mark_appended(tx, upload.id)
            began, came = time.monotonic(), hashlib.sha256()
            within = _hashing(_within(body, room), came)
            blocks = _blocks(within) if checksum is None else _checked(within, checksum)
            places = list[int]()
            try:
                async for block in blocks:
                    places.append(at)
                    at = await self._keep(upload, at, block)
            finally:
                await self._measure(upload, at - offset, time.monotonic() - began)
            if at == upload.bytes:
                upload = await self._finish(upload, places, came.hexdigest())
            return upload, at

    async def _finish(self, upload: Upload, places: list[int], digest: str) -> Upload:
        """Complete a session by the blocks at these places, whose bytes have this digest.

        Raises `UploadOffsetMismatch` when the photo has others there: a part, a file or other blocks came first.
        """
        done = await self._uploads.finish(upload.owner_id, upload.id)
        if done.by_blocks:
            held = Held(size=done.bytes, part_bytes=done.part_bytes, blocks=await self._storage.blocks(done))
            if held.line.keys() >= set(places):
                return done
        with contextlib.suppress(ObjectAbsent):
            if await self._storage.is_committed(done) and await self._storage.digest(done, places[0]) == digest:
                return done
        raise UploadOffsetMismatch(done.bytes)

    async def _keep(self, upload: Upload, at: int, block: Block) -> int:
        end = at + (len(block) if isinstance(block, bytes | bytearray) else block.tell())
        if end == upload.bytes:
            async with self._db.transaction() as tx:
                await store.journal(tx, upload)
        if not await self._storage.append(upload, at, block):
            raise UploadOffsetMismatch(await self._now_at(upload))
        current = await self._look_again(upload)
        if current.state in HAS_BYTES and end < upload.bytes:  # another has completed it
            raise UploadOffsetMismatch(upload.bytes)
        return end

    async def _look_again(self, upload: Upload) -> Upload:
        """The session after bytes of it were stored; where it was ended meanwhile, their removal is planned.

        Raises `UploadNotOpen`, `UploadExpiredGone`, `PersonErased`.
        """
        async with self._db.reading() as db:
            current = await store.get_any(db, upload.id)
        if current is not None and current.state in ENDED:
            await self._uploads.clean_later(upload)
        current = await self._uploads.owned(upload.owner_id, upload.id)
        return current if current.state in HAS_BYTES else opened(current)

    async def _now_at(self, upload: Upload) -> int:
        seen = await self._storage.see(msgspec.structs.replace(upload, appended=True))
        return seen.held.offset

    async def _measure(self, upload: Upload, came: int, seconds: float) -> None:
        if came >= MEASURABLE:
            async with self._db.transaction() as tx:
                await store.save_rate(tx, upload.id, int(came / max(seconds, 0.001)))

    async def content(self, upload_id: UUID, length: int | None, body: Body, address: str = "") -> Upload:
        """Take a whole file in one request and complete its session; the same bytes again change nothing.

        The caller has checked the capability. Raises `UploadNotFound`, `UploadBytesDiffer`, `UploadDigestMismatch`,
        `UploadNotOpen`, `UploadTooSlow`, `UploadsAtOnce`, `UploadsHeld`, `ServiceUnavailable`, and what `revive` does.
        """
        async with self._db.reading() as db:
            upload = await store.get_any(db, upload_id)
        if upload is None:
            raise UploadNotFound()
        if length is not None and length != upload.bytes:
            raise UploadBytesDiffer()
        if upload.state is UploadState.EXPIRED:
            upload = await self._uploads.revive(upload.owner_id, upload_id)
        with self.traffic.place(upload.owner_id, address):
            if upload.state is UploadState.OPEN and not await self._storage.is_committed(upload):
                return await self._stream(upload, body)
            return await self._compare(upload, await _hashed(body))

    async def _stream(self, upload: Upload, body: Body) -> Upload:
        url, headers = self._storage.address_whole(upload)
        passing, began = _Passing(body, upload.bytes), time.monotonic()
        try:
            answer = await self._client.put(url, content=passing, headers=headers)
        except (BodyCut, BodySlow) as cut:
            raise UploadTooSlow() from cut
        except httpx.HTTPError as error:
            raise ServiceUnavailable("the object store does not answer") from error
        if answer.status_code == 400:
            raise UploadDigestMismatch()
        if answer.status_code in (409, 412):  # somebody stored them first, or is about to
            digest = await passing.rest()
            return await self._compare(await self._settled(upload), digest)
        if answer.status_code != 200:
            raise ServiceUnavailable(f"the object store answered {answer.status_code}")
        await self._look_again(upload)
        async with self._db.transaction() as tx:
            rate = int(upload.bytes / max(time.monotonic() - began, 0.001))
            await store.save_received(tx, upload.id, passing.digest, rate)
        done = await self._uploads.finish(upload.owner_id, upload.id)
        return done if done.received_sha256 == passing.digest else await self._compare(done, passing.digest)

    async def _settled(self, upload: Upload) -> Upload:
        """Wait for the bytes another request is storing: the store refuses a second write before the first is seen.

        Raises `ServiceUnavailable` if they do not come, for the other may have failed and a repetition is safe.
        """
        for _ in range(SETTLE_LOOKS):
            async with self._db.reading() as db:
                current = await store.get_any(db, upload.id)
            if current is None:
                raise UploadNotFound()
            if current.state is not UploadState.OPEN or await self._storage.is_committed(current):
                return current
            await asyncio.sleep(SETTLE_S)
        raise ServiceUnavailable("another request is storing this upload")

    async def _compare(self, upload: Upload, digest: str) -> Upload:
        """The session, completed, if its bytes have this digest.

        Raises `UploadBytesDiffer`, `UploadNotOpen` when nobody can say any more, `ServiceUnavailable` when not yet.
        """
        if upload.state not in HAS_BYTES:
            opened(upload)
        if (upload.received_sha256 or await self._digest(upload)) != digest:
            raise UploadBytesDiffer()
        if upload.state is UploadState.OPEN:
            return await self._uploads.finish(upload.owner_id, upload.id)
        return upload

    async def _digest(self, upload: Upload) -> str:
        """What the stored bytes of a session hash to."""
        if await self._storage.is_committed(upload):
            with contextlib.suppress(ObjectAbsent):
                return await self._storage.digest(upload)
        if upload.state in (UploadState.OPEN, UploadState.VERIFYING):
            raise ServiceUnavailable("what came for this upload is being looked at")
        raise UploadNotOpen()


class _Passing:
    """A body on its way through: hashed and counted, and given on piece by piece."""

    def __init__(self, body: Body, size: int) -> None:
        self._body, self._left = body, size
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of what has passed."""
        return self._hash.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._left -= len(piece)
            if self._left < 0:
                raise UploadBytesDiffer()
            self._hash.update(piece)
            yield piece
        if self._left:
            raise UploadBytesDiffer()

    async def rest(self) -> str:
        """Read what was not asked for; the digest of all."""
        async for _ in self:
            pass
        return self.digest


async def _hashed(body: Body) -> str:
    found = hashlib.sha256()
    try:
        async for piece in body:
            found.update(piece)
    except (BodyCut, BodySlow) as cut:
        raise UploadTooSlow() from cut
    return found.hexdigest()


async def _within(body: Body, room: int) -> Body:
    """A body that has no more than `room` bytes; raises `UploadPastEnd` at the first one beyond."""
    left = room
    async for piece in body:
        left -= len(piece)
        if left < 0:
            raise UploadPastEnd(room)
        yield piece


async def _hashing(body: Body, found: "hashlib._Hash") -> Body:
    async for piece in body:
        found.update(piece)
        yield piece


async def _blocks(body: Body) -> AsyncIterator[Block]:
    """A body in blocks of `BLOCK` bytes; what came before it ended early is the last block."""
    held = bytearray()
    ended: Exception | None = None
    try:
        async for piece in body:
            held += piece
            while len(held) >= BLOCK:
                yield bytes(held[:BLOCK])
                del held[:BLOCK]
    except (BodyCut, BodySlow):
        ended = UploadTooSlow()
    if held:
        yield held
    if ended is not None:
        raise ended


async def _checked(body: Body, wanted: Checksum) -> AsyncIterator[Block]:
    """A whole body as one block, if it hashes to what was said; till then in a file, what is beyond `BLOCK`."""
    found = hashlib.new(wanted.algorithm, usedforsecurity=False)
    with tempfile.SpooledTemporaryFile(max_size=BLOCK) as kept:
        try:
            async for piece in body:
                found.update(piece)
                await asyncio.to_thread(kept.write, piece)
        except (BodyCut, BodySlow) as cut:
            raise UploadTooSlow() from cut
        if found.digest() != wanted.digest:
            raise UploadDigestMismatch()
        if kept.tell():
            yield kept

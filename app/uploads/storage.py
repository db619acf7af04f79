"""The bytes of a session in the object store: parts, appended blocks, and the one object they become.

Progress is what the store lists, never what a client or a row says. The object carries the session's token, so that
whoever finds it there knows that this session's bytes were put together, however the answer was lost. A store whose
Complete is not idempotent is good enough: an upload that is gone is looked for as an object.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Final

import msgspec

from app.uploads.domain import Upload
from app.uploads.plan import Held, part_range
from base import ids, keys
from base.errors import ServiceUnavailable
from base.objects import ObjectAbsent, ObjectExists, PartsRefused, Site, Sites, StoredPart

MARK: Final = "tirage-session"
ADDRESS_LIFETIME_S: Final = 900


class PartAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where to PUT one part: the URL, the headers that are signed into it, its byte range and relative expiry."""

    number: int
    url: str
    headers: dict[str, str]
    first_byte: int
    bytes: int
    expires_in_s: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds, and what is needed to put it together. `lost`: the multipart upload is gone."""

    held: Held
    parts: tuple[StoredPart, ...] = ()
    lost: bool = False

    @property
    def latest(self) -> datetime | None:
        """When the last part came, by the store's clock."""
        return max((part.modified for part in self.parts), default=None)


class UploadStorage:
    """The stores as uploads see them: a session's bytes are in its own region."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def _site(self, upload: Upload) -> Site:
        return self._sites.at(upload.region)

    async def see(self, upload: Upload) -> Seen:
        """What the store holds of an open session."""
        site = self._site(upload)
        blocks = await self.blocks(upload) if upload.appended else {}
        held = Held(size=upload.bytes, part_bytes=upload.part_bytes, blocks=blocks)
        parts: tuple[StoredPart, ...] = ()
        lost = False
        if upload.storage_id is not None:
            try:
                parts = tuple(await site.store.parts(site.buckets.originals, key_of(upload), upload.storage_id))
            except ObjectAbsent:
                lost = True
            held = msgspec.structs.replace(held, parts={part.number: part.size for part in parts})
        if (held.gaps or not parts) and await self.is_committed(upload):  # also whole beside parts that were begun
            return Seen(held=msgspec.structs.replace(held, whole=True))
        return Seen(held=held, parts=parts, lost=lost)

    async def is_committed(self, upload: Upload) -> bool:
        """Whether the object is there and is this session's."""
        site = self._site(upload)
        try:
            found = await site.store.head(site.buckets.originals, key_of(upload))
        except ObjectAbsent:
            return False
        return found.size == upload.bytes and found.metadata.get(MARK) == upload.token.hex

    async def begin(self, upload: Upload) -> str:
        """Begin a multipart upload for the session; the store's id of it."""
        site = self._site(upload)
        token = {MARK: upload.token.hex}
        return await site.store.begin_multipart(site.buckets.originals, key_of(upload), upload.content_type, token)

    async def abandon(self, upload: Upload, storage_id: str) -> None:
        """Forget a multipart upload."""
        site = self._site(upload)
        await site.store.abort_multipart(site.buckets.originals, key_of(upload), storage_id)

    def address(self, upload: Upload, storage_id: str, number: int, sha256: str | None) -> PartAddress:
        """Where to send one part."""
        site = self._site(upload)
        wanted = part_range(number, upload.part_bytes, upload.bytes)
        whole = upload.sha256 if wanted.bytes == upload.bytes else None
        url, headers = site.store.presign_part(
            site.buckets.originals,
            key_of(upload),
            upload=storage_id,
            number=number,
            size=wanted.bytes,
            sha256=sha256 or whole,
            expires_s=ADDRESS_LIFETIME_S,
        )
        return PartAddress(
            number=number,
            url=url,
            headers=headers,
            first_byte=wanted.first,
            bytes=wanted.bytes,
            expires_in_s=ADDRESS_LIFETIME_S,
        )

    async def commit(self, upload: Upload, seen: Seen) -> bool:
        """Make one object of all parts; False when the parts changed meanwhile, so look again.

        Raises `ServiceUnavailable` when the store does not say how it ended and the object is not there.
        """
        if seen.held.whole:
            await self.close(upload)
            return True
        return await self._end(upload, [part for part in seen.parts if seen.held.has_part(part.number)])

    async def _end(self, upload: Upload, parts: list[StoredPart], over: bool = False) -> bool:
        site = self._site(upload)
        assert upload.storage_id is not None
        try:
            await site.store.end_multipart(site.buckets.originals, key_of(upload), upload.storage_id, parts, over=over)
        except PartsRefused:
            return False
        except (ObjectAbsent, ObjectExists):
            if not await self.is_committed(upload):
                return False
            await self.close(upload)
        except ServiceUnavailable:
            if not await self.is_committed(upload):
                raise
        return True

    async def close(self, upload: Upload) -> None:
        """Let no address of a part be good for anything."""
        if upload.storage_id is not None:
            await self.abandon(upload, upload.storage_id)

    async def assemble(self, upload: Upload, over: bool = False) -> bool:
        """Make the parts that came as blocks, then one object of all; again is harmless.

        `over` puts it in the place of another object. False: the multipart upload, a block of it or its parts are not
        what they were, look again. Raises `ObjectAbsent` when a look begins with bytes that are gone.
        """
        assert upload.storage_id is not None
        seen = await self.see(upload)
        if seen.held.whole or seen.lost:
            return seen.held.whole
        if seen.held.missing_parts:
            raise ObjectAbsent("the parts or blocks of a session are gone")
        blocks = seen.held.line if seen.held.is_line else seen.held.blocks
        try:
            made = [await self._make_part(upload, upload.storage_id, blocks, part) for part in seen.held.unsent_parts]
        except ObjectAbsent:  # somebody else has just put them together, or they are gone
            return await self.is_committed(upload)
        kept = [part for part in seen.parts if seen.held.has_part(part.number)]
        return await self._end(upload, [*kept, *made], over)

    async def _make_part(self, upload: Upload, storage_id: str, blocks: Mapping[int, int], number: int) -> StoredPart:
        """Make a part of blocks, by way of a file: one block at a time is in memory."""
        site = self._site(upload)
        wanted = part_range(number, upload.part_bytes, upload.bytes)
        with tempfile.TemporaryFile() as made:
            for first, size in sorted(blocks.items()):
                low, high = max(first, wanted.first), min(first + size, wanted.end)
                if low < high:
                    block = await site.store.get(site.buckets.staging, block_key(upload, first))
                    made.seek(low - wanted.first)
                    await asyncio.to_thread(made.write, memoryview(block)[low - first : high - first])
            return await site.store.put_part(site.buckets.originals, key_of(upload), storage_id, number, made)

    async def blocks(self, upload: Upload) -> dict[int, int]:
        """The appended blocks that the store holds: offset to size."""
        site = self._site(upload)
        found: dict[int, int] = {}
        prefix, after = _blocks_of(upload), ""
        while page := await site.store.listing(site.buckets.staging, prefix, after):
            found |= {int(entry.key.removeprefix(prefix)): entry.size for entry in page}
            after = page[-1].key
            if len(page) < 1000:
                break
        return found

    async def append(self, upload: Upload, offset: int, data: bytes | bytearray | IO[bytes]) -> bool:
        """Keep a block at `offset`, durably; False when somebody else kept one there first."""
        site = self._site(upload)
        try:
            key = block_key(upload, offset)
            await site.store.put_new(site.buckets.staging, key, data, "application/octet-stream")
        except ObjectExists:
            return False
        return True

    async def drop_blocks(self, upload: Upload) -> None:
        """Remove a session's blocks."""
        site = self._site(upload)
        while found := await site.store.listing(site.buckets.staging, _blocks_of(upload)):
            await asyncio.gather(*(site.store.delete(site.buckets.staging, entry.key) for entry in found))

    def address_whole(self, upload: Upload) -> tuple[str, dict[str, str]]:
        """Where this process sends a whole file that streams through it: a free key, under the session's token."""
        site = self._site(upload)
        return site.store.presign_new(
            site.buckets.originals,
            key_of(upload),
            size=upload.bytes,
            content_type=upload.content_type,
            sha256=upload.sha256,
            metadata={MARK: upload.token.hex},
            expires_s=ADDRESS_LIFETIME_S,
        )

    async def digest(self, upload: Upload, first: int = 0) -> str:
        """The SHA-256 of the object from a byte on; raises `ObjectAbsent`."""
        site = self._site(upload)
        return await site.store.digest(site.buckets.originals, key_of(upload), first)


def key_of(upload: Upload) -> str:
    """The key of the session's object."""
    return keys.original(ids.encode("asset", upload.asset_id))


def block_key(upload: Upload, offset: int) -> str:
    """The key of one appended block, in the staging bucket; in key order they are in file order."""
    return f"{_blocks_of(upload)}{offset:012d}"


def _blocks_of(upload: Upload) -> str:
    return ids.encode("upload", upload.id) + "/"

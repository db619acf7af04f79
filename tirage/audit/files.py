"""What must hold between rows and the object stores: nothing lost, nothing left over, nothing private inside or open.

Each look is given one region's store and the books of what that store has to hold.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Final, TypeVar

import httpx
import msgspec

from base import keys
from base.objects import Buckets, ObjectAbsent, ObjectStore, Stored
from imagecore import carried
from tirage.audit.books import Books, File, Finding, Photo

LIVING: Final = frozenset({"processing", "preview_ready", "ready"})
SEEN: Final = frozenset({"preview_ready", "ready"})
SHIPPING: Final = frozenset({"submitting", "submitted", "closed", "cancelling"})
AT_ONCE: Final = 8
_ASSET: Final = re.compile(r"ast_[0-9a-z]{26}")
_LINE: Final = re.compile(r"oln_[0-9a-z]{26}")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A region's store as the audit reaches it: with a key, and by its bare address as a stranger would."""

    store: ObjectStore
    buckets: Buckets
    address: str


T = TypeVar("T")
Look = Callable[[Books, Place], Awaitable[list[Finding]]]


def out_of_sight(books: Books, home: str, regions: Collection[str]) -> list[Finding]:
    """Photos and print files of regions whose stores are not looked at: nothing is known of them."""
    photos = [one.name for one in books.photos.values() if one.state in LIVING and one.region not in regions]
    files = [f.key for making in books.makings for f in making.files if (f.region or home) not in regions]
    detail = "in a region that was not looked at"
    return [
        Finding(check=check, subject=subject, detail=detail)
        for check, subjects in (("originals-kept", photos), ("masters-locked", files))
        for subject in subjects
    ]


async def originals_kept(books: Books, place: Place) -> list[Finding]:
    """Every living photo's original is there, byte for byte."""
    living = [photo for photo in books.photos.values() if photo.state in LIVING]
    found = await _each(living, lambda photo: _original(photo, place))
    return [Finding(check="originals-kept", subject=name, detail=detail) for name, detail in found]


async def _original(photo: Photo, place: Place) -> tuple[str, str] | None:
    return await _differs(place.store, place.buckets.originals, keys.original(photo.name), photo.bytes, photo.sha256)


async def ancestors_kept(books: Books, place: Place) -> list[Finding]:
    """Every photo that can be shown has its ancestor, the ancestor's half and its facts."""
    wanted = [photo for photo in books.photos.values() if photo.state in SEEN]
    bucket = place.buckets.ancestors

    async def look(key: str) -> tuple[str, str] | None:
        return await _differs(place.store, bucket, key, None, None)

    every = [of(p.name, p.engine or "-") for p in wanted for of in (keys.ancestor, keys.half, keys.facts)]
    return [Finding(check="ancestors-kept", subject=key, detail=d) for key, d in await _each(every, look)]


async def pictures_kept(books: Books, place: Place) -> list[Finding]:
    """Every rendition of a living photo is there, byte for byte."""
    wanted = [one for one in books.pictures if books.photos[one.asset].state in SEEN]
    bucket = place.buckets.derivatives
    found = await _each(
        wanted,
        lambda one: _differs(
            place.store, bucket, keys.derivative(one.asset, one.recipe, one.extension), one.bytes, one.sha256
        ),
    )
    return [Finding(check="pictures-kept", subject=key, detail=detail) for key, detail in found]


async def masters_locked(books: Books, place: Place) -> list[Finding]:
    """Every print file that was sent is there in the version that was sent, byte for byte, and cannot be removed.

    Until its lock has ended, and then until it is needed no more.
    """
    sent = [file for making in books.makings if making.state in SHIPPING for file in making.files]
    files = [file for file in sent if file.kept != "gone"]
    found = await _each(files, lambda file: _unlocked(file, place))
    return [Finding(check="masters-locked", subject=key, detail=detail) for key, detail in found]


async def _unlocked(file: File, place: Place) -> tuple[str, str] | None:
    try:
        data = await place.store.get(place.buckets.masters, file.key, file.version)
        until = await place.store.locked_until(place.buckets.masters, file.key, file.version)
    except ObjectAbsent:
        return file.key, "absent"
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return file.key, "other bytes"
    is_locked = until is not None and until > datetime.now(UTC)
    return None if is_locked or file.kept == "stored" else (file.key, "not locked")


async def nothing_left_over(books: Books, place: Place) -> list[Finding]:
    """No object is there for nobody: each belongs to a living photo, an open session or an order line."""
    buckets = place.buckets
    living = {name for name, photo in books.photos.items() if photo.state in LIVING}
    sending = {session.asset for session in books.sessions}
    found = []
    for bucket, owners in (
        (buckets.originals, living | sending),
        (buckets.ancestors, living),
        (buckets.derivatives, living),
    ):
        found += [one.key async for one in listed(place.store, bucket) if _name(_ASSET, one.key) not in owners]
    found += [v.key for v in await place.store.versions(buckets.masters) if _name(_LINE, v.key) not in books.lines]
    return [Finding(check="nothing-left-over", subject=key, detail="belongs to nobody") for key in sorted(set(found))]


async def no_halves(books: Books, place: Place) -> list[Finding]:
    """Unfinished uploads and appended blocks belong to sessions that can still go on."""
    storage, sessions = {s.storage_id for s in books.sessions}, {s.name for s in books.sessions}
    halves = await place.store.multiparts(place.buckets.originals)
    found = [(half.key, "unfinished upload of no session") for half in halves if half.upload not in storage]
    found += [
        (block.key, "block of no session")
        async for block in listed(place.store, place.buckets.staging)
        if not any(name in block.key for name in sessions)
    ]
    return [Finding(check="no-halves", subject=key, detail=detail) for key, detail in found]


async def nothing_private_inside(books: Books, place: Place) -> list[Finding]:
    """No picture that was made of a photo tells where, when or with what it was taken, or carries anything else."""
    buckets, wanted = place.buckets, list[tuple[str, str, str | None]]()
    for bucket in (buckets.ancestors, buckets.derivatives):
        wanted += [
            (bucket, one.key, None) async for one in listed(place.store, bucket) if not one.key.endswith(".json")
        ]
    wanted += [(buckets.masters, v.key, v.version) for v in await place.store.versions(buckets.masters)]

    async def look(one: tuple[str, str, str | None]) -> tuple[str, str] | None:
        try:
            found = carried.extras(await place.store.get(*one))
        except ObjectAbsent:  # removed since it was listed
            return None
        return (one[1], ", ".join(found)) if found else None

    found = await _each(wanted, look)
    return [Finding(check="nothing-private-inside", subject=key, detail=detail) for key, detail in found]


async def buckets_private(books: Books, place: Place) -> list[Finding]:
    """Who has no key can list nothing, read nothing and store nothing, in any bucket."""
    found = []
    async with httpx.AsyncClient(base_url=place.address, timeout=20, trust_env=False) as stranger:
        for bucket in msgspec.structs.astuple(place.buckets):
            first = [one.key async for one in listed(place.store, bucket, limit=1)]
            asks = [("GET", f"/{bucket}"), ("GET", f"/{bucket}?versions"), ("PUT", f"/{bucket}/stranger")]
            for method, path in (*asks, *(("GET", f"/{bucket}/{key}") for key in first)):
                answer = await stranger.request(method, path, content=b"x" if method == "PUT" else None)
                if answer.status_code not in (401, 403):
                    found.append((path, f"{method} by a stranger: {answer.status_code}"))
    return [Finding(check="buckets-private", subject=path, detail=detail) for path, detail in found]


async def listed(store: ObjectStore, bucket: str, limit: int | None = None) -> AsyncIterator[Stored]:
    """Every object of a bucket, in the order of keys."""
    after, given = "", 0
    while page := await store.listing(bucket, "", after=after):
        for one in page:
            if given == limit:
                return
            given += 1
            yield one
        after = page[-1].key


def _name(pattern: re.Pattern[str], key: str) -> str | None:
    match = pattern.search(key)
    return match[0] if match else None


async def _each(wanted: Iterable[T], look: Callable[[T], Awaitable[tuple[str, str] | None]]) -> list[tuple[str, str]]:
    """What `look` finds, a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(thing: T) -> tuple[str, str] | None:
        async with room:
            return await look(thing)

    return [found for found in await asyncio.gather(*(one(thing) for thing in wanted)) if found is not None]


async def _differs(
    store: ObjectStore, bucket: str, key: str, size: int | None, sha256: str | None
) -> tuple[str, str] | None:
    """The key and in what its object differs, or None."""
    try:
        head = await store.head(bucket, key)
        if size is not None and head.size != size:
            return key, f"{head.size} bytes instead of {size}"
        if sha256 is not None and await store.digest(bucket, key) != sha256:
            return key, "other bytes"
    except ObjectAbsent:
        return key, "absent"
    return None

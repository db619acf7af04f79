"""Each look at the store is given something wrong there, and must see it. The store is shared: only own keys count."""

import hashlib
import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image

from base import ids, keys
from base.objects import Buckets, ObjectStore
from devstack.s3 import client
from tirage.audit import files, outside
from tirage.audit.books import Books, File, Finding, Making, Photo, Picture, Session
from tirage.audit.command import IN_STORE
from tirage.audit.files import Place

RECIPE = "v1_preview_fit.200x200_jpg.80.420_srgb.rel.bpc_abcd1234"


def jpeg(**more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "JPEG", **more)
    return out.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Sample:
    """One photo with everything that belongs to it, stored; `books` says so."""

    def __init__(self, store: ObjectStore, buckets: Buckets, address: str) -> None:
        self.place = Place(store=store, buckets=buckets, address=address)
        self.store, self.buckets = store, buckets
        self.asset, self.line = ids.encode("asset", ids.new_id()), ids.encode("order_line", ids.new_id())
        self.original, self.shown = keys.original(self.asset), keys.derivative(self.asset, RECIPE, "jpg")
        self.master = keys.master(self.asset, self.line, "0" * 32, "abcd1234", "jpg")
        self.books = Books(
            findings=(),
            photos={},
            sessions=(),
            uploads={},
            pictures=(),
            makings=(),
            sales={},
            lines=frozenset({self.line}),
        )

    async def fill(self) -> None:
        data = jpeg()
        await self.store.put(self.buckets.originals, self.original, data, "image/jpeg")
        for of in (keys.ancestor, keys.half):
            await self.store.put(self.buckets.ancestors, of(self.asset, "abcd1234"), data, "image/jpeg")
        await self.store.put(self.buckets.ancestors, keys.facts(self.asset, "abcd1234"), b"{}", "application/json")
        await self.store.put(self.buckets.derivatives, self.shown, data, "image/jpeg")
        version = await self.store.put_version(self.buckets.masters, self.master, data, "image/jpeg")
        size, sha256 = len(data), digest(data)
        photo = Photo(name=self.asset, region="home", state="ready", bytes=size, sha256=sha256, engine="abcd1234")
        picture = Picture(asset=self.asset, recipe=RECIPE, extension="jpg", bytes=size, sha256=sha256)
        file = File(line=self.line, key=self.master, version=version, bytes=size, sha256=sha256, md5="0" * 32, copies=1)
        self.change(photos={self.asset: photo}, pictures=(picture,), makings=(making(file),))

    def change(self, **what: Any) -> None:
        self.books = msgspec.structs.replace(self.books, **what)

    def change_file(self, **what: Any) -> None:
        self.change(makings=(making(msgspec.structs.replace(self.books.makings[0].files[0], **what)),))

    async def found(self, check: str) -> list[Finding]:
        """What a check says of this sample."""
        every = await IN_STORE[check](self.books, self.place)
        return [one for one in every if self.asset in one.subject or check == "buckets-private"]


def making(file: File) -> Making:
    return Making(name="ful", order="ord", state="submitted", vendor_order="1", files=(file,))


@pytest.fixture
async def sample(record_store: ObjectStore, buckets: Buckets, stack_env: dict[str, str]) -> Sample:
    made = Sample(record_store, buckets, stack_env["TIRAGE_S3_ENDPOINT"])
    await made.fill()
    return made


async def test_nothing_is_wrong_with_what_is_right(sample: Sample) -> None:
    assert [found for check in IN_STORE for found in await sample.found(check)] == []


@pytest.mark.parametrize(
    ("bucket", "key", "check"),
    [
        ("originals", "original", "originals-kept"),
        ("derivatives", "shown", "pictures-kept"),
    ],
)
async def test_lost_and_changed_objects_are_seen(sample: Sample, bucket: str, key: str, check: str) -> None:
    where, name = getattr(sample.buckets, bucket), getattr(sample, key)
    data = await sample.store.get(where, name)
    await sample.store.put(where, name, data[:-3] + b"\x00" + data[-2:], "image/jpeg")
    assert [one.detail for one in await sample.found(check)] == ["other bytes"]
    await sample.store.put(where, name, data[:-1], "image/jpeg")
    assert [one.detail for one in await sample.found(check)] == [f"{len(data) - 1} bytes instead of {len(data)}"]
    await sample.store.delete(where, name)
    assert [one.detail for one in await sample.found(check)] == ["absent"]


async def test_a_lost_ancestor_its_half_and_lost_facts_are_seen(sample: Sample) -> None:
    for key in [of(sample.asset, "abcd1234") for of in (keys.ancestor, keys.half, keys.facts)]:
        await sample.store.delete(sample.buckets.ancestors, key)
        assert key in {one.subject for one in await sample.found("ancestors-kept")}


async def test_a_master_that_is_gone_changed_or_unlocked_is_seen(sample: Sample, stack_env: dict[str, str]) -> None:
    right = sample.books
    for change, detail in (({"version": "f" * 32}, "absent"), ({"sha256": "0" * 64}, "other bytes")):
        sample.change_file(**change)
        assert [one.detail for one in await sample.found("masters-locked")] == [detail]
        sample.books = right
    sample.change_file(version=weakly_locked(stack_env, sample))
    assert [one.detail for one in await sample.found("masters-locked")] == ["not locked"]
    sample.change_file(kept="stored")
    assert await sample.found("masters-locked") == []


async def test_a_master_that_is_needed_no_more_may_be_gone(sample: Sample) -> None:
    sample.change_file(version="f" * 32, kept="stored")
    assert [one.detail for one in await sample.found("masters-locked")] == ["absent"]
    sample.change_file(kept="gone")
    assert await sample.found("masters-locked") == []


def weakly_locked(env: dict[str, str], sample: Sample) -> str:
    """A version of the master that who has the right may still remove."""
    key = (env["TIRAGE_S3_RECORD_ACCESS_KEY"], env["TIRAGE_S3_RECORD_SECRET_KEY"])
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=1)}
    s3 = client(env["TIRAGE_S3_ENDPOINT"], key)
    made = s3.put_object(Bucket=sample.buckets.masters, Key=sample.master, Body=jpeg(), **lock)
    return str(made["VersionId"])


async def test_what_belongs_to_nobody_is_seen(sample: Sample) -> None:
    (photo,) = sample.books.photos.values()
    sample.change(photos={sample.asset: msgspec.structs.replace(photo, state="erased")}, lines=frozenset())
    left = {one.subject for one in await sample.found("nothing-left-over")}
    assert {sample.original, sample.shown, sample.master, keys.facts(sample.asset, "abcd1234")} <= left


async def test_halves_of_no_session_are_seen(sample: Sample) -> None:
    name, block = ids.encode("upload", ids.new_id()), f"staging/{sample.asset}/0"
    await sample.store.put(sample.buckets.staging, block, b"x", "application/octet-stream")
    half = await sample.store.begin_multipart(sample.buckets.originals, sample.original, "image/jpeg", {})
    assert {one.subject for one in await sample.found("no-halves")} == {block, sample.original}
    sample.change(sessions=(Session(name=name, region="home", asset=sample.asset, storage_id=half),))
    assert {one.subject for one in await sample.found("no-halves")} == {block}
    await sample.store.abort_multipart(sample.buckets.originals, sample.original, half)
    await sample.store.delete(sample.buckets.staging, block)


@pytest.mark.parametrize("bucket", ["ancestors", "derivatives", "masters"])
async def test_a_place_or_a_camera_in_any_picture_is_seen(sample: Sample, bucket: str) -> None:
    told = Image.Exif()
    told[0x010F] = "Camera"
    key = {"ancestors": keys.ancestor(sample.asset, "abcd1234"), "derivatives": sample.shown}.get(bucket, sample.master)
    await sample.store.put_version(getattr(sample.buckets, bucket), key, jpeg(exif=told), "image/jpeg")
    assert [(one.subject, one.detail) for one in await sample.found("nothing-private-inside")] == [(key, "exif")]


class Open(BaseHTTPRequestHandler):
    """A store and an edge that give everything to everybody."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_PUT = do_GET  # noqa: N815 the name is the protocol

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def open_door() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Open)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_each_region_is_held_to_what_it_keeps(sample: Sample) -> None:
    """What is another region's is missed there and left over here; what is in no region that was seen is told."""
    sample.books = sample.books.kept_in("home", "home")
    assert [found for check in IN_STORE for found in await sample.found(check)] == []
    photo = msgspec.structs.replace(sample.books.photos[sample.asset], region="west")
    sample.change(photos={sample.asset: photo})
    sample.change_file(region="west")
    whole = sample.books
    here, there = whole.kept_in("home", "home"), whole.kept_in("west", "home")
    assert (here.photos, here.pictures, here.makings[0].files) == ({}, (), ())
    assert there == whole
    sample.books = here
    assert {sample.original, sample.shown} <= {one.subject for one in await sample.found("nothing-left-over")}
    assert files.out_of_sight(whole, "home", {"home", "west"}) == []
    assert [(one.check, one.subject) for one in files.out_of_sight(whole, "home", {"home"})] == [
        ("originals-kept", sample.asset),
        ("masters-locked", sample.master),
    ]


async def test_an_open_bucket_is_seen_in_every_way(sample: Sample, open_door: str) -> None:
    sample.place = msgspec.structs.replace(sample.place, address=open_door)
    found = {one.subject for one in await sample.found("buckets-private")}
    for bucket in msgspec.structs.astuple(sample.buckets):
        assert {f"/{bucket}", f"/{bucket}?versions", f"/{bucket}/stranger"} <= found
    assert any(subject.startswith(f"/{sample.buckets.masters}/ast_") for subject in found)


async def test_an_open_edge_is_seen(sample: Sample, open_door: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        found = await outside.edge_private(sample.books, client, open_door)
    assert {one.subject.split("/")[0] for one in found} == {sample.asset, "d", "e"}


async def test_a_listing_goes_on_behind_its_first_page(sample: Sample) -> None:
    every = [one.key async for one in files.listed(sample.store, sample.buckets.derivatives)]
    assert sample.shown in every
    assert every == sorted(every)

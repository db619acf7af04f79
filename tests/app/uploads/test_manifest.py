"""Every real photo sent over HTTP ends as its manifest row says, and the place where it was taken goes nowhere.

A sample in `make test`; every row by `make interop`, with the analysis of the photos that carry a place.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.assets.service import FALLBACK
from base import ingest
from imagecore import analyse, vips
from imagecore.jail import Jail
from tasks.pixel.analysis import Analyst
from tests.app.uploads.conftest import Bench, Phone
from tests.manifest import RED, ROWS, expected, turned

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("scorecard")]

TYPES = {
    "avif": "image/avif",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "hif": "image/heic",
    "png": "image/png",
    "tif": "image/tiff",
    "webp": "image/webp",
}
SAMPLE = {
    "avif-iphone-gps.avif",
    "bad-empty.jpg",
    "bad-truncated-22mp.jpg",
    "bomb-1024-frames.gif",
    "odd-jpeg-named.png",
    "odd-polyglot-jpeg-zip.jpg",
    "orient-png-6.png",
}
LATITUDE, LONGITUDE = 2, 4
SIDES = [200, 400, 800, 1600]


class Place:
    """Where a photo was taken, in the spellings in which a program may tell it."""

    def __init__(self, raw: bytes) -> None:
        axes = [axis for found in _gps(raw) for axis in (found.get(LATITUDE), found.get(LONGITUDE)) if axis]
        self.is_empty = not axes
        self._texts = [pattern for axis in axes for pattern in _spellings(axis)]
        self._stored = [b"".join(_packed(part, order) for part in axis) for axis in axes for order in ("little", "big")]

    def is_told(self, text: str) -> bool:
        """Whether a text has it, as a decimal fraction or as degrees, minutes and seconds."""
        return any(re.search(pattern, text) for pattern in self._texts)

    def is_stored(self, data: bytes) -> bool:
        """Whether bytes have it as EXIF stores it, or as a text."""
        return any(packed in data for packed in self._stored) or self.is_told(data.decode("latin-1"))


def _gps(raw: bytes) -> Iterator[dict[int, Any]]:
    """The GPS directories of every EXIF block in a file, whatever holds it."""
    for at in re.finditer(rb"II\*\0|MM\0\*", raw):
        block = Image.Exif()
        try:
            block.load(b"Exif\0\0" + raw[at.start() : at.start() + 65_536])
            found = block.get_ifd(0x8825)
        except (SyntaxError, ValueError, KeyError, TypeError, OSError):
            continue
        if all(part.denominator for axis in (LATITUDE, LONGITUDE) for part in found.get(axis, ())):
            yield found


def _packed(part: Any, order: Any) -> bytes:
    return int(part.numerator).to_bytes(4, order) + int(part.denominator).to_bytes(4, order)


def _spellings(axis: tuple[Any, ...]) -> list[str]:
    """Decimal to four places (10 m); rational or sexagesimal numbers in a row; XMP's degrees and decimal minutes."""
    degrees, minutes, seconds = axis
    micro = int((degrees + minutes / 60 + seconds / 3600) * 1_000_000)
    parts = r"[^\d:.]{1,6}".join(rf"0*(?:{p.numerator}(?:/{p.denominator})?|{int(p)}(?:\.\d+)?)" for p in axis)
    return [
        rf"(?<![\d:.]){micro // 1_000_000}\.{micro % 1_000_000 // 100:04d}",
        rf"(?<![\d:.-]){parts}(?![\d:])",
        rf"(?<![\d:.-])0*{int(degrees)},{(micro % 1_000_000) * 60 // 1_000_000}\.\d{{2}}",
    ]


def test_a_place_is_found_where_it_is_told(photos: Path) -> None:
    """The search itself: every photo that has a place tells it to a reader, and in each of the spellings."""
    raws = [(photos / row["file"]).read_bytes() for row in ROWS if row["has_gps"]]
    places = [(raw, Place(raw)) for raw in raws]
    assert [place.is_empty for _, place in places].count(False) == 7, "one camera wrote 0/0"
    for raw, place in places:
        if place.is_empty:
            continue
        found = next(found for found in _gps(raw) if LATITUDE in found)
        (d, m, s) = (float(part) for part in found[LATITUDE])
        decimal = d + m / 60 + s / 3600
        assert place.is_stored(raw)
        assert place.is_told(json.dumps({"latitude": round(decimal + 5e-8, 7)}))
        assert place.is_told(" ".join(f"{part.numerator}/{part.denominator}" for part in found[LATITUDE]))
        assert place.is_told(f"{int(d)}\N{DEGREE SIGN} {int(m)}' {s:.5f}\" N")
        assert place.is_told(f'exif:GPSLatitude="{int(d)},{(decimal - int(d)) * 60 + 5e-9:.8f}N"')
        assert not place.is_told("2026-11-24T12:50:17.123456Z 5016.2 12,5.9 50 17")


async def sent(phone: Phone, photos: Path, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Send the photos of these rows; by file name the session of each, none for what is refused at the door."""
    found = {}
    for row in rows:
        raw = (photos / row["file"]).read_bytes()
        if not raw:
            answer = await phone.call("POST", "/v1/uploads", {"bytes": 0, "contentType": "image/jpeg"})
            assert (answer.status_code, row["expectation"]) == (422, "reject:empty")
            continue
        type_ = TYPES.get(row["file"].rpartition(".")[2], "image/jpeg")
        found[row["file"]] = await phone.send(raw, contentType=type_, sha256=row["sha256"])
        assert (await phone.complete(found[row["file"]]["id"])).status_code == 202
        await phone.bench.work()
    return found


def said(asset: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """An asset in the manifest's words; a lighter preview, made on a machine that had no time, is none of them."""
    if asset["state"] == "rejected":
        return "reject", frozenset({asset["reason"]})
    return "accept", frozenset(note for note in asset["notes"] if not note.startswith(FALLBACK))


async def check_row(phone: Phone, row: dict[str, Any], asset: dict[str, Any]) -> None:
    """The asset is in the row's state, with its notes or reason and facts."""
    word, notes = said(asset)
    assert (word, notes | RED.get(row["file"], set())) in expected(row), (row["file"], asset)
    if word == "reject":
        return
    told = {name: asset[name] for name in ("state", "bytes", "format", "width", "height", "sha256")}
    listed = {name: turned(row)[name] for name in told if name != "state"}
    assert told == {"state": "ready", **listed}, row["file"]


async def answers(phone: Phone, upload: dict[str, Any]) -> list[str]:
    """Whatever the API tells about one photo: bodies, addresses and headers."""
    asset = upload["assetId"]
    mint = {"assetIds": [asset], "sides": SIDES}
    paths = [f"/v1/uploads/{upload['id']}", "/v1/assets", "/v1/events?limit=200"]
    paths += [f"/v1/assets/{asset}{more}" for more in ("", "/provenance", "/prints", "/alike")]
    paths.append(f"/v1/assets/{asset}/readiness?class=standard&widthUm=102000&heightUm=152000")
    found = [await phone.call("GET", path) for path in paths]
    found += [await phone.call("POST", "/v1/images", {**mint, "format": each}) for each in ("jpg", "webp", "avif")]
    found.append(await phone.call("POST", f"/v1/assets/{asset}/original-link"))
    return [f"{answer.headers}\n{answer.text}" for answer in found]


async def check_stored(bench: Bench, asset: str, place: Place | None) -> int:
    """No stored thing but the original has metadata, or the place; how many pictures there were."""
    pictures = 0
    for bucket in (bench.buckets.ancestors, bench.buckets.derivatives):
        for key in await bench.services.store.list_keys(bucket, asset):
            data = await bench.services.store.get(bucket, key)
            assert place is None or not place.is_stored(data), "the place is stored"
            if not key.endswith(".json"):
                pictures += 1
                check_bare(data)
    return pictures


def check_bare(data: bytes) -> None:
    """A picture with pixels and profile only."""
    image = vips.open_buffer(data)
    assert [name for name in image.get_fields() if re.search("exif|xmp|iptc|gps", name, re.IGNORECASE)] == []
    assert not any(mark in data for mark in (b"Exif\0\0", b"http://ns.adobe.com/", b"Photoshop 3.0"))


async def check_rows(bench: Bench, photos: Path, rows: list[dict[str, Any]]) -> None:
    """Send them all and hold everything that can be had against them."""
    phone = await bench.phone()
    uploads = await sent(phone, photos, rows)
    pages = {name: await answers(phone, upload) for name, upload in uploads.items()}
    for row in rows:
        if row["file"] not in uploads:
            continue
        asset = (await phone.call("GET", f"/v1/assets/{uploads[row['file']]['assetId']}")).json()
        await check_row(phone, row, asset)
        place = Place((photos / row["file"]).read_bytes()) if row["has_gps"] else None
        if place is not None:
            assert not any(place.is_told(text) for page in pages.values() for text in page), "the place is told"
        pictures = await check_stored(bench, asset["id"], place)
        assert pictures > len(SIDES) if asset["state"] == "ready" else pictures == 0, row["file"]


@pytest.fixture(scope="module")
def models() -> Iterator[Jail]:
    with Jail.open(analyse.LIMITS, preload=("analyse",)) as jail:
        yield jail


@pytest.fixture
async def looking(bench: Bench, models: Jail) -> Bench:
    """The bench, where photos are looked at as well."""
    bench.pixels[ingest.ANALYSE] = Analyst(bench.services.store, bench.buckets, lambda: models).kind
    return bench


async def test_a_sample_of_the_manifest(bench: Bench, photos: Path) -> None:
    await check_rows(bench, photos, [row for row in ROWS if row["file"] in SAMPLE])


@pytest.mark.interop
async def test_every_photo_of_the_manifest(bench: Bench, photos: Path) -> None:
    assert len(ROWS) == 70
    await check_rows(bench, photos, ROWS)


@pytest.mark.interop
async def test_photos_with_a_place_that_were_looked_at(looking: Bench, photos: Path) -> None:
    await check_rows(looking, photos, [row for row in ROWS if row["has_gps"]])

"""What files carry beside their picture is named, whatever the format; what renditions may carry is not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from imagecore import classes, colour, engine, masters, render
from imagecore.carried import extras
from imagecore.recipe import Crop, Recipe
from tests.manifest import ROWS

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, kind, **more)
    return out.getvalue()


def exif() -> bytes:
    made = Image.Exif()
    made[0x010F] = "Camera"
    return made.tobytes()


def text() -> PngInfo:
    told = PngInfo()
    told.add_text("where", "here")
    return told


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_plain_picture_with_a_profile_carries_nothing(kind: str) -> None:
    assert extras(picture(kind, icc_profile=PROFILE)) == []


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (picture("JPEG", exif=exif()), "exif"),
        (picture("JPEG", xmp=b"<x/>"), "xmp"),
        (picture("JPEG", comment=b"at home"), "comment"),
        (picture("JPEG") + b"more", "trailing-data"),
        (picture("PNG", exif=exif()), "exif"),
        (picture("PNG", pnginfo=text()), "text"),
        (picture("WEBP", exif=exif()), "exif"),
        (picture("WEBP", xmp=b"<x/>"), "xmp"),
        (picture("AVIF", exif=exif()), "exif"),
        (picture("AVIF", xmp=b"<x/>"), "xmp"),
        (picture("TIFF", exif=exif()), "make"),
        (picture("TIFF", description="at home"), "description"),
        (b"no picture", "unreadable"),
        (b"", "unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_carried_is_named(raw: bytes, named: str) -> None:
    assert any(named in found for found in extras(raw)), extras(raw)


@pytest.mark.parametrize("name", ["large-03-iphone-xs-p3-rotated.jpg", "avif-iphone-gps.avif", "ultrahdr-gainmap.jpg"])
def test_real_originals_carry_something(photos: Path, name: str) -> None:
    assert extras((photos / name).read_bytes()) != []


QUICK = {
    "large-02-pixel-path.jpg", "heic-iphone11pro-p3-rotated.heic", "avif-iphone-gps.avif", "orient-webp-6.webp",
    "orient-tiff-6.tif", "orient-png-6.png", "ultrahdr-gainmap.jpg", "odd-polyglot-jpeg-zip.jpg",
    "cmyk-swop-adobe-inverted.jpg",
}  # fmt: skip
"""One of each format, and what carries most; all others are looked at in `make soak`."""


def outputs(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Every kind of file that is made of a photo."""
    report, parents = render.parents(raw)
    facts = report.facts
    yield from ((name, data) for name, data in parents.items() if name != "original")
    wanted: dict[str, Any] = {"width": 400, "height": 400, "engine": engine.revision()}
    crop = Crop(0, 0, min(facts.width or 1, 90), min(facts.height or 1, 90))
    kinds = {
        "jpg": {},
        "large": {"width": 1600, "height": 1600},
        "webp": {"format": "webp"},
        "avif": {"format": "avif"},
        "p3": {"target": "p3"},
        "crop": {"crop": crop, "fit": "box"},
        "proof": {"class_": "proof", "proof": "fogra39", "chroma": "444"},
    }
    for name, fields in kinds.items():
        yield name, render.render(Recipe(**{**wanted, **fields}), facts, parents)
    if facts.is_hdr:
        return
    for profile in ("srgb", "fogra39"):
        target = colour.named(profile)
        recipe = masters.plan(
            classes.named("poster"), (facts.width or 1, facts.height or 1), (60_000, 40_000), profile=target
        )
        yield f"master in {profile}", masters.make(raw, recipe, target).data


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(row["file"], marks=[] if row["file"] in QUICK else pytest.mark.soak)
        for row in ROWS
        if row and row["expectation"].startswith("accept")
    ],
)
def test_nothing_private_is_in_any_output(photos: Path, name: str) -> None:
    found = {kind: extras(data) for kind, data in outputs((photos / name).read_bytes())}
    assert len(found) >= 9
    assert {kind: named for kind, named in found.items() if named} == {}

"""What files carry beside their picture is named, whatever the format; what renditions may carry is not."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from imagecore.carried import extras

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

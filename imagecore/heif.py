"""HEIC pixels by pi-heif, handed to libvips without a copy; headers of HEIC and AVIF.

The libvips wheel reads HEIC headers but cannot decode HEVC. Two traps are closed here: pi-heif's buffer dies with
its file object although libvips still reads it, and the pixels come out already turned although EXIF says otherwise,
so no orientation leaves this module.
"""

from typing import Any, Final

import msgspec
import pi_heif

from imagecore import vips
from imagecore.errors import PixelFailure

# Decode threads do not change the bytes.
DECODE_THREADS: Final = 2
_BANDS: Final = {"RGB": 3, "RGBA": 4, "RGBa": 4, "L": 1, "LA": 2, "La": 2, "I": 1}


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a HEIF or AVIF container says of its primary picture, as displayed (container turns applied)."""

    width: int
    height: int
    bits: int
    bands: int
    premultiplied: bool
    images: int
    profile: bytes | None
    cicp: tuple[int, int, int] | None
    exif: bytes | None
    has_gps_in_xmp: bool
    gain_map: bool
    depth_map: bool


def _open(raw: bytes) -> Any:
    """The file object; raises `PixelFailure` with libheif's words."""
    pi_heif.options.DECODE_THREADS = DECODE_THREADS
    try:
        opened = pi_heif.open_heif(raw, convert_hdr_to_8bit=False)
        return opened, opened[opened.primary_index]
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError, IndexError) as error:
        raise PixelFailure(str(error)) from None


def read(raw: bytes) -> Header:
    """The header, without decoding. Raises `PixelFailure`."""
    opened, primary = _open(raw)
    info = primary.info
    nclx = info.get("nclx_profile")
    cicp = (
        (int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]), int(nclx["matrix_coefficients"]))
        if nclx
        else None
    )
    return Header(
        width=primary.size[0],
        height=primary.size[1],
        bits=int(info["bit_depth"]),
        bands=_BANDS[primary.mode.partition(";")[0]],
        premultiplied=_is_premultiplied(primary),
        images=len(opened),
        profile=bytes(info["icc_profile"]) if info.get("icc_profile") else None,
        cicp=cicp,
        exif=bytes(info["exif"]) if info.get("exif") else None,
        has_gps_in_xmp=b"GPSLatitude" in (info.get("xmp") or b""),
        gain_map=any("hdrgainmap" in str(name) for name in info.get("aux", {})),
        depth_map=bool(info.get("depth_images")),
    )


def _is_premultiplied(primary: Any) -> bool:
    return str(primary.mode).partition(";")[0].endswith("a")


def unpremultiplied(image: vips.Image) -> vips.Image:
    """The picture whose alpha no longer stands in its colours as well."""
    is_wide = image.format == "ushort"
    with vips.failures():
        return image.unpremultiply(max_alpha=65535 if is_wide else 255).cast(image.format)


def decode(raw: bytes) -> vips.Image:
    """The primary picture: upright, at its own depth (10 and 12 bit scaled to 16), its profile attached, bare.

    Premultiplied alpha is undone. Raises `PixelFailure`; a missing tile of a cut file raises nothing (ask
    `containers.heif`).
    """
    _, primary = _open(raw)
    try:
        data = primary.data
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise PixelFailure(str(error)) from None
    name, _, depth = primary.mode.partition(";")
    bands, wide = _BANDS[name], bool(depth)
    (width, height), row = primary.size, primary.stride // (_BANDS[name] * (2 if depth else 1))
    with vips.failures():
        image = vips.from_pixels(data, row, height, bands, wide=wide, owner=primary)
        if row != width:
            image = image.crop(0, 0, width, height)
        spaces = ("b-w", "grey16") if bands < 3 else ("srgb", "rgb16")
        image = image.copy(interpretation=spaces[wide])
    if _is_premultiplied(primary):
        image = unpremultiplied(image)
    profile = primary.info.get("icc_profile")
    return vips.with_profile(image, bytes(profile)) if profile else image

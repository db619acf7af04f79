"""Colour: where a picture's numbers come from, and how they reach a named target. No hidden filters.

Input: an embedded profile is honoured; no profile means sRGB (gray: sRGB's curve; CMYK: FOGRA39) and an unusable one
the same; which of the three it was is always said. Targets are profiles whose bytes are pinned by SHA-256. libvips
opens profiles by file name only, so each is handed over through a memory file that nobody else can change.
"""

import functools
import hashlib
import os
from enum import StrEnum
from importlib import resources
from typing import Final

import msgspec

from imagecore import icc, vips
from imagecore.errors import ImageError
from imagecore.icc import BANDS, Intent, Rendering, Space
from imagecore.vips import Image


class ProfileUnusable(ImageError):
    """A target profile is not known, not the one whose hash was pinned, or not sound."""

    code = "profile-unusable"


class Profile(msgspec.Struct, frozen=True):
    """A profile to convert from or to; `sha256` is its identity wherever one is named."""

    name: str
    space: Space
    sha256: str
    data: bytes

    @property
    def bands(self) -> int:
        """Channels of its device space."""
        return BANDS[self.space]


class Origin(StrEnum):
    """Where the reading of a picture's numbers came from."""

    EMBEDDED = "embedded"
    ASSUMED = "assumed"
    BROKEN = "broken"


class Reading(msgspec.Struct, frozen=True):
    """How a picture's numbers are read. `fault` says what was wrong when the origin is `BROKEN`."""

    origin: Origin
    profile: Profile
    fault: str = ""


DEFAULT: Final = Rendering()
CACHED: Final = 8
"""Profiles of photos whose judgement is remembered: each may be 4 MiB, which is kept as well."""

SHIPPED: Final = {
    "srgb": ("sRGB.icc", "c56e1685d888f5edb92fe07f2750f387f8fe8e91b32ff8fb0b56bfbbb9458353"),
    "display-p3": ("DisplayP3.icc", "231752984cd4a5278e1b8d2390fe496767d4511fc81f54e1a5c69ae9ab4c42b5"),
    "adobe-rgb": ("AdobeRGB-compatible.icc", "76f4ad83ad4726d33e2291a5b3e3bf4f30b2f723c65a583b74a9365e30e097c7"),
    "fogra39": ("FOGRA39L.icc", "50f57b68995fddaf0939d90c260e4a64bc84310e4a798c997eaa4a436d50e3a6"),
}
_ASSUMED: Final = {Space.GRAY: "srgb", Space.RGB: "srgb", Space.CMYK: "fogra39"}


@functools.cache
def named(name: str) -> Profile:
    """The shipped profile `srgb`, `display-p3`, `adobe-rgb` or `fogra39`; raises `ProfileUnusable` for other names."""
    if name not in SHIPPED:
        raise ProfileUnusable(f"no profile named {name!r}")
    file, sha256 = SHIPPED[name]
    return pinned(name, resources.files("imagecore").joinpath("profiles", file).read_bytes(), sha256)


def pinned(name: str, data: bytes, sha256: str) -> Profile:
    """A vendor's own profile, checked against the hash it was configured with; raises `ProfileUnusable`."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ProfileUnusable(f"profile {name!r} has SHA-256 {found}, not the pinned {sha256}")
    try:
        header = icc.read(data)
    except icc.Unusable as fault:
        raise ProfileUnusable(f"profile {name!r}: {fault}") from None
    return Profile(name, header.space, sha256, data)


def space_of(image: Image) -> Space:
    """The device space that a picture's bands and interpretation tell, alpha apart."""
    if image.interpretation == "cmyk":
        return Space.CMYK
    return Space.GRAY if image.bands < 3 else Space.RGB


def judge(data: bytes | None, space: Space) -> Reading:
    """How to read numbers in `space` that came with these profile bytes, or with none."""
    assumed = named(_ASSUMED[space])
    if not data:
        return Reading(Origin.ASSUMED, assumed)
    try:
        header = icc.read(data)
    except icc.Unusable as fault:
        return Reading(Origin.BROKEN, assumed, str(fault))
    if header.space is not space:
        return Reading(Origin.BROKEN, assumed, f"a profile for {header.space} on {space} pixels")
    if not _is_taken(data, space):
        return Reading(Origin.BROKEN, assumed, "its tables are refused")
    return Reading(Origin.EMBEDDED, Profile(header.description, space, header.sha256, data))


@functools.lru_cache(maxsize=CACHED)
def _is_taken(data: bytes, space: Space) -> bool:
    """Whether Little CMS can read numbers by this profile, for every intent.

    libvips takes a profile to fall back to, and says nothing when it does: what comes out may not depend on it.
    """
    pixel = vips.with_profile(_pixel(space), data)
    for intent in (Intent.RELATIVE, Intent.PERCEPTUAL, Intent.SATURATION):
        try:
            with vips.failures():
                seen = {
                    tuple(pixel.icc_import(embedded=True, input_profile=other, intent=intent, pcs="lab").getpoint(0, 0))
                    for other in _fallbacks(space)
                }
        except ImageError:
            return False
        if len(seen) > 1:
            return False
    return True


def _fallbacks(space: Space) -> tuple[str, ...]:
    """Two profiles that read `_pixel` differently; of gray there is one."""
    if space is Space.CMYK:
        return "cmyk", _path(named("fogra39"))
    return ("srgb", _path(named("adobe-rgb"))) if space is Space.RGB else ("srgb",)


@functools.cache
def _pixel(space: Space) -> Image:
    numbers = memoryview(bytes((10, 90, 170, 50)[: BANDS[space]]))
    kind = {Space.GRAY: "b-w", Space.RGB: "srgb", Space.CMYK: "cmyk"}[space]
    return vips.from_pixels(numbers, 1, 1, BANDS[space], wide=False, owner=numbers).copy(interpretation=kind)


def reading_of(image: Image) -> Reading:
    """`judge` of the picture's own profile."""
    return judge(vips.blob(image, "icc-profile-data"), space_of(image))


@functools.cache
def _path(profile: Profile) -> str:
    """A name by which libvips can open the profile, good for the life of this process: targets are few."""
    file = os.memfd_create(f"icc-{profile.sha256[:8]}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(file, profile.data)
    return f"/proc/self/fd/{file}"


def convert(image: Image, target: Profile, rendering: Rendering = DEFAULT, *, wide: bool = False) -> Image:
    """The picture in `target`, profile attached, 16 bit a sample if `wide`, else 8. Alpha is kept.

    A picture that is already in `target` keeps its numbers. Lazy; raises `PixelFailure` when computed.
    """
    reading = reading_of(image)
    if reading.profile.sha256 == target.sha256 and space_of(image) is target.space:
        return vips.with_profile(at_depth(image, wide=wide), target.data)
    source = image
    if space_of(image) is Space.GRAY and reading.profile.space is not Space.GRAY:
        source = _as_rgb(image)
    source = vips.with_profile(source, reading.profile.data)
    with vips.failures():
        return source.icc_transform(
            _path(target),
            embedded=True,
            intent=rendering.intent,
            black_point_compensation=rendering.black_point,
            depth=16 if wide else 8,
        )


def _as_rgb(image: Image) -> Image:
    """Gray on sRGB's curve as three equal channels."""
    with vips.failures():
        return image.colourspace("rgb16" if image.format == "ushort" else "srgb")


def at_depth(image: Image, *, wide: bool) -> Image:
    """The same numbers at 8 or 16 bit a sample."""
    is_wide = image.format == "ushort"
    if is_wide == wide:
        return image
    with vips.failures():
        if wide:
            scaled = image.cast("ushort", shift=False) * 257
            kind = {Space.GRAY: "grey16", Space.RGB: "rgb16", Space.CMYK: "cmyk"}[space_of(image)]
            return scaled.cast("ushort").copy(interpretation=kind)
        kind = {Space.GRAY: "b-w", Space.RGB: "srgb", Space.CMYK: "cmyk"}[space_of(image)]
        return ((image + 128) / 257).floor().cast("uchar").copy(interpretation=kind)


def to_lab(image: Image, intent: Intent = Intent.RELATIVE) -> Image:
    """The picture's colours as CIELAB in floating point (D50, media-relative unless `intent` is absolute), no alpha."""
    reading = reading_of(image)
    source = image
    if space_of(image) is Space.GRAY and reading.profile.space is not Space.GRAY:
        source = _as_rgb(image)
    with vips.failures():
        flat = source.extract_band(0, n=BANDS[space_of(source)])
        tagged = vips.with_profile(flat, reading.profile.data)
        return tagged.icc_import(embedded=True, intent=intent, pcs="lab")

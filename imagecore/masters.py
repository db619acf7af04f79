"""Print masters: the file that goes to production, always from the original, with a manifest that proves it.

A master is a pure function of the original's bytes, a `MasterRecipe`, its profile's bytes and the engine. Size is the
vendor's print area in pixels, else (trim + 2 bleed) at 300 ppi, nearest, ties up. The picture is scaled in its own
colour space (a CMYK original in Adobe RGB at 16 bit), sharpened once at final size by integer kernels, and converted
once, last.
"""

import functools
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from math import gcd
from typing import Final, cast

import msgspec

from imagecore import colour, engine, geometry, inspect, proof, sheets, vips
from imagecore.classes import ClassName, Format, OutputClass, Sharpening
from imagecore.colour import Profile
from imagecore.errors import OutOfBounds, PixelFailure, Reason, Rejected
from imagecore.facts import Facts, Origin
from imagecore.geometry import Box as Part
from imagecore.icc import Rendering, Space
from imagecore.jail_wire import Limits, Output
from imagecore.load import load
from imagecore.vips import Image

REVISION: Final = 1
"""Raised when the steps here change any master's bytes."""

LIMITS: Final = Limits(memory_mb=2400, output_mb=1024, jobs=50)
JPEG_QUALITY: Final = 95
Fit = sheets.Fit

_LANCZOS: Final = "lanczos3"
_BETWEEN: Final = Sharpening(radius=1, amount=20)


class MasterRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a master's bytes beside the original, the profile's bytes and the engine.

    `width` x `height` is the sheet in pixels, `trim` what is left of it after cutting, both from the top left. `cover`
    fills the sheet with `part` of the upright original; `whole` sets it on white inside the trim. With a `border`
    (pixels) either keeps that much white inside the trim. `profile` names the target, `profile_sha256` pins it.
    """

    class_: ClassName
    width: int
    height: int
    trim: Part
    fit: Fit
    part: Part
    profile: str
    profile_sha256: str
    renderings: tuple[Rendering, ...]
    format: Format
    sharpening: Sharpening
    wide: bool
    stepwise: bool
    ppi: int
    border: int = 0


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The original: hash, upright sides, and how its numbers were read (as its facts say: `embedded`, `cicp`, …)."""

    sha256: str
    width: int
    height: int
    profile_origin: str
    profile_sha256: str


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """The master itself; `rendering` is the one of the recipe's that was used."""

    sha256: str
    bytes: int
    width: int
    height: int
    space: Space
    rendering: Rendering


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of a master: kept for ever, also when the pixels are gone. `encode` gives its one spelling."""

    schema: int = 1
    source: Source
    recipe: MasterRecipe
    engine: str
    engine_parts: tuple[str, ...]
    output: Product


class Master(msgspec.Struct, frozen=True):
    """A master and its manifest."""

    data: bytes
    manifest: Manifest


def encode(manifest: Manifest) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8."""
    return msgspec.json.encode(manifest, order="sorted")


def encode_recipe(recipe: MasterRecipe) -> bytes:
    """The parameters of the jail's `master`."""
    return msgspec.json.encode(recipe, order="sorted")


def decode(data: bytes) -> Manifest:
    """A manifest from its JSON; raises `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Manifest)


def revision() -> str:
    """The engine's id for masters: libraries, profiles and the steps of this module."""
    return f"{engine.revision()}-m{REVISION}"


# --- planning: integers only ---


def plan(
    class_: OutputClass,
    source: tuple[int, int],
    trim_um: tuple[int, int],
    *,
    area: tuple[int, int] | None = None,
    part: Part | None = None,
    focal: tuple[int, int] = (5_000, 5_000),
    fit: Fit = "cover",
    border_um: int = 0,
    profile: Profile | None = None,
    format_: Format | None = None,
) -> MasterRecipe:
    """The recipe for a print of this trim from an upright original of these sides.

    `area`: the vendor's print area in pixels, where it has one. `part`: the user's crop; its shape is brought to that
    of what it fills around `focal`. `border_um` of white are kept inside the trim. CMYK goes out as TIFF, everything
    else as JPEG, unless told. Raises `OutOfBounds`.
    """
    target = profile or colour.named(class_.targets[0])
    sheet = sheets.plan(class_, source, trim_um, area=area, part=part, focal=focal, fit=fit, border_um=border_um)
    return MasterRecipe(
        class_=class_.name,
        width=sheet.width,
        height=sheet.height,
        trim=sheet.trim,
        fit=fit,
        part=sheet.part,
        profile=target.name,
        profile_sha256=target.sha256,
        renderings=class_.renderings,
        format=format_ or ("tiff" if target.space is Space.CMYK else "jpeg"),
        sharpening=class_.sharpening,
        wide=class_.wide,
        stepwise=class_.stepwise,
        ppi=_ppi(sheet.width, trim_um[0] + 2 * class_.bleed_um),
        border=sheet.border,
    )


def _ppi(pixels: int, length_um: int) -> int:
    """Pixels an inch of the sheet, nearest, ties up: what the file says of itself."""
    return (2 * pixels * geometry.PER_INCH + length_um) // (2 * length_um)


# --- pixels ---


def make(raw: bytes, recipe: MasterRecipe, target: Profile) -> Master:
    """The master of an original; raises `Rejected`, `PixelFailure`, `OutOfBounds`, `OutOfMemory`.

    `OutOfBounds` also when `target` is not the profile that the recipe pins, or the part leaves the original.
    """
    if target.sha256 != recipe.profile_sha256:
        raise OutOfBounds(f"the recipe pins another profile than {target.sha256}")
    facts = _facts(raw)
    original = load(raw)
    geometry.check_box(recipe.part, original.width, original.height)
    reading = colour.reading_of(original)
    rendering = _rendering(original, recipe, target)
    picture = original
    for step in STEPS:
        picture = step(picture, recipe)
    data = _encoded(colour.convert(picture, target, rendering), recipe)
    source = Source(
        sha256=facts.sha256,
        width=original.width,
        height=original.height,
        profile_origin=Origin.ASSUMED if facts.profile is None else facts.profile.origin,
        profile_sha256=reading.profile.sha256,
    )
    output = Product(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=recipe.width,
        height=recipe.height,
        space=target.space,
        rendering=rendering,
    )
    manifest = Manifest(source=source, recipe=recipe, engine=revision(), engine_parts=engine.parts(), output=output)
    return Master(data, manifest)


def _facts(raw: bytes) -> Facts:
    """What the headers say; PQ and HLG are refused: read as if they were SDR they would print dull and dark."""
    survey = inspect.Survey(raw)
    survey.read()
    facts = survey.facts()
    if facts.transfer != "sdr":
        raise Rejected(Reason.HDR_NOT_PRINTABLE, f"{facts.transfer} needs tone mapping, which masters do not have")
    return facts


def _rendering(original: Image, recipe: MasterRecipe, target: Profile) -> Rendering:
    """The recipe's only rendering, or of several the one that loses least on the part shown."""
    if len(recipe.renderings) == 1:
        return recipe.renderings[0]
    return proof.least_loss(_cut(original, recipe), target, recipe.renderings)


def _flatten(image: Image, recipe: MasterRecipe) -> Image:
    """On white where the picture is transparent: paper shows there."""
    if not image.hasalpha():
        return image
    white = [65535 if image.format == "ushort" else 255] * (image.bands - 1)
    with vips.failures():
        return image.flatten(background=white)


def _cut(image: Image, recipe: MasterRecipe) -> Image:
    """The part to print."""
    with vips.failures():
        return image.crop(*recipe.part)


def _working(image: Image, recipe: MasterRecipe) -> Image:
    """Into the space and depth to work in: the picture's own; CMYK in Adobe RGB at 16 bit."""
    if colour.space_of(image) is Space.CMYK:
        return colour.convert(image, colour.named("adobe-rgb"), wide=True)
    return colour.at_depth(image, wide=recipe.wide or image.format == "ushort")


def _scale(image: Image, recipe: MasterRecipe) -> Image:
    """To the size it has on the sheet."""
    width, height = _placed(recipe)[2:]
    while recipe.stepwise and width > 2 * image.width and height > 2 * image.height:
        with vips.failures():
            image = _sharpened(image.resize(2.0, kernel=_LANCZOS, gap=2.0), _BETWEEN)
    with vips.failures():
        scaled = image.resize(width / image.width, vscale=height / image.height, kernel=_LANCZOS, gap=2.0)
    if (scaled.width, scaled.height) != (width, height):
        raise PixelFailure(f"scaled to {scaled.width} x {scaled.height}, not {width} x {height}")
    return scaled


def _sharpen(image: Image, recipe: MasterRecipe) -> Image:
    """Once, at final size, for the paper."""
    return _sharpened(image, recipe.sharpening)


def _place(image: Image, recipe: MasterRecipe) -> Image:
    """On the sheet; what it does not cover is white."""
    x, y, width, height = _placed(recipe)
    if (width, height) == (recipe.width, recipe.height):
        return image
    white = [65535 if image.format == "ushort" else 255] * image.bands
    with vips.failures():
        return image.embed(x, y, recipe.width, recipe.height, extend="background", background=white)


STEPS: Final[tuple[Callable[[Image, MasterRecipe], Image], ...]] = (_cut, _flatten, _working, _scale, _sharpen, _place)


def _placed(recipe: MasterRecipe) -> geometry.Placement:
    """Where on the sheet the picture stands, and how large."""
    return sheets.placed(
        recipe.width, recipe.height, recipe.trim, fit=recipe.fit, border=recipe.border, part=recipe.part
    )


_BINOMIAL: Final = {1: (1, 2, 1), 2: (1, 4, 6, 4, 1)}


@functools.cache
def _kernel(sharpening: Sharpening) -> tuple[tuple[tuple[int, ...], ...], int]:
    """An integer unsharp mask and its divisor: (1 + amount) x the pixel - amount x its binomial neighbourhood."""
    row = _BINOMIAL[sharpening.radius]
    shared = gcd(sharpening.amount, 100)
    amount, scale = sharpening.amount // shared, 100 // shared
    middle = sum(row) ** 2
    mask = [[-a * b * amount for b in row] for a in row]
    mask[len(row) // 2][len(row) // 2] += middle * (scale + amount)
    return tuple(map(tuple, mask)), middle * scale


def _sharpened(image: Image, sharpening: Sharpening) -> Image:
    """Unsharp masking in 16-bit integers: libvips' vector path for 8-bit masks is only an approximation."""
    mask, scale = _kernel(sharpening)
    with vips.failures():
        wide = image if image.format == "ushort" else image.cast("ushort")
        done = wide.conv(vips.matrix(mask, scale), precision="integer")
        return done if image.format == "ushort" else done.cast(image.format)


def _encoded(image: Image, recipe: MasterRecipe) -> bytes:
    """The file: every option written out, nothing kept but the profile."""
    per_mm = recipe.ppi * 10 / 254
    with vips.failures():
        clean = vips.bare(image).copy(xres=per_mm, yres=per_mm)
        if recipe.format == "tiff":
            return cast(bytes, clean.tiffsave_buffer(**_TIFF, xres=per_mm, yres=per_mm))
        return with_density(cast(bytes, clean.jpegsave_buffer(**_JPEG)), recipe.ppi)


def with_density(jpeg: bytes, ppi: int) -> bytes:
    """The JPEG with a JFIF header that states its resolution: libvips drops it together with private metadata.

    Layout: JFIF 1.02 (ITU-T T.871, section 10.1), unit 1 = dots an inch, no thumbnail.
    """
    header = struct.pack(">HH5sHBHHBB", 0xFFE0, 16, b"JFIF\0", 0x0101, 1, ppi, ppi, 0, 0)
    return jpeg[:2] + header + jpeg[2:]


_JPEG: Final = {
    "Q": JPEG_QUALITY,
    "subsample_mode": "off",
    "optimize_coding": False,  # would hold all coefficients of a poster in memory
    "interlace": False,
    "trellis_quant": False,
    "overshoot_deringing": False,
    "optimize_scans": False,
    "quant_table": 0,
    "restart_interval": 0,
    "keep": "icc",
}
_TIFF: Final = {
    "compression": "lzw",
    "predictor": "horizontal",
    "tile": False,
    "pyramid": False,
    "miniswhite": False,
    "bigtiff": False,
    "properties": False,
    "subifd": False,
    "resunit": "inch",
    "keep": "icc",
}


# --- the child's door ---


def operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `master`: recipe as JSON, original and profile in; the master with its manifest as facts out."""
    recipe = msgspec.json.decode(params, type=MasterRecipe)
    target = colour.pinned(recipe.profile, inputs[1], recipe.profile_sha256)
    master = make(inputs[0], recipe, target)
    yield Output(name="master", data=master.data, facts=encode(master.manifest))

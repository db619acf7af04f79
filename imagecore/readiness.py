"""Is this photo good enough for this print? Findings before money, each with a code, a level and its numbers.

Pure functions over facts that were measured once: no pixels here. What could not be looked at is said to be unknown,
never fine. Numbers are integers; thousandths and hundredths as named.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from imagecore import classes, crops, geometry
from imagecore.classes import ClassName, OutputClass
from imagecore.findings import SCALE, Analysis, Box, is_text
from imagecore.geometry import Box as Part
from imagecore.quality import Quality


class Level(StrEnum):
    """How much a finding matters: `REJECT` stops an order, the others warn, `NOTE` only tells."""

    NOTE = "note"
    SOFT = "soft"
    STRONG = "strong"
    REJECT = "reject"


class Code(StrEnum):
    """What was found; an interface."""

    HDR_NOT_PRINTABLE = "hdr-not-printable"
    LOW_RESOLUTION = "low-resolution"
    BLURRED = "blurred"
    TOO_DARK = "too-dark"
    TOO_BRIGHT = "too-bright"
    SHADOWS_CLIPPED = "shadows-clipped"
    HIGHLIGHTS_CLIPPED = "highlights-clipped"
    JPEG_DAMAGE = "jpeg-damage"
    NOISE = "noise"
    CROP_LOSS = "crop-loss"
    FACE_CUT = "face-cut"
    FACE_LEFT_OUT = "face-left-out"
    FACE_IN_BLEED = "face-in-bleed"
    TEXT_CUT = "text-cut"
    TEXT_IN_BLEED = "text-in-bleed"
    EXTREME_ASPECT = "extreme-aspect"
    FACES_UNKNOWN = "faces-unknown"
    TEXT_UNKNOWN = "text-unknown"
    QUALITY_UNKNOWN = "quality-unknown"


class Finding(msgspec.Struct, frozen=True):
    """One thing to know. `value` is what was measured, `limit` what it was held against, in the code's own unit."""

    code: Code
    level: Level
    value: int
    limit: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one photo, part and print: effective ppi, share lost to the crop (thousandths), findings."""

    ppi: int
    lost: int
    findings: tuple[Finding, ...]

    @property
    def printable(self) -> bool:
        """Whether nothing stops an order."""
        return all(f.level is not Level.REJECT for f in self.findings)


class Print(msgspec.Struct, frozen=True, kw_only=True):
    """The print asked for: trim in micrometres, the part of the upright photo that fills sheet and bleed.

    `whole` photos are set on white inside the trim (letterbox): nothing of them is lost.
    """

    class_: OutputClass
    trim_width_um: int
    trim_height_um: int
    part: Part
    whole: bool = False


# Blur on paper, as a Gaussian's standard deviation in micrometres, from which a print looks soft at arm's length; a
# larger class is looked at from further away, in proportion to what it calls good.
SOFT_UM: Final = 150
STRONG_UM: Final = 300
NEAR_PPI: Final = 300

DARK_MEAN, BRIGHT_MEAN = 40, 225
CLIPPED_SOFT, CLIPPED_STRONG = 150, 400
BLOCKS_SOFT, BLOCKS_STRONG = 185, 280
NOISE_SOFT, NOISE_STRONG = 500, 1000
LOSS_SOFT, LOSS_STRONG = 200, 400
EXTREME: Final = 250
"""Longer side in hundredths of the shorter: beyond, every usual print loses a third or has wide borders."""


def check(width: int, height: int, analysis: Analysis, wanted: Print, *, hdr: bool) -> Readiness:
    """The readiness of an upright photo of these sides for a print; raises `OutOfBounds`.

    `hdr`: its numbers are PQ or HLG, which masters refuse.
    """
    geometry.check_box(wanted.part, width, height)
    bleed = 0 if wanted.whole else wanted.class_.bleed_um
    sheet = (wanted.trim_width_um + 2 * bleed, wanted.trim_height_um + 2 * bleed)
    ppi = _whole_ppi(wanted) if wanted.whole else geometry.effective_ppi(wanted.part, *sheet)
    lost = crops.lost(wanted.part, width, height)
    findings = [
        *([Finding(Code.HDR_NOT_PRINTABLE, Level.REJECT, 0, 0)] if hdr else ()),
        *_resolution(ppi, wanted.class_),
        *_quality(analysis.quality, ppi, wanted.class_),
        *_shape(width, height, lost),
        *_faces(width, height, analysis.faces, wanted),
        *_text(width, height, analysis.text, wanted),
    ]
    return Readiness(ppi=ppi, lost=lost, findings=tuple(findings))


TARGETS: Final[dict[ClassName, tuple[tuple[int, int], ...]]] = {
    ClassName.STANDARD: ((152_000, 102_000), (178_000, 127_000), (305_000, 203_000)),
    ClassName.MATTE: ((178_000, 127_000), (305_000, 203_000), (457_000, 305_000)),
    ClassName.POSTER: ((457_000, 305_000), (700_000, 500_000), (900_000, 600_000)),
    ClassName.SQUARE: ((127_000, 127_000), (203_000, 203_000), (305_000, 305_000)),
}
"""The usual sizes of each class (micrometres, longer side first), smallest first: every photo is held against them."""

UNSEEN: Final = Analysis(revision=0, faces=None, text=None, quality=None)
_WORST: Final = (Level.NOTE, Level.SOFT, Level.STRONG, Level.REJECT)


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A photo held against one print, for the part we would suggest; the trim turned to suit it."""

    class_: ClassName
    trim_um: tuple[int, int]
    part: Part
    readiness: Readiness

    @property
    def level(self) -> Level | None:
        """The worst that was found, None when nothing was."""
        return max((f.level for f in self.readiness.findings), key=_WORST.index, default=None)


def judge(
    width: int, height: int, analysis: Analysis, class_: OutputClass, trim_um: tuple[int, int], *, hdr: bool
) -> Judged:
    """An upright photo of these sides held against a print of these sides (micrometres); raises `OutOfBounds`."""
    across, down = trim_um
    if (width > height) != (across > down):
        across, down = down, across  # a print is turned to suit its photo
    sheet = (across + 2 * class_.bleed_um, down + 2 * class_.bleed_um)
    inset = inset_of(class_, across, down)
    part = crops.suggest(width, height, sheet, analysis.faces or (), analysis.text or (), inset).part
    wanted = Print(class_=class_, trim_width_um=across, trim_height_um=down, part=part)
    found = check(width, height, analysis, wanted, hdr=hdr)
    return Judged(class_=class_.name, trim_um=(across, down), part=part, readiness=found)


def survey(width: int, height: int, analysis: Analysis, *, hdr: bool) -> tuple[Judged, ...]:
    """A photo held against every target size; raises `OutOfBounds`."""
    return tuple(
        judge(width, height, analysis, classes.CLASSES[name], trim, hdr=hdr)
        for name, sizes in TARGETS.items()
        for trim in sizes
    )


def _whole_ppi(wanted: Print) -> int:
    """Pixels an inch of a letterboxed picture: the axis that touches decides."""
    across = wanted.part.width * geometry.PER_INCH // wanted.trim_width_um
    down = wanted.part.height * geometry.PER_INCH // wanted.trim_height_um
    return max(across, down)


def trim_of(wanted: Print) -> Part:
    """What of the part is left after trimming, in the photo's pixels."""
    if wanted.whole:
        return wanted.part
    part, bleed = wanted.part, wanted.class_.bleed_um
    aside = part.width * bleed // (wanted.trim_width_um + 2 * bleed)
    above = part.height * bleed // (wanted.trim_height_um + 2 * bleed)
    return Part(part.x + aside, part.y + above, max(1, part.width - 2 * aside), max(1, part.height - 2 * above))


def inset_of(class_: OutputClass, trim_width_um: int, trim_height_um: int) -> int:
    """The bleed as ten-thousandths of the sheet's shorter side: the `inset` for `crops.suggest`."""
    shorter = min(trim_width_um, trim_height_um) + 2 * class_.bleed_um
    return class_.bleed_um * SCALE // shorter


def _resolution(ppi: int, class_: OutputClass) -> Iterator[Finding]:
    limits = class_.thresholds
    steps = ((limits.reject, Level.REJECT), (limits.strong, Level.STRONG), (limits.soft, Level.SOFT))
    for limit, level in steps:
        if ppi < limit:
            yield Finding(Code.LOW_RESOLUTION, level, ppi, limit)
            return


def _graded(code: Code, value: int, soft: int, strong: int) -> Iterator[Finding]:
    if value >= strong:
        yield Finding(code, Level.STRONG, value, strong)
    elif value >= soft:
        yield Finding(code, Level.SOFT, value, soft)


def _quality(quality: Quality | None, ppi: int, class_: OutputClass) -> Iterator[Finding]:
    if quality is None:
        yield Finding(Code.QUALITY_UNKNOWN, Level.NOTE, 0, 0)
        return
    if quality.blur is not None:
        on_paper = quality.blur * geometry.PER_INCH // (100 * max(1, ppi))
        far = max(NEAR_PPI, NEAR_PPI * NEAR_PPI // class_.thresholds.good)
        # A photo that is merely too small for the size is soft too, but that has its own finding.
        if quality.blur >= 100:
            yield from _graded(Code.BLURRED, on_paper, SOFT_UM * far // NEAR_PPI, STRONG_UM * far // NEAR_PPI)
    if quality.mean < DARK_MEAN:
        yield Finding(Code.TOO_DARK, Level.SOFT, quality.mean, DARK_MEAN)
    if quality.mean > BRIGHT_MEAN:
        yield Finding(Code.TOO_BRIGHT, Level.SOFT, quality.mean, BRIGHT_MEAN)
    yield from _graded(Code.SHADOWS_CLIPPED, quality.dark, CLIPPED_SOFT, CLIPPED_STRONG)
    yield from _graded(Code.HIGHLIGHTS_CLIPPED, quality.bright, CLIPPED_SOFT, CLIPPED_STRONG)
    yield from _graded(Code.JPEG_DAMAGE, quality.blockiness, BLOCKS_SOFT, BLOCKS_STRONG)
    yield from _graded(Code.NOISE, quality.noise, NOISE_SOFT, NOISE_STRONG)


def _shape(width: int, height: int, lost: int) -> Iterator[Finding]:
    ratio = 100 * max(width, height) // min(width, height)
    if ratio >= EXTREME:
        yield Finding(Code.EXTREME_ASPECT, Level.SOFT, ratio, EXTREME)
    yield from _graded(Code.CROP_LOSS, lost, LOSS_SOFT, LOSS_STRONG)


def _faces(width: int, height: int, faces: tuple[Box, ...] | None, wanted: Print) -> Iterator[Finding]:
    if faces is None:
        yield Finding(Code.FACES_UNKNOWN, Level.NOTE, 0, 0)
        return
    trim = trim_of(wanted)
    cores = [crops.pixels(face, width, height) for face in faces]
    heads = [crops.pixels(crops.head(face), width, height) for face in faces]
    shown = [(core, head) for core, head in zip(cores, heads, strict=True) if crops.cut(wanted.part, core) < 1000]
    if len(shown) < len(faces):
        yield Finding(Code.FACE_LEFT_OUT, Level.SOFT, len(faces) - len(shown), 0)
    by_crop = [crops.cut(wanted.part, head) for _, head in shown]
    by_trim = [crops.cut(trim, core) for core, _ in shown]
    if any(by_crop) or any(by_trim):
        most = max(*by_crop, *by_trim)
        yield Finding(Code.FACE_CUT, Level.STRONG, most, 0)
    elif any(crops.cut(trim, head) for _, head in shown):
        yield Finding(Code.FACE_IN_BLEED, Level.SOFT, max(crops.cut(trim, head) for _, head in shown), 0)


def _text(width: int, height: int, text: tuple[Box, ...] | None, wanted: Print) -> Iterator[Finding]:
    if text is None:
        yield Finding(Code.TEXT_UNKNOWN, Level.NOTE, 0, 0)
        return
    if not is_text(text):
        return
    lines = [crops.pixels(box, width, height) for box in text]
    shown = [line for line in lines if crops.cut(wanted.part, line) < 1000]
    by_crop = [crops.cut(wanted.part, line) for line in shown]
    by_trim = [crops.cut(trim_of(wanted), line) for line in shown]
    if any(by_crop):
        yield Finding(Code.TEXT_CUT, Level.STRONG, max(by_crop), 0)
    elif any(by_trim):
        yield Finding(Code.TEXT_IN_BLEED, Level.SOFT, max(by_trim), 0)

"""The four output classes as data: how a print of each is made, and what it asks of a photo.

Thresholds judge the input's pixels an inch; a master is always made at the vendor's print area, or at `MASTER_PPI`.
A vendor's own wishes (profile, format) replace `targets[0]`.
"""

from enum import StrEnum
from typing import Final, Literal

import msgspec

from imagecore.errors import OutOfBounds
from imagecore.icc import Intent, Rendering

MASTER_PPI: Final = 300

Format = Literal["jpeg", "tiff"]


class ClassName(StrEnum):
    """The catalogue's column."""

    STANDARD = "standard"
    MATTE = "matte"
    POSTER = "poster"
    SQUARE = "square"


class Sharpening(msgspec.Struct, frozen=True):
    """Unsharp masking by a fixed kernel: `radius` 1 is 3 x 3, 2 is 5 x 5; `amount` in hundredths."""

    radius: int
    amount: int


class Thresholds(msgspec.Struct, frozen=True):
    """Input pixels an inch: below `reject` no order, below `strong` and `soft` a warning; `good` and up, no more."""

    reject: int
    strong: int
    soft: int
    good: int


class OutputClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class. Lengths are micrometres; `targets` are names of shipped profiles, the default first.

    `proof`: the printing condition that a soft proof shows, where the vendor's own profile is not known: the file's own
    colours for photographic paper, which holds them, coated offset stock for ink on paper, which does not.
    `renderings`: with several, the one that loses less on the picture is used. `wide`: 16 bit a sample until the end.
    `stepwise`: enlargements beyond twice are made by doubling, each step lightly sharpened.
    """

    name: ClassName
    targets: tuple[str, ...]
    proof: Literal["srgb", "fogra39"]
    renderings: tuple[Rendering, ...]
    sharpening: Sharpening
    thresholds: Thresholds
    bleed_um: int
    safe_um: int
    wide: bool = False
    stepwise: bool = False
    square: bool = False


_RELATIVE: Final = (Rendering(Intent.RELATIVE, True),)
_PAPER_AWARE: Final = (Rendering(Intent.RELATIVE, True), Rendering(Intent.PERCEPTUAL, False))
_LIGHT: Final = Sharpening(radius=1, amount=40)

CLASSES: Final[dict[ClassName, OutputClass]] = {
    c.name: c
    for c in (
        OutputClass(
            name=ClassName.STANDARD,
            targets=("srgb",),
            proof="srgb",
            renderings=_RELATIVE,
            sharpening=_LIGHT,
            thresholds=Thresholds(100, 150, 200, 300),
            bleed_um=2_000,
            safe_um=4_000,
        ),
        OutputClass(
            name=ClassName.MATTE,
            targets=("srgb", "adobe-rgb"),
            proof="fogra39",
            renderings=_PAPER_AWARE,
            # Ink spreads in uncoated paper: wider and stronger, to look the same when dry.
            sharpening=Sharpening(radius=2, amount=70),
            thresholds=Thresholds(120, 180, 240, 300),
            bleed_um=3_000,
            safe_um=6_000,
            wide=True,
        ),
        OutputClass(
            name=ClassName.POSTER,
            targets=("srgb", "fogra39"),
            proof="fogra39",
            renderings=_RELATIVE,
            sharpening=Sharpening(radius=1, amount=50),
            thresholds=Thresholds(75, 100, 150, 200),
            bleed_um=4_000,
            safe_um=8_000,
            stepwise=True,
        ),
        OutputClass(
            name=ClassName.SQUARE,
            targets=("srgb",),
            proof="srgb",
            renderings=_RELATIVE,
            sharpening=_LIGHT,
            thresholds=Thresholds(100, 150, 200, 270),
            bleed_um=2_000,
            safe_um=4_000,
            square=True,
        ),
    )
}


def named(name: str) -> OutputClass:
    """The class called `standard`, `matte`, `poster` or `square`; raises `OutOfBounds` for other names."""
    try:
        return CLASSES[ClassName(name)]
    except ValueError:
        raise OutOfBounds(f"no output class {name!r}") from None

"""What a paper will do to a picture: a soft proof to look at, and figures for what is lost.

Figures are measured on a copy of at most 512 px, against the picture's own colours, as CIEDE2000 through the target
and back. Shares are in thousandths, differences in hundredths, so that results are integers everywhere.
"""

import functools
from typing import Final

import msgspec

from imagecore import colour, vips
from imagecore.colour import Profile
from imagecore.icc import Intent, Rendering
from imagecore.vips import Image

PROXY: Final = 512
OUT_OF_GAMUT: Final = 3.0
"""CIEDE2000 from which a colour counts as not printable: a table's own round trip stays below."""
SHADOW_MARGIN: Final = 1.0
PAPER_AWARE: Final = (Rendering(Intent.RELATIVE, True), Rendering(Intent.PERCEPTUAL, False))
"""What fine-art prints choose from, by picture; on a tie the first."""


class Loss(msgspec.Struct, frozen=True):
    """What a target cannot hold of a picture.

    `out_of_gamut`: thousandths of the picture whose colour is moved by `OUT_OF_GAMUT` or more without any
    compensation, the shadows apart. `shadows`: thousandths darker than the target's darkest, by more than
    `SHADOW_MARGIN` L*. `difference`: mean CIEDE2000 of the rendering used, in hundredths.
    """

    out_of_gamut: int
    shadows: int
    difference: int


def proxy(image: Image) -> Image:
    """A copy of at most 512 px in memory, without alpha."""
    with vips.failures():
        small = image.thumbnail_image(PROXY, height=PROXY, size="down")
        if small.hasalpha():
            small = small.flatten(background=[255] if small.bands < 3 else [255, 255, 255])
        return small.copy_memory()


def measure(image: Image, target: Profile, rendering: Rendering) -> Loss:
    """What `target` loses of the picture under `rendering`; pass a `proxy` to measure several targets cheaply."""
    small = proxy(image)
    own = colour.to_lab(small)
    bare = _back(small, target, Rendering(Intent.RELATIVE, False))
    used = _back(small, target, rendering)
    darkest = darkest_of(target)
    with vips.failures():
        dark = own.extract_band(0) < darkest - SHADOW_MARGIN
        moved = own.dE00(bare) >= OUT_OF_GAMUT
        return Loss(
            out_of_gamut=_thousandths(moved & dark.invert()),
            shadows=_thousandths(dark),
            difference=_difference(own, used),
        )


def least_loss(image: Image, target: Profile, choices: tuple[Rendering, ...] = PAPER_AWARE) -> Rendering:
    """The rendering whose mean difference on this picture is least, to the hundredth; the first of equals."""
    small = proxy(image)
    own = vips.in_memory(colour.to_lab(small))
    return min(choices, key=lambda choice: _difference(own, _back(small, target, choice)))


def soft_proof(image: Image, target: Profile, rendering: Rendering, *, paper_white: bool = False) -> Image:
    """The print as a screen shows it, 8-bit sRGB: through the target and back. Black is the paper's own darkest.

    With `paper_white` the paper's tint stays (absolute colorimetric back); else its white is the screen's white.
    """
    back = Rendering(Intent.ABSOLUTE if paper_white else Intent.RELATIVE, False)
    return colour.convert(colour.convert(image, target, rendering, wide=True), colour.named("srgb"), back)


@functools.cache
def darkest_of(target: Profile) -> float:
    """L* of the target's black, relative to its white."""
    black = vips.from_pixels(bytes(3), 1, 1, 3, wide=False, owner=None).copy(interpretation="srgb")
    printed = colour.convert(black, target, Rendering(Intent.RELATIVE, False), wide=True)
    with vips.failures():
        return float(colour.to_lab(printed)(0, 0)[0])


def _back(image: Image, target: Profile, rendering: Rendering) -> Image:
    """The colours that remain after a conversion."""
    return colour.to_lab(colour.convert(image, target, rendering, wide=True))


def _difference(own: Image, other: Image) -> int:
    """Mean CIEDE2000 in hundredths."""
    with vips.failures():
        return round(100 * float(own.dE00(other).avg()))


def _thousandths(mask: Image) -> int:
    """Share of a mask (0 or 255) that is set."""
    return round(1000 * float(mask.avg()) / 255)

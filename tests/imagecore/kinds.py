"""TIFFs of one picture in every kind of number that the format can hold."""

from collections.abc import Callable
from typing import Final

from imagecore import vips
from loadtests.bench.hostile import picture


def _wide(image: vips.Image) -> vips.Image:
    return (image * 257).cast("ushort")


def _inks(image: vips.Image, alpha: int = 0) -> vips.Image:
    return image.bandjoin([image[0], *([image[1]] * alpha)]).copy(interpretation="cmyk")


PRINTED: Final[dict[str, Callable[[vips.Image], vips.Image]]] = {
    "gray": lambda image: image[0].copy(interpretation="b-w"),
    "gray and alpha": lambda image: image[0].bandjoin(image[1]).copy(interpretation="b-w"),
    "gray of 16 bit": lambda image: _wide(image[0]).copy(interpretation="grey16"),
    "rgb": lambda image: image,
    "rgb and alpha": lambda image: image.bandjoin(image[0]),
    "rgb of 16 bit": lambda image: _wide(image).copy(interpretation="rgb16"),
    "cmyk": _inks,
    "cmyk of 16 bit": lambda image: _wide(_inks(image)).copy(interpretation="cmyk"),
}
REFUSED: Final[dict[str, Callable[[vips.Image], vips.Image]]] = {
    "float": lambda image: image.cast("float"),
    "float of linear light": lambda image: image.colourspace("scrgb"),
    "float gray": lambda image: image[0].cast("float"),
    "uint32": lambda image: (image.cast("uint") * 16_843_009).cast("uint"),
    "int16": lambda image: image.cast("short"),
    "int8": lambda image: image.cast("char"),
    "lab": lambda image: image.colourspace("lab"),
    "lab of 16 bit": lambda image: image.colourspace("labs"),
    "xyz": lambda image: image.colourspace("xyz"),
    "cmyk and alpha": lambda image: _inks(image, alpha=1),
    "cmyk and alpha, 16 bit": lambda image: _wide(_inks(image, alpha=1)).copy(interpretation="cmyk"),
}


def flat(kind: str) -> vips.Image:
    """The picture of this kind as it is on white paper."""
    image = PRINTED[kind](picture(300, 200))
    return image.flatten(background=[255] * (image.bands - 1)) if image.hasalpha() else image


def tiff(kind: str) -> bytes:
    """The picture, 300 x 200, as a TIFF of this kind."""
    return bytes({**PRINTED, **REFUSED}[kind](picture(300, 200)).tiffsave_buffer())

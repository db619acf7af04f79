"""Text, so that no crop cuts a line: PP-OCRv4's detector (Apache-2.0) on a picture of at most 640 px.

It finds where text stands, not what it says.
"""

from typing import Any, Final

from imagecore import models, vips
from imagecore.findings import SCALE, Box

LEAST_PROBABILITY: Final = 0.3
LEAST_MEAN: Final = 0.8
LEAST_PIXELS: Final = 20
UNCLIP: Final = 1.6
"""The detector marks text shrunk; a region grows by area x this / perimeter (Liao et al. 2020, section 3.4)."""

_MULTIPLE: Final = 32


def find(rgb: Any) -> tuple[Box, ...] | None:
    """Boxes around text in an upright sRGB picture (numpy, height x width x 3, 8 bit); None where the model is absent.

    Top to bottom, then left to right. Single small hits occur on chains, grass and the like: see `findings.is_text`.
    """
    session = models.session(models.TEXT)
    if session is None:
        return None
    import numpy as np

    height, width, _ = rgb.shape
    padded = np.zeros((-(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE, 3), np.float32)
    padded[:height, :width] = rgb[:, :, ::-1].astype(np.float32) / 127.5 - 1
    name = session.get_inputs()[0].name
    probability = session.run(None, {name: np.ascontiguousarray(padded.transpose(2, 0, 1)[None])})[0][0, 0]
    return tuple(sorted(_regions(probability[:height, :width]), key=lambda b: (b.top, b.left, b.bottom, b.right)))


def _regions(probability: Any) -> list[Box]:
    """A box for each connected region of probable text that is sure and large enough."""
    import numpy as np

    height, width = probability.shape
    mask = np.ascontiguousarray(probability > LEAST_PROBABILITY).astype(np.uint8)
    with vips.failures():
        labelled = vips.from_pixels(mask.data, width, height, 1, wide=False, owner=mask).labelregions().numpy()
    labels = labelled.reshape(height, width)
    rows, columns = np.nonzero(mask)
    numbers, owners = np.unique(labels[rows, columns], return_inverse=True)
    counts = np.bincount(owners, minlength=len(numbers))
    means = np.bincount(owners, weights=probability[rows, columns], minlength=len(numbers)) / np.maximum(counts, 1)
    found = []
    for number in np.nonzero((counts >= LEAST_PIXELS) & (means >= LEAST_MEAN))[0]:
        own = owners == number
        y, x = rows[own], columns[own]
        found.append(_grown(int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1, width, height))
    return found


def _grown(left: int, top: int, right: int, bottom: int, width: int, height: int) -> Box:
    wide, tall = right - left, bottom - top
    by = round(wide * tall * UNCLIP / (2 * (wide + tall)))
    return Box(
        max(0, left - by) * SCALE // width,
        max(0, top - by) * SCALE // height,
        min(width, right + by) * SCALE // width,
        min(height, bottom + by) * SCALE // height,
    )

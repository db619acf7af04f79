"""Faces, so that no crop cuts one: CenterFace (MIT) on a picture of at most 640 px.

Whether a face is somebody's is not asked and not found: only rectangles leave this module.
"""

from typing import Any, Final

from imagecore import models
from imagecore.findings import SCALE, Box

LEAST_SCORE: Final = 0.5
MOST_OVERLAP: Final = 0.3
_STRIDE: Final = 4
_MULTIPLE: Final = 32


def find(rgb: Any) -> tuple[Box, ...] | None:
    """Boxes around faces in an upright sRGB picture (numpy, height x width x 3, 8 bit); None where the model is absent.

    The largest come first.
    """
    session = models.session(models.FACES)
    if session is None:
        return None
    import numpy as np

    height, width, _ = rgb.shape
    padded = np.zeros((-(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE, 3), np.float32)
    padded[:height, :width] = rgb
    name = session.get_inputs()[0].name
    heat, sizes, offsets, _ = session.run(None, {name: np.ascontiguousarray(padded.transpose(2, 0, 1)[None])})
    rows, columns = np.nonzero(heat[0, 0] > LEAST_SCORE)
    scores = heat[0, 0, rows, columns]
    tall, wide = (np.exp(sizes[0, k, rows, columns]) * _STRIDE for k in (0, 1))
    top = (rows + offsets[0, 0, rows, columns] + 0.5) * _STRIDE - tall / 2
    left = (columns + offsets[0, 1, rows, columns] + 0.5) * _STRIDE - wide / 2
    boxes = np.stack([left, top, left + wide, top + tall], axis=1)
    kept = _distinct(boxes, scores)
    found = [_box(boxes[i], width, height) for i in kept]
    sound = [box for box in found if box.right > box.left and box.bottom > box.top]
    return tuple(sorted(sound, key=lambda b: (-(b.right - b.left) * (b.bottom - b.top), b)))


def _distinct(boxes: Any, scores: Any) -> list[int]:
    """Indices of the best-scored boxes, without those that overlap a better one (non-maximum suppression)."""
    import numpy as np

    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = list(np.argsort(-scores, kind="stable"))
    kept: list[int] = []
    while left:
        best, rest = int(left[0]), np.array(left[1:], dtype=int)
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        sides = np.clip(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - corner, 0, None)
        shared = sides[:, 0] * sides[:, 1]
        left = list(rest[shared / (areas[best] + areas[rest] - shared) <= MOST_OVERLAP])
    return kept


def _box(corners: Any, width: int, height: int) -> Box:
    """Pixel corners as a box within the picture."""
    sides = (width, height, width, height)
    return Box(*(max(0, min(SCALE, round(float(c) * SCALE / side))) for c, side in zip(corners, sides, strict=True)))

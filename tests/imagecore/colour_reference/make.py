"""Make `reference.bin.xz`: a 17 x 17 x 17 grid of colours through each transform, by Little CMS in floating point.

Run: python tests/imagecore/colour_reference/make.py (needs `transicc` of Debian's liblcms2-utils). One call each:

    transicc -n -c0 -t INTENT [-b] -i IN.icc -o OUT.icc < grid

with the grid's 8-bit values, red slowest. The file holds the answers as 16-bit numbers, big-endian, transform after
transform and channel after channel, 65,535 being full (RGB 255, ink 100 %).
"""

import lzma
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

HERE: Final = Path(__file__).parent
PROFILES: Final = HERE.parents[2] / "imagecore/profiles"
STEPS: Final = 17
AXIS: Final = [(255 * i + 8) // 16 for i in range(STEPS)]


class Transform(NamedTuple):
    source: str
    target: str
    intent: str
    black_point: bool
    bands: int


TRANSFORMS: Final = (
    Transform("DisplayP3.icc", "sRGB.icc", "relative", False, 3),
    Transform("AdobeRGB-compatible.icc", "sRGB.icc", "relative", False, 3),
    *(
        Transform("sRGB.icc", "FOGRA39L.icc", intent, bpc, 4)
        for intent, bpc in (
            ("perceptual", False),
            ("relative", False),
            ("relative", True),
            ("saturation", False),
            ("absolute", False),
        )
    ),
)
NUMBERS: Final = {"perceptual": 0, "relative": 1, "saturation": 2, "absolute": 3}


def grid() -> NDArray[np.uint8]:
    """4,913 colours, red slowest, as 8-bit values."""
    axes = np.meshgrid(AXIS, AXIS, AXIS, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3).astype(np.uint8)


def reckon(transform: Transform) -> NDArray[np.uint16]:
    """The grid through `transform` by transicc, 16 bit."""
    lines = "".join(f"{r} {g} {b}\n" for r, g, b in grid())
    command = ["transicc", "-n", "-c0", "-t", str(NUMBERS[transform.intent])]
    command += ["-b"] if transform.black_point else []
    command += ["-i", str(PROFILES / transform.source), "-o", str(PROFILES / transform.target)]
    answer = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    values = np.array(answer.split(), dtype=np.float64).reshape(-1, transform.bands)
    full = 255.0 if transform.bands == 3 else 100.0
    return np.clip(np.round(values * (65535 / full)), 0, 65535).astype(np.uint16)


def pack(tables: list[NDArray[np.uint16]]) -> bytes:
    """All tables in one compressed block; differences along the grid's fastest axis pack better."""
    planes = [np.diff(channel, prepend=np.uint16(0)) for table in tables for channel in table.T]
    halves = np.concatenate(planes).astype(">u2").view(np.uint8).reshape(-1, 2)
    return lzma.compress(halves.T.tobytes(), preset=9)


def unpack(data: bytes) -> list[NDArray[np.uint16]]:
    """The tables of `TRANSFORMS`, each colours x channels."""
    halves = np.frombuffer(lzma.decompress(data), np.uint8).reshape(2, -1)
    flat = np.ascontiguousarray(halves.T).view(">u2").ravel().astype(np.uint16)
    planes = np.cumsum(flat.reshape(-1, STEPS**3), axis=1, dtype=np.uint16)
    starts = np.cumsum([0, *(t.bands for t in TRANSFORMS)])
    return [planes[a:b].T for a, b in pairwise(starts)]


if __name__ == "__main__":
    (HERE / "reference.bin.xz").write_bytes(pack([reckon(t) for t in TRANSFORMS]))

"""A generated photo for machines without any: a 12 MP scene with EXIF, a profile and the size a phone's file has."""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageCms

WIDTH: Final = 4032
HEIGHT: Final = 3024


def scene(seed: int = 1) -> bytes:
    """A JPEG of about 4 MB: sky, hills and grain; orientation 6, a camera's name, an sRGB profile."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    picture[..., 0] = 120 + 60 * rows / HEIGHT
    picture[..., 1] = 150 + 40 * rows / HEIGHT
    picture[..., 2] = 235 - 90 * rows / HEIGHT
    for number in range(5):
        ridge = HEIGHT * (0.45 + 0.1 * number) + 160 * np.sin(columns[0] / (210 + 90 * number) + 1.7 * number)
        below = rows > ridge
        shade = np.array([40 + 18 * number, 95 - 9 * number, 48 + 6 * number], np.float32)
        picture[below] = shade
    grain = random.normal(0, 9, (HEIGHT, WIDTH, 1)).astype(np.float32)
    image = Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Tirage", "Generated scene"
    out = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(out, "JPEG", quality=90, exif=exif, icc_profile=profile)
    return out.getvalue()

"""Pillow making each output from the original, as most Python services do: draft mode, upright, sRGB, Lanczos."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pillow_heif  # type: ignore[import-not-found]
from PIL import Image, ImageCms, ImageOps  # type: ignore[import-not-found]

pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = None
SRGB = ImageCms.createProfile("sRGB")


def picture(raw: bytes, size: list[int], quality: int, chroma: int) -> int:
    image: Any = Image.open(io.BytesIO(raw))
    side = max(size)
    image.draft("RGB", (2 * side, 2 * side))
    profile = image.info.get("icc_profile")
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = ImageOps.exif_transpose(image)
    if profile:
        image = ImageCms.profileToProfile(image, io.BytesIO(profile), SRGB, outputMode="RGB")
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality, subsampling=chroma, optimize=True)
    return len(out.getvalue())


def main() -> None:
    files: dict[str, bytes] = {}
    for line in sys.stdin:
        job = json.loads(line)
        raw = files.setdefault(job["file"], Path(job["file"]).read_bytes())
        start, cpu = time.monotonic(), time.process_time()
        if job["do"] == "ingest":
            size = picture(raw, job["ancestor"], 90, 2) + sum(picture(raw, each, 80, 2) for each in job["rungs"])
        else:
            size = picture(raw, job["size"], 80, 2)
        told = {
            "wall_ms": 1000 * (time.monotonic() - start),
            "cpu_ms": 1000 * (time.process_time() - cpu),
            "bytes": size,
        }
        status = Path("/proc/self/status").read_text().splitlines()
        told["peak_mb"] = next(int(row.split()[1]) >> 10 for row in status if row.startswith("VmHWM"))
        print(json.dumps(told), flush=True)


main()

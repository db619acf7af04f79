"""Bare pyvips doing the steps of an ingest by hand, on one libvips thread: what the library itself costs."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pi_heif
import pyvips

from imagecore import quality

pyvips.cache_set_max(0)
pi_heif.options.DECODE_THREADS = 2
BOTH = {"input_profile": "srgb", "output_profile": "srgb", "intent": "relative"}


def jpeg(image: Any, quality: int, chroma: str, optimise: bool) -> bytes:
    return bytes(image.jpegsave_buffer(Q=quality, subsample_mode=chroma, optimize_coding=optimise, keep="icc"))


def decoded(raw: bytes, is_heic: bool) -> Any:
    """The original, upright where the decoder does that; a JPEG shrunk as far as leaves twice the ancestor."""
    if not is_heic:
        header = pyvips.Image.new_from_buffer(raw, "", access="sequential")
        room = max(header.width, header.height) // (2 * 2560)
        shrink = next((factor for factor in (8, 4, 2) if room >= factor), 1)
        return pyvips.Image.new_from_buffer(raw, "", access="sequential", fail_on="warning", shrink=shrink)
    opened = pi_heif.open_heif(raw, convert_hdr_to_8bit=False)
    primary = opened[opened.primary_index]
    image = pyvips.Image.new_from_memory(primary.data, primary.stride // 3, primary.size[1], 3, "uchar")
    image._references.append(primary)
    image = image.crop(0, 0, *primary.size).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", primary.info["icc_profile"])
    return image


def ingest(raw: bytes, job: dict[str, Any]) -> int:
    """Ancestor from one decode, its half from its bytes, and each rung from the smaller one that has room for it.

    Then the middle of the decoded pixels, which are kept for it, is made gray and measured: by our own kernel, since
    pyvips has none.
    """
    width, height = job["ancestor"]
    profiles = BOTH if job["profile"] else {}
    full = decoded(raw, job["heic"])
    if not job["heic"]:
        full = full.copy_memory()
    small = full.thumbnail_image(width, height=height, size="force", **profiles).copy_memory()
    ancestor = jpeg(small, 90, "on", False)
    half = jpeg(pyvips.Image.new_from_buffer(ancestor, "", access="sequential", shrink=2), 90, "off", False)
    pyvips.Image.new_from_buffer(half, "", access="sequential", shrink=8).thumbnail_image(100).write_to_memory()
    rungs = [
        rung(half if 5 * max(size) <= 2 * max(width, height) else ancestor, {"size": size}) for size in job["rungs"]
    ]
    measured(full)
    return len(ancestor) + len(half) + sum(rungs)


def measured(image: Any) -> quality.Quality:
    """The quality of at most 3,072 x 3,072 pixels."""
    width, height = min(image.width, 3072), min(image.height, 3072)
    part = image.crop((image.width - width) // 2 // 8 * 8, (image.height - height) // 2 // 8 * 8, width, height)
    return quality.measure(memoryview(part.colourspace("b-w")[0].write_to_memory()), width, height)


def rung(raw: bytes, job: dict[str, Any]) -> int:
    """One smaller picture from a stored parent's bytes."""
    width, height = job["size"]
    header = pyvips.Image.new_from_buffer(raw, "", access="sequential")
    room = 2 * max(header.width, header.height) // (3 * max(width, height))
    shrink = next((factor for factor in (8, 4, 2) if room >= factor), 1)
    image = pyvips.Image.new_from_buffer(raw, "", access="sequential", fail_on="error", shrink=shrink)
    image = image.thumbnail_image(width, height=height, size="force", no_rotate=True)
    return len(jpeg(image, 80, "on", width * height <= 250_000))


def main() -> None:
    files: dict[str, bytes] = {}
    for line in sys.stdin:
        job = json.loads(line)
        raw = files.setdefault(job["file"], Path(job["file"]).read_bytes())
        start, cpu = time.monotonic(), time.process_time()
        size = {"ingest": ingest, "rung": rung}[job["do"]](raw, job)
        told = {
            "wall_ms": 1000 * (time.monotonic() - start),
            "cpu_ms": 1000 * (time.process_time() - cpu),
            "bytes": size,
        }
        status = Path("/proc/self/status").read_text().splitlines()
        told["peak_mb"] = next(int(row.split()[1]) >> 10 for row in status if row.startswith("VmHWM"))
        print(json.dumps(told), flush=True)


main()

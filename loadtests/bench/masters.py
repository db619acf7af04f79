"""Print masters against bare pyvips doing the same steps, and their peak memory; models in their child.

Each run is a process of its own (peak = VmHWM), ours and the peer's alternating; the figure is the median of the
ratios of neighbours, in wall time and in processor time.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from imagecore import analyse
from imagecore.jail import Jail

ROUNDS = 7
PHOTO = "large-03-iphone-xs-p3-rotated.jpg"
CASES = (("standard", "srgb"), ("poster", "fogra39"), ("matte", "adobe-rgb"))

COMMON = """
import json, resource, sys, time
path, name, profile = sys.argv[1:]
def told(start, cpu, size):
    used = time.process_time() - cpu
    peak = next(int(l.split()[1]) >> 10 for l in open("/proc/self/status") if l.startswith("VmHWM"))
    wall = (time.monotonic() - start) * 1000
    print(json.dumps({"wall_ms": wall, "cpu_ms": used * 1000, "peak_mb": peak, "bytes": size}))
"""
OURS = """
from imagecore import classes, colour, masters
raw, target = open(path, "rb").read(), colour.named(profile)
recipe = masters.plan(classes.named(name), (3024, 4032), (210_000, 297_000), profile=target)
masters.revision()  # read once a process from the installed wheels; a child makes many masters
start, cpu = time.monotonic(), time.process_time()
told(start, cpu, len(masters.make(raw, recipe, target).data))
"""
# The same decode, cut, scale, sharpen, convert and encode by hand; the peer is given our plan.
PEER = """
import pyvips
from imagecore import classes, colour, masters
pyvips.cache_set_max(0)
raw, target = open(path, "rb").read(), colour.named(profile)
recipe = masters.plan(classes.named(name), (3024, 4032), (210_000, 297_000), profile=target)
mask, scale = masters._kernel(recipe.sharpening)
file = "/tmp/tirage-bench-%d.icc" % __import__("os").getpid()
open(file, "wb").write(target.data)
start, cpu = time.monotonic(), time.process_time()
image = pyvips.Image.new_from_buffer(raw, "", fail_on="truncated").autorot()
intent, bpc = "relative", True
if len(recipe.renderings) > 1:
    small = image.crop(*recipe.part).thumbnail_image(512, height=512, size="down").copy_memory()
    lab = small.icc_import(embedded=True, pcs="lab", intent="relative")
    loss = []
    for one, two in (("relative", True), ("perceptual", False)):
        there = small.icc_transform(file, embedded=True, intent=one, black_point_compensation=two, depth=16)
        loss.append((lab.dE00(there.icc_import(embedded=True, pcs="lab", intent="relative")).avg(), one, two))
    intent, bpc = min(loss)[1:]
image = image.crop(*recipe.part)
if recipe.wide:
    image = (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
image = image.resize(recipe.width / image.width, vscale=recipe.height / image.height, kernel="lanczos3", gap=2.0)
kernel = pyvips.Image.new_from_array([list(r) for r in mask], scale=scale)
image = image.cast("ushort").conv(kernel, precision="integer").cast(image.format)
image = image.icc_transform(file, embedded=True, intent=intent, black_point_compensation=bpc, depth=8)
if recipe.format == "tiff":
    data = image.tiffsave_buffer(compression="lzw", predictor="horizontal", keep="icc")
else:
    data = image.jpegsave_buffer(Q=95, subsample_mode="off", keep="icc")
told(start, cpu, len(data))
__import__("os").unlink(file)
"""


def photos() -> Path:
    return Path(os.environ.get("TIRAGE_PHOTOS", Path(__file__).parents[3] / "shared" / "photos"))


def once(program: str, case: tuple[str, str]) -> dict[str, float]:
    """One master in a process of its own."""
    env = {**os.environ, "VIPS_CONCURRENCY": "1", "MALLOC_ARENA_MAX": "2"}
    argv = [sys.executable, "-c", COMMON + program, str(photos() / PHOTO), *case]
    done: dict[str, float] = json.loads(subprocess.run(argv, env=env, capture_output=True, check=True).stdout)
    return done


def compared(case: tuple[str, str]) -> dict[str, Any]:
    """Medians of neighbours' ratios, and our median and peak."""
    pairs = [(once(OURS, case), once(PEER, case)) for _ in range(ROUNDS)]
    ratio = {key: statistics.median(a[key] / b[key] for a, b in pairs) for key in ("wall_ms", "cpu_ms")}
    return {
        "wall_ratio": round(ratio["wall_ms"], 3),
        "cpu_ratio": round(ratio["cpu_ms"], 3),
        "wall_ms": round(statistics.median(a["wall_ms"] for a, _ in pairs)),
        "cpu_ms": round(statistics.median(a["cpu_ms"] for a, _ in pairs)),
        "peak_mb": round(max(a["peak_mb"] for a, _ in pairs)),
        "peer_peak_mb": round(max(b["peak_mb"] for _, b in pairs)),
    }


def models() -> dict[str, Any]:
    """The analyse child over every real JPEG: time a picture, peak of the child."""
    found, peak = [], 0
    names = sorted(p for p in photos().glob("*.jpg") if p.stat().st_size > 100_000 and not p.name.startswith("b"))
    with Jail.open(analyse.LIMITS, preload=("analyse",)) as jail:
        for path in names * 2:
            start = time.monotonic()
            job = jail.start("analyse", b"", [path.read_bytes()], 60)
            while job.next() is not None:
                pass
            found.append(1000 * (time.monotonic() - start))
            peak = max(peak, job.usage.peak_mb if job.usage else 0)
    return {"pictures": len(found), "median_ms": round(statistics.median(found)), "peak_mb": peak}


def run() -> dict[str, Any]:
    """All figures; needs the real photos."""
    if not (photos() / PHOTO).exists():
        return {"skipped": f"no {PHOTO} in {photos()}"}
    return {**{"-".join(case): compared(case) for case in CASES}, "models": models()}

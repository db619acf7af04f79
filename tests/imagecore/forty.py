"""Forty recipes on two made originals: `python forty.py` prints the engine and each one's SHA-256 as JSON.

A program of its own, so that the test can run it in several processes with different settings of libvips.
"""

import hashlib
import json
import sys
from typing import Any, get_args

from imagecore import engine, recipe, render, vips
from imagecore.facts import Facts
from imagecore.recipe import Crop, Recipe


def scene(width: int, height: int) -> vips.Image:
    """Integers only: slopes, edges, a pattern near the pixel grid, and saturated colours."""
    xy = vips.pyvips.Image.xyz(width, height)
    x, y = xy[0], xy[1]
    red = x * 255 / (width - 1)
    green = ((x * 7 + y * 13) / 16).cast("uint") & 255
    blue = ((x / 40).cast("uint") ^ (y / 30).cast("uint")) % 2 * 200 + (x & 31)
    return red.bandjoin([green, blue]).cast("uchar").copy(interpretation="srgb")


def originals() -> dict[str, bytes]:
    """A Display P3 JPEG larger than an ancestor, and a PNG with alpha smaller than one."""
    wide = vips.with_profile(scene(3400, 2200), vips.built_in_profile("p3"))
    alpha = scene(900, 1200)
    seen = (vips.pyvips.Image.xyz(900, 1200)[0] / 4).cast("uchar")
    return {
        "p3": bytes(wide.jpegsave_buffer(Q=92, keep="icc")),
        "alpha": bytes(alpha.bandjoin(seen).pngsave_buffer(compression=1, keep="none")),
    }


def recipes() -> dict[str, tuple[str, Recipe]]:
    """Label → original and recipe; labels do not name the engine, so the golden file outlives a revision's name."""
    base: dict[str, Any] = {"engine": engine.revision()}
    found: dict[str, Recipe] = {}
    for side in recipe.RUNGS:
        found[f"rung-{side}"] = recipe.rung(side, engine.revision())
        found[f"webp-{side}"] = recipe.rung(side, engine.revision(), "webp")
    found["avif-200"] = recipe.rung(200, engine.revision(), "avif")
    found["fallback-800"] = recipe.fallback(recipe.rung(800, engine.revision(), "webp"))
    for chroma in get_args(recipe.Chroma):
        found[f"jpg-{chroma}"] = Recipe(width=333, height=777, quality=91, chroma=chroma, **base)
    for x, y in ((0, 0), (3_333, 6_667)):
        found[f"cover-{x}-{y}"] = Recipe(width=300, height=200, fit="cover", focal=(x, y), **base)
    found["box"] = Recipe(width=301, height=200, fit="box", **base)
    found["crop"] = Recipe(width=400, height=400, crop=Crop(101, 203, 555, 444), **base)
    found["crop-cover"] = Recipe(width=257, height=255, fit="cover", crop=Crop(101, 203, 555, 444), **base)
    found["zoom"] = Recipe(width=640, height=640, crop=Crop(777, 1_001, 120, 90), fit="box", **base)
    paper: dict[str, Any] = {"class_": "proof", "proof": "fogra39", "white": True, "quality": 90, "chroma": "444"}
    found["proof"] = Recipe(width=900, height=100, fit="cover", **paper, **base)
    found["p3"] = Recipe(width=500, height=500, target="p3", **base)
    return {f"{name}/{label}": (name, each) for name in ("p3", "alpha") for label, each in found.items()}


def hashes() -> dict[str, str]:
    """The SHA-256 of every rendition, and of what they are made from."""
    told: dict[str, str] = {}
    known: dict[str, tuple[Facts, render.Parents]] = {}
    for name, raw in originals().items():
        report, parents = render.parents(raw)
        known[name] = (report.facts, parents)
        told |= {f"{name}/{parent}": hashlib.sha256(data).hexdigest() for parent, data in parents.items()}
    for label, (name, each) in recipes().items():
        told[label] = hashlib.sha256(render.render(each, *known[name])).hexdigest()
    return told


if __name__ == "__main__":
    parts = sorted(part for part in engine.parts() if not part.startswith("profile"))
    json.dump({"engine": parts, "hashes": hashes()}, sys.stdout, indent=1)
    print()

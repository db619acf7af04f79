"""The first line: every leg from a phone's bytes to the edge, and what the jail costs."""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from imagecore import render, vips
from imagecore.jail import Jail
from tirage.demo import Walk
from tirage.scene import scene

ROUNDS = 9
PHOTOS = ("large-03-iphone-xs-p3-rotated.jpg", "heic-iphone11pro-p3-rotated.heic")
TIRAGE = Path(sys.executable).parent / "tirage"


def _photos() -> list[tuple[str, bytes]]:
    folder = Path(os.environ.get("TIRAGE_PHOTOS", "../shared/photos"))
    found = [(name, (folder / name).read_bytes()) for name in PHOTOS if (folder / name).exists()]
    return found or [("generated.jpg", scene())]


def run() -> dict[str, Any]:
    """Medians in milliseconds over `ROUNDS` rounds, photos interleaved; an idle stack of its own."""
    photos = _photos()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        subprocess.run([TIRAGE, "up", "--detach", "--data", data], check=True, stdout=subprocess.DEVNULL)
        try:
            state = msgspec.json.decode(subprocess.check_output([TIRAGE, "status", "--json", "--data", data]))
            legs = _legs(photos, state["parts"]["api"]["address"])
        finally:
            subprocess.run([TIRAGE, "down", "--data", data], check=False, stdout=subprocess.DEVNULL)
    return {"legs_ms": legs, "jail": _jail(photos)}


def _legs(photos: list[tuple[str, bytes]], api: str) -> dict[str, dict[str, float]]:
    seen: dict[str, dict[str, list[int]]] = {name: {} for name, _ in photos}
    for turn in range(ROUNDS + 1):
        for name, content in photos:
            walk = Walk(name, content, api, True, None)
            with contextlib.redirect_stdout(io.StringIO()):
                walk.run()
            if turn:  # the first is a warm-up
                for step in walk.steps:
                    leg = step["step"].split(" (")[0]
                    seen[name].setdefault(leg, []).append(step["ms"])
    return {name: {leg: statistics.median(ms) for leg, ms in legs.items()} for name, legs in seen.items()}


def _jail(photos: list[tuple[str, bytes]]) -> dict[str, Any]:
    """The whole ingest (decode, ancestor, ladder) in the jail against the same work in this process, interleaved."""
    params = msgspec.msgpack.encode({"recipes": [], "extension": None})
    told: dict[str, Any] = {}
    with Jail.open() as jail:
        for name, content in photos:
            pairs = []
            for turn in range(ROUNDS + 1):
                begun = time.perf_counter()
                inside = [o.data for o in jail.run("ingest", params, [content], 60)]
                middle = time.perf_counter()
                with vips.threads(1):  # as everywhere in the product
                    outside = [o.data for o in render.ingest(params, [content])]
                ended = time.perf_counter()
                assert inside == outside
                if turn:
                    pairs.append((middle - begun, ended - middle))
            told[name] = {
                "jail_ms": round(statistics.median(a for a, _ in pairs) * 1000),
                "in_process_ms": round(statistics.median(b for _, b in pairs) * 1000),
                "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            }
    return told

"""The first line: every leg from a phone's bytes to the edge, and what the jail costs.

Legs are the phone's own clock and, between `complete` and the first previews, the spans of the processes: each ends
where the next begins. What lies beyond the engine is what is left of the way to 400 px at the edge without the engine's
own time until it gives that picture, measured in a jail of its own.
"""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
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
WHOLE = "last byte to 400 px at the edge"
IDLE_S = 3
"""By then a photo's analysis, on the bulk lane, has ended too: the next photo meets an idle stack."""
SIDES = ("width", "height")


def _photos() -> list[tuple[str, bytes]]:
    folder = Path(os.environ.get("TIRAGE_PHOTOS", "../shared/photos"))
    found = [(name, (folder / name).read_bytes()) for name in PHOTOS if (folder / name).exists()]
    return found or [("generated.jpg", scene())]


def run() -> dict[str, Any]:
    """Medians in milliseconds over `ROUNDS` rounds, photos interleaved; an idle stack of its own."""
    photos = _photos()
    with tempfile.TemporaryDirectory() as folder, Jail.open() as jail:
        data = Path(folder) / "data"
        subprocess.run([TIRAGE, "up", "--detach", "--data", data], check=True, stdout=subprocess.DEVNULL)
        try:
            state = msgspec.json.decode(subprocess.check_output([TIRAGE, "status", "--json", "--data", data]))
            rounds = _rounds(photos, state["parts"]["api"]["address"], jail)
            legs = {name: _legs([walk for walk, _ in each], data) for name, each in rounds.items()}
        finally:
            subprocess.run([TIRAGE, "down", "--data", data], check=False, stdout=subprocess.DEVNULL)
    for name, each in rounds.items():
        legs[name]["beyond the engine's time until 400 px"] = round(
            statistics.median(_took(walk, WHOLE) - engine.until_400 for walk, engine in each), 1
        )
    return {
        "legs_ms": legs,
        "jail": {name: _told([engine for _, engine in each]) for name, each in rounds.items()},
        "load_average": os.getloadavg(),
    }


class Following(Walk):
    """A walk that waits as an app does, by the events: a phone that asks again and again would share our two cores."""

    def _await(self, states: tuple[str, ...], what: str) -> None:
        begun, wanted = time.monotonic(), {f"event: asset.{state}" for state in states}
        with self.client.stream("GET", "/v1/events", headers={"accept": "text/event-stream"}) as told:
            self.state = next(line for line in told.iter_lines() if line in wanted).rpartition(".")[2]
        self.note(f"wait for {what}", begun)


def _rounds(photos: list[tuple[str, bytes]], api: str, jail: Jail) -> dict[str, list[tuple[Walk, "Engine"]]]:
    """Each photo's walk, and right after it what the engine takes for the same photo by itself."""
    done: dict[str, list[tuple[Walk, Engine]]] = {name: [] for name, _ in photos}
    for turn in range(ROUNDS + 1):
        for name, content in photos:
            walk = Following(name, content, api, True, None)
            with contextlib.redirect_stdout(io.StringIO()):
                walk.run()
            time.sleep(IDLE_S)
            engine = _engine(jail, content)
            if turn:  # the first is a warm-up
                done[name].append((walk, engine))
    return done


def _legs(walks: list[Walk], data: Path) -> dict[str, float]:
    """Medians, leg by leg; the spans of the last result are written a moment after it."""
    seen: dict[str, list[float]] = {}
    for walk in walks:
        for leg, ms in (*_phone(walk), *_inside(walk, data)):
            seen.setdefault(leg, []).append(ms)
    return {leg: round(statistics.median(ms), 1) for leg, ms in seen.items()}


def _phone(walk: Walk) -> Iterator[tuple[str, float]]:
    for step in walk.steps:
        yield step["step"].split(" (")[0], step["ms"]


def _inside(walk: Walk, data: Path) -> Iterator[tuple[str, float]]:
    """What the spans of one photo say of the way from the answer to `complete` to the first previews, in its order."""
    (trace,) = (step["trace"] for step in walk.steps if step["step"] == "complete")
    lines = msgspec.json.decode(subprocess.check_output([TIRAGE, "trace", trace, "--json", "--data", data]))
    spans: dict[str, tuple[datetime, datetime]] = {}
    for line in lines:
        begun = datetime.fromisoformat(line["at"])
        name = " ".join(
            [line["name"], *(word for word in line["state"].split() if word.startswith(("step=", "side=")))]
        )
        if line["us"] is not None and not line["source"].startswith("("):
            spans[name] = begun, begun + timedelta(microseconds=line["us"])
    answered = spans["POST /v1/uploads/{upload_id}/complete"][1]
    given, child = spans["job asset.ingest"][0], spans["child ingest"][0]
    validated, first = spans["step validate"][1], spans["step first_previews"][1]
    begun, applied = spans["result asset.ingest step=first_previews"]
    for leg, start, end in (
        ("inside: from the answer until a worker has the job", answered, given),
        ("inside: the original is fetched and hashed", given, child),
        ("inside: decoded, ancestor stored, step told", child, validated),
        ("inside: 200 and 400 px made and stored, step told", validated, first),
        ("inside: the result reaches the record worker", first, begun),
        ("inside: the result is applied", begun, applied),
        ("inside: from the answer until 400 px is pushed to the edge", answered, spans["push side=400"][1]),
    ):
        yield leg, (end - start).total_seconds() * 1000


def _took(walk: Walk, step: str) -> int:
    return next(int(one["ms"]) for one in walk.steps if one["step"] == step)


class Engine(msgspec.Struct):
    """Milliseconds of a whole ingest (decode, ancestor, ladder): in the jail until 400 px, in all, and without it."""

    until_400: float
    jail: float
    here: float


def _engine(jail: Jail, content: bytes) -> Engine:
    params = msgspec.msgpack.encode({"recipes": [], "extension": None})
    begun, shown, inside = time.perf_counter(), 0.0, []
    for output in jail.run("ingest", params, [content], 60):
        inside.append(output.data)
        if output.name == "rendition" and max(map(msgspec.json.decode(output.facts).get, SIDES)) == 400:
            shown = time.perf_counter()
    middle = time.perf_counter()
    with vips.threads(1):  # as everywhere in the product
        outside = [o.data for o in render.ingest(params, [content])]
    ended = time.perf_counter()
    assert inside == outside
    return Engine(*(1000 * seconds for seconds in (shown - begun, middle - begun, ended - middle)))


def _told(engines: list[Engine]) -> dict[str, Any]:
    return {
        "until_400_ms": round(statistics.median(e.until_400 for e in engines)),
        "jail_ms": round(statistics.median(e.jail for e in engines)),
        "in_process_ms": round(statistics.median(e.here for e in engines)),
        "ratio": round(statistics.median(e.jail / e.here for e in engines), 3),
    }

"""The decode child: how fast it refuses by header, and what 2,000 thumbnails of mixed JPEGs leave in its memory."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from imagecore import engine, inspect, recipe, render
from imagecore.facts import canonical
from imagecore.jail import Jail, Limits
from loadtests.bench import hostile
from loadtests.bench.images import photos

ROUNDS: Final = 9
THUMBNAILS: Final = 2_000
HOSTILE: Final = (
    "bomb-header-65500.jpg", "bomb-header-200000.tif", "bomb-280mp.jpg", "bomb-16384.png", "bomb-1024-frames.gif",
    "bad-script.svg", "bad-gzip-named.jpg",
)  # fmt: skip
MIXED: Final = (
    "large-01-mi-a3-dinner.jpg", "large-02-pixel-path.jpg", "large-03-iphone-xs-p3-rotated.jpg",
    "large-05-nuthatch-20mp.jpg", "large-06-bar-face-text-24mp.jpg", "icc-adobe-rgb-face.jpg", "orient-land-6.jpg",
)  # fmt: skip


def refusals() -> dict[str, dict[str, Any]]:
    """Milliseconds from handing a hostile file over to its verdict, in a warm child: median and worst.

    Those that are refused by their header should take no more than 50.
    """
    told: dict[str, dict[str, Any]] = {}
    corpus = [hostile.Hostile(name, (photos() / name).read_bytes(), None) for name in HOSTILE]
    with Jail.open() as jail:
        for name, raw, _, extension in (*corpus, *hostile.files()):
            params, taken, verdict = msgspec.msgpack.encode(inspect.Params(extension=extension)), [], ""
            for _ in range(ROUNDS + 1):
                start = time.monotonic()
                job = jail.start("inspect", params, [raw], 30)
                output = job.next()
                taken.append(1000 * (time.monotonic() - start))
                job.next()
                assert output is not None
                assert job.usage is not None
                report = msgspec.json.decode(output.data)
                verdict = report["reason"] or report["verdict"]
            told[name] = {
                "verdict": verdict,
                "ms": round(statistics.median(taken[1:]), 1),
                "worst": round(max(taken[1:]), 1),
                "cpu_ms": job.usage.cpu_ms if job.usage else None,
            }
    return told


def memory(field: str, pid: int) -> int:
    """A line of a process's status, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(field))


def resident(operation: str, jobs: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Resident memory of one child after each fifth of 2,000 jobs, and its peak."""
    told: list[int] = []
    with Jail.open(Limits(jobs=1 << 40), preload=(operation,)) as jail:
        for number in range(THUMBNAILS):
            params, raw = jobs[number % len(jobs)]
            job = jail.start(operation, params, [raw], 30)
            while job.next() is not None:
                pass
            if (number + 1) % (THUMBNAILS // 5) == 0:
                told.append(memory("VmRSS", job._process.process.pid))
        peak = memory("VmHWM", job._process.process.pid)
    return {"resident_mb_after_each_fifth": told, "peak_mb": peak}


def thumbnails() -> dict[str, Any]:
    """400 px of seven mixed JPEGs of up to 24 MP: stored parents, and originals (an inspection's)."""
    rung = recipe.rung(400, engine.revision())
    raws = [(photos() / name).read_bytes() for name in MIXED]
    encode: Callable[[Any], bytes] = msgspec.msgpack.encode
    from_stored = [
        (
            encode(render.RenderParams(recipe=recipe.text(rung), facts=canonical(report.facts))),
            parents[render.parent_of(rung, report.facts)],
        )
        for report, parents in map(render.parents, raws)
    ]
    from_originals = [(encode(inspect.Params()), raw) for raw in raws]
    return {
        "from what is stored": resident("render", from_stored),
        "from originals": resident("inspect", from_originals),
    }


def run() -> dict[str, Any]:
    """All figures; needs the real photos."""
    if not photos().exists():
        return {"skipped": f"no photos in {photos()}"}
    return {"refusals": refusals(), "thumbnails": thumbnails(), "load_average": os.getloadavg()}

"""An ingest (ancestor, half, ladder, quality) and a 400 px preview in the jail, against bare pyvips, sharp and Pillow.

All take turns on the same bytes, each in a warm process with one libvips thread; figures are medians of the ratios of
one round, in wall time. Peak is the whole process's: for us the child's. 48 MP files are made from a real photo.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from imagecore import engine, geometry, recipe, render, vips
from imagecore.facts import canonical
from imagecore.jail import Jail
from loadtests.bench.peers import install

ROUNDS: Final = 7
SLOW_ROUNDS: Final = 2
"""Pillow takes seconds for what takes us less than one: it has its turn in these only."""
PEERS: Final = ("bare", "sharp", "pillow")
MAKE_HEIC: Final = """
import sys, pillow_heif
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
image = Image.open(sys.argv[1])
heif = pillow_heif.from_pillow(image)
heif.save(sys.argv[2], quality=80, icc_profile=image.info["icc_profile"])
"""

Ask = Callable[[], dict[str, float]]


def photos() -> Path:
    return Path(os.environ.get("TIRAGE_PHOTOS", Path(__file__).parents[3] / "shared" / "photos"))


def originals() -> dict[str, Path]:
    """The files, by what they are."""
    folder = (install.FOLDER / "files").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    large, heic = folder / "48mp.jpg", folder / "48mp.heic"
    if not large.exists():
        photo = vips.open_buffer((photos() / "large-03-iphone-xs-p3-rotated.jpg").read_bytes()).autorot()
        large.write_bytes(photo.resize(2, kernel="lanczos3").gaussblur(0.6).sharpen().jpegsave_buffer(Q=90, keep="icc"))
    if not heic.exists():
        subprocess.run([install.python(), "-c", MAKE_HEIC, large, heic], check=True)
    return {
        "12 MP JPEG, Display P3": photos() / "large-03-iphone-xs-p3-rotated.jpg",
        "12 MP JPEG, sRGB": photos() / "large-01-mi-a3-dinner.jpg",
        "48 MP JPEG, Display P3": large,
        "12 MP HEIC, Display P3": photos() / "heic-iphone11pro-p3-rotated.heic",
        "48 MP HEIC, Display P3": heic,
    }


@contextmanager
def contestants(ours: Callable[[Jail], dict[str, float]], jobs: dict[str, dict[str, Any]]) -> Iterator[dict[str, Ask]]:
    """Ours in a fresh jail and each peer in a fresh process, warm; a peer without a job does not take part."""
    with ExitStack() as stack:
        jail = stack.enter_context(Jail.open())
        asking: dict[str, Ask] = {"ours": lambda: ours(jail)}
        for name, job in jobs.items():
            found = stack.enter_context(install.worker(name.split()[0]))
            if found is not None:
                asking[name] = lambda found=found, job=job: found.ask(**job)  # type: ignore[misc]
        for ask in asking.values():
            ask()
        yield asking


def compared(ours: Callable[[Jail], dict[str, float]], jobs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Medians of all, and of our wall and processor time divided by each peer's in the same round.

    Bare pyvips does all that we do; by the clock the others are held against the time until our last picture, since
    they measure nothing afterwards. Processor time is of the whole job.
    """
    with contestants(ours, jobs) as asking:
        rounds = [{name: ask() for name, ask in asking.items()} for _ in range(ROUNDS)]
    figures: dict[str, Any] = {}
    for name in rounds[0]:
        figures[name] = {
            key: round(statistics.median(r[name][key] for r in rounds), 1) for key in ("wall_ms", "cpu_ms")
        }
        figures[name]["peak_mb"] = max(r[name]["peak_mb"] for r in rounds)
        if name != "ours":
            for key, own in (
                ("wall_ms", "wall_ms" if name.startswith("bare") else "pictures_ms"),
                ("cpu_ms", "cpu_ms"),
            ):
                ratio = statistics.median(r["ours"][own] / r[name][key] for r in rounds)
                figures[name][f"ours_to_it_{key.removesuffix('_ms')}"] = round(ratio, 3)
    return figures


def in_jail(jail: Jail, operation: str, params: bytes, raw: bytes) -> dict[str, float]:
    """One job's cost as its caller sees it."""
    start = time.monotonic()
    job, size, pictures = jail.start(operation, params, [raw], 60), 0, 0.0
    while (output := job.next()) is not None:
        size += len(output.data)
        if output.name == "rendition":
            pictures = 1000 * (time.monotonic() - start)
    wall = 1000 * (time.monotonic() - start)
    assert job.usage is not None
    return {
        "wall_ms": wall,
        "pictures_ms": pictures,
        "cpu_ms": job.usage.cpu_ms,
        "peak_mb": job.usage.peak_mb,
        "bytes": size,
    }


def ingest(path: Path) -> dict[str, Any]:
    """Ancestor, its half, facts, placeholder, rungs, quality; sharp and Pillow make no half and measure nothing."""
    raw = path.read_bytes()
    facts = render.ancestor(raw)[0].facts
    sizes = [render.plan(rung, facts).canvas for rung in render.ladder()]
    is_heic = path.suffix == ".heic"
    job = {"do": "ingest", "file": str(path), "ancestor": render.ancestor_size(facts), "rungs": sizes}
    job |= {"heic": is_heic, "profile": facts.icc is not None}
    params = msgspec.msgpack.encode(render.IngestParams())
    peers = [name for name in PEERS if name != "sharp" or not is_heic]  # its wheel has no HEVC
    return compared(lambda jail: in_jail(jail, "ingest", params, raw), dict.fromkeys(peers, job))


def preview(path: Path, side: int) -> dict[str, Any]:
    """One preview from its stored parent, and the peers' from the same bytes; sharp's also from the original."""
    report, parents = render.parents(path.read_bytes())
    wanted = recipe.rung(side, engine.revision())
    name = render.parent_of(wanted, report.facts)
    stored = (install.FOLDER / "files" / f"{path.stem}-{name}.jpg").resolve()
    stored.write_bytes(parents[name])
    size = geometry.fit(report.facts.width or 0, report.facts.height or 0, side, side)
    params = msgspec.msgpack.encode(render.RenderParams(recipe=recipe.text(wanted), facts=canonical(report.facts)))
    from_stored = {"do": "rung", "file": str(stored), "size": size}
    from_original = {**from_stored, "file": str(path)}
    jobs = {
        f"bare from the {name}": from_stored,
        f"sharp from the {name}": from_stored,
        "sharp from the original": from_original,
        "pillow from the original": from_original,
    }
    return compared(lambda jail: in_jail(jail, "render", params, parents[name]), jobs)


def run() -> dict[str, Any]:
    """All figures; needs the real photos, node for sharp, and a network for the peers' first installation."""
    if not photos().exists():
        return {"skipped": f"no photos in {photos()}"}
    files, figures = originals(), dict[str, Any]()
    for name in list(files)[:3]:
        figures[f"400 px of {name}"] = _said(f"400 px of {name}", preview(files[name], 400))
    for name, path in files.items():
        figures[f"ingest of {name}"] = _said(f"ingest of {name}", ingest(path))
    return {"load_average": os.getloadavg(), "rounds": ROUNDS, **figures}


def _said(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}: {figures}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return figures

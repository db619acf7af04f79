"""Long proofs of the decode child: mutated files by the hundred thousand, and memory that stays where it was.

`TIRAGE_MUTATIONS` and `TIRAGE_SOAK_MINUTES` make them longer or shorter, `TIRAGE_SEED` repeats one; `-s` shows what
was found.
"""

import os
import random
import time
import zlib
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from imagecore import containers, inspect, vips
from imagecore.errors import ChildDied, ImageError, OutOfBounds, PixelFailure
from imagecore.jail import Jail, Limits
from imagecore.jail_wire import Output
from imagecore.render import IngestParams

pytestmark = pytest.mark.soak

DEADLINE_S = 10
LATE_S = 5
SMALL = [
    "social-whatsapp.jpg", "cmyk-no-profile.jpg", "subsampling-411.jpg", "mpo-stereo-pond.mpo", "png-alpha.png",
    "png-16bit.png", "orient-png-6.png", "gif-44-frames.gif", "orient-tiff-6.tif", "tiff-multipage-fax.tif",
    "crash-0e16d3bf.tif", "crash-libheif.heic", "heic-two-images.heic",
]  # fmt: skip
LARGE = ["icc-truncated-profile.jpg", "neardup-forest-b.webp", "orient-webp-6.webp", "avif-iphone-gps.avif",
         "avif-8bit-420.avif", "subsampling-410.jpg"]  # fmt: skip
HELD = Path(__file__).with_name("held.py")
SELDOM = 10
"""A large file is taken once where a small one is taken so many times: its decoders are the same."""
PHOTOS = ["social-whatsapp.jpg", "orient-land-6.jpg", "icc-adobe-rgb-face.jpg", "cmyk-swop-adobe-inverted.jpg",
          "neardup-koala-l.jpg", "large-02-pixel-path.jpg", "ultrahdr-gainmap.jpg"]  # fmt: skip
CALLS = {
    "inspect": msgspec.msgpack.encode(inspect.Params()),
    "ingest": msgspec.msgpack.encode(IngestParams()),
}


def made() -> list[bytes]:
    """Small files of every kind that the photos have only large or not at all, drawn and with a photo's metadata."""
    x = vips.pyvips.Image.xyz(240, 160)
    image = x[0].bandjoin([x[1], x[0] + x[1]]).cast("uchar").copy(interpretation="srgb")
    image = image.icc_transform("p3", embedded=False, input_profile="srgb").copy()
    for tag, told in (("ifd0-Orientation", "6"), ("ifd0-Make", "Maker"), ("ifd3-GPSLatitude", "1/1 2/1 3/1")):
        image.set_type(vips.pyvips.GValue.gstr_type, f"exif-{tag}", told)
    kinds = (".jpg", ".jpg[interlace]", ".jpg[restart_interval=2,subsample_mode=off]", ".png[interlace]",
             ".png[palette]", ".png", ".tif[tile,compression=jpeg]", ".tif[tile,pyramid,compression=webp]",
             ".tif[compression=lzw]", ".tif[compression=deflate,predictor=horizontal]", ".tif[compression=packbits]",
             ".webp", ".webp[lossless]", ".avif[effort=0]", ".avif[effort=0,bitdepth=10,subsample_mode=off]",
             ".gif")  # fmt: skip
    files = [bytes(image.write_to_buffer(kind)) for kind in kinds]
    cmyk = image.icc_transform("cmyk")
    clear = image.bandjoin(x[0].cast("uchar"))
    files += [bytes(cmyk.write_to_buffer(kind)) for kind in (".jpg", ".tif[compression=lzw]")]
    files += [bytes(clear.write_to_buffer(kind)) for kind in (".webp", ".webp[lossless]", ".avif[effort=0]", ".png")]
    return files


def mutated(original: bytes, chance: random.Random) -> bytes:
    """The file with bytes changed (often near its head), a block copied over another, or cut; most PNGs resealed."""
    raw = bytearray(original)
    for _ in range(chance.choice((1, 3, 10, 100))):
        raw[chance.randrange(min(len(raw), chance.choice((200, 4000, len(raw)))))] = chance.randrange(256)
    if chance.random() < 0.1:
        size = chance.randrange(1, min(len(raw), 2000))
        start, to = chance.randrange(len(raw) - size), chance.randrange(len(raw) - size)
        raw[to : to + size] = raw[start : start + size]
    if chance.random() < 0.3:
        del raw[chance.randrange(1, len(raw)) :]
    if raw.startswith(b"\x89PNG") and chance.random() < 0.8:
        _reseal(raw)
    return bytes(raw)


def _reseal(raw: bytearray) -> None:
    """Right checksums again on all of a PNG's chunks, so that what was changed gets past them to the decoder."""
    at = 8
    while at + 12 <= len(raw):
        end = at + 8 + int.from_bytes(raw[at : at + 4], "big")
        if end + 4 > len(raw):
            return
        raw[end : end + 4] = zlib.crc32(raw[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def outcome(jail: Jail, operation: str, raw: bytes, deadline_s: float = DEADLINE_S) -> str:
    """What became of one file: the verdict, or the name of the failure."""
    try:
        outputs: list[Output] = list(jail.run(operation, CALLS[operation], [raw], deadline_s))
    except (PixelFailure, OutOfBounds) as error:
        return f"unforeseen {type(error).__name__} in {operation}: {error}"
    except ChildDied as error:
        return f"ChildDied of {error}"
    except ImageError as error:
        return type(error).__name__
    return str(msgspec.json.decode(outputs[0].data)["verdict"])


def children() -> list[str]:
    """Our child processes, each with its state; the kernel lists them by the thread that started them."""
    pids = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]}" for pid in pids]


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Mutants:
    """The mutated files of one seed; each is made from its number alone, so one that did harm can be made again."""

    def __init__(self, photos: Path, seed: int) -> None:
        self.seed = seed
        small = [(photos / name).read_bytes() for name in SMALL] + made()
        self.originals = small * SELDOM + [(photos / name).read_bytes() for name in LARGE]

    def file(self, number: int) -> tuple[str, bytes]:
        """The operation it is for, and its bytes."""
        chance = random.Random(f"{self.seed} {number}")
        raw = mutated(chance.choice(self.originals), chance)
        return "ingest" if chance.random() < 0.1 else "inspect", raw


def test_mutated_files_are_refused_or_bounded(photos: Path) -> None:
    """Every file ends in a verdict or a named failure by its deadline; no child and no descriptor is left behind."""
    mutants = Mutants(photos, int(os.environ.get("TIRAGE_SEED", time.time_ns())))
    count = int(os.environ.get("TIRAGE_MUTATIONS", "100000"))
    told, slowest = Counter[tuple[str, str]](), 0.0
    print(f"seed {mutants.seed}")
    before, mine = set(children()), len(os.listdir("/proc/self/fd"))
    with Jail.open() as jail:
        for number in range(count):
            if number % 5_000 == 0:
                print(number, f"slowest {slowest:.2f} s", *sorted(told.items()), sep="\n  ", flush=True)
            operation, raw = mutants.file(number)
            started = time.monotonic()
            ended = outcome(jail, operation, raw)
            taken = time.monotonic() - started
            slowest = max(slowest, taken)
            told[containers.label(raw), ended] += 1
            if ended not in ("accept", "reject", "Rejected") or taken > 2:
                print(f"{number}: {operation} of {containers.label(raw)}, {taken:.2f} s, {ended}", flush=True)
        assert len(children()) > len(before)
        assert not [child for child in children() if child.endswith("Z")]
        print(count, f"slowest {slowest:.2f} s", *sorted(told.items()), sep="\n  ")
        print(f"this process {resident_kb() >> 10} MB")
        assert outcome(jail, "ingest", mutants.originals[0]) == "accept"
    assert set(children()) <= before
    assert len(os.listdir("/proc/self/fd")) <= mine
    assert sum(told.values()) == count
    assert not [ended for _, ended in told if ended.startswith("unforeseen")]
    assert slowest < DEADLINE_S + LATE_S


def slope(samples: list[tuple[float, int]]) -> float:
    """Least squares over (seconds, KiB), in MiB an hour."""
    seconds, kb = (np.array(column, float) for column in zip(*samples, strict=True))
    return float(np.polyfit(seconds, kb, 1)[0]) * 3600 / 1024


def held(jail: Jail) -> dict[str, int]:
    """What the child tells of its memory (`held.py`)."""
    (told,) = jail.run("held", b"", [], 60)
    return dict(msgspec.json.decode(told.data))


def grown(samples: list[dict[str, int]], what: str) -> int:
    """By how much a figure rose since the child has had as many threads as at the end: each keeps some 4 kB."""
    alike = [each[what] for each in samples if each["threads"] == samples[-1]["threads"]]
    return alike[-1] - alike[0]


def test_memory_does_not_creep(photos: Path) -> None:
    """One child, never replaced, and its parent: after a third of the time as warm-up, at most 1 MB more an hour.

    The child is asked what it holds without what glibc keeps at hand (`held.py`); how its resident memory swings with
    that is printed. Under half an hour the figure is held to 1 MB over the whole run instead: noise is no slope. Used
    heap is counted, not measured: it may not rise by a byte a job.
    """
    minutes = float(os.environ.get("TIRAGE_SOAK_MINUTES", "60"))
    raws = [(photos / name).read_bytes() for name in PHOTOS]
    samples: dict[str, list[tuple[float, int]]] = {"child": [], "parent": []}
    swing: list[int] = []
    told: list[dict[str, int]] = []
    with Jail.open(Limits(jobs=1 << 40), preload=("ingest",), table=HELD) as jail:
        start, done = time.monotonic(), 0
        while (now := time.monotonic() - start) < minutes * 60:
            for raw in raws:
                assert outcome(jail, "ingest", raw, 600) == "accept"
                done += 1
            told.append(held(jail))
            swing.append(told[-1]["resident_kb"])
            if now > minutes * 20:
                samples["child"].append((now, told[-1]["trimmed_kb"]))
                samples["parent"].append((now, resident_kb()))
    late = told[-len(samples["child"]) :]
    print(f"resident child {min(swing) >> 10} to {max(swing) >> 10} MB, threads {late[0]['threads']} to "
          f"{late[-1]['threads']}, used heap {late[0]['used']} to {late[-1]['used']} bytes, blocks of Python "
          f"{late[0]['blocks']} to {late[-1]['blocks']}")  # fmt: skip
    hourly = {name: slope(taken) for name, taken in samples.items()}
    for name, taken in samples.items():
        print(f"{name}: {done} jobs, {taken[0][1]} to {taken[-1][1]} KiB, {hourly[name]:.3f} MB/h")
    assert len({each["pid"] for each in late}) == 1
    assert grown(late, "used") < done
    assert max(hourly.values()) <= (1 if minutes >= 30 else 60 / minutes)


def test_small_jobs_leave_nothing(photos: Path) -> None:
    """As many jobs in minutes as real photos in hours: small files of every kind, accepted and refused.

    `TIRAGE_SOAK_JOBS` of them (20,000), the first third as warm-up; then used heap stays to the byte, and Python takes
    less than a small block in a hundred jobs.
    """
    count = int(os.environ.get("TIRAGE_SOAK_JOBS", "20000"))
    raws = [*(raw for raw in made() if len(raw) < 100_000), (photos / "bad-truncated.png").read_bytes()[:5000], b"GIF8"]
    told: list[dict[str, int]] = []
    with Jail.open(Limits(jobs=1 << 40), preload=("ingest",), table=HELD) as jail:
        for number in range(count):
            outcome(jail, "ingest", raws[number % len(raws)], 600)
            if number % (20 * len(raws)) == 0:
                told.append(held(jail))
    print(*told, sep="\n")
    late = told[len(told) // 3 :]
    assert len({each["pid"] for each in late}) == 1
    assert grown(late, "used") == 0
    assert grown(late, "blocks") < count // 100

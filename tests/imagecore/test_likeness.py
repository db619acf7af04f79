"""Which pictures are the same photo, measured on generated pairs.

The set: every accepted real photo of the corpus (one a motif), against itself re-encoded (JPEG q35 to q92, WebP q60),
resized (to 20-75 % by four kernels) and cropped (up to 5 % off each side): 13 pairs a motif. Unrelated pairs: every two
motifs, with the same changes on one of them. Both sides of a pair go the way of a photo that was sent: ingest's stored
ancestor, then the analysis' fingerprint of it. What is changed is the ancestor at the size that messengers send.

`make soak` takes all photos and changes; `make test` one change a class and motif, of photos up to `QUICK_PIXELS`.
"""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from imagecore import likeness, render, vips
from imagecore.analyse import fingerprint_of
from imagecore.likeness import Fingerprint, alike, distance, fingerprint

pytestmark = pytest.mark.xdist_group("likeness")  # what the module makes is made once
SEED = 20261124
KERNELS = ("lanczos3", "cubic", "linear", "nearest")
SAME_MOTIF = ("forest", "koala", "orient-land", "cmyk")
FLAT = {"big-99mp-solid.jpg"}
QUICK_PIXELS = 10_000_000
SENT_SIDE = 1600
QUICK_SIDE = 800

Motifs = dict[str, tuple[Fingerprint, pyvips.Image]]
"""By name: how the photo looks, and the picture that is changed."""
Change = Callable[[pyvips.Image, random.Random], list[bytes]]


def of(raw: bytes) -> Fingerprint:
    """As the pixel workers make it."""
    with vips.threads(1):
        return fingerprint_of(render.ancestor(raw)[1])


def motif(name: str) -> str:
    return next((m for m in SAME_MOTIF if m in name), name)


def jpeg(image: pyvips.Image, quality: int = 90) -> bytes:
    return bytes(image.jpegsave_buffer(Q=quality, keep="none"))


def reencoded(image: pyvips.Image, _: random.Random) -> list[bytes]:
    return [*(jpeg(image, q) for q in (35, 60, 80, 92)), bytes(image.webpsave_buffer(Q=60, effort=0, keep="none"))]


def resized(image: pyvips.Image, rng: random.Random) -> list[bytes]:
    return [jpeg(image.resize(scale, kernel=rng.choice(KERNELS))) for scale in (0.2, 0.35, 0.5, 0.75)]


def cropped(image: pyvips.Image, rng: random.Random) -> list[bytes]:
    found = []
    for most in (0.01, 0.02, 0.03, 0.05):
        left, right = (int(rng.uniform(0, most) * image.width) for _ in "lr")
        top, bottom = (int(rng.uniform(0, most) * image.height) for _ in "tb")
        found.append(jpeg(image.crop(left, top, image.width - left - right, image.height - top - bottom)))
    return found


CHANGES: dict[str, Change] = {"reencoded": reencoded, "resized": resized, "cropped": cropped}


def motifs_of(photos: Path, manifest: dict[str, dict[str, Any]], most_pixels: int, side: int) -> Motifs:
    """One photo a motif, of up to so many pixels; its picture within a square of `side`."""
    found: Motifs = {}
    for name, row in manifest.items():
        if not row["expectation"].startswith("accept") or name in FLAT or row["width"] * row["height"] > most_pixels:
            continue
        if motif(name) in {motif(n) for n in found}:
            continue
        with vips.threads(1):
            _, ancestor = render.ancestor((photos / name).read_bytes())
        picture = pyvips.Image.thumbnail_buffer(ancestor, side, size="down").copy_memory()
        found[name] = fingerprint_of(ancestor), picture
    return found


@pytest.fixture(scope="module")
def quick(photos: Path, manifest: dict[str, dict[str, Any]]) -> Motifs:
    return motifs_of(photos, manifest, QUICK_PIXELS, QUICK_SIDE)


def measure(motifs: Motifs, change: Change) -> tuple[float, float, int, int]:
    """(recall, precision, pairs of the same photo, pairs of unrelated photos) under one class of change."""
    rng = random.Random(SEED)
    changed = {name: [of(raw) for raw in change(image, rng)] for name, (_, image) in motifs.items()}
    same = [(motifs[n][0], v) for n, versions in changed.items() for v in versions]
    other = [(motifs[a][0], v) for a, b in itertools.permutations(motifs, 2) for v in changed[b]]
    hits = sum(alike(*pair) for pair in same)
    false = sum(alike(*pair) for pair in other)
    return hits / len(same), hits / max(1, hits + false), len(same), len(other)


class TestRecallAndPrecision:
    @pytest.mark.parametrize("kind", list(CHANGES))
    def test_sample(self, quick: Motifs, kind: str) -> None:
        recall, precision, same, other = measure(quick, lambda image, rng: [rng.choice(CHANGES[kind](image, rng))])
        assert recall >= 0.9
        assert precision >= 0.99
        assert same >= 30
        assert other >= 870

    @pytest.mark.soak
    def test_whole_set(self, photos: Path, manifest: dict[str, dict[str, Any]]) -> None:
        motifs, pairs = motifs_of(photos, manifest, 1 << 40, SENT_SIDE), 0
        print(f"{len(motifs)} motifs")
        for kind, change in CHANGES.items():
            recall, precision, same, other = measure(motifs, change)
            print(f"{kind}: recall {recall:.3f}, precision {precision:.4f}, {same} same, {other} unrelated pairs")
            pairs += same
            assert recall >= 0.9
            assert precision >= 0.99
        assert pairs >= 500


class TestRealPairs:
    def read(self, photos: Path, name: str) -> Fingerprint:
        return of((photos / name).read_bytes())

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("neardup-forest-a.jpg", "neardup-forest-b.webp"),
            ("neardup-koala-xxl.jpg", "neardup-koala-l.jpg"),
            ("cmyk-swop-adobe-inverted.jpg", "cmyk-no-profile.jpg"),
            *(("orient-land-1.jpg", f"orient-land-{n}.jpg") for n in range(2, 9)),
        ],
    )
    def test_same_photo(self, photos: Path, one: str, other: str) -> None:
        assert alike(self.read(photos, one), self.read(photos, other))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("nearmiss-lamp-1.jpg", "nearmiss-lamp-2.jpg"),
            ("neardup-forest-a.jpg", "ultrahdr-gainmap.jpg"),
            ("neardup-forest-b.webp", "ultrahdr-gainmap.jpg"),
        ],
    )
    def test_another_photo(self, photos: Path, one: str, other: str) -> None:
        assert distance(self.read(photos, one), self.read(photos, other)) > likeness.NEAR_BITS + 4


class TestFlatPictures:
    def gradient(self, rng: np.random.Generator) -> bytes:
        y, x = np.mgrid[0:32, 0:32] / 32
        slope, bend = rng.uniform(-60, 60, 2), rng.uniform(-60, 60)
        level = 128 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5) + bend * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
        return np.clip(level + rng.normal(0, 0.3, (32, 32)), 0, 255).round().astype(np.uint8).tobytes()

    def test_solids_noise_and_gradients_never_match(self) -> None:
        rng = np.random.default_rng(SEED)
        flat = [fingerprint(bytes([level]) * 1024) for level in range(0, 256, 15)]
        flat += [fingerprint(rng.integers(120, 124, 1024, dtype=np.uint8).tobytes()) for _ in range(20)]
        flat += [fingerprint(self.gradient(rng)) for _ in range(40)]
        assert [pair for pair in itertools.combinations_with_replacement(flat, 2) if alike(*pair)] == []

    def test_real_solid_never_matches_itself(self, photos: Path) -> None:
        solid = of((photos / "big-99mp-solid.jpg").read_bytes())
        assert not alike(solid, solid)

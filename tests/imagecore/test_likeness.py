"""Which pictures are the same photo, measured on generated pairs.

The set: every accepted real photo of the corpus (one a motif) as it is, against itself re-encoded (JPEG q35 to q92,
WebP q60), resized (to 20-75 % by four kernels) and cropped (up to 5 % off each side): 13 pairs a motif. Unrelated
pairs: every two motifs, with the same changes on one of them. `make test` draws one change a class and motif; `make
soak` runs all of them.
"""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from imagecore import likeness
from imagecore.likeness import Fingerprint, alike, distance, fingerprint

pytestmark = pytest.mark.xdist_group("likeness")  # what the module makes is made once
SEED = 20261124
KERNELS = ("lanczos3", "cubic", "linear", "nearest")
SAME_MOTIF = ("forest", "koala", "orient-land", "cmyk")
FLAT = {"big-99mp-solid.jpg"}


def gray(image: pyvips.Image) -> bytes:
    small = image.thumbnail_image(32, height=32, size="force").colourspace("b-w")
    return bytes(small[0].cast("uchar").write_to_memory())


def of(image: pyvips.Image) -> Fingerprint:
    return fingerprint(gray(image))


def motif(name: str) -> str:
    return next((m for m in SAME_MOTIF if m in name), name)


def reencoded(image: pyvips.Image) -> list[pyvips.Image]:
    coded = [image.jpegsave_buffer(Q=q, keep="none") for q in (35, 60, 80, 92)] + [
        image.webpsave_buffer(Q=60, effort=0, keep="none")
    ]
    return [pyvips.Image.new_from_buffer(data, "") for data in coded]


def resized(image: pyvips.Image, rng: random.Random) -> list[pyvips.Image]:
    return [image.resize(scale, kernel=rng.choice(KERNELS)) for scale in (0.2, 0.35, 0.5, 0.75)]


def cropped(image: pyvips.Image, rng: random.Random) -> list[pyvips.Image]:
    found = []
    for most in (0.01, 0.02, 0.03, 0.05):
        left, right = (int(rng.uniform(0, most) * image.width) for _ in "lr")
        top, bottom = (int(rng.uniform(0, most) * image.height) for _ in "tb")
        found.append(image.crop(left, top, image.width - left - right, image.height - top - bottom))
    return found


@pytest.fixture(scope="module")
def motifs(photos: Path, manifest: dict[str, dict[str, Any]]) -> dict[str, pyvips.Image]:
    """One picture a motif, at most 512 px, by name; formats that plain libvips reads."""
    found: dict[str, pyvips.Image] = {}
    for name, row in manifest.items():
        if not row["expectation"].startswith("accept") or row["format"] in {"heic", "heif"} or name in FLAT:
            continue
        if motif(name) in {motif(n) for n in found}:
            continue
        image = pyvips.Image.thumbnail(str(photos / name), 512, size="down", output_profile="srgb")
        found[name] = (image.flatten(background=[255] * 3) if image.hasalpha() else image).copy_memory()
    assert len(found) >= 40
    return found


class TestRecallAndPrecision:
    def measure(
        self, motifs: dict[str, pyvips.Image], change: Callable[[pyvips.Image, random.Random], list[pyvips.Image]]
    ) -> tuple[float, float, int, int]:
        """(recall, precision, pairs of the same photo, pairs of unrelated photos) under one class of change."""
        rng = random.Random(SEED)
        plain = {name: of(image) for name, image in motifs.items()}
        changed = {name: [of(v) for v in change(image, rng)] for name, image in motifs.items()}
        same = [(plain[n], v) for n, versions in changed.items() for v in versions]
        other = [(plain[a], v) for a, b in itertools.permutations(motifs, 2) for v in changed[b]]
        hits = sum(alike(*pair) for pair in same)
        false = sum(alike(*pair) for pair in other)
        return hits / len(same), hits / max(1, hits + false), len(same), len(other)

    @pytest.mark.parametrize("kind", ["reencoded", "resized", "cropped"])
    def test_sample(self, motifs: dict[str, pyvips.Image], kind: str) -> None:
        whole = {"reencoded": lambda i, _: reencoded(i), "resized": resized, "cropped": cropped}[kind]
        recall, precision, _, others = self.measure(motifs, lambda i, rng: [rng.choice(whole(i, rng))])
        assert recall >= 0.9
        assert precision >= 0.99
        assert others >= 1500

    @pytest.mark.soak
    def test_whole_set(self, motifs: dict[str, pyvips.Image]) -> None:
        pairs = 0
        for name, change in (("reencoded", lambda i, _: reencoded(i)), ("resized", resized), ("cropped", cropped)):
            recall, precision, same, other = self.measure(motifs, change)
            print(f"{name}: recall {recall:.3f}, precision {precision:.4f}, {same} same, {other} unrelated pairs")
            pairs += same
            assert recall >= 0.9
            assert precision >= 0.99
        assert pairs >= 500


class TestRealPairs:
    def read(self, photos: Path, name: str) -> Fingerprint:
        return of(pyvips.Image.thumbnail(str(photos / name), 512, size="down", output_profile="srgb"))

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
        solid = of(pyvips.Image.thumbnail(str(photos / "big-99mp-solid.jpg"), 512, size="down"))
        assert not alike(solid, solid)

"""Sharpness, exposure, noise and JPEG damage: one class run compiled and uncompiled, then real photos."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagecore import engine, inspect, measuring, quality, render, vips
from imagecore import recipe as recipes
from imagecore.facts import Facts, Note
from imagecore.jail import Jail
from imagecore.jail_wire import Limits
from imagecore.load import load

Kernels = Callable[[str, str], ModuleType]
SIDE = 98


def edge(sigma: float, low: int = 60, high: int = 200) -> bytes:
    """Vertical edges every 33 px, blurred by a Gaussian of this standard deviation."""
    row = []
    for x in range(SIDE):
        nearest = (x + 16) % 33 - 16
        step = 0.5 * (1 + math.erf((nearest - 0.5) / (sigma * math.sqrt(2))))
        rising = (x + 16) // 33 % 2 == 0
        row.append(round(low + (high - low) * (step if rising else 1 - step)))
    return bytes(row) * SIDE


def noisy(sigma: float, level: int = 128) -> bytes:
    values = np.random.default_rng(7).normal(level, sigma, (SIDE, SIDE))
    return np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()


@pytest.mark.parametrize("lane", ["compiled", "pure"])
class TestMeasure:
    @pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0, 3.0])
    def test_blur_of_a_known_edge(self, kernel: Kernels, lane: str, sigma: float) -> None:
        found = kernel("quality", lane).measure(edge(sigma), SIDE, SIDE).blur
        assert found == pytest.approx(100 * sigma, rel=0.12)

    def test_contrast_does_not_change_blur(self, kernel: Kernels, lane: str) -> None:
        module = kernel("quality", lane)
        strong, weak = (module.measure(edge(1.5, *levels), SIDE, SIDE).blur for levels in ((10, 245), (90, 150)))
        assert strong == pytest.approx(weak, rel=0.1)

    @pytest.mark.parametrize("sigma", [1.0, 4.0, 12.0])
    def test_noise_of_a_known_sigma(self, kernel: Kernels, lane: str, sigma: float) -> None:
        found = kernel("quality", lane).measure(noisy(sigma), SIDE, SIDE).noise
        assert found == pytest.approx(100 * sigma, rel=0.15)

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_flat(self, kernel: Kernels, lane: str, level: int) -> None:
        found = kernel("quality", lane).measure(bytes([level]) * SIDE * SIDE, SIDE, SIDE)
        assert (found.blur, found.noise, found.blockiness, found.mean) == (None, 0, 100, level)
        assert (found.dark, found.bright) == (1000 * (level == 0), 1000 * (level == 255))

    @pytest.mark.parametrize("shift", [0, 1, 5])
    def test_blocks_are_seen_wherever_they_start(self, kernel: Kernels, lane: str, shift: int) -> None:
        block = np.random.default_rng(3).integers(100, 150, (14, 14), dtype=np.uint8)
        blocks = np.kron(block, np.ones((8, 8), np.uint8))[shift : shift + SIDE, shift : shift + SIDE]
        grain = np.random.default_rng(4).integers(0, 6, (SIDE, SIDE), dtype=np.uint8)
        picture = np.ascontiguousarray(blocks + grain)
        assert kernel("quality", lane).measure(picture.tobytes(), SIDE, SIDE).blockiness > 400
        assert kernel("quality", lane).measure(grain.tobytes(), SIDE, SIDE).blockiness < 115

    @pytest.mark.parametrize(("size", "width", "height"), [(0, 0, 0), (33 * 40, 33, 40), (1600, 40, 41)])
    def test_wrong_sizes_are_refused(self, kernel: Kernels, lane: str, size: int, width: int, height: int) -> None:
        with pytest.raises(ValueError, match="gray pixels"):
            kernel("quality", lane).measure(bytes(size), width, height)


@given(st.integers(34, 80), st.integers(34, 80), st.integers(0, 2**32 - 1), st.sampled_from([2, 64, 256]))
@settings(max_examples=25, deadline=None)
def test_compiled_equals_pure(kernel: Kernels, width: int, height: int, seed: int, levels: int) -> None:
    gray = np.random.default_rng(seed).integers(0, levels, width * height, dtype=np.uint8).tobytes()
    compiled, pure = (kernel("quality", lane) for lane in ("compiled", "pure"))
    assert compiled.sums(gray, width, height) == pure.sums(gray, width, height)


def gray_of(image: vips.Image) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = image.colourspace("b-w").extract_band(0).numpy()
    return found


class TestRealPhotos:
    SHARP = ("large-01-mi-a3-dinner.jpg", "large-05-nuthatch-20mp.jpg", "neardup-koala-xxl.jpg", "heic-two-images.heic")

    @pytest.fixture(params=SHARP)
    def photo(self, photos: Path, request: pytest.FixtureRequest) -> vips.Image:
        image = load((photos / request.param).read_bytes()).thumbnail_image(1280, height=1280, size="down")
        return image.colourspace("srgb").copy_memory()

    def test_blurring_is_seen(self, photo: vips.Image) -> None:
        found = [
            quality.measure(gray_of(picture).tobytes(), picture.width, picture.height).blur or 0
            for picture in (photo, *(photo.gaussblur(sigma) for sigma in (1, 2, 3)))
        ]
        assert found == sorted(found)
        assert found[0] < 60 < found[2]

    def test_compression_is_seen(self, photo: vips.Image) -> None:
        found = []
        for quality_factor in (92, 30, 10):
            again = load(photo.jpegsave_buffer(Q=quality_factor, keep="none"))
            found.append(quality.measure(gray_of(again).tobytes(), again.width, again.height).blockiness)
        assert found == sorted(found)
        assert found[0] < 130 < found[1]
        assert found[2] > 180

    def test_orientation_changes_little(self, photos: Path) -> None:
        """Eight files of one photo, stored turned: quality looks at stored pixels and must agree."""
        found = [measuring.quality_of((photos / f"orient-land-{n}.jpg").read_bytes()) for n in range(1, 9)]
        assert [q is not None and abs((q.blur or 0) - 26) <= 1 and abs(q.mean - 115) <= 1 for q in found] == [True] * 8

    def test_too_small_is_not_measured(self) -> None:
        tiny = vips.from_pixels(bytes(300), 10, 10, 3, wide=False, owner=None).copy(interpretation="srgb")
        assert measuring.quality_of(tiny.pngsave_buffer()) is None


KINDS = [
    "large-03-iphone-xs-p3-rotated.jpg", "subsampling-411.jpg", "cmyk-swop-adobe-inverted.jpg", "heic-two-images.heic",
    "png-16bit.png", "png-alpha.png", "orient-webp-6.webp", "avif-8bit-420.avif", "orient-tiff-6.tif",
    "gif-44-frames.gif",
]  # fmt: skip
"""A file of each kind that decodes in a way of its own; `soak` takes them all."""


class TestAtIngest:
    """Measured on the pixels that ingest decodes, the figures are those of the original decoded for them."""

    def check(self, jail: Jail, raw: bytes) -> bool:
        """Whether quality was told; then it is right. The ancestor is the one that is made without it."""
        small = recipes.text(recipes.rung(200, engine.revision()))
        params = msgspec.msgpack.encode(render.IngestParams(recipes=(small,)))
        found = {output.name: output.data for output in jail.run("ingest", params, [raw], 60)}
        assert found["ancestor"] == render.ancestor(raw)[1]
        if "quality" not in found:
            return False
        assert measuring.decode(found["quality"]) == measuring.quality_of(raw)
        return True

    @pytest.mark.parametrize("name", KINDS)
    def test_each_kind(self, pixel_jail: Jail, photos: Path, name: str) -> None:
        assert self.check(pixel_jail, (photos / name).read_bytes())

    def test_a_damaged_photo(self, pixel_jail: Jail, photos: Path) -> None:
        """It is decoded twice, since libvips stops at the first warning; what is kept is the second time's."""
        raw = bytearray((photos / "subsampling-411.jpg").read_bytes())
        middle = len(raw) // 2
        raw[middle : middle + 2] = b"\xff\xd0"
        assert Note.WARN_DAMAGED in render.ancestor(bytes(raw))[0].notes
        assert self.check(pixel_jail, bytes(raw))

    def test_a_profile_that_cannot_be_used(self, pixel_jail: Jail, photos: Path) -> None:
        """Of CMYK, gray comes by a profile; what is assumed for the print is assumed here."""
        raw = (photos / "cmyk-swop-adobe-inverted.jpg").read_bytes()
        assert raw.count(b"prtrCMYKLab ") == 1
        assert self.check(pixel_jail, raw.replace(b"prtrCMYKLab ", b"prtrCMYKLa} "))

    @pytest.mark.soak
    def test_every_photo(self, pixel_jail: Jail, photos: Path, manifest: dict[str, dict[str, Any]]) -> None:
        """All that are accepted but the one of 99 MP, which shrinks while it is decoded."""
        names = [name for name, row in manifest.items() if row["expectation"].startswith("accept")]
        assert len(names) > 50
        assert [n for n in names if not self.check(pixel_jail, (photos / n).read_bytes())] == ["big-99mp-solid.jpg"]

    def test_what_is_too_small_says_so(self, pixel_jail: Jail) -> None:
        tiny = vips.from_pixels(bytes(3 * 20 * 30), 20, 30, 3, wide=False, owner=None).copy(interpretation="srgb")
        assert self.check(pixel_jail, bytes(tiny.pngsave_buffer()))


class TestMayKeep:
    """What is kept fits in beside what decoding takes; what does not is decoded as it was, and not refused."""

    @pytest.fixture
    def limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a pixel worker's child."""
        monkeypatch.setattr(inspect, "memory_budget", lambda: (Limits().memory_mb << 20) - inspect.BASE_MEMORY)

    @pytest.mark.parametrize(
        ("width", "height", "form", "kept"),
        [
            (8064, 6048, {}, True),
            (8064, 6048, {"interlaced": True, "subsampling": "4:4:4"}, True),
            (9300, 7000, {}, False),  # too many pixels, whatever their memory
            (6000, 5000, {"format": "avif"}, True),
            (6400, 5800, {"format": "avif"}, False),
            (8000, 7900, {"format": "png", "bits": 16, "colour_space": "rgb+alpha", "alpha": True}, True),
            (8000, 7900, {"format": "tiff", "bits": 16}, False),
            (9300, 7000, {"format": "heic"}, True),  # there anyway
        ],
    )
    def test_by_size_and_kind(self, limited: None, width: int, height: int, form: dict[str, Any], kept: bool) -> None:
        told = {"format": "jpeg", "colour_space": "rgb", "bits": 8, **form}
        facts = Facts(sha256="", bytes=5_000_000, width=width, height=height, **told)
        inspect.refuse_oversized(facts)
        assert inspect.may_keep(facts) is kept

    @pytest.mark.soak
    @pytest.mark.parametrize(
        ("form", "options"),
        [
            ({"format": "jpeg", "interlaced": True, "subsampling": "4:4:4"}, ".jpg[interlace,subsample_mode=off,Q=50]"),
            ({"format": "webp"}, ".webp[lossless,effort=0]"),
            ({"format": "avif"}, ".avif[effort=0,subsample_mode=off]"),
            ({"format": "avif", "bits": 10}, ".avif[effort=0,bitdepth=10,subsample_mode=off]"),
            ({"format": "tiff", "bits": 16}, ".tif[compression=deflate]"),
            ({"format": "png", "bits": 16}, ".png[compression=1]"),
            ({"format": "png", "bits": 8, "interlaced": True}, ".png[compression=1,interlace]"),
        ],
    )
    def test_the_largest_that_is_kept_is_measured(
        self, limited: None, pixel_jail: Jail, form: dict[str, Any], options: str
    ) -> None:
        """Each with the rest of its ingest, in the memory that a child has."""
        told = {"colour_space": "rgb", "bits": 8, **form}
        wide = told["bits"] > 8
        sides = (
            side
            for side in range(8000, 3000, -20)  # of a byte a pixel, which these files do not reach
            if inspect.may_keep(Facts(sha256="", bytes=side * side, width=side, height=side, **told))
        )
        side = next(sides)
        image = (vips.pyvips.Image.xyz(side, side)[0] % 251).bandjoin([60, 90]).cast("uchar")
        image = (image * 257).cast("ushort").copy(interpretation="rgb16") if wide else image.copy(interpretation="srgb")
        raw = bytes(image.write_to_buffer(options))
        assert len(raw) <= side * side
        job = pixel_jail.start("ingest", msgspec.msgpack.encode(render.IngestParams()), [raw], 120)
        names = []
        while (output := job.next()) is not None:
            names.append(output.name)
        assert names[-1] == "quality"

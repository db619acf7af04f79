"""Print masters: right size, place, colour and bytes, and a manifest that proves them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from imagecore import classes, colour, masters, render, verify, vips
from imagecore.classes import ClassName
from imagecore.colour import Profile
from imagecore.errors import OutOfBounds, Reason, Rejected
from imagecore.geometry import Box as Part
from imagecore.icc import Intent, Rendering, Space
from imagecore.jail import Jail
from imagecore.load import load
from imagecore.masters import Master
from imagecore.verify import Verdict
from loadtests.bench.hostile import picture, with_cicp
from tests.imagecore import kinds

GOLDEN = Path(__file__).with_name("masters.golden.json")
SMALL = {
    "standard": (30_000, 20_000),
    "matte": (30_000, 20_000),
    "poster": (60_000, 40_000),
    "square": (20_000, 20_000),
}
CASES = [
    ("standard", "srgb", "cover"),
    ("standard", "srgb", "whole"),
    ("matte", "srgb", "cover"),
    ("matte", "adobe-rgb", "cover"),
    ("poster", "srgb", "cover"),
    ("poster", "fogra39", "cover"),
    ("square", "srgb", "cover"),
    ("square", "srgb", "whole"),
]


def scene(width: int = 300, height: int = 200, profile: str = "srgb") -> bytes:
    """A picture of ramps, rings and edges, from integers alone, as PNG."""
    y, x = np.mgrid[0:height, 0:width]
    rings = ((x - width // 2) ** 2 + (y - height // 2) ** 2) // 97 % 256
    bands = [x * 255 // width, rings, np.where((x // 20 + y // 20) % 2, 220, y * 255 // height)]
    data = np.ascontiguousarray(np.stack(bands, axis=-1).astype(np.uint8))
    image = vips.from_pixels(data.data, width, height, 3, wide=False, owner=data).copy(interpretation="srgb")
    return bytes(vips.with_profile(image, colour.named(profile).data).pngsave_buffer(keep="icc"))


def make(
    raw: bytes, class_: str = "standard", profile: str = "srgb", fit: masters.Fit = "cover", **options: object
) -> Master:
    image, kind = load(raw), classes.named(class_)
    target = colour.named(profile)
    trim = options.pop("trim", SMALL[class_])
    recipe = masters.plan(kind, (image.width, image.height), trim, fit=fit, profile=target, **options)  # type: ignore[arg-type]
    return masters.make(raw, recipe, target)


def pixels(master: Master) -> np.ndarray:  # type: ignore[type-arg]
    found: np.ndarray = load(master.data).numpy()  # type: ignore[type-arg]
    return found


class TestGolden:
    @pytest.mark.parametrize("case", CASES, ids="-".join)
    def test_bytes_are_the_stored_ones(self, case: tuple[str, str, masters.Fit]) -> None:
        """TIRAGE_WRITE_GOLDEN=1 stores what is missing or changed; look at the pictures first."""
        found = make(scene(profile="display-p3"), *case).manifest.output.sha256
        stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        name = "-".join(case)
        if os.environ.get("TIRAGE_WRITE_GOLDEN") == "1":
            GOLDEN.write_text(json.dumps({**stored, name: found}, indent=1, sort_keys=True) + "\n")
            return
        assert stored.get(name, "missing: TIRAGE_WRITE_GOLDEN=1 makes it") == found

    def test_every_stored_hash_is_used(self) -> None:
        assert set(json.loads(GOLDEN.read_text())) == {"-".join(case) for case in CASES}


PROGRAM = """
import sys
from imagecore import classes, colour, masters
from imagecore.load import load
for file in sys.argv[1:]:
    raw = open(file, "rb").read()
    original = load(raw)
    for name, profile in (("matte", "adobe-rgb"), ("poster", "fogra39")):
        target = colour.named(profile)
        sides = original.width, original.height
        recipe = masters.plan(classes.named(name), sides, (60_000, 40_000), profile=target)
        print(masters.make(raw, recipe, target).manifest.output.sha256)
"""
SMALL_PHOTOS = ("heic-two-images.heic", "cmyk-swop-adobe-inverted.jpg", "orient-png-6.png")


class TestSameBytes:
    def test_in_every_process_thread_count_and_vector_setting(self, photos: Path, tmp_path: Path) -> None:
        """Of a drawn picture, HEIC, CMYK, and one that is turned."""
        (tmp_path / "drawn.png").write_bytes(scene())
        files = [tmp_path / "drawn.png", *(photos / name for name in SMALL_PHOTOS)]
        settings = [{"VIPS_CONCURRENCY": "1"}, {"VIPS_CONCURRENCY": "2"}, {"VIPS_NOVECTOR": "1"}]
        found = {
            subprocess.run(
                [sys.executable, "-c", PROGRAM, *files], env={**os.environ, **s}, capture_output=True, check=True
            ).stdout
            for s in settings
        }
        assert len(found) == 1
        assert len(set(found.pop().split())) == 2 * len(files)

    def test_in_the_jail(self) -> None:
        raw, target = scene(), colour.named("srgb")
        recipe = masters.plan(classes.named("standard"), (300, 200), SMALL["standard"])
        with Jail.open(masters.LIMITS, preload=("master",)) as jail:
            (output,) = jail.run("master", masters.encode_recipe(recipe), [raw, target.data], 30)
        direct = masters.make(raw, recipe, target)
        assert output.data == direct.data
        assert masters.decode(output.facts) == direct.manifest


class TestSize:
    @pytest.mark.parametrize(
        ("trim_mm", "bleed_um", "expected"),
        [
            # The table of print sizes, at 300 ppi with 3 mm bleed.
            ((102, 152), 3000, (1276, 1866)),
            ((127, 178), 3000, (1571, 2173)),
            ((210, 297), 3000, (2551, 3579)),
            ((305, 406), 3000, (3673, 4866)),
            ((500, 700), 3000, (5976, 8339)),
        ],
    )
    def test_trim_and_bleed_at_300_ppi(
        self, trim_mm: tuple[int, int], bleed_um: int, expected: tuple[int, int]
    ) -> None:
        matte = classes.CLASSES[ClassName.MATTE]
        assert matte.bleed_um == bleed_um
        recipe = masters.plan(matte, (4000, 3000), (trim_mm[0] * 1000, trim_mm[1] * 1000))
        assert (recipe.width, recipe.height, recipe.ppi) == (*expected, 300)

    def test_the_vendors_print_area_comes_first(self) -> None:
        recipe = masters.plan(classes.named("standard"), (4000, 3000), (100_000, 150_000), area=(1285, 1915))
        assert (recipe.width, recipe.height) == (1285, 1915)
        assert recipe.ppi == 314
        assert recipe.trim == Part(25, 25, 1236, 1865)

    def test_square_is_square(self) -> None:
        with pytest.raises(OutOfBounds):
            masters.plan(classes.named("square"), (4000, 3000), (100_000, 150_000))

    def test_absurd_sizes_are_refused_before_any_pixel(self) -> None:
        with pytest.raises(OutOfBounds):
            masters.plan(classes.named("poster"), (4000, 3000), (3_000_000, 3_000_000))

    @pytest.mark.parametrize("case", CASES, ids="-".join)
    def test_the_file_has_the_planned_size_space_and_density(self, case: tuple[str, str, masters.Fit]) -> None:
        master = make(scene(), *case)
        image, recipe = load(master.data), master.manifest.recipe
        assert (image.width, image.height) == (recipe.width, recipe.height)
        assert colour.space_of(image) is colour.named(case[1]).space
        assert round(image.get("xres") * 25.4) == recipe.ppi == 300
        assert vips.blob(image, "icc-profile-data") == colour.named(case[1]).data


class TestPlace:
    def test_whole_lies_on_white_inside_the_trim(self) -> None:
        master = make(scene(), "square", "srgb", "whole")
        values, trim = pixels(master), master.manifest.recipe.trim
        rows = (values < 150).any(axis=(1, 2)).nonzero()[0]
        columns = (values < 150).any(axis=(0, 2)).nonzero()[0]
        assert (columns.min(), columns.max()) == (trim.x, trim.x + trim.width - 1)
        assert rows.max() - rows.min() == pytest.approx(trim.width * 2 / 3, abs=2)
        assert values[0, 0].tolist() == [255, 255, 255]

    def test_border_is_white_inside_the_trim(self) -> None:
        master = make(scene(), "square", border_um=4_000)
        recipe, values = master.manifest.recipe, pixels(master)
        inner = recipe.trim.x + recipe.border
        rows = (values < 240).any(axis=(1, 2)).nonzero()[0]
        columns = (values < 240).any(axis=(0, 2)).nonzero()[0]
        assert recipe.border == recipe.trim.width * 4_000 // 20_000
        last = recipe.trim.x + recipe.trim.width - 1 - recipe.border
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (inner, last, inner, last)
        assert recipe.part.width == recipe.part.height == 200

    def test_crop_is_what_is_printed(self) -> None:
        """The left half, stretched over the sheet: its mean red is a quarter, the whole ramp's a half."""
        left = make(scene(), "square", part=Part(0, 0, 150, 150))
        assert left.manifest.recipe.part == Part(0, 0, 150, 150)
        assert pixels(left)[:, :, 0].mean() == pytest.approx(63, abs=3)

    def test_focal_point_moves_the_cover(self) -> None:
        left, right = (make(scene(), "square", focal=(x, 5_000)) for x in (0, 10_000))
        assert (left.manifest.recipe.part.x, right.manifest.recipe.part.x) == (0, 100)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_orientation_is_baked(self, photos: Path, orientation: int) -> None:
        """And the part that is printed is one of the upright picture."""
        part = Part(1_200, 100, 450, 300)
        first, turned = (
            pixels(make((photos / f"orient-land-{number}.jpg").read_bytes(), part=part)).astype(int)
            for number in (1, orientation)
        )
        off, elsewhere = (np.abs(first - other).mean() for other in (turned, np.roll(turned, (12, 12), (0, 1))))
        assert off < elsewhere / 2

    def test_transparent_is_paper(self, photos: Path) -> None:
        raw = (photos / "png-alpha.png").read_bytes()
        assert pixels(make(raw, fit="whole"))[5, 5].tolist() == [255, 255, 255]

    def test_a_part_outside_the_original_is_refused(self) -> None:
        recipe = masters.plan(classes.named("standard"), (600, 400), SMALL["standard"])
        with pytest.raises(OutOfBounds):
            masters.make(scene(), recipe, colour.named("srgb"))


class TestColour:
    def flat(self, value: tuple[int, int, int], profile: str = "srgb") -> bytes:
        data = np.full((64, 64, 3), value, np.uint8)
        image = vips.from_pixels(data.data, 64, 64, 3, wide=False, owner=data).copy(interpretation="srgb")
        return bytes(vips.with_profile(image, colour.named(profile).data).pngsave_buffer(keep="icc"))

    @pytest.mark.parametrize("kind", kinds.PRINTED)
    def test_a_print_is_what_its_preview_shows(self, kind: str) -> None:
        """Whatever numbers an accepted TIFF holds."""
        raw = kinds.tiff(kind)
        _, ancestor = render.ancestor(raw)
        means = [colour.to_lab(load(data)).numpy().mean(axis=(0, 1)) for data in (ancestor, make(raw).data)]
        assert np.abs(means[0] - means[1]).max() < 2
        wanted = colour.convert(kinds.flat(kind), colour.named("srgb"))
        assert np.abs(means[0] - colour.to_lab(wanted).numpy().mean(axis=(0, 1))).max() < 2

    def test_the_manifest_says_where_colour_came_from(self) -> None:
        """As the facts do."""
        plain = bytes(picture(300, 200).pngsave_buffer(keep="none"))
        tagged = vips.with_profile(picture(300, 200), colour.named("display-p3").data)
        told = {
            "assumed": plain,
            "cicp": with_cicp(plain, 12, 13),
            "embedded": bytes(tagged.pngsave_buffer(keep="icc")),
            "broken": bytes(tagged.jpegsave_buffer(keep="icc")).replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\2\2"),
        }
        assert {name: make(raw).manifest.source.profile_origin for name, raw in told.items()} == {n: n for n in told}

    @pytest.mark.parametrize("class_", ["standard", "poster", "square"])
    def test_srgb_numbers_stay(self, class_: str) -> None:
        found = pixels(make(self.flat((200, 100, 50)), class_))
        assert np.abs(found.reshape(-1, 3).astype(int) - (200, 100, 50)).max() <= 1

    @pytest.mark.parametrize("profile", ["srgb", "adobe-rgb", "fogra39"])
    def test_the_same_colour_in_every_space(self, profile: str) -> None:
        """A printable colour, measured: all masters of it agree."""
        reference = colour.to_lab(load(self.flat((150, 110, 80))))
        found = colour.to_lab(load(make(self.flat((150, 110, 80)), "matte", profile).data))
        mean = [found.extract_band(i).avg() - reference.extract_band(i).avg() for i in range(3)]
        assert np.abs(mean).max() < 1.0

    def test_matte_chooses_by_picture(self) -> None:
        chosen = {
            make(self.flat(value, "display-p3"), "matte", "fogra39").manifest.output.rendering
            for value in ((0, 0, 0), (0, 120, 255), (10, 90, 20), (128, 128, 128))
        }
        assert chosen == {Rendering(Intent.RELATIVE, True), Rendering(Intent.PERCEPTUAL, False)}

    def test_cmyk_original(self, photos: Path) -> None:
        master = make((photos / "cmyk-swop-adobe-inverted.jpg").read_bytes())
        assert master.manifest.output.space is Space.RGB
        assert 60 < pixels(master).mean() < 200

    def test_gray_original_stays_neutral(self, photos: Path) -> None:
        found = pixels(make((photos / "icc-gray-profile-34mp-text.jpg").read_bytes())).astype(int)
        assert np.abs(found[:, :, 0] - found[:, :, 2]).max() <= 2

    def test_hdr_is_refused_not_printed_dull(self, photos: Path) -> None:
        recipe = masters.plan(classes.named("standard"), (3681, 5594), SMALL["standard"])
        with pytest.raises(Rejected, match="pq needs tone mapping") as refused:
            masters.make((photos / "avif-10bit-hdr-p3-20mp.avif").read_bytes(), recipe, colour.named("srgb"))
        assert refused.value.reason is Reason.HDR_NOT_PRINTABLE

    def test_another_profile_than_pinned(self) -> None:
        recipe = masters.plan(classes.named("standard"), (300, 200), SMALL["standard"])
        with pytest.raises(OutOfBounds, match="pins another profile"):
            masters.make(scene(), recipe, colour.named("adobe-rgb"))

    def test_vendors_own_profile(self) -> None:
        data = colour.named("fogra39").data
        vendor = Profile("vendor-coated", Space.CMYK, hashlib.sha256(data).hexdigest(), data)
        recipe = masters.plan(classes.named("poster"), (300, 200), SMALL["poster"], profile=vendor)
        master = masters.make(scene(), recipe, vendor)
        assert (recipe.format, master.manifest.recipe.profile) == ("tiff", "vendor-coated")


class TestSharpening:
    def steps(self, class_: str) -> np.ndarray:  # type: ignore[type-arg]
        """The row across one soft edge, in a master at the original's own scale."""
        recipe = masters.plan(classes.named(class_), (1000, 1000), (80_000, 80_000), area=(1000, 1000))
        x = np.arange(1000)
        row = np.clip((x - 497) * 50 + 100, 100, 200)
        data = np.ascontiguousarray(np.repeat(np.tile(row, (1000, 1))[:, :, None], 3, axis=2).astype(np.uint8))
        image = vips.from_pixels(data.data, 1000, 1000, 3, wide=False, owner=data).copy(interpretation="srgb")
        found: np.ndarray = pixels(masters.make(image.pngsave_buffer(), recipe, colour.named("srgb")))  # type: ignore[type-arg]
        return found[500, :, 0].astype(int)

    def test_edges_gain_and_flats_do_not(self) -> None:
        row = self.steps("standard")
        assert row.max() > 203
        assert np.abs(row[:480] - 100).max() <= 1

    def test_matte_is_sharpened_more_than_glossy(self) -> None:
        assert self.steps("matte").max() > self.steps("standard").max() + 2

    @pytest.mark.parametrize("class_", list(classes.CLASSES.values()), ids=lambda c: c.name)
    def test_kernels_keep_flats_and_fit_32_bits(self, class_: classes.OutputClass) -> None:
        mask, scale = masters._kernel(class_.sharpening)
        assert sum(map(sum, mask)) == scale
        assert 65_535 * sum(abs(v) for row in mask for v in row) < 2**31


class TestEnlarging:
    def test_poster_goes_stepwise(self) -> None:
        """Eight times: the steps leave an edge narrower than one jump does."""
        poster = classes.CLASSES[ClassName.POSTER]
        recipe = masters.plan(poster, (300, 200), (200_000, 133_000))
        target = colour.named("srgb")
        stepped = masters.make(scene(), recipe, target)
        jumped = masters.make(scene(), replace(recipe, stepwise=False), target)
        assert stepped.data != jumped.data
        slopes = [np.abs(np.diff(pixels(m)[:, :, 2].astype(int), axis=1)).max() for m in (stepped, jumped)]
        assert slopes[0] > slopes[1]


class TestManifest:
    def test_it_names_everything(self) -> None:
        raw = scene()
        manifest = make(raw, "matte", "adobe-rgb").manifest
        assert manifest.source.sha256 == hashlib.sha256(raw).hexdigest()
        assert manifest.source.profile_sha256 == colour.named("srgb").sha256
        assert manifest.recipe.profile_sha256 == colour.named("adobe-rgb").sha256
        assert manifest.engine == masters.revision()
        assert any("libvips" in part for part in manifest.engine_parts)

    def test_one_spelling(self) -> None:
        data = masters.encode(make(scene()).manifest)
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
        assert masters.encode(masters.decode(data)) == data


@pytest.fixture(scope="module")
def master() -> Master:
    return make(scene())


class TestVerify:
    def verify(self, master: Master, **changed: object) -> verify.Report:
        raw = changed.pop("original", scene())
        data = changed.pop("data", master.data)
        manifest = replace(master.manifest, **changed)
        return verify.verify(data, manifest, raw, colour.named("srgb"))  # type: ignore[arg-type]

    def test_same_engine_same_bytes(self, master: Master) -> None:
        assert self.verify(master).verdict is Verdict.SAME

    def test_a_changed_byte(self, master: Master) -> None:
        data = bytearray(master.data)
        data[len(data) // 2] ^= 1
        assert self.verify(master, data=bytes(data)).verdict is Verdict.DIFFERENT

    def test_another_original(self, master: Master) -> None:
        assert self.verify(master, original=scene(301)).verdict is Verdict.DIFFERENT

    def test_a_manifest_that_fits_a_forged_file(self, master: Master) -> None:
        """A forger can write a hash, but not make the engine give those bytes."""
        data = master.data + b"\0"
        output = replace(master.manifest.output, sha256=hashlib.sha256(data).hexdigest())
        assert self.verify(master, data=data, output=output).verdict is Verdict.DIFFERENT

    def test_another_engine_states_the_difference(self, master: Master) -> None:
        report = self.verify(master, engine="older-m1")
        assert (report.verdict, report.largest) == (Verdict.OTHER_ENGINE, 0)

    def test_another_engine_with_other_pixels(self, master: Master) -> None:
        other = make(scene(), focal=(4_000, 4_000), part=Part(0, 0, 290, 200))
        recipe = replace(other.manifest.recipe, part=master.manifest.recipe.part)
        report = self.verify(other, recipe=recipe, engine="older-m1")
        assert report.verdict is Verdict.OTHER_ENGINE
        assert report.largest is not None
        assert report.largest > 500

    def test_another_engine_with_another_size(self, master: Master) -> None:
        recipe = make(scene(), trim=(20_000, 20_000)).manifest.recipe
        report = self.verify(master, recipe=recipe, engine="older-m1")
        assert (report.verdict, report.largest) == (Verdict.OTHER_ENGINE, None)
        assert "another size" in report.reason

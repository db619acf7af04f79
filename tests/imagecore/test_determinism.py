"""The same original and recipe give the same bytes: in other processes, with other settings, and next year."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from imagecore import engine, geometry, recipe, render, vips
from imagecore.errors import OutOfBounds, RevisionRetired
from imagecore.facts import Facts, Origin, Profile, canonical
from imagecore.jail import Jail
from imagecore.recipe import Crop, Recipe
from tirage.main import main

PROGRAM = Path(__file__).with_name("forty.py")
GOLDEN = Path(__file__).with_name("render.golden.json")

# No setting may reach the bytes: threads, libvips' vector code, libjpeg's, the AV1 encoder's, the allocator's, locale.
SETTINGS: dict[str, dict[str, str]] = {
    "one thread": {"VIPS_CONCURRENCY": "1"},
    "two threads": {"VIPS_CONCURRENCY": "2"},
    "no vector code": {"VIPS_CONCURRENCY": "2", "VIPS_NOVECTOR": "1", "JSIMD_FORCENONE": "1", "AOM_SIMD_CAPS": "0"},
}


def run(settings: dict[str, str]) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VIPS_", "JSIMD_", "AOM_"))}
    root = str(Path(engine.__file__).parents[1])
    out = subprocess.run(
        [sys.executable, str(PROGRAM)], env={**env, "PYTHONPATH": root, **settings}, capture_output=True, check=True
    )
    return dict(json.loads(out.stdout))


class TestForty:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_every_process_gives_the_stored_bytes(self, name: str) -> None:
        """Another engine may give others: then store the new ones (`python forty.py > render.golden.json`)."""
        assert run(SETTINGS[name]) == json.loads(GOLDEN.read_text())

    def test_there_are_forty_of_all_kinds(self, source: Callable[[str, Path], ModuleType]) -> None:
        labels = list(source("forty", PROGRAM).recipes())
        assert len(labels) == 40
        assert set(labels) < set(json.loads(GOLDEN.read_text())["hashes"])

    def test_the_jail_gives_the_stored_bytes(self, pixel_jail: Jail, source: Callable[[str, Path], ModuleType]) -> None:
        """By the call that an origin makes, from what is stored."""
        module, golden = source("forty", PROGRAM), json.loads(GOLDEN.read_text())["hashes"]
        known = {name: render.parents(raw) for name, raw in module.originals().items()}
        for label, (name, each) in module.recipes().items():
            report, parents = known[name]
            params = render.RenderParams(recipe=recipe.text(each), facts=canonical(report.facts))
            parent = parents[render.parent_of(each, report.facts)]
            (made,) = pixel_jail.run("render", msgspec.msgpack.encode(params), [parent], 60)
            assert hashlib.sha256(made.data).hexdigest() == golden[label], label

    @pytest.mark.parametrize("label", ["p3/proof", "alpha/crop-cover"])
    def test_a_file_gives_the_stored_bytes(
        self, source: Callable[[str, Path], ModuleType], tmp_path: Path, label: str
    ) -> None:
        """By the command, from the original alone."""
        module, out = source("forty", PROGRAM), tmp_path / "made"
        name, wanted = module.recipes()[label]
        (tmp_path / "original").write_bytes(module.originals()[name])
        arguments = ["render", str(tmp_path / "original"), "--recipe", recipe.text(wanted), "-o", str(out)]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert hashlib.sha256(out.read_bytes()).hexdigest() == json.loads(GOLDEN.read_text())["hashes"][label]

    def test_avif_is_pinned_whatever_the_process_runs_with(self) -> None:
        image = vips.in_memory(vips.grid(16).resize(3))
        avif = recipe.rung(200, engine.revision(), "avif")
        with vips.threads(1):
            one = render.encode(image, avif)
        with vips.threads(4):
            assert render.encode(image, avif) == one

    def test_no_step_uses_an_operation_that_vector_code_changes(self) -> None:
        folder = Path(render.__file__).parent
        assert [p.name for p in folder.glob("*.py") if "gaussblur" in p.read_text()] == []


def facts(width: int, height: int, *, is_srgb: bool = True) -> Facts:
    profile = Profile(origin=Origin.EMBEDDED, is_srgb=is_srgb)
    return Facts(sha256="0" * 64, bytes=1, format="jpeg", width=width, height=height, profile=profile)


def wanted(**fields: Any) -> Recipe:
    return Recipe(engine=engine.revision(), **{"width": 400, "height": 400, **fields})


class TestPlan:
    def test_the_whole_picture(self) -> None:
        plan = render.plan(wanted(), facts(4032, 3024))
        assert (plan.canvas, plan.is_whole) == ((400, 300), True)

    def test_a_small_picture_is_not_enlarged_by_fit(self) -> None:
        assert render.plan(wanted(), facts(100, 60)).canvas == (100, 60)

    def test_box_pads_and_enlarges(self) -> None:
        plan = render.plan(wanted(fit="box"), facts(100, 60))
        assert (plan.canvas, plan.placed) == ((400, 400), (0, 80, 400, 240))

    def test_cover_keeps_the_focal_point_of_the_whole_picture_inside_a_crop(self) -> None:
        crop = Crop(1_000, 0, 2_000, 1_000)
        plan = render.plan(wanted(fit="cover", crop=crop, focal=(5_000, 5_000)), facts(4_000, 1_000))
        assert plan.part == (1_500, 0, 1_000, 1_000)
        left = render.plan(wanted(fit="cover", crop=crop, focal=(0, 0)), facts(4_000, 1_000))
        assert left.part == (1_000, 0, 1_000, 1_000)

    @pytest.mark.parametrize("crop", [Crop(0, 0, 101, 60), Crop(100, 0, 1, 1), Crop(0, 59, 1, 2)])
    def test_a_crop_outside_the_picture_is_refused(self, crop: Crop) -> None:
        with pytest.raises(OutOfBounds):
            render.plan(wanted(crop=crop), facts(100, 60))

    def test_a_crop_moved_by_a_pixel_is_another_text(self) -> None:
        assert recipe.text(wanted(crop=Crop(0, 0, 9, 9))) != recipe.text(wanted(crop=Crop(1, 0, 9, 9)))


class TestParent:
    @pytest.mark.parametrize(
        ("fields", "size", "parent"),
        [
            ({}, (4032, 3024), "half"),
            ({"width": 1024, "height": 1024}, (4032, 3024), "half"),  # of 1280 x 960
            ({"width": 1025, "height": 1025}, (4032, 3024), "ancestor"),
            ({"width": 300, "height": 300}, (750, 500), "half"),  # of 375 x 250
            ({"width": 301, "height": 301}, (750, 500), "ancestor"),
            ({"width": 1, "height": 1}, (1, 1), "ancestor"),
            ({"fit": "cover", "width": 768, "height": 768}, (4032, 3024), "half"),  # the middle 960 x 960 of it
            ({"fit": "cover", "width": 769, "height": 769}, (4032, 3024), "ancestor"),
            ({"width": 384, "height": 384, "crop": Crop(0, 0, 1512, 1512)}, (4032, 3024), "half"),  # its 480 x 480
            ({"width": 385, "height": 385, "crop": Crop(0, 0, 1512, 1512)}, (4032, 3024), "ancestor"),
            ({"width": 2560, "height": 2560}, (4032, 3024), "ancestor"),
            ({"width": 2561, "height": 2561}, (4032, 3024), "original"),
            ({"width": 9_999, "height": 9_999}, (2560, 100), "ancestor"),  # the original has no more
            ({"crop": Crop(0, 0, 700, 700)}, (4032, 3024), "ancestor"),
            ({"crop": Crop(0, 0, 600, 600)}, (4032, 3024), "original"),  # 381 px of the ancestor
            ({"crop": Crop(0, 0, 300, 300), "fit": "box"}, (4032, 3024), "original"),
            ({"fit": "cover", "width": 1920, "height": 1920}, (4032, 3024), "ancestor"),
            ({"fit": "cover", "width": 1921, "height": 1921}, (4032, 3024), "original"),
        ],
    )
    def test_it_is_the_smallest_with_enough_pixels(
        self, fields: dict[str, Any], size: tuple[int, int], parent: str
    ) -> None:
        assert render.parent_of(wanted(**fields), facts(*size)) == parent

    def test_wide_colours_come_from_the_original(self) -> None:
        assert render.parent_of(wanted(target="p3"), facts(4032, 3024, is_srgb=False)) == "original"
        assert render.parent_of(wanted(target="p3"), facts(4032, 3024)) == "half"

    def test_every_rung_but_the_largest_is_made_of_the_half(self) -> None:
        parents = [render.parent_of(rung, facts(4032, 3024)) for rung in render.ladder()]
        assert parents == ["half", "half", "half", "ancestor"]

    @pytest.mark.parametrize("size", [(4032, 3024), (901, 1201), (17, 16), (2560, 17), (32_000, 16), (16, 9_000)])
    def test_the_half_is_as_large_as_the_rule_counts_on(self, size: tuple[int, int]) -> None:
        raw = bytes(vips.pyvips.Image.black(*size, bands=3).copy(interpretation="srgb").pngsave_buffer(compression=1))
        report, parents = render.parents(raw)
        half = vips.open_buffer(parents["half"])
        assert (half.width, half.height) == render.half_size(report.facts)
        for rung in render.ladder():
            made = vips.open_buffer(render.render(rung, report.facts, parents))
            assert (made.width, made.height) == render.plan(rung, report.facts).canvas


class TestRender:
    def test_another_engine_is_refused(self, source: Callable[[str, Path], ModuleType]) -> None:
        with pytest.raises(RevisionRetired):
            render.render(recipe.rung(200, "retired2engine"), facts(100, 60), {})

    def test_every_promised_size_is_kept(self, source: Callable[[str, Path], ModuleType]) -> None:
        module = source("forty", PROGRAM)
        for name, raw in module.originals().items():
            report, parents = render.parents(raw)
            for label, (of, each) in module.recipes().items():
                if of == name and "avif" not in label:
                    image = vips.open_buffer(render.render(each, report.facts, parents))
                    told = render.rendered(each, report.facts)
                    assert (image.width, image.height) == (told.width, told.height), label
                    assert image.bands == 3

    def test_a_fallback_has_a_key_of_its_own_and_is_lighter(self, source: Callable[[str, Path], ModuleType]) -> None:
        report, parents = render.parents(source("forty", PROGRAM).originals()["p3"])
        rung = recipe.rung(800, engine.revision())
        fallback = recipe.fallback(rung)
        assert recipe.text(fallback) != recipe.text(rung)
        assert len(render.render(fallback, report.facts, parents)) < len(render.render(rung, report.facts, parents))

    def test_transparency_is_on_white(self, source: Callable[[str, Path], ModuleType]) -> None:
        report, ancestor = render.ancestor(source("forty", PROGRAM).originals()["alpha"])
        assert "flatten-alpha" in report.notes
        assert min(vips.open_buffer(ancestor)(0, 600)) > 245

    def test_p3_keeps_colours_that_srgb_cannot_hold(self, source: Callable[[str, Path], ModuleType]) -> None:
        raw = source("forty", PROGRAM).originals()["p3"]
        report, parents = render.parents(raw)
        wide = vips.open_buffer(render.render(wanted(target="p3"), report.facts, parents))
        narrow = vips.open_buffer(render.render(wanted(), report.facts, parents))
        assert vips.blob(wide, "icc-profile-data") != vips.blob(narrow, "icc-profile-data")
        labs = [image.icc_import(embedded=True, pcs="lab") for image in (wide, narrow)]
        assert 0.5 < labs[0].dE00(labs[1]).avg() < 12

    def test_what_follows_a_picture_reaches_no_output(self, photos: Path) -> None:
        raw = (photos / "odd-polyglot-jpeg-zip.jpg").read_bytes()
        report, parents = render.parents(raw)
        made = [render.render(each, report.facts, parents) for each in render.ladder()]
        made += [parents["ancestor"], parents["half"]]
        assert b"PK\x03\x04" in raw
        assert all(b"PK\x03\x04" not in data and data.endswith(b"\xff\xd9") for data in made)

    def test_a_gain_map_reaches_no_output(self, photos: Path) -> None:
        report, ancestor = render.ancestor((photos / "ultrahdr-gainmap.jpg").read_bytes())
        assert report.facts.gain_map
        assert ancestor.count(b"\xff\xd8\xff") == 1
        assert b"hdr-gain-map" not in ancestor

    def test_colour_words_stand_on_their_colours(self, photos: Path) -> None:
        """The profile swaps channels: without it the words RED, GREEN and BLUE stand on other areas."""
        raw = (photos / "icc-swapped-channels.jpg").read_bytes()
        _, ancestor = render.ancestor(raw)
        before, after = vips.open_buffer(raw), vips.open_buffer(ancestor)
        assert max(abs(a - b) for a, b in zip(before(500, 60), after(500, 60), strict=True)) > 60

    def test_a_broken_profile_is_as_none(self, photos: Path) -> None:
        raw = (photos / "icc-truncated-profile.jpg").read_bytes()
        _, ancestor = render.ancestor(raw)
        image = vips.open_buffer(raw)
        plain = image.copy()
        plain.remove("icc-profile-data")
        told = render.encode_jpeg(plain.icc_transform("srgb", input_profile="srgb"), 90, "420")
        difference = vips.open_buffer(told).cast("short") - vips.open_buffer(ancestor).cast("short")
        assert difference.abs().max() <= 4

    def test_cmyk_is_no_negative(self, photos: Path) -> None:
        """Two files of one photo, one with its press profile, one without: both the right way up, and alike."""
        lights = [
            vips.open_buffer(render.ancestor((photos / name).read_bytes())[1]).colourspace("lab")
            for name in ("cmyk-swop-adobe-inverted.jpg", "cmyk-no-profile.jpg")
        ]
        assert lights[0].dE00(lights[1]).avg() < 9
        paving, jacket = (light.crop(430, 250, 30, 20)[0].avg() for light in lights), lights[0].crop(282, 115, 14, 20)
        assert min(paving) > jacket[0].avg() + 30


VECTORS = [
    (100, 75, 1, "20080625866a73868670791db527b1a1708bac27a0"),
    (75, 100, 2, "20e8051d0859775a82a7717ab261098a70b58baa07"),
    (100, 100, 3, "e0f705170488767798527859a2b9715aa28038e0a2d29b00"),
    (1, 1, 4, "45d709270c08f708888788708f7088f80888707ff8f7870f"),
    (100, 3, 5, "9ca70d498830788787788877f278f87888"),
    (2, 100, 6, "9ff709510477703887827586887fa5a8f7"),
    (33, 57, 7, "e0d70934087437860788869777688d6d60f77c"),
]


def pattern(width: int, height: int, seed: int) -> bytes:
    """The picture that the published JavaScript was given, too."""
    made = bytearray()
    for index in range(width * height):
        for channel in range(3):
            seed = seed * 16_807 % 2_147_483_647
            slope = index % width * (channel + 1) + index // width * (3 - channel) * 2
            made.append((((seed >> 16) & 63) + slope) & 255)
    return bytes(made)


@pytest.mark.parametrize("lane", ["compiled", "pure"])
@pytest.mark.parametrize(("width", "height", "seed", "expected"), VECTORS)
def test_thumbhash_is_what_the_published_program_gives(
    kernel: Callable[[str, str], ModuleType], lane: str, width: int, height: int, seed: int, expected: str
) -> None:
    """Vectors from npm's `thumbhash` 0.1.1 with an opaque alpha channel."""
    assert kernel("thumbhash", lane).encode(width, height, pattern(width, height, seed)).hex() == expected


def test_ancestor_sizes() -> None:
    assert render.ancestor_size(facts(4032, 3024)) == (2560, 1920)
    assert geometry.fit(4032, 3024, 2560, 2560) == (2560, 1920)
    assert render.ancestor_size(facts(2560, 17)) == (2560, 17)

"""Colour against a reference that libvips did not make, and against what is said about a picture's numbers."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagecore import colour, inspect, vips
from imagecore.colour import Origin, ProfileUnusable
from imagecore.icc import Intent, Rendering, Space
from imagecore.load import load

pytestmark = pytest.mark.xdist_group("colour")  # what the module makes is made once
HERE = Path(__file__).parent / "colour_reference"
NAMES = {file: name for name, (file, _) in colour.SHIPPED.items()}
BOUNDS = {("sRGB.icc", 8): 0.12, ("sRGB.icc", 16): 0.01, ("FOGRA39L.icc", 8): 0.10, ("FOGRA39L.icc", 16): 0.02}


@pytest.fixture(scope="module")
def maker(source: Callable[[str, Path], ModuleType]) -> ModuleType:
    return source("colour_reference_make", HERE / "make.py")


@pytest.fixture(scope="module")
def tables(maker: ModuleType) -> list[NDArray[np.uint16]]:
    found: list[NDArray[np.uint16]] = maker.unpack((HERE / "reference.bin.xz").read_bytes())
    return found


def pixels(values: NDArray[Any], interpretation: str, width: int = 1) -> vips.Image:
    """Colours, so many a row."""
    values = np.ascontiguousarray(values)
    wide = values.dtype == np.uint16
    image = vips.from_pixels(values.data, width, len(values) // width, values.shape[1], wide=wide, owner=values)
    return image.copy(interpretation=interpretation)


def one_colour(*values: int, interpretation: str = "srgb", wide: bool = False) -> vips.Image:
    return pixels(np.array([values], np.uint16 if wide else np.uint8), interpretation)


def ciede2000(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """CIEDE2000 of rows of L*, a*, b*, after Sharma, Wu and Dalal (2005): a second opinion beside libvips' own."""
    (l1, a1, b1), (l2, a2, b2) = one.astype(np.float64).T, other.astype(np.float64).T
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = np.where(c1 * c2 == 0, 0, (h2 - h1 + 180) % 360 - 180)
    hue = np.where(c1 * c2 == 0, h1 + h2, (h1 + turn / 2) % 360)
    lightness, chroma = (l1 + l2) / 2 - 50, (c1 + c2) / 2
    cosine = [np.cos(np.radians(k * hue + shift)) for k, shift in ((1, -30), (2, 0), (3, 6), (4, -63))]
    weight = 1 - 0.17 * cosine[0] + 0.24 * cosine[1] + 0.32 * cosine[2] - 0.20 * cosine[3]
    dl = (l2 - l1) / (1 + 0.015 * lightness**2 / np.sqrt(20 + lightness**2))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    rotation = 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    rotation *= -np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    found: NDArray[np.float64] = np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)
    return found


def differences(one: vips.Image, other: vips.Image) -> NDArray[np.float64]:
    return ciede2000(*(colour.to_lab(image).numpy().reshape(-1, 3) for image in (one, other)))


class TestDifference:
    # From the data of Sharma, Wu, Dalal (2005), "The CIEDE2000 color-difference formula", table 1.
    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [
            ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
            ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0),
            ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
            ((50.0, 2.5, 0.0), (50.0, 3.2592, 0.335), 1.0),
            ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
        ],
    )
    def test_published_pairs(self, one: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
        assert ciede2000(np.array([one]), np.array([other]))[0] == pytest.approx(expected, abs=1e-4)

    def test_libvips_agrees_on_small_differences(self) -> None:
        """Its mean hue is wrong where two hues lie either side of 0°: under one per cent for differences like ours."""
        rng = np.random.default_rng(1)
        one = rng.uniform((5, -90, -90), (95, 90, 90), (2000, 3)).astype(np.float32)
        other = (one + rng.normal(0, 1, one.shape)).astype(np.float32)
        images = [vips.pyvips.Image.new_from_array(values[None]).copy(interpretation="lab") for values in (one, other)]
        theirs = images[0].dE00(images[1]).numpy().ravel()
        assert theirs == pytest.approx(ciede2000(one, other), rel=0.03, abs=1e-3)


class TestAgainstLittleCms:
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("number", range(7))
    def test_mean_difference(self, maker: ModuleType, tables: list[NDArray[np.uint16]], number: int, bits: int) -> None:
        transform = maker.TRANSFORMS[number]
        origin, target = (colour.named(NAMES[f]) for f in (transform.source, transform.target))
        grid = maker.grid() if bits == 8 else maker.grid().astype(np.uint16) * 257
        source = vips.with_profile(pixels(grid, "srgb" if bits == 8 else "rgb16"), origin.data)
        rendering = Rendering(Intent(transform.intent), transform.black_point)
        ours = colour.convert(source, target, rendering, wide=bits == 16)
        theirs = vips.with_profile(pixels(tables[number], "rgb16" if transform.bands == 3 else "cmyk"), target.data)
        found = differences(ours, theirs)
        assert found.mean() <= BOUNDS[transform.target, bits]
        assert found.max() <= 0.75
        assert ours.format == ("uchar" if bits == 8 else "ushort")

    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("number", range(2))
    def test_what_previews_show(
        self, maker: ModuleType, tables: list[NDArray[np.uint16]], number: int, bits: int
    ) -> None:
        """Ingest converts while it scales, by another way through libvips than masters."""
        origin = colour.named(NAMES[maker.TRANSFORMS[number].source])
        grid = maker.grid() if bits == 8 else maker.grid().astype(np.uint16) * 257
        source = pixels(grid, "srgb" if bits == 8 else "rgb16", 17)
        raw = bytes(vips.with_profile(source, origin.data).pngsave_buffer(keep="icc"))
        facts = inspect.inspect(raw).facts
        assert facts.profile is not None
        assert (facts.profile.origin, facts.bits) == ("embedded", bits)
        ours = inspect.decode(raw, facts, 17, 289).image
        theirs = vips.with_profile(pixels(tables[number], "rgb16", 17), colour.named("srgb").data)
        found = differences(ours, theirs)
        assert found.mean() <= BOUNDS["sRGB.icc", 8]
        assert found.max() <= 0.75

    def test_reference_is_no_blank(self, tables: list[NDArray[np.uint16]]) -> None:
        assert [t.shape for t in tables] == [(4913, 3)] * 2 + [(4913, 4)] * 5
        assert min(len(np.unique(t)) for t in tables) > 2000

    @pytest.mark.interop
    def test_reference_can_be_made_again(self, maker: ModuleType, tables: list[NDArray[np.uint16]]) -> None:
        if shutil.which("transicc") is None:
            subprocess.run(["apt-get", "install", "-y", "-qq", "liblcms2-utils"], check=True, capture_output=True)
        again = [maker.reckon(t) for t in maker.TRANSFORMS]
        assert [int(np.abs(a.astype(int) - t).max()) for a, t in zip(again, tables, strict=True)] == [0] * 7


def with_tag(profile: bytes, name: bytes, data: bytes) -> bytes:
    """The profile with one tag more, at its end."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [list(struct.unpack_from(">4sII", profile, 132 + 12 * i)) for i in range(count)]
    for entry in entries:
        entry[1] += 12
    body = profile[132 + 12 * count :]
    body += bytes(-len(body) % 4)
    entries.append([name, 132 + 12 * (count + 1) + len(body), len(data)])
    table = b"".join(struct.pack(">4sII", *entry) for entry in entries)
    whole = profile[:128] + struct.pack(">I", count + 1) + table + body + data
    return struct.pack(">I", len(whole)) + whole[4:]


class TestReading:
    def test_no_profile_is_srgb_and_said(self) -> None:
        reading = colour.reading_of(one_colour(1, 2, 3))
        assert (reading.origin, reading.profile.name) == (Origin.ASSUMED, "srgb")

    def test_cmyk_without_profile_is_fogra39_and_said(self) -> None:
        reading = colour.reading_of(one_colour(1, 2, 3, 4, interpretation="cmyk"))
        assert (reading.origin, reading.profile.name) == (Origin.ASSUMED, "fogra39")

    def test_profile_for_other_pixels_is_broken(self) -> None:
        image = vips.with_profile(one_colour(1, 2, 3), colour.named("fogra39").data)
        reading = colour.reading_of(image)
        assert (reading.origin, reading.profile.name) == (Origin.BROKEN, "srgb")
        assert reading.fault == "a profile for cmyk on rgb pixels"

    @pytest.mark.parametrize("table", [b"A2B0", b"A2B1", b"A2B2"])
    @pytest.mark.parametrize("at", [0, 8, 48], ids=["type", "inputs", "entries"])
    def test_inks_by_a_malformed_table(self, table: bytes, at: int) -> None:
        """Each intent has its own; whichever cannot be read, the photo is read as if it had no profile."""
        profile = bytearray(colour.named("fogra39").data)
        (offset,) = struct.unpack_from(">I", profile, profile.index(table) + 4)
        profile[offset + at : offset + at + 4] = b"\xff" * 4
        image = vips.with_profile(one_colour(1, 2, 3, 4, interpretation="cmyk"), bytes(profile))
        reading = colour.reading_of(image)
        assert (reading.origin, reading.profile.name) == (Origin.BROKEN, "fogra39")

    @pytest.mark.parametrize(
        "table",
        [b"mft2" + b"\xff" * 64, b"mAB " + bytes(4) + b"\xff" * 60, b"mft1" + bytes(4) + bytes([3, 3, 2]) + bytes(30)],
    )
    @pytest.mark.parametrize("name", [b"A2B0", b"A2B1"])
    def test_a_malformed_table_beside_a_sound_matrix(self, name: bytes, table: bytes) -> None:
        profile = with_tag(colour.named("adobe-rgb").data, name, table)
        reading = colour.reading_of(vips.with_profile(one_colour(1, 2, 3), profile))
        assert (reading.origin, reading.profile.name) == (Origin.BROKEN, "srgb")

    @given(data=st.data(), name=st.sampled_from(["display-p3", "adobe-rgb", "fogra39"]))
    @settings(max_examples=25, deadline=None)
    def test_what_is_called_embedded_is_used(self, data: st.DataObject, name: str) -> None:
        """Whatever is changed in a profile: either it is refused, or it alone decides what comes out."""
        target = colour.named(name)
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(target.data) - 1)))
        new = data.draw(st.binary(min_size=1, max_size=4))
        profile = target.data[:at] + new + target.data[at + len(new) :]
        numbers = (200, 40, 90, 10)[: target.bands]
        kind = "cmyk" if target.bands == 4 else "srgb"
        image = vips.with_profile(one_colour(*numbers, interpretation=kind), profile)
        if colour.reading_of(image).origin is not Origin.EMBEDDED:
            return
        with vips.failures():
            found = {
                tuple(image.icc_transform("srgb", embedded=True, input_profile=other, intent="relative").getpoint(0, 0))
                for other in colour._fallbacks(target.space)
            }
        assert len(found) == 1

    def test_embedded_profiles_of_real_photos(self, photos: Path, manifest: dict[str, dict[str, Any]]) -> None:
        """Every real JPEG: the corpus' word for its profile is our reading's."""
        wrong = []
        for name, row in manifest.items():
            if row["format"] != "jpeg" or not row["expectation"].startswith("accept"):
                continue
            reading = colour.reading_of(load((photos / name).read_bytes(), fail_on="none"))
            expected = {None: Origin.ASSUMED, "unreadable": Origin.BROKEN}.get(row["icc"], Origin.EMBEDDED)
            named = reading.profile.name == row["icc"] if expected is Origin.EMBEDDED else True
            if reading.origin is not expected or not named:
                wrong.append((name, row["icc"], reading.origin, reading.profile.name, reading.fault))
        assert wrong == []

    def test_swapped_channels_come_right(self, photos: Path) -> None:
        """Colour words stand on their colours only when the profile is used."""
        raw = (photos / "icc-swapped-channels.jpg").read_bytes()
        image = load(raw)
        ignored = vips.with_profile(image, colour.named("srgb").data)
        assert differences(image, ignored).mean() > 10
        again = colour.convert(image, colour.named("srgb"))
        assert differences(image, again).mean() < 1


class TestConvert:
    def test_same_space_keeps_numbers(self) -> None:
        image = vips.with_profile(one_colour(9, 200, 31), colour.named("srgb").data)
        assert colour.convert(image, colour.named("srgb"))(0, 0) == [9, 200, 31]

    @pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
    def test_depth_there_and_back(self, value: int) -> None:
        srgb = colour.named("srgb")
        wide = colour.convert(one_colour(value, value, value), srgb, wide=True)
        assert wide(0, 0) == [value * 257] * 3
        assert colour.convert(wide, srgb)(0, 0) == [value] * 3

    def test_gray_without_profile_is_neutral(self) -> None:
        assert colour.convert(one_colour(77, interpretation="b-w"), colour.named("srgb"))(0, 0) == [77] * 3

    def test_alpha_is_kept(self) -> None:
        image = one_colour(10, 20, 30, 99)
        assert colour.convert(image, colour.named("adobe-rgb"))(0, 0)[3] == 99

    def test_cmyk_the_right_way_up(self, photos: Path) -> None:
        """The two files are one photo, by SWOP and without a profile; inverted ink would look like a negative."""
        one, other = (
            colour.convert(load((photos / f"cmyk-{n}.jpg").read_bytes()), colour.named("srgb"))
            for n in ("swop-adobe-inverted", "no-profile")
        )
        assert differences(one.copy_memory(), other.copy_memory()).mean() < 12
        assert 40 < one.avg() < 215

    def test_output_names_its_profile(self) -> None:
        adobe = colour.named("adobe-rgb")
        assert vips.blob(colour.convert(one_colour(1, 2, 3), adobe), "icc-profile-data") == adobe.data

    def test_total_ink_stays_within_the_profile(self, maker: ModuleType) -> None:
        inks = colour.convert(pixels(maker.grid(), "srgb"), colour.named("fogra39")).numpy().reshape(-1, 4)
        assert inks.sum(axis=1).max() <= 3.03 * 255


class TestTargets:
    def test_pinned_hash_is_checked(self) -> None:
        data = colour.named("adobe-rgb").data
        with pytest.raises(ProfileUnusable, match="not the pinned"):
            colour.pinned("vendor", data, "0" * 64)

    def test_vendor_profile_by_bytes(self) -> None:
        known = colour.named("fogra39")
        vendor = colour.pinned("vendor", known.data, known.sha256)
        assert colour.convert(one_colour(90, 10, 50), vendor)(0, 0) == colour.convert(one_colour(90, 10, 50), known)(
            0, 0
        )

    def test_unknown_name(self) -> None:
        with pytest.raises(ProfileUnusable):
            colour.named("swop")

    def test_shipped_are_sound(self) -> None:
        assert [colour.named(n).space for n in colour.SHIPPED] == [Space.RGB, Space.RGB, Space.RGB, Space.CMYK]

    def test_libvips_own_profiles_are_ours(self) -> None:
        assert vips.built_in_profile("srgb") == colour.named("srgb").data
        assert vips.built_in_profile("p3") == colour.named("display-p3").data

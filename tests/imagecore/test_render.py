"""Ancestor, ladder and placeholder: upright, clean, and the same bytes at ingest as at an origin a year later."""

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from imagecore import classes, colour, containers, engine, inspect, masters, render, vips
from imagecore import recipe as recipes
from imagecore.facts import Note, Origin, Profile, parse
from imagecore.icc import Intent, Rendering
from imagecore.jail import Jail
from imagecore.jail_wire import Output
from imagecore.proof import soft_proof
from loadtests.bench.hostile import picture

VIVID = "large-03-iphone-xs-p3-rotated.jpg"
PARAMS = msgspec.msgpack.encode({"recipes": [], "extension": None})


def ingest(jail: Jail, raw: bytes, *texts: str) -> list[Output]:
    params = msgspec.msgpack.encode({"recipes": list(texts), "extension": None}) if texts else PARAMS
    return list(jail.run("ingest", params, [raw], 60))


def named(outputs: list[Output], name: str) -> bytes:
    return next(o.data for o in outputs if o.name == name)


class TestLadder:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_comes_out_upright(self, pixel_jail: Jail, photos: Path, orientation: int) -> None:
        outputs = ingest(pixel_jail, (photos / f"orient-land-{orientation}.jpg").read_bytes())
        rungs = [o.data for o in outputs if o.name == "rendition"]
        upright = Image.open(io.BytesIO(rungs[0])).convert("L").resize((24, 16))
        with Image.open(photos / "orient-land-1.jpg") as first:
            pairs = zip(upright.tobytes(), first.convert("L").resize((24, 16)).tobytes(), strict=True)
        assert sum(abs(a - b) for a, b in pairs) / (24 * 16) < 6
        for side, data in zip(recipes.RUNGS, rungs, strict=True):
            width, height = Image.open(io.BytesIO(data)).size
            assert width > height
            assert width <= side

    @pytest.mark.parametrize("orientation", range(2, 9))
    @pytest.mark.parametrize(
        ("side", "target", "parent"), [(400, "p3", "original"), (400, "srgb", "ancestor"), (90, "srgb", "half")]
    )
    def test_every_orientation_is_cropped_upright(
        self, photos: Path, orientation: int, side: int, target: recipes.Target, parent: str
    ) -> None:
        """The user's crop is in the upright picture's pixels, whatever it is made from; and it is not in the middle."""
        crop = recipes.Crop(1_210, 130, 400, 300)
        wanted = recipes.Recipe(width=side, height=side, crop=crop, target=target, engine=engine.revision())
        made = []
        for number in (1, orientation):
            report, parents = render.parents((photos / f"orient-land-{number}.jpg").read_bytes())
            wide = msgspec.structs.replace(report.facts, profile=Profile(origin=Origin.ASSUMED, is_srgb=False))
            assert render.parent_of(wanted, wide) == parent
            made.append(Image.open(io.BytesIO(render.render(wanted, wide, parents))).convert("L"))
        moved = ImageChops.offset(made[1], side // 20, side // 20)
        off, elsewhere = (ImageStat.Stat(ImageChops.difference(made[0], other)).mean[0] for other in (made[1], moved))
        assert off < elsewhere / 2

    def test_a_proof_loses_little_to_its_ancestors_chroma(self, photos: Path) -> None:
        """4:4:4 at 1600 px, of an ancestor with 1280 px of chroma (decision 0017), against one that has all of it."""
        raw = (photos / VIVID).read_bytes()
        report, parents = render.parents(raw)
        told = {name: containers.jpeg(data).subsampling for name, data in parents.items() if name != "original"}
        assert told == {"ancestor": "4:2:0", "half": "4:4:4"}
        decoded = inspect.decode(raw, report.facts, *render.ancestor_size(report.facts)).image
        full = render.encode_jpeg(render.flattened(decoded), render.ANCESTOR_QUALITY, "444", optimise=False)
        wanted = recipes.parse(f"v1_proof_fit.1600x1600_jpg.90.444_srgb.rel.bpc_psrgb_{engine.revision()}")
        assert render.parent_of(wanted, report.facts) == "ancestor"
        size = render.plan(wanted, report.facts).canvas
        direct = vips.in_memory(colour.to_lab(inspect.decode(raw, report.facts, *size).image))
        lost = [
            colour.to_lab(vips.open_buffer(render.render(wanted, report.facts, {"ancestor": each}))).dE00(direct).avg()
            for each in (parents["ancestor"], full)
        ]
        assert 0 < lost[0] - lost[1] < 0.15

    def test_rungs_are_what_a_resize_of_all_pixels_gives(self, pixel_jail: Jail, photos: Path) -> None:
        """Shrinking while decoding (decision 0013) moves nothing and blurs nothing, beyond what JPEG does itself."""
        outputs = ingest(pixel_jail, (photos / "orient-land-1.jpg").read_bytes())
        ancestor = Image.open(io.BytesIO(named(outputs, "ancestor"))).convert("L")
        for data in [o.data for o in outputs if o.name == "rendition"]:
            rung = Image.open(io.BytesIO(data)).convert("L")
            whole = ancestor.resize(rung.size, Image.Resampling.LANCZOS)
            moved = whole.transform(rung.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0))
            off, elsewhere = (ImageStat.Stat(ImageChops.difference(rung, other)).mean[0] for other in (whole, moved))
            assert off < 4
            assert off < elsewhere / 2

    def test_nothing_private_and_a_profile(self, pixel_jail: Jail, photos: Path) -> None:
        outputs = ingest(pixel_jail, (photos / "large-02-pixel-path.jpg").read_bytes())
        for output in outputs:
            if output.name in ("ancestor", "half", "rendition"):
                image = Image.open(io.BytesIO(output.data))
                assert not image.getexif()
                assert set(image.info) <= {"icc_profile", "jfif", "jfif_version", "jfif_unit", "jfif_density"}
                assert image.info["icc_profile"]

    @pytest.mark.parametrize("name", ["large-03-iphone-xs-p3-rotated.jpg", "heic-two-images.heic", "png-alpha.png"])
    def test_same_bytes_again_and_from_what_is_stored(self, pixel_jail: Jail, photos: Path, name: str) -> None:
        raw = (photos / name).read_bytes()
        first, again = ingest(pixel_jail, raw), ingest(pixel_jail, raw)
        assert [o.data for o in first] == [o.data for o in again]
        facts, texts = named(first, "facts"), list[str]()
        for output in first:
            if output.name == "rendition":
                texts.append(msgspec.json.decode(output.facts)["recipe"])
                parent = named(first, render.parent_of(recipes.parse(texts[-1]), parse(facts)))
                params = msgspec.msgpack.encode({"recipe": texts[-1], "facts": facts})
                (later,) = pixel_jail.run("render", params, [parent], 60)
                assert hashlib.sha256(later.data).digest() == hashlib.sha256(output.data).digest()
        params = msgspec.msgpack.encode({"recipes": texts, "facts": facts, "thumbhash": True})
        climbed = list(pixel_jail.run("ladder", params, [named(first, "ancestor")], 60))
        assert first[-1].name == "quality"  # no preview waits for it
        assert [(o.name, o.data) for o in climbed] == [(o.name, o.data) for o in first[-len(climbed) - 1 : -1]]
        assert [o.name for o in climbed] == ["half", "thumbhash"] + 4 * ["rendition"]

    @pytest.mark.parametrize(("format_", "kind"), [("webp", "WEBP"), ("avif", "AVIF")])
    def test_other_encodings(self, pixel_jail: Jail, photos: Path, format_: recipes.Format, kind: str) -> None:
        text = recipes.text(recipes.rung(400, engine.revision(), format_))
        outputs = ingest(pixel_jail, (photos / "orient-land-6.jpg").read_bytes(), text)
        made = [o.data for o in outputs if o.name == "rendition"]
        assert len(made) == 1
        assert (made[0][8:12] == b"WEBP") if kind == "WEBP" else (b"avif" in made[0][:32])
        assert b"Exif" not in made[0]


class TestProof:
    @pytest.fixture(scope="class")
    def shown(self, pixel_jail: Jail, photos: Path) -> dict[str, Image.Image]:
        """A vivid photo without a proof, and in each printing condition."""
        base = recipes.Recipe(width=96, height=96, engine=engine.revision(), class_="proof", quality=100, chroma="444")
        wanted = {
            "plain": base,
            "srgb": msgspec.structs.replace(base, proof="srgb"),
            "fogra39": msgspec.structs.replace(base, proof="fogra39"),
            "white": msgspec.structs.replace(base, proof="fogra39", white=True),
        }
        outputs = ingest(pixel_jail, (photos / VIVID).read_bytes(), *(recipes.text(one) for one in wanted.values()))
        made = [Image.open(io.BytesIO(o.data)) for o in outputs if o.name == "rendition"]
        return dict(zip(wanted, made, strict=True))

    @staticmethod
    def moved(one: Image.Image, other: Image.Image) -> float:
        """Mean difference of the channels' values."""
        pairs = list(zip(one.tobytes(), other.tobytes(), strict=True))
        return sum(abs(a - b) for a, b in pairs) / len(pairs)

    def test_ink_on_paper_holds_less_than_the_screen(self, shown: dict[str, Image.Image]) -> None:
        assert self.moved(shown["plain"], shown["srgb"]) < 1
        assert self.moved(shown["plain"], shown["fogra39"]) > 3

    def test_paper_white_is_darker_than_the_screens(self, shown: dict[str, Image.Image]) -> None:
        lightest = {name: max(image.convert("L").getdata()) for name, image in shown.items()}
        assert lightest["white"] < lightest["fogra39"]
        assert self.moved(shown["white"], shown["fogra39"]) > 1

    def test_it_is_the_simulation_of_the_masters_core(self, shown: dict[str, Image.Image]) -> None:
        source = shown["plain"]
        image = vips.from_pixels(source.tobytes(), *source.size, 3, wide=False, owner=None).copy(interpretation="srgb")
        expected = soft_proof(image, colour.named("fogra39"), Rendering(Intent.RELATIVE, True)).write_to_memory()
        pairs = zip(bytes(expected), shown["fogra39"].tobytes(), strict=True)
        assert sum(abs(a - b) for a, b in pairs) / len(expected) < 3  # two JPEG encodings lie between


LANES = ["pure", "compiled"]


class TestThumbHash:
    @given(st.integers(1, 60), st.integers(1, 60), st.randoms(use_true_random=False))
    @settings(max_examples=12, deadline=None)
    def test_pure_and_compiled_are_equal(
        self, kernel: Callable[[str, str], ModuleType], width: int, height: int, random: object
    ) -> None:
        pixels = bytes(random.getrandbits(8) for _ in range(width * height * 3))  # type: ignore[attr-defined]
        assert kernel("thumbhash", "pure").encode(width, height, pixels) == kernel("thumbhash", "compiled").encode(
            width, height, pixels
        )

    @pytest.mark.parametrize("lane", LANES)
    def test_average_and_aspect_are_in_it(self, kernel: Callable[[str, str], ModuleType], lane: str) -> None:
        """ThumbHash's header: 6 bits of average luminance, a landscape flag, and few bytes whatever the picture."""
        module = kernel("thumbhash", lane)
        for level in (0, 64, 128, 192, 255):
            encoded = module.encode(60, 40, bytes([level]) * (60 * 40 * 3))
            assert abs((encoded[0] & 63) - round(level / 255 * 63)) <= 1
            assert encoded[4] & 0x80
            assert len(encoded) <= 25
        assert not module.encode(40, 60, bytes(40 * 60 * 3))[4] & 0x80


P3 = colour.named("display-p3").data
BROKEN = {
    "declares more than it has": struct.pack(">I", len(P3) + 40) + P3[4:],
    "a tag leaves it": P3.replace(b"cprt" + P3[P3.index(b"cprt") + 4 :][:8], b"cprt\0\0\1\xd0\0\0\1\0", 1),
    "larger than any profile": struct.pack(">I", 5 << 20) + P3[4:] + bytes((5 << 20) - len(P3)),
    "abstract": P3[:12] + b"abst" + P3[16:],
    "of a device link": P3[:12] + b"link" + P3[16:],
    "of named colours": P3[:12] + b"nmcl" + P3[16:],
    "a curve that nobody defined": P3.replace(b"para\0\0\0\0\0\3", b"para\0\0\0\0\0\5"),
}


class TestBrokenProfile:
    """What we call broken Little CMS may open all the same, or refuse the picture for it: it must never see it."""

    @pytest.mark.parametrize("fault", BROKEN)
    @pytest.mark.parametrize("wide", [False, True], ids=["8 bit", "16 bit"])
    def test_everything_is_made_as_without_it(self, fault: str, wide: bool) -> None:
        image = picture(300, 200)
        image = (image * 257).cast("ushort").copy(interpretation="rgb16") if wide else image
        tagged, plain = (
            bytes(each.tiffsave_buffer(keep="icc")) for each in (vips.with_profile(image, BROKEN[fault]), image)
        )
        (report, parents), (_, others) = render.parents(tagged), render.parents(plain)
        assert (report.facts.icc, Note.ASSUME_SRGB in report.notes) == ("unreadable", True)
        assert report.facts.profile is not None
        assert (report.facts.profile.origin, report.facts.profile.is_srgb) == (Origin.BROKEN, True)
        assert (parents["ancestor"], parents["half"]) == (others["ancestor"], others["half"])
        crop = recipes.Recipe(
            width=90, height=90, crop=recipes.Crop(9, 9, 90, 90), target="p3", engine=engine.revision()
        )
        assert len({render.render(crop, report.facts, each) for each in (parents, others)}) == 1
        target = colour.named("srgb")
        plan = masters.plan(classes.named("standard"), (300, 200), (30_000, 20_000), profile=target)
        assert len({masters.make(raw, plan, target).data for raw in (tagged, plain)}) == 1

"""Inspection against real files, and against files made to lie."""

import contextlib
import gc
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecore import containers, engine, exif, inspect, recipe, render, vips
from imagecore.errors import ImageError, Reason, Rejected
from imagecore.facts import Facts, Note, Origin, Report, Verdict, canonical, parse, parse_report
from imagecore.jail import Jail, Limits
from imagecore.recipe import Crop, Recipe
from loadtests.bench import hostile
from loadtests.bench.hostile import gif, picture, png, tiff, whole_png, with_cicp
from tests.imagecore import kinds
from tests.manifest import RED, ROWS, expected, turned, verdict

FACTS = (
    "sha256", "bytes", "format", "width", "height", "orientation", "icc", "colour_space", "bits", "has_gps", "camera",
    "coding", "subsampling", "adobe_transform", "pages", "images", "nclx", "gain_map", "mpf", "ppi_at_4x6_inches",
)  # fmt: skip


def ask(jail: Jail, raw: bytes, extension: str | None = None, deadline_s: float = 60) -> Report:
    params = msgspec.msgpack.encode(inspect.Params(extension=extension))
    (output,) = jail.run("inspect", params, [raw], deadline_s)
    return parse_report(output.data)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"] if row else "absent")
def test_every_row_of_the_manifest(pixel_jail: Jail, photos: Path, row: dict[str, Any]) -> None:
    report = ask(pixel_jail, (photos / row["file"]).read_bytes(), row["file"].rpartition(".")[2].lower())
    said = {str(n) for n in report.notes} if report.verdict is Verdict.ACCEPT else {str(report.reason)}
    if row["file"] in RED:
        assert expected(row) == {("accept", frozenset(said | RED[row["file"]]))}
        assert said.isdisjoint(RED[row["file"]])
    else:
        assert (str(report.verdict), frozenset(said)) in expected(row)
    known = msgspec.to_builtins(report.facts)
    listed = {name: turned(row)[name] for name in FACTS if name in row}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}
    assert {name: plain[name] for name in listed} == listed


def test_the_red_row_is_still_the_only_one() -> None:
    words = {word for row in ROWS if row for word in verdict(row["expectation"])[1] if row["expectation"][0] == "a"}
    assert words - {str(note) for note in Note} <= {"tone-map"}


def six_bands() -> bytes:
    """Found by mutation: 140 bands, of which flattening took 136 for transparency, and failed."""
    return bytes(picture().bandjoin(picture()).copy(interpretation="srgb").write_to_buffer(".tif"))


def pictures() -> int:
    """Pictures of libvips that Python still holds."""
    return sum(issubclass(type(each), vips.pyvips.Image) for each in gc.get_objects())


def separate_scans(width: int, height: int) -> bytes:
    """A baseline JPEG with a scan for each component, put together from three gray ones of the same tables."""
    grays = [bytes(picture(width, height)[band].jpegsave_buffer(Q=90, keep="none")) for band in range(3)]
    frame, scans = grays[0].index(b"\xff\xc0"), [gray.index(b"\xff\xda") for gray in grays]
    head = struct.pack(">HHBHHB", 0xFFC0, 17, 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    made = grays[0][:frame] + head + grays[0][frame + 13 : scans[0]]
    for number, (gray, at) in enumerate(zip(grays, scans, strict=True), 1):
        made += b"\xff\xda\0\x08\1" + bytes([number]) + b"\0\0\x3f\0" + gray[at + 10 : -2]
    return made + b"\xff\xd9"


def refused(jail: Jail, raw: bytes) -> str | None:
    report = ask(jail, raw)
    assert report.verdict is Verdict.REJECT
    return report.reason


class TestHostile:
    """The rows of hostile files: refused with a reason, and the same child takes the next job."""

    @pytest.mark.parametrize(
        ("name", "raw", "reason"),
        [
            ("png that ends early", png(8_000, 8_000), "corrupt"),
            ("png 0 x 0", png(1, 1).replace(struct.pack(">II", 1, 1), bytes(8), 1), "corrupt"),
            ("png one pixel", png(1, 1, rows=1), "too-small"),
            ("tiff of six bands", six_bands(), "unsupported-coding"),
            ("tiff without data", tiff(5_000, 5_000), "corrupt"),
            ("tiff without anything", b"II*\0\x08\0\0\0", "corrupt"),
            ("gif of 501 frames", gif(501), "too-many-frames"),
            ("text", b"I am a photo, believe me\n" * 50, "not-an-image"),
            ("jpeg of two bytes", b"\xff\xd8\xff", "truncated"),
            ("jpeg without a frame", b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00", "corrupt"),
            ("webp of nothing", b"RIFF\x04\0\0\0WEBP", "corrupt"),
            ("heic of nothing", b"\0\0\0\x14ftypheic\0\0\0\0heic", "corrupt"),
            ("avif of nothing", b"\0\0\0\x14ftypavif\0\0\0\0avif", "corrupt"),
        ],
    )  # fmt: skip
    def test_refused(self, pixel_jail: Jail, name: str, raw: bytes, reason: str) -> None:
        assert refused(pixel_jail, raw) == reason

    @pytest.mark.parametrize("kind", kinds.REFUSED)
    def test_numbers_that_a_print_would_read_otherwise(self, pixel_jail: Jail, kind: str) -> None:
        report = ask(pixel_jail, kinds.tiff(kind))
        assert (report.verdict, report.reason) == (Verdict.REJECT, "unsupported-coding")
        assert (report.facts.width, report.facts.height) == (300, 200)

    def test_bombs_lies_cuts_and_disguises(self, pixel_jail: Jail) -> None:
        found = {each.name: ask(pixel_jail, each.raw, each.extension).reason for each in hostile.files()}
        assert found == {each.name: each.reason for each in hostile.files()}

    def test_an_avif_without_a_size(self, pixel_jail: Jail) -> None:
        """Without its `ispe` box libheif tells 0 x 0, and no error."""
        raw = bytes(picture().write_to_buffer(".avif[effort=0]"))
        assert refused(pixel_jail, raw.replace(b"ispe", b"none")) == "corrupt"

    def test_too_many_bytes(self, pixel_jail: Jail) -> None:
        with pytest.raises(Rejected) as caught:
            inspect.Survey(bytes(picture().write_to_buffer(".jpg")) + bytes(containers.MAX_BYTES)).read()
        assert caught.value.reason is Reason.TOO_MANY_BYTES

    def test_half_a_jpeg_and_every_other_cut(self, pixel_jail: Jail) -> None:
        raw = bytes(picture(300, 200).write_to_buffer(".jpg"))
        for part in range(1, 16):
            assert refused(pixel_jail, raw[: len(raw) * part // 16]) in {"truncated", "not-an-image"}
        assert refused(pixel_jail, raw[:-2]) == "truncated"

    @pytest.mark.parametrize("suffix", [".png", ".webp[lossless]", ".tif[compression=deflate]"])
    def test_a_refused_picture_leaves_nothing_to_the_collector(self, suffix: str) -> None:
        raw = bytearray(picture(300, 200).write_to_buffer(suffix))
        raw[len(raw) // 2 : len(raw) // 2 + 8] = b"damaged!"
        gc.collect()
        gc.disable()
        try:
            before = pictures()
            assert inspect.inspect(bytes(raw)).reason is Reason.CORRUPT
            assert pictures() == before
        finally:
            gc.enable()

    @pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif"])
    def test_half_of_other_formats(self, pixel_jail: Jail, suffix: str) -> None:
        raw = bytes(picture(300, 200).write_to_buffer(suffix))
        assert ask(pixel_jail, raw).verdict is Verdict.ACCEPT
        for part in (4, 8, 12, 15):
            assert refused(pixel_jail, raw[: len(raw) * part // 16]) in {"truncated", "corrupt"}

    def test_faults_inside_a_scan_are_told(self, pixel_jail: Jail, photos: Path) -> None:
        """A marker that does not belong there, in the middle: libvips is silent unless warnings count."""
        raw = bytearray((photos / "large-01-mi-a3-dinner.jpg").read_bytes())
        middle = len(raw) // 2
        raw[middle : middle + 2] = b"\xff\xd9"
        assert Note.WARN_DAMAGED in ask(pixel_jail, bytes(raw)).notes

    def test_damage_that_reads_as_other_pixels_is_not_noticed(self, pixel_jail: Jail, photos: Path) -> None:
        """What we cannot see: changed bytes that are valid codes only shift colours. A declared SHA-256 catches it."""
        raw = bytearray((photos / "large-01-mi-a3-dinner.jpg").read_bytes())
        for at in range(len(raw) // 2, len(raw) // 2 + 20_000, 97):
            raw[at] = 0x55
        report = ask(pixel_jail, bytes(raw))
        assert (report.verdict, Note.WARN_DAMAGED in report.notes) == (Verdict.ACCEPT, False)

    def test_a_damaged_picture_that_still_reads_is_accepted_with_a_warning(self, pixel_jail: Jail) -> None:
        raw = bytearray(picture(1800, 1200).write_to_buffer(".jpg[Q=95]"))
        middle = raw.index(b"\xff\xda") + 400
        raw[middle : middle + 2] = b"\xff\xd0"
        assert Note.WARN_DAMAGED in ask(pixel_jail, bytes(raw)).notes

    def test_segments_without_end(self, pixel_jail: Jail) -> None:
        raw = bytes(picture().write_to_buffer(".jpg"))
        assert refused(pixel_jail, raw[:2] + b"\xff\xfe\x00\x02" * 30_000 + raw[2:]) == "corrupt"

    def test_a_file_behind_the_picture(self, pixel_jail: Jail) -> None:
        raw = bytes(picture(300, 200).write_to_buffer(".jpg"))
        assert Note.DROP_TRAILING_DATA in ask(pixel_jail, raw + b"<html><script>1</script></html>").notes
        padded = ask(pixel_jail, raw + bytes(100))
        assert Note.DROP_TRAILING_DATA not in padded.notes
        assert padded.facts.trailing_bytes == 100

    def test_the_name_is_not_believed(self, pixel_jail: Jail) -> None:
        raw = bytes(picture(300, 200).write_to_buffer(".png"))
        assert Note.BY_CONTENT in ask(pixel_jail, raw, "jpg").notes
        assert Note.BY_CONTENT not in ask(pixel_jail, raw, "png").notes
        assert Note.BY_CONTENT not in ask(pixel_jail, raw, "xyz").notes
        assert ask(pixel_jail, raw, "jpg").facts.format == "png"

    def test_one_child_took_them_all(self, pixel_jail: Jail) -> None:
        assert ask(pixel_jail, bytes(picture().write_to_buffer(".jpg"))).verdict is Verdict.ACCEPT


class TestLimitsFitTheMemory:
    """What is accepted can be decoded within the child's memory; what cannot, is refused by its header."""

    @pytest.mark.soak
    def test_a_progressive_picture_of_60_megapixels(self, pixel_jail: Jail) -> None:
        base = vips.pyvips.Image.black(9_000, 6_700, bands=3).copy(interpretation="srgb")
        raw = bytes((base + 77).cast("uchar").write_to_buffer(".jpg[interlace,subsample_mode=off,Q=50]"))
        assert ask(pixel_jail, raw).verdict is Verdict.ACCEPT

    @pytest.mark.soak
    @pytest.mark.parametrize(
        ("format_", "bits", "options"),
        [
            ("webp", 8, ".webp[lossless,effort=0]"),
            ("avif", 8, ".avif[effort=0,subsample_mode=off]"),
            ("avif", 10, ".avif[effort=0,bitdepth=10,subsample_mode=off]"),
        ],
    )
    def test_the_largest_that_its_header_allows(self, pixel_jail: Jail, format_: str, bits: int, options: str) -> None:
        """A picture just under the limit ends in a verdict, not out of memory."""
        facts = Facts(sha256="", bytes=0, format=format_, width=1000, height=1000, colour_space="rgb", bits=bits)
        side = math.isqrt(
            ((Limits().memory_mb << 20) - inspect.BASE_MEMORY) * 99 // 100 * 1_000_000 // inspect.memory_needed(facts)
        )
        image = (vips.pyvips.Image.xyz(side, side)[0] % 251).bandjoin([60, 90]).cast("uchar")
        image = image.copy(interpretation="srgb") if bits == 8 else (image * 257).cast("ushort")
        raw = bytes(image.copy(interpretation="srgb" if bits == 8 else "rgb16").write_to_buffer(options))
        assert ask(pixel_jail, raw).verdict is Verdict.ACCEPT

    def test_a_jpeg_of_a_scan_for_each_component_counts_as_progressive(self, pixel_jail: Jail) -> None:
        """Baseline, but its decoder holds the coefficients of all of it."""
        raw = separate_scans(600, 400)
        facts = ask(pixel_jail, raw).facts
        assert (facts.coding, facts.interlaced, facts.subsampling) == ("baseline", True, "4:4:4")
        assert inspect.memory_needed(facts) == len(raw) + 600 * 400 * 6
        assert vips.open_buffer(raw, fail_on="warning").avg() > 0

    @pytest.mark.parametrize("crop", [Crop(4_000, 4_000, 900, 600), pytest.param(None, marks=pytest.mark.soak)])
    def test_what_is_accepted_can_be_cut_out(self, crop: Crop | None) -> None:
        """Of the original, which decodes to 216 MB; the child has 200 beside its libraries."""
        raw = whole_png(6_000, 6_000, bits=16, colour=2)
        wanted = Recipe(width=2_561, height=2_561, crop=crop, engine=engine.revision(), fit="box")
        with Jail.open(Limits(memory_mb=355), preload=("inspect", "render")) as jail:
            report = ask(jail, raw)
            assert (report.verdict, render.parent_of(wanted, report.facts)) == (Verdict.ACCEPT, "original")
            params = render.RenderParams(recipe=recipe.text(wanted), facts=canonical(report.facts))
            (made,) = jail.run("render", msgspec.msgpack.encode(params), [raw], 60)
        assert made.name == "rendition"

    def test_turning_takes_the_whole_picture(self) -> None:
        facts = Facts(sha256="", bytes=0, format="png", width=6_000, height=6_000, colour_space="rgb", bits=16)
        turned = msgspec.structs.replace(facts, orientation=6, orientation_source="exif")
        assert (inspect.memory_needed(facts), inspect.memory_needed(turned)) == (0, 6_000 * 6_000 * 6)

    def test_the_file_itself_counts(self) -> None:
        facts = Facts(sha256="", bytes=150 << 20, format="tiff", width=100, height=100, colour_space="rgb", bits=8)
        assert inspect.memory_needed(facts) == (150 << 20) + 30_000

    def test_the_same_child_refuses_by_header_what_it_could_not_hold(self) -> None:
        facts = Facts(sha256="", bytes=1, format="heic", width=11_000, height=11_000, colour_space="rgb", bits=10)
        assert inspect.memory_needed(facts) > (Limits().memory_mb << 20) - inspect.BASE_MEMORY
        with pytest.raises(Rejected):
            inspect.refuse_oversized(msgspec.structs.replace(facts, width=20_000, height=14_000))

    def test_an_out_of_memory_is_no_verdict(self) -> None:
        with pytest.raises(ImageError) as caught, vips.failures():
            raise vips.pyvips.Error("out of memory --- size == 12288MB")
        assert caught.value.code == "out-of-memory"


class TestFactsFile:
    def test_one_byte_form(self, pixel_jail: Jail, photos: Path) -> None:
        raw = (photos / "large-03-iphone-xs-p3-rotated.jpg").read_bytes()
        first = canonical(ask(pixel_jail, raw).facts)
        assert first == canonical(ask(pixel_jail, raw).facts) == canonical(inspect.inspect(raw).facts)
        assert canonical(parse(first)) == first
        assert first.endswith(b"}\n")

    def test_no_place_is_in_it(self, pixel_jail: Jail, photos: Path) -> None:
        """The photo's coordinates, in any spelling of their degrees and minutes, are not in the facts."""
        raw = (photos / "large-02-pixel-path.jpg").read_bytes()
        facts = ask(pixel_jail, raw).facts
        text = canonical(facts).decode()
        assert facts.has_gps
        fields = [n for n in vips.open_buffer(raw).get_fields() if "GPS" in n]
        assert len(fields) > 4
        assert "GPS" not in text.replace("has_gps", "")
        latitude = str(vips.open_buffer(raw).get("exif-ifd3-GPSLatitude")).split("(")[0].split()
        assert all(part not in text for part in latitude if len(part) > 3)

    def test_capture_time_and_camera(self, pixel_jail: Jail, photos: Path) -> None:
        facts = ask(pixel_jail, (photos / "nearmiss-lamp-1.jpg").read_bytes()).facts
        assert (facts.taken_at, facts.camera) == ("2015-02-09T22:47:44", "Canon Canon PowerShot SX60 HS")

    def test_where_colour_comes_from(self, pixel_jail: Jail, photos: Path) -> None:
        origins = {
            "large-03-iphone-xs-p3-rotated.jpg": Origin.EMBEDDED,
            "orient-land-1.jpg": Origin.ASSUMED,
            "icc-truncated-profile.jpg": Origin.BROKEN,
            "heic-sony-10bit-422.hif": Origin.CICP,
        }
        for name, origin in origins.items():
            profile = ask(pixel_jail, (photos / name).read_bytes()).facts.profile
            assert profile is not None
            assert profile.origin is origin

    def test_a_profile_that_does_not_arrive_is_told(self, pixel_jail: Jail) -> None:
        """Loaders leave out what they cannot read, and say nothing."""
        tagged = vips.with_profile(picture(300, 200), vips.built_in_profile("p3"))
        png, jpeg = (bytes(tagged.write_to_buffer(kind)) for kind in (".png[keep=icc]", ".jpg[keep=icc]"))
        at = png.index(b"iCCP")
        length = int.from_bytes(png[at - 4 : at], "big")
        garbage = b"iCCP" + png[at + 4 : at + 20].ljust(length, b"?")
        damaged = {
            "png": png[:at] + garbage + struct.pack(">I", zlib.crc32(garbage)) + png[at + 8 + length :],
            "jpeg": jpeg.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\2\2"),
            "jpeg, none of it": jpeg.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\0\0"),
        }
        for raw in damaged.values():
            report = ask(pixel_jail, raw)
            assert report.facts.profile is not None
            assert (report.verdict, report.facts.profile.origin, report.facts.icc) == (
                "accept",
                Origin.BROKEN,
                "unreadable",
            )
            assert Note.ASSUME_SRGB in report.notes

    def test_one_transparent_colour_is_alpha(self, pixel_jail: Jail) -> None:
        for kind, space in (("rgb", "rgb+alpha"), ("gray", "gray+alpha")):
            image = picture(300, 200) if kind == "rgb" else picture(300, 200)[0]
            raw = bytes(image.pngsave_buffer(keep="none"))
            chunk = b"tRNS" + bytes(2 * image.bands)
            raw = raw[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[33:]
            report = ask(pixel_jail, raw)
            assert (report.verdict, report.facts.alpha, report.facts.colour_space) == ("accept", True, space)

    @pytest.mark.parametrize("is_packed", [False, True])
    def test_a_place_in_a_text_is_a_place(self, pixel_jail: Jail, photos: Path, is_packed: bool) -> None:
        """As ImageMagick writes EXIF into a PNG."""
        exif_ = vips.blob(vips.open_buffer((photos / "large-02-pixel-path.jpg").read_bytes()), "exif-data")
        assert exif_ is not None
        text = b"\nexif\n%8d\n" % len(exif_) + exif_.hex().encode()
        body = b"Raw profile type exif\0" + (b"\0" + zlib.compress(text) if is_packed else text)
        chunk = (b"zTXt" if is_packed else b"tEXt") + body
        raw = bytes(picture(300, 200).pngsave_buffer(keep="none"))
        told = raw[:33] + struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[33:]
        assert ask(pixel_jail, told).facts.has_gps
        assert not ask(pixel_jail, raw).facts.has_gps

    def test_p3_by_code_points_is_converted(self, pixel_jail: Jail) -> None:
        raw = bytes(picture(300, 200).write_to_buffer(".png"))
        assert Note.CONVERT_COLOUR in ask(pixel_jail, with_cicp(raw, 12, 13)).notes
        assert Note.CONVERT_COLOUR not in ask(pixel_jail, raw).notes

    @pytest.mark.parametrize(
        ("code", "transfer", "fault"),
        [
            ((9, 1), "sdr", "no profile for CICP 9-1"),
            ((6, 6), "sdr", "no profile for CICP 6-6"),
            ((1, 8), "sdr", "no profile for CICP 1-8"),
            ((9, 16), "pq", "no profile for CICP 9-16"),
            ((1, 18), "hlg", "no profile for CICP 1-18"),
            ((1, 1), "sdr", None),
            ((2, 2), "sdr", None),
        ],
    )
    def test_colours_that_we_have_no_profile_for_are_told(
        self, pixel_jail: Jail, code: tuple[int, int], transfer: str, fault: str | None
    ) -> None:
        """Read as sRGB all the same, and nothing is said to be converted. Of HDR no note speaks before it is mapped."""
        report = ask(pixel_jail, with_cicp(bytes(picture(300, 200).write_to_buffer(".png")), *code))
        profile = report.facts.profile
        assert profile is not None
        assert (profile.origin, profile.is_srgb, profile.fault) == (Origin.ASSUMED, fault is None, fault)
        assert (report.facts.transfer, report.facts.is_hdr) == (transfer, transfer != "sdr")
        assert (Note.ASSUME_SRGB in report.notes) is (fault is not None and transfer == "sdr")
        assert Note.CONVERT_COLOUR not in report.notes

    @pytest.mark.parametrize("name", ["srgb", "p3"])
    def test_srgb_is_known_by_what_it_does(self, name: str) -> None:
        assert inspect.is_srgb(vips.built_in_profile(name)) is (name == "srgb")


class TestExif:
    def blob(self, *entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
        head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
        body = struct.pack(order + "H", len(entries))
        for tag, kind, count, value in entries:
            body += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        return head + body + bytes(4)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_orientation_in_both_byte_orders(self, order: str) -> None:
        blob = self.blob((0x0112, 3, 1, struct.pack(order + "H", 6)), order=order)
        assert exif.read(blob).orientation == exif.read(b"Exif\0\0" + blob).orientation == 6

    @pytest.mark.parametrize("value", [0, 9, 65_535])
    def test_impossible_orientations_are_none(self, value: int) -> None:
        assert exif.read(self.blob((0x0112, 3, 1, struct.pack("<H", value)))).orientation is None

    def test_a_directory_that_points_at_itself_ends(self) -> None:
        blob = self.blob((0x8769, 4, 1, struct.pack("<I", 8)), (0x8825, 4, 1, struct.pack("<I", 8)))
        assert exif.read(blob).has_gps is False

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
    def test_any_bytes_are_survived(self, rest: bytes, head: bytes) -> None:
        exif.read(head + rest)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_our_readers_survive_any_change(data: st.DataObject) -> None:
    """A few bytes changed, cut or repeated anywhere: `Rejected` or a structure, in bounded time, nothing else."""
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".webp", ".avif[effort=0]"]))
    raw = bytearray(picture(40, 30).write_to_buffer(suffix))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(1, len(raw)))])
    reader = {".jpg": containers.jpeg, ".png": containers.png, ".webp": containers.webp}.get(suffix, containers.heif)
    with contextlib.suppress(Rejected):
        assert reader(cut).end <= len(cut)

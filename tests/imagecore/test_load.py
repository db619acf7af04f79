"""The floor everything else stands on: which libvips, which loaders, and full pixels of every format."""

import gc
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from imagecore import containers, engine, heif, inspect, vips
from imagecore.errors import EngineUnfit, PixelFailure, Reason, Rejected
from imagecore.geometry import Box
from imagecore.load import load, load_part
from loadtests.bench.hostile import with_cicp


def picture(width: int = 64, height: int = 48) -> vips.Image:
    """A picture with structure in every direction."""
    x = vips.pyvips.Image.xyz(width, height)
    return x[0].bandjoin([x[1], x[0] + x[1]]).cast("uchar").copy(interpretation="srgb")


class TestTheDoor:
    def test_loaders_outside_the_list_are_closed(self) -> None:
        svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>'
        with pytest.raises(PixelFailure):
            vips.open_buffer(svg)
        with pytest.raises(PixelFailure):
            vips.open_buffer(b"\xb6\xa6\xf2\x08" + bytes(60) + bytes(64 * 48 * 3))  # .v, libvips' own format

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", ".avif[effort=0]"])
    def test_loaders_of_the_list_are_open(self, suffix: str) -> None:
        assert load(picture().write_to_buffer(suffix)).width == 64

    def test_gain_map_jpeg_is_read_as_its_base(self, photos: Path) -> None:
        image = vips.open_buffer((photos / "ultrahdr-gainmap.jpg").read_bytes())
        assert (image.get("vips-loader"), image.width, image.height) == ("jpegload_buffer", 3840, 2160)

    def test_no_operation_cache(self) -> None:
        picture().invert().avg()
        assert vips.pyvips.cache_get_size() == 0


class TestEngine:
    def test_revision_is_short_and_unreserved(self) -> None:
        assert len(engine.revision()) == 12
        assert set(engine.revision()) <= set("abcdefghijklmnopqrstuvwxyz234567")

    def test_it_names_the_libraries_that_are_loaded(self) -> None:
        loaded = {
            Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line
        }
        named = {name for part in engine.parts() for name in part.split() if ".so" in name}
        assert len(named) >= 3
        assert named <= loaded

    @pytest.mark.parametrize(("name", "other"), [("version", lambda _: "8.14.1"), ("API_mode", False)])
    def test_a_systems_libvips_is_refused(self, monkeypatch: pytest.MonkeyPatch, name: str, other: Any) -> None:
        """It decodes and scales to other bytes."""
        monkeypatch.setattr("importlib.metadata.version" if name == "version" else "pyvips.API_mode", other)
        with pytest.raises(EngineUnfit):
            vips._start()

    def test_it_needs_no_pixel_library(self) -> None:
        code = "import sys; from imagecore import engine; print(engine.revision(), 'pyvips' in sys.modules)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert out == [engine.revision(), "False"]


class TestSniff:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"", Reason.EMPTY),
            (b"hello, I am a photo", Reason.NOT_AN_IMAGE),
            (b"\x1f\x8b\x08\x00", Reason.NOT_AN_IMAGE),
            (b"PK\x03\x04", Reason.NOT_AN_IMAGE),
            (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41", Reason.NOT_AN_IMAGE),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.UNSUPPORTED_TYPE),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", Reason.UNSUPPORTED_TYPE),
            (b"BM\x00\x00", Reason.UNSUPPORTED_TYPE),
            (b"<html>\xff\xd8\xff", Reason.NOT_AN_IMAGE),
        ],
    )
    def test_refused_with_reason(self, raw: bytes, reason: Reason) -> None:
        with pytest.raises(Rejected) as caught:
            containers.sniff(raw)
        assert caught.value.reason is reason

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "avif"])
    def test_known_by_content(self, suffix: str) -> None:
        names = {"jpg": "jpeg", "tif": "tiff"}
        options = "[effort=0]" if suffix == "avif" else ""
        assert containers.sniff(picture().write_to_buffer(f".{suffix}{options}")) == names.get(suffix, suffix)


class SimpleContainer(list[Any]):
    """A HEIF of one picture, as pi-heif gives it."""

    primary_index = 0

    def __init__(self, primary: Any) -> None:
        super().__init__([primary])


class TestLoad:
    @pytest.mark.parametrize("number", range(2, 9))
    def test_every_orientation_is_upright(self, photos: Path, number: int) -> None:
        upright = load((photos / "orient-land-1.jpg").read_bytes()).resize(0.1)
        turned = load((photos / f"orient-land-{number}.jpg").read_bytes()).resize(0.1)
        assert (turned.width, turned.height) == (upright.width, upright.height)
        assert (turned.cast("short") - upright.cast("short")).abs().avg() < 4

    @pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp[lossless]"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_part_is_cut_out_of_the_upright_picture(self, orientation: int, suffix: str) -> None:
        image = picture(64, 48)
        image.set_type(vips.pyvips.GValue.gint_type, "orientation", orientation)
        raw = bytes(image.write_to_buffer(suffix))
        upright = load(raw)
        assert (upright.width, upright.height) == ((64, 48) if orientation < 5 else (48, 64))
        for part in (Box(3, 5, 20, 30), Box(0, 0, upright.width, upright.height), Box(47, 47, 1, 1)):
            found, expected = load_part(raw, part, fail_on="error"), upright.crop(*part)
            assert found.write_to_memory() == expected.write_to_memory()
            assert "orientation" not in found.get_fields()

    @pytest.mark.parametrize(
        ("name", "size", "bands", "format_"),
        [
            ("heic-iphone11pro-p3-rotated.heic", (3024, 4032), 3, "uchar"),
            ("heic-conflict-irot3-exif1.heif", (3456, 4608), 3, "uchar"),
            ("heic-sony-10bit-422.hif", (4240, 2832), 3, "ushort"),
            ("heic-two-images.heic", (1280, 854), 3, "uchar"),
            ("avif-iphone-gps.avif", (3024, 4032), 3, "uchar"),
            ("png-16bit.png", (600, 600), 3, "ushort"),
            ("cmyk-swop-adobe-inverted.jpg", (500, 333), 4, "uchar"),
        ],
    )
    def test_size_and_depth(self, photos: Path, name: str, size: tuple[int, int], bands: int, format_: str) -> None:
        image = load((photos / name).read_bytes())
        assert (image.width, image.height) == size
        assert (image.bands, image.format) == (bands, format_)

    def test_nothing_private_stays(self, photos: Path) -> None:
        image = load((photos / "large-02-pixel-path.jpg").read_bytes())
        assert [f for f in image.get_fields() if f.startswith(("exif", "xmp", "iptc", "orient", "gainmap"))] == []
        assert vips.blob(image, "icc-profile-data") is not None

    def test_ten_bit_reaches_the_top(self, photos: Path) -> None:
        assert 60_000 < load((photos / "heic-sony-10bit-422.hif").read_bytes()).max() <= 65_535

    def test_twelve_bit_keeps_its_levels(self) -> None:
        """10 bit has 1,024; and what is measured, shown and printed of it is the ramp that went in."""
        raw = (Path(__file__).parent / "twelve_bit/ramps.heic").read_bytes()
        image, report = load(raw), inspect.inspect(raw)
        red, y, x = image[0].numpy().astype(int), *np.mgrid[0:48, 0:64]
        assert (report.verdict, report.facts.bits, image.format) == ("accept", 12, "ushort")
        assert len(np.unique(red)) > 1_024
        assert (red.max() > 65_000, red.min() < 100) == (True, True)
        assert np.abs(red - 64 * (16 * x + y % 16)).max() <= 128

    @pytest.mark.parametrize("wide", [False, True], ids=["8 bit", "16 bit"])
    def test_premultiplied_alpha_is_undone(self, monkeypatch: pytest.MonkeyPatch, wide: bool) -> None:
        """pi-heif names it by a small `a`; no encoder at hand makes such a file, so the decoder is a stand-in."""
        kind, scale = (np.uint16, 257) if wide else (np.uint8, 1)
        pixels = (np.array([[[64, 32, 0, 128], [200, 100, 50, 255], [0, 0, 0, 0], [9, 9, 9, 9]]]) * scale).astype(kind)
        primary = SimpleNamespace(  # rows are longer than the picture is wide
            data=memoryview(pixels).cast("B"), mode="RGBa;16" if wide else "RGBa", size=(3, 1), stride=pixels.nbytes,
            info={},
        )  # fmt: skip
        monkeypatch.setattr("pi_heif.open_heif", lambda *_, **__: SimpleContainer(primary))
        found = heif.decode(b"").numpy().astype(int)[0]
        expected = np.array([[127, 64, 0, 128], [200, 100, 50, 255], [0, 0, 0, 0]]) * scale
        assert np.abs(found - expected).max() <= scale

    @pytest.mark.parametrize("premultiplied", [False, True])
    def test_an_avif_of_either_alpha_is_the_same_picture(self, premultiplied: bool) -> None:
        """libvips reads colours that hold their alpha as if they did not."""
        alpha = (vips.pyvips.Image.xyz(64, 48)[0] * 4).cast("uchar")
        clear = picture().bandjoin(alpha)
        file = io.BytesIO()
        PIL.Image.fromarray(clear.numpy()).save(
            file, "AVIF", quality=100, subsampling="4:4:4", alpha_premultiplied=premultiplied
        )
        raw = file.getvalue()
        assert (b"prem" in raw) is premultiplied
        wanted = clear.flatten(background=[255] * 3).numpy().astype(int)
        whole, part = load(raw), load_part(raw, Box(8, 8, 40, 30), fail_on="error")
        assert np.abs(whole.flatten(background=[255] * 3).numpy() - wanted).mean() < 3
        assert np.abs(part.flatten(background=[255] * 3).numpy() - wanted[8:38, 8:48]).mean() < 3
        shown = inspect.decode(raw, inspect.inspect(raw).facts, 64, 48).image
        assert np.abs(shown.flatten(background=[255] * 3).numpy() - wanted).mean() < 3

    def test_of_an_image_sequence_the_first(self) -> None:
        first, second = (PIL.Image.fromarray(image.numpy()) for image in (picture(), picture().invert()))
        file = io.BytesIO()
        first.save(file, "AVIF", save_all=True, append_images=[second], quality=95)
        raw = file.getvalue()
        told = inspect.inspect(raw)
        assert raw[8:12] == b"avis"
        assert (told.verdict, told.facts.pages, inspect.Note.FIRST_FRAME in told.notes) == ("accept", 2, True)
        assert abs(load(raw).avg() - picture().avg()) < 3

    def test_heif_pixels_outlive_their_file(self, photos: Path) -> None:
        """libvips reads the decoder's own buffer, which dies with its file object unless somebody holds it."""
        raw = (photos / "heic-two-images.heic").read_bytes()
        first, pictures = heif.decode(raw).avg(), [heif.decode(raw).invert() for _ in range(8)]
        gc.collect()
        _churn = [bytearray(3_000_000) for _ in range(8)]
        assert [255 - p.avg() for p in pictures] == pytest.approx([first] * 8)

    def test_no_profile_and_cicp_p3_gets_the_p3_profile(self) -> None:
        raw = bytes(picture().write_to_buffer(".png"))
        assert vips.blob(load(with_cicp(raw, 12, 13)), "icc-profile-data") == vips.built_in_profile("p3")
        assert vips.blob(load(raw), "icc-profile-data") is None


def is_complete(raw: bytes) -> bool:
    try:
        return containers.heif(raw).complete
    except Rejected as refusal:
        return refusal.reason is not Reason.TRUNCATED


class TestCutHeic:
    def test_the_item_table_tells(self, photos: Path) -> None:
        assert not containers.heif((photos / "bad-truncated.heic").read_bytes()).complete

    @pytest.mark.parametrize("name", ["heic-iphone11pro-p3-rotated.heic", "avif-8bit-420.avif"])
    def test_every_cut_is_told(self, photos: Path, name: str) -> None:
        raw = (photos / name).read_bytes()
        assert containers.heif(raw).complete
        for part in range(1, 20):
            cut = raw[: len(raw) * part // 20]
            assert not is_complete(cut)
        assert not containers.heif(raw[:-1]).complete

    def test_any_item_table_is_read_or_refused(self, photos: Path) -> None:
        """Versions, counts and sizes that promise more entries than the box holds."""
        raw = (photos / "crash-libheif.heic").read_bytes()
        at = raw.index(b"iloc")
        changes = [(place, value) for place in range(at - 4, at + 28) for value in range(0, 256, 3)]
        told = Counter(verdict(raw[:place] + bytes([value]) + raw[place + 1 :]) for place, value in changes)
        assert min(told["read"], told[Reason.CORRUPT]) > 100

    @pytest.mark.parametrize("version", [0, 1, 2])
    def test_an_item_table_that_ends_early_is_refused(self, version: int) -> None:
        table = bytes([version, 0, 0, 0, 0x44, 0x40]) + b"\0\0" * (version // 2) + b"\0\2" + b"\0" * 40
        for length in range(20):
            box = (8 + length).to_bytes(4, "big") + b"iloc" + table[:length]
            meta = (12 + len(box)).to_bytes(4, "big") + b"meta" + bytes(4) + box
            assert verdict(b"\0\0\0\x10ftypheic\0\0\0\0" + meta) == Reason.CORRUPT

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("avif-iphone-gps.avif", b"Exif"),
            ("heic-sony-10bit-422.hif", b"mime"),
            ("heic-iphone13promax-hdr-gainmap.heic", b"application/rdf+xml"),
            ("avif-10bit-hdr-p3-20mp.avif", b"application/rdf+xml"),
        ],
    )
    def test_types_of_items_are_text(self, photos: Path, name: str, text: bytes) -> None:
        """Found by mutation: of what is not, pi-heif makes no string and then reads it."""
        raw = (photos / name).read_bytes()
        assert verdict(raw) == "read"
        for place in range(len(text)):
            assert verdict(raw.replace(text, text[:place] + b"\xdf" + text[place + 1 :], 1)) == Reason.CORRUPT

    @pytest.mark.parametrize("version", [0, 1, 2, 3])
    def test_items_of_any_version_are_looked_at(self, version: int) -> None:
        numbers = bytes((version, 0, 0, 0)) + bytes(6 if version == 3 else 4)
        kind = b"mime" if version >= 2 else b""
        for media_type, expected in ((b"image/png", "read"), (b"image/\xff", Reason.CORRUPT)):
            item = numbers + kind + b"name\0" + media_type
            item = (8 + len(item)).to_bytes(4, "big") + b"infe" + item
            for count in (bytes(4) + b"\0\1", b"\1" + bytes(3) + b"\0\0\0\1"):
                box = (8 + len(count + item)).to_bytes(4, "big") + b"iinf" + count + item
                meta = (12 + len(box)).to_bytes(4, "big") + b"meta" + bytes(4) + box
                assert verdict(b"\0\0\0\x10ftypheic\0\0\0\0" + meta) == expected


def verdict(raw: bytes) -> str:
    try:
        containers.heif(raw)
    except Rejected as refusal:
        return refusal.reason
    return "read"

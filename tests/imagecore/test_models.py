"""Faces and text: found where they are, nowhere else, and "unknown" where a model is missing."""

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imagecore import analyse, faces, models, text, vips
from imagecore.findings import Box, is_text
from imagecore.jail import Jail
from imagecore.likeness import Fingerprint
from imagecore.load import load
from imagecore.models import Model

pytestmark = pytest.mark.xdist_group("models")  # loaded once

FACES = {"large-06-bar-face-text-24mp.jpg": 1, "large-08-two-people-portrait.jpg": 2, "icc-adobe-rgb-face.jpg": 1}
NO_FACES = [
    "large-01-mi-a3-dinner.jpg",
    "large-02-pixel-path.jpg",
    "large-05-nuthatch-20mp.jpg",
    "large-07-book-text.jpg",
    "large-09-leica-orientation8.jpg",
    "neardup-koala-l.jpg",
    "neardup-forest-a.jpg",
    "subsampling-411.jpg",
    "icc-prophoto-nebula.jpg",
    "heic-sony-10bit-422.hif",
]
NO_TEXT = [*(n for n in NO_FACES if "text" not in n), "large-08-two-people-portrait.jpg", "icc-adobe-rgb-face.jpg"]


@functools.cache
def rgb(photos: Path, name: str) -> Any:
    """The picture as the child shows it to the models; each is asked for by faces and by text."""
    return analyse.proxy(analyse._small((photos / name).read_bytes()))


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which neither model's wheel is installed."""
    missing = Model("no-such-wheel", "model.onnx", "0" * 64)
    monkeypatch.setattr(models, "FACES", missing)
    monkeypatch.setattr(models, "TEXT", missing)


class TestFiles:
    @pytest.mark.parametrize("model", [models.FACES, models.TEXT], ids=["faces", "text"])
    def test_the_default_install_has_them(self, model: Model) -> None:
        assert models.session(model) is not None

    def test_another_file_is_no_model(self) -> None:
        assert models.file_of(Model(models.FACES.wheel, models.FACES.file, "0" * 64)) is None

    def test_no_wheel_is_no_model(self) -> None:
        assert models.file_of(Model("no-such-wheel", "x.onnx", "0" * 64)) is None

    def test_only_the_input_size_is_opened(self) -> None:
        data = models.file_of(models.FACES)
        assert data is not None
        opened = models._opened(data)
        assert len(opened) == len(data)
        assert sum(a != b for a, b in zip(data, opened, strict=True)) == 6


class TestFaces:
    @pytest.mark.parametrize(("name", "count"), FACES.items())
    def test_every_person_is_found(self, photos: Path, name: str, count: int) -> None:
        found = faces.find(rgb(photos, name))
        assert found is not None, "unknown"
        assert len(found) >= count

    @pytest.mark.parametrize("name", NO_FACES)
    def test_none_is_invented(self, photos: Path, name: str) -> None:
        assert faces.find(rgb(photos, name)) == ()

    def test_box_is_where_the_face_is(self, photos: Path) -> None:
        (face,) = faces.find(rgb(photos, "icc-adobe-rgb-face.jpg")) or ()
        mirrored = load((photos / "icc-adobe-rgb-face.jpg").read_bytes()).fliphor()
        (other,) = faces.find(analyse.proxy(mirrored)) or ()
        assert abs(face.left - (10_000 - other.right)) < 300
        assert abs(face.top - other.top) < 300

    def test_unknown_without_the_model(self, absent: None, photos: Path) -> None:
        assert faces.find(rgb(photos, "icc-adobe-rgb-face.jpg")) is None


class TestText:
    def test_every_text_photo(self, photos: Path, manifest: dict[str, dict[str, Any]]) -> None:
        names = [name for name, row in manifest.items() if row.get("text")]
        assert len(names) >= 4
        assert [n for n in names if not is_text(text.find(rgb(photos, n)) or ())] == []

    @pytest.mark.parametrize("name", NO_TEXT)
    def test_none_is_invented(self, photos: Path, name: str) -> None:
        assert not is_text(text.find(rgb(photos, name)) or ())

    def test_unknown_without_the_model(self, absent: None, photos: Path) -> None:
        assert text.find(rgb(photos, "large-07-book-text.jpg")) is None

    def test_growing_stays_inside(self) -> None:
        assert text._grown(0, 0, 100, 50, 100, 50) == Box(0, 0, 10_000, 10_000)


class TestInTheJail:
    @pytest.mark.parametrize("size", [(2560, 1), (1, 2560)])
    def test_a_line_of_pixels(self, size: tuple[int, int]) -> None:
        """The ancestor of the longest photo that is accepted."""
        image = vips.pyvips.Image.xyz(*size)[0].cast("uchar").bandjoin([0, 0]).copy(interpretation="srgb")
        found = analyse.analyse(bytes(image.jpegsave_buffer()))
        assert (found.faces, found.text) == ((), ())

    def test_analyse(self, photos: Path) -> None:
        raw = (photos / "icc-adobe-rgb-face.jpg").read_bytes()
        with Jail.open(analyse.LIMITS, preload=("analyse",)) as jail:
            job = jail.start("analyse", b"", [raw], 30)
            output = job.next()
            likeness = job.next()
            assert output is not None
            assert likeness is not None
            assert job.next() is None
        found = analyse.decode(output.data)
        assert found == analyse.analyse(raw)
        assert msgspec.json.decode(likeness.data, type=Fingerprint) == analyse.fingerprint_of(raw)
        assert found.faces is not None
        assert len(found.faces) == 1
        assert job.usage is not None
        assert job.usage.peak_mb <= 300

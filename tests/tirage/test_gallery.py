"""The page of prints to look at: all its pictures are there, as large as it says; a suggestion keeps what it can."""

import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image, ImageCms

from tirage.main import main

SECTIONS = {"Classes": 5, "Soft proof": 8, "Fits": 4, "Crops that keep faces": 8}


class Page(HTMLParser):
    """Sections with their figures: file, width, height, boxes (class; left, top, right, bottom in per cent), words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[
            str, list[tuple[str, int, int, list[tuple[str, float, float, float, float]], list[str]]]
        ] = {}
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self._heading = tag == "h2"
        figures = next(reversed(self.sections.values()), [])
        if tag == "img":
            figures.append((told["src"], int(told["width"]), int(told["height"]), [], []))
        if tag == "i":
            left, top, width, height = (float(one) for one in re.findall(r":([-0-9.]+)%", told["style"]))
            figures[-1][3].append((told["class"], left, top, left + width, top + height))

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.sections[data] = []
        elif any(self.sections.values()) and data.strip():
            next(figures for figures in reversed(self.sections.values()) if figures)[-1][4].append(data)


@pytest.mark.interop  # half a minute
def test_gallery_shows_each_class_proof_fit_and_crop(photos: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["gallery", "--photos", str(photos), "-o", str(tmp_path)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    page = Page((tmp_path / "index.html").read_text())
    assert {title: len(figures) for title, figures in page.sections.items()} == SECTIONS
    figures = [figure for section in page.sections.values() for figure in section]
    assert len({file for file, *_ in figures}) == len(figures)
    for file, width, height, boxes, words in figures:
        with Image.open(tmp_path / file) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (width, height))
            assert max(width, height) <= 900
            profile = ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
            assert len(picture.convert("L").resize((16, 16)).getcolors() or ()) > 8  # it shows something
        assert words
        assert all(0 <= left < right <= 100.1 and 0 <= top < bottom <= 100.1 for _, left, top, right, bottom in boxes)
    kept = 0
    for *_, boxes, words in page.sections["Crops that keep faces"][::2]:
        ((left, top, right, bottom),) = (box[1:] for box in boxes if box[0] == "part")
        faces = [box[1:] for box in boxes if box[0] == "face"]
        assert faces
        fit = all(f[2] - f[0] <= right - left and f[3] - f[1] <= bottom - top for f in faces)
        inside = all(
            left - 0.1 <= f[0] and top - 0.1 <= f[1] and f[2] <= right + 0.1 and f[3] <= bottom + 0.1 for f in faces
        )
        assert ("faces kept" in " ".join(words), inside) == (fit, fit)
        kept += inside
    assert kept == 3  # of the fourth, a head is taller than any part of that shape

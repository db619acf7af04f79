"""Where to cut: the largest part of a shape that keeps faces and text, whenever one does."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecore import analyse, crops, geometry
from imagecore.crops import Part
from imagecore.errors import OutOfBounds
from imagecore.findings import Box
from imagecore.load import load

SHAPES = [(1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (5, 7), (7, 5), (16, 9)]
sides = st.integers(50, 5000)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, 9_900)), draw(st.integers(0, 9_900))
    return Box(left, top, draw(st.integers(left + 50, 10_000)), draw(st.integers(top + 50, 10_000)))


def keeps(part: Part, face: Box, width: int, height: int) -> bool:
    return crops.cut(part, crops.pixels(crops.head(face), width, height)) == 0


class TestSuggest:
    @given(sides, sides, shapes, st.lists(boxes(), max_size=4), st.lists(boxes(), max_size=3), st.integers(0, 600))
    @settings(max_examples=200, deadline=None)
    def test_part_has_the_shape_and_lies_inside(
        self, width: int, height: int, shape: tuple[int, int], faces: list[Box], text: list[Box], inset: int
    ) -> None:
        found = crops.suggest(width, height, shape, faces, text, inset)
        middle = geometry.cover(width, height, *shape)
        geometry.check_box(found.part, width, height)
        assert (found.part.width, found.part.height) == (middle.width, middle.height)
        assert found.lost == crops.lost(middle, width, height)

    @given(sides, sides, shapes, st.lists(boxes(), min_size=1, max_size=3))
    @settings(max_examples=200, deadline=None)
    def test_faces_are_kept_whenever_some_place_keeps_them(
        self, width: int, height: int, shape: tuple[int, int], faces: list[Box]
    ) -> None:
        """Against every place there is, not only the ones the search tries."""
        found = crops.suggest(width, height, shape, faces, [])
        part = found.part
        places = [Part(x, part.y, *part[2:]) for x in range(width - part.width + 1)]
        places += [Part(part.x, y, *part[2:]) for y in range(height - part.height + 1)]
        possible = any(all(keeps(p, f, width, height) for f in faces) for p in places)
        assert found.keeps_faces == possible
        assert not possible or all(keeps(part, f, width, height) for f in faces)

    def test_without_anything_it_is_the_middle(self) -> None:
        assert crops.suggest(400, 300, (1, 1), [], []).part == Part(50, 0, 300, 300)

    def test_faces_come_before_text(self) -> None:
        face, line = Box(0, 4000, 1000, 6000), Box(9000, 4000, 10_000, 4500)
        found = crops.suggest(4000, 3000, (1, 1), [face], [line])
        assert (found.keeps_faces, found.keeps_text, found.part.x) == (True, False, 0)

    def test_text_moves_it_when_faces_do_not_mind(self) -> None:
        found = crops.suggest(4000, 3000, (1, 1), [], [Box(9000, 4000, 10_000, 4500)])
        assert (found.keeps_text, found.part.x) == (True, 1000)

    def test_the_bleed_takes_its_strip(self) -> None:
        line = Box(8000, 4000, 8800, 4500)
        plain, inset = (crops.suggest(4000, 3000, (1, 1), [], [line], n).part.x for n in (0, 300))
        assert inset - plain == 90

    def test_two_faces_too_far_apart(self) -> None:
        found = crops.suggest(4000, 1000, (1, 1), [Box(100, 4000, 600, 6000), Box(9000, 4000, 9500, 6000)], [])
        assert not found.keeps_faces

    def test_empty_pictures_do_not_exist(self) -> None:
        with pytest.raises(OutOfBounds):
            crops.suggest(0, 10, (1, 1), [], [])

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}to{s[1]}")
    @pytest.mark.parametrize(
        "name", ["large-06-bar-face-text-24mp.jpg", "large-08-two-people-portrait.jpg", "icc-adobe-rgb-face.jpg"]
    )
    def test_no_head_is_lost_on_real_photos(self, photos: Path, name: str, shape: tuple[int, int]) -> None:
        """The people of these photos fit any usual shape, so nobody may be cut (the painted face may)."""
        image = load((photos / name).read_bytes())
        faces = analyse.faces.find(analyse.proxy(image)) or ()
        people = faces[-2:] if "two-people" in name else faces
        found = crops.suggest(image.width, image.height, shape, people, [])
        assert found.keeps_faces
        assert all(keeps(found.part, f, image.width, image.height) for f in people)


class TestCut:
    def test_whole_is_nothing(self) -> None:
        assert crops.cut(Part(0, 0, 10, 10), Part(0, 0, 10, 10)) == 0

    def test_a_sliver_is_not_nothing(self) -> None:
        assert crops.cut(Part(0, 0, 9_999, 9_999), Part(0, 0, 10_000, 9_999)) == 1

    def test_outside_is_all(self) -> None:
        assert crops.cut(Part(0, 0, 10, 10), Part(10, 10, 5, 5)) == 1000

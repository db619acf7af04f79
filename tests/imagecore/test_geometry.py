"""Geometry: one class for the compiled and the plain module, and their equality."""

from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecore.errors import OutOfBounds

Kernels = Callable[[str, str], ModuleType]
LANES = ("compiled", "pure")

sides = st.integers(1, 1_000_000)
small = st.integers(1, 40)
focal = st.tuples(st.integers(0, 10_000), st.integers(0, 10_000))


@pytest.mark.parametrize("lane", LANES)
class TestKnown:
    @pytest.mark.parametrize(
        ("length_um", "ppi", "expected"),
        [
            (25_400, 300, 300),
            (216_000, 300, 2_551),  # A4 with 3 mm bleed: 2551.18…
            (303_000, 300, 3_579),  # 3578.74…
            (127, 100, 1),  # half a pixel goes up
            (126, 100, 0),
            (381, 100, 2),  # 1.5
            (0, 300, 0),
            (100_000_000, 10_000, 39_370_079),
        ],
    )
    def test_pixels(self, kernel: Kernels, lane: str, length_um: int, ppi: int, expected: int) -> None:
        assert kernel("geometry", lane).pixels(length_um, ppi) == expected

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            ((4032, 3024, 1600, 1600), (1600, 1200)),
            ((3024, 4032, 400, 400), (300, 400)),
            ((300, 200, 400, 400), (300, 200)),
            ((300, 200, 400, 400, True), (400, 267)),
            ((10_000, 1, 200, 200), (200, 1)),
            ((1, 10_000, 200, 200), (1, 200)),
            ((3, 2, 1, 1), (1, 1)),
        ],
    )
    def test_fit(self, kernel: Kernels, lane: str, args: Any, expected: tuple[int, int]) -> None:
        assert kernel("geometry", lane).fit(*args) == expected

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            ((4000, 3000, 100, 100), (500, 0, 3000, 3000)),
            ((4000, 3000, 100, 100, (0, 5_000)), (0, 0, 3000, 3000)),
            ((4000, 3000, 100, 100, (10_000, 0)), (1000, 0, 3000, 3000)),
            ((3000, 4000, 300, 200, (5_000, 2_500)), (0, 0, 3000, 2000)),
            ((3000, 4000, 300, 200, (5_000, 3_000)), (0, 200, 3000, 2000)),
            ((5, 5, 5, 5), (0, 0, 5, 5)),
            ((3, 2, 1, 1), (1, 0, 2, 2)),  # half a pixel goes up
        ],
    )
    def test_cover(self, kernel: Kernels, lane: str, args: Any, expected: tuple[int, ...]) -> None:
        assert tuple(kernel("geometry", lane).cover(*args)) == expected

    def test_letterbox(self, kernel: Kernels, lane: str) -> None:
        assert tuple(kernel("geometry", lane).letterbox(4000, 3000, 1000, 1001)) == (0, 125, 1000, 750)

    def test_effective_ppi_is_the_worse_axis_rounded_down(self, kernel: Kernels, lane: str) -> None:
        module = kernel("geometry", lane)
        assert module.effective_ppi(module.Box(0, 0, 4000, 3000), 6 * 25_400, 4 * 25_400) == 666
        assert module.effective_ppi(module.Box(10, 10, 1199, 800), 6 * 25_400, 4 * 25_400) == 199

    def test_print_boxes_of_a4(self, kernel: Kernels, lane: str) -> None:
        boxes = kernel("geometry", lane).print_boxes(210_000, 297_000, 3_000, 4_000, 300)
        assert (boxes.width, boxes.height) == (2_551, 3_579)
        assert tuple(boxes.trim) == (35, 35, 2_481, 3_508)
        assert tuple(boxes.safe) == (83, 83, 2_386, 3_413)

    def test_rescale_keeps_edges(self, kernel: Kernels, lane: str) -> None:
        module = kernel("geometry", lane)
        assert tuple(module.rescale(module.Box(0, 0, 4032, 3024), 4032, 3024, 2560, 1920)) == (0, 0, 2560, 1920)
        assert tuple(module.rescale(module.Box(4031, 3023, 1, 1), 4032, 3024, 2560, 1920)) == (2559, 1919, 1, 1)

    @pytest.mark.parametrize(
        ("size", "name"),
        [((100, 100), "square"), ((104, 100), "square"), ((3, 4), "standard"), ((16, 9), "wide"),
         ((828, 4000), "extreme"), ((300, 100), "panorama")],
    )  # fmt: skip
    def test_aspect_class(self, kernel: Kernels, lane: str, size: tuple[int, int], name: str) -> None:
        assert kernel("geometry", lane).aspect_class(*size) == name

    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("pixels", (10**17, 300)),
            ("pixels", (-1, 300)),
            ("pixels", (1, 0)),
            ("pixels", (1, 2**80)),
            ("pixels", (1.0, 300)),
            ("pixels", (True, 300)),
            ("fit", (0, 1, 1, 1)),
            ("fit", (2**63, 1, 1, 1)),
            ("cover", (1, 1, 1, 1, (10_001, 0))),
            ("cover", (1, 1, 1, 1, (0, -1))),
            ("rescale", ((0, 0, 2, 1), 1, 1, 1, 1)),
            ("rescale", ((-1, 0, 1, 1), 1, 1, 1, 1)),
            ("rescale", ((0, 0, 0, 1), 1, 1, 1, 1)),
            ("effective_ppi", ((0, 0, 1, 1), 0, 1)),
            ("print_boxes", (10_000, 10_000, 0, 5_000, 300)),
            ("print_boxes", (10_000, 10_000, 10_001, 0, 300)),
            ("print_boxes", (50_000_000, 50_000_000, 0, 0, 10_000)),
            ("aspect_class", (0, 1)),
        ],
    )
    def test_out_of_bounds(self, kernel: Kernels, lane: str, name: str, args: Any) -> None:
        module = kernel("geometry", lane)
        made = [module.Box(*a) if isinstance(a, tuple) and len(a) == 4 else a for a in args]
        with pytest.raises(OutOfBounds):
            getattr(module, name)(*made)


def both(kernel: Kernels, name: str, *args: Any) -> Any:
    """The one answer of both lanes; their boxes are different classes of equal tuples."""
    compiled, pure = (getattr(kernel("geometry", lane), name)(*args) for lane in LANES)
    assert compiled == pure
    return compiled


class TestProperties:
    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 100_000_000), st.integers(1, 10_000))
    def test_pixels_round_to_nearest(self, kernel: Kernels, length: int, ppi: int) -> None:
        exact = Fraction(length * ppi, 25_400)
        assert -Fraction(1, 2) <= exact - both(kernel, "pixels", length, ppi) < Fraction(1, 2)

    @settings(max_examples=100, deadline=None)
    @given(sides, sides, sides, sides, st.booleans())
    def test_fit_stays_inside_and_touches(
        self, kernel: Kernels, width: int, height: int, box_width: int, box_height: int, enlarge: bool
    ) -> None:
        w, h = both(kernel, "fit", width, height, box_width, box_height, enlarge)
        assert 1 <= w <= box_width
        assert 1 <= h <= box_height
        assert w == box_width or h == box_height or (not enlarge and (w, h) == (width, height))

    @settings(max_examples=100, deadline=None)
    @given(sides, sides, sides, sides, focal)
    def test_cover_lies_inside_and_is_as_large_as_it_can_be(
        self, kernel: Kernels, width: int, height: int, box_width: int, box_height: int, point: tuple[int, int]
    ) -> None:
        x, y, w, h = both(kernel, "cover", width, height, box_width, box_height, point)
        assert 0 <= x <= width - w
        assert 0 <= y <= height - h
        assert w == width or h == height
        ideal = min(Fraction(width, box_width), Fraction(height, box_height))
        assert abs(w - ideal * box_width) <= Fraction(1, 2) or w == 1
        assert abs(h - ideal * box_height) <= Fraction(1, 2) or h == 1

    @settings(max_examples=100, deadline=None)
    @given(small, small, sides, sides, st.data())
    def test_rescaled_neighbours_share_their_edge(
        self, kernel: Kernels, width: int, height: int, to_width: int, to_height: int, data: st.DataObject
    ) -> None:
        cut = data.draw(st.integers(0, width - 1))
        x, _, w, _ = both(
            kernel, "rescale", kernel("geometry", "pure").Box(0, 0, width, height), width, height, to_width, to_height
        )
        assert (x, w) == (0, to_width)
        box = kernel("geometry", "pure").Box(cut, 0, width - cut, height)
        x, y, w, h = both(kernel, "rescale", box, width, height, to_width, to_height)
        assert x + w == to_width
        assert y + h == to_height
        assert w >= 1

    @settings(max_examples=100, deadline=None)
    @given(sides, sides, st.integers(0, 50_000_000), st.integers(0, 20_000_000), st.integers(1, 600))
    def test_both_lanes_agree_on_everything_else(
        self, kernel: Kernels, width: int, height: int, bleed: int, safe: int, ppi: int
    ) -> None:
        for name, args in (
            ("letterbox", (width, height, height, width)),
            ("aspect_class", (width, height)),
            ("print_boxes", (width, height, bleed, safe, ppi)),
        ):
            outcomes = []
            for lane in LANES:
                try:
                    outcomes.append(getattr(kernel("geometry", lane), name)(*args))
                except OutOfBounds as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]

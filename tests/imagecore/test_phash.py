"""The perceptual hash kernel: one class, run compiled and uncompiled."""

import math
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Kernels = Callable[[str, str], ModuleType]

WAVE = bytes(round(128 + 100 * math.cos(math.pi * (2 * x + 1) * 3 / 64)) for _ in range(32) for x in range(32))


@pytest.mark.parametrize("lane", ["compiled", "pure"])
class TestDescribe:
    def test_one_wave_has_one_coefficient(self, kernel: Kernels, lane: str) -> None:
        found = kernel("phash", lane).coefficients(WAVE)
        others = [abs(c) for i, c in enumerate(found) if i not in (0, 3)]
        assert found[3] > 100 * max(others)

    def test_amplitude_of_100_is_200_half_levels(self, kernel: Kernels, lane: str) -> None:
        slanted = bytes(
            round(128 + 100 * math.cos(math.pi * (2 * x + 1) * 3 / 64) * math.cos(math.pi * (2 * y + 1) * 2 / 64))
            for y in range(32)
            for x in range(32)
        )
        module = kernel("phash", lane)
        assert 198 < module.coefficients(slanted)[2 * 8 + 3] / module.HALF_A_LEVEL < 202

    def test_known_bits(self, kernel: Kernels, lane: str) -> None:
        picture = bytes((x * x + 7 * y + (x * y) % 13 * 5) % 256 for y in range(32) for x in range(32))
        assert kernel("phash", lane).describe(picture) == (16214962484383321833, 93)

    @pytest.mark.parametrize("level", [0, 1, 127, 255])
    def test_flat_has_no_quality(self, kernel: Kernels, lane: str, level: int) -> None:
        assert kernel("phash", lane).describe(bytes([level]) * 1024)[1] == 0

    @pytest.mark.parametrize("size", [0, 1023, 1025])
    def test_wrong_size_is_refused(self, kernel: Kernels, lane: str, size: int) -> None:
        with pytest.raises(ValueError, match="1024 bytes"):
            kernel("phash", lane).describe(bytes(size))

    @pytest.mark.parametrize("edge", [bytes(1024), b"\xff" * 1024, bytes([0, 255]) * 512])
    def test_extremes_do_not_overflow(self, kernel: Kernels, lane: str, edge: bytes) -> None:
        assert 0 <= kernel("phash", lane).describe(edge)[0] < 2**64


@given(st.binary(min_size=1024, max_size=1024))
@settings(max_examples=100, deadline=None)
def test_compiled_equals_pure(kernel: Kernels, gray: bytes) -> None:
    compiled, pure = (kernel("phash", lane) for lane in ("compiled", "pure"))
    assert compiled.coefficients(gray) == pure.coefficients(gray)
    assert compiled.describe(gray) == pure.describe(gray)

"""Soft proofs and the figures for what a paper cannot hold."""

import numpy as np
import pytest
from numpy.typing import NDArray

from imagecore import colour, proof, vips
from imagecore.icc import Intent, Rendering

BPC = Rendering(Intent.RELATIVE, True)


def picture(values: NDArray[np.uint8], profile: str = "srgb") -> vips.Image:
    data = np.ascontiguousarray(values)
    height, width, bands = data.shape
    image = vips.from_pixels(data.data, width, height, bands, wide=False, owner=data).copy(interpretation="srgb")
    return vips.with_profile(image, colour.named(profile).data)


def solid(*value: int, profile: str = "srgb") -> vips.Image:
    return picture(np.full((16, 16, 3), value, np.uint8), profile)


def half(one: tuple[int, ...], other: tuple[int, ...], profile: str = "srgb") -> vips.Image:
    values = np.full((16, 16, 3), one, np.uint8)
    values[8:] = other
    return picture(values, profile)


class TestMeasure:
    @pytest.mark.parametrize("printable", [(128, 128, 128), (224, 172, 105), (90, 60, 45), (250, 250, 250)])
    def test_skin_and_grays_fit_coated_paper(self, printable: tuple[int, ...]) -> None:
        loss = proof.measure(solid(*printable), colour.named("fogra39"), BPC)
        assert (loss.out_of_gamut, loss.shadows) == (0, 0)

    @pytest.mark.parametrize("vivid", [(0, 0, 255), (0, 255, 0), (255, 0, 255)])
    def test_screen_primaries_do_not(self, vivid: tuple[int, ...]) -> None:
        assert proof.measure(solid(*vivid), colour.named("fogra39"), BPC).out_of_gamut == 1000

    def test_share_is_of_the_area(self) -> None:
        loss = proof.measure(half((0, 0, 255), (128, 128, 128)), colour.named("fogra39"), BPC)
        assert 490 <= loss.out_of_gamut <= 510

    def test_deep_shadows_are_counted_apart(self) -> None:
        loss = proof.measure(half((0, 0, 0), (128, 128, 128)), colour.named("fogra39"), BPC)
        assert 490 <= loss.shadows <= 510
        assert loss.out_of_gamut <= 10

    def test_p3_red_does_not_fit_srgb_and_fits_itself(self) -> None:
        red = solid(255, 0, 0, profile="display-p3")
        assert proof.measure(red, colour.named("srgb"), BPC).out_of_gamut == 1000
        assert proof.measure(red, colour.named("display-p3"), BPC) == proof.Loss(0, 0, 0)

    def test_screens_hold_every_shadow(self) -> None:
        assert proof.measure(solid(0, 0, 0), colour.named("adobe-rgb"), BPC).shadows == 0


class TestLeastLoss:
    def test_the_smaller_difference_is_taken(self) -> None:
        image = half((0, 0, 0), (250, 240, 20))
        fogra = colour.named("fogra39")
        chosen = proof.least_loss(image, fogra)
        losses = {c: proof.measure(image, fogra, c).difference for c in proof.PAPER_AWARE}
        assert losses[chosen] == min(losses.values())
        assert len(set(losses.values())) == 2

    def test_ties_go_to_the_first(self) -> None:
        assert proof.least_loss(solid(128, 128, 128), colour.named("srgb")) == proof.PAPER_AWARE[0]


class TestSoftProof:
    def shown(self, *value: int, paper_white: bool = False) -> list[float]:
        image = proof.soft_proof(solid(*value), colour.named("fogra39"), BPC, paper_white=paper_white)
        assert vips.blob(image, "icc-profile-data") == colour.named("srgb").data
        return [float(v) for v in image(3, 3)]

    def test_white_is_white_without_the_paper(self) -> None:
        assert min(self.shown(255, 255, 255)) >= 253

    def test_paper_has_a_tint(self) -> None:
        assert max(self.shown(255, 255, 255, paper_white=True)) < 250

    def test_black_is_the_papers_darkest(self) -> None:
        assert 20 < max(self.shown(0, 0, 0)) < 60

    def test_vivid_blue_dulls(self) -> None:
        red, _, blue = self.shown(0, 0, 255)
        assert blue < 230
        assert red > 20

    def test_mid_gray_stays(self) -> None:
        assert self.shown(128, 128, 128) == pytest.approx([128] * 3, abs=6)

"""Findings before money, class by class."""

import pytest

from imagecore import classes, geometry, readiness
from imagecore.classes import ClassName
from imagecore.errors import OutOfBounds
from imagecore.findings import Analysis, Box
from imagecore.geometry import Box as Part
from imagecore.quality import Quality
from imagecore.readiness import Code, Level, Print, Readiness

FINE = Quality(blur=45, noise=60, blockiness=102, dark=5, bright=5, mean=120)
LINES = (Box(100, 100, 2000, 300), Box(100, 400, 2000, 600), Box(100, 700, 2000, 900))


def analysis(
    faces: tuple[Box, ...] | None = (), text: tuple[Box, ...] | None = (), quality: Quality | None = FINE
) -> Analysis:
    return Analysis(revision=1, faces=faces, text=text, quality=quality)


def ready(
    width: int = 4000,
    height: int = 3000,
    found: Analysis | None = None,
    *,
    class_: ClassName = ClassName.STANDARD,
    trim: tuple[int, int] = (152_000, 102_000),
    part: Part | None = None,
    whole: bool = False,
    hdr: bool = False,
) -> Readiness:
    kind = classes.CLASSES[class_]
    bleed = 0 if whole else 2 * kind.bleed_um
    cover = Part(0, 0, width, height) if whole else geometry.cover(width, height, trim[0] + bleed, trim[1] + bleed)
    wanted = Print(class_=kind, trim_width_um=trim[0], trim_height_um=trim[1], part=part or cover, whole=whole)
    return readiness.check(width, height, found or analysis(), wanted, hdr=hdr)


def codes(answer: Readiness) -> dict[Code, Level]:
    return {f.code: f.level for f in answer.findings}


class TestResolution:
    @pytest.mark.parametrize("class_", list(ClassName))
    @pytest.mark.parametrize("which", ["reject", "strong", "soft"])
    def test_each_threshold_of_each_class(self, class_: ClassName, which: str) -> None:
        """One pixel an inch below the limit is found, the limit itself is not."""
        kind = classes.CLASSES[class_]
        limit = getattr(kind.thresholds, which)
        inch = geometry.PER_INCH - 2 * kind.bleed_um
        at, below = (
            codes(ready(n, n, class_=class_, trim=(inch, inch))).get(Code.LOW_RESOLUTION) for n in (limit, limit - 1)
        )
        assert below is Level(which)
        assert at is not Level(which)

    def test_enough_says_nothing(self) -> None:
        assert ready().findings == ()
        assert ready().printable

    def test_reject_stops_the_order(self) -> None:
        assert not ready(640, 480, trim=(406_000, 305_000)).printable

    def test_bleed_is_paid_from_the_photo(self) -> None:
        assert ready(1520, 1020).ppi == 244
        assert ready(1520, 1020, whole=True).ppi == 254

    def test_outside_the_photo(self) -> None:
        with pytest.raises(OutOfBounds):
            ready(part=Part(0, 0, 4001, 10))


class TestQuality:
    @pytest.mark.parametrize(
        ("quality", "code", "level"),
        [
            ({"blur": 500}, Code.BLURRED, Level.SOFT),
            ({"blur": 2000}, Code.BLURRED, Level.STRONG),
            ({"mean": 20}, Code.TOO_DARK, Level.SOFT),
            ({"mean": 240}, Code.TOO_BRIGHT, Level.SOFT),
            ({"dark": 200}, Code.SHADOWS_CLIPPED, Level.SOFT),
            ({"bright": 500}, Code.HIGHLIGHTS_CLIPPED, Level.STRONG),
            ({"blockiness": 200}, Code.JPEG_DAMAGE, Level.SOFT),
            ({"blockiness": 400}, Code.JPEG_DAMAGE, Level.STRONG),
            ({"noise": 1200}, Code.NOISE, Level.STRONG),
        ],
    )
    def test_each_fault_alone(self, quality: dict[str, int], code: Code, level: Level) -> None:
        values = {f: getattr(FINE, f) for f in FINE.__struct_fields__} | quality
        assert codes(ready(found=analysis(quality=Quality(**values)))) == {code: level}

    def test_blur_matters_by_the_size_on_paper(self) -> None:
        soft = Quality(blur=400, noise=60, blockiness=102, dark=5, bright=5, mean=120)
        assert codes(ready(8000, 6000, analysis(quality=soft))) == {}
        assert Code.BLURRED in codes(ready(1700, 1140, analysis(quality=soft)))

    def test_posters_are_seen_from_further_away(self) -> None:
        soft = analysis(quality=Quality(blur=130, noise=60, blockiness=102, dark=5, bright=5, mean=120))
        large = (406_000, 305_000)
        near, far = (codes(ready(3000, 2250, soft, trim=large, class_=c)) for c in (ClassName.MATTE, ClassName.POSTER))
        assert Code.BLURRED in near
        assert Code.BLURRED not in far


class TestHdr:
    @pytest.mark.parametrize("class_", list(ClassName))
    def test_no_class_prints_it(self, class_: ClassName) -> None:
        """Masters refuse PQ and HLG, so nobody may come to pay for one."""
        answer = ready(3000, 3000, class_=class_, trim=(100_000, 100_000), hdr=True)
        assert (codes(answer), answer.printable) == ({Code.HDR_NOT_PRINTABLE: Level.REJECT}, False)

    def test_at_any_size(self) -> None:
        every = readiness.survey(4000, 3000, analysis(), hdr=True)
        assert {one.level for one in every} == {Level.REJECT}
        assert {one.level for one in readiness.survey(4000, 3000, analysis(), hdr=False)} != {Level.REJECT}


class TestUnknown:
    def test_absent_models_are_never_fine(self) -> None:
        found = codes(ready(found=analysis(faces=None, text=None, quality=None)))
        assert found == dict.fromkeys((Code.QUALITY_UNKNOWN, Code.FACES_UNKNOWN, Code.TEXT_UNKNOWN), Level.NOTE)


class TestFaces:
    MIDDLE = Box(4500, 4000, 5500, 6000)

    def test_in_the_middle(self) -> None:
        assert codes(ready(found=analysis(faces=(self.MIDDLE,)))) == {}

    def test_cut_by_the_crop(self) -> None:
        part = Part(2000, 0, 1700, 1142)
        face = Box(4700, 500, 5500, 1500)
        assert codes(ready(found=analysis(faces=(face,)), part=part))[Code.FACE_CUT] is Level.STRONG

    def test_hair_in_the_bleed(self) -> None:
        # The head's top lies 0.6 % below the sheet's edge; the bleed takes 1.9 %.
        face = Box(4500, 700, 5500, 2125)
        assert codes(ready(3000, 2000, analysis(faces=(face,)))).get(Code.FACE_IN_BLEED) is Level.SOFT

    def test_left_out(self) -> None:
        found = codes(ready(found=analysis(faces=(Box(9000, 4000, 9900, 6000),)), part=Part(0, 0, 2000, 1360)))
        assert found[Code.FACE_LEFT_OUT] is Level.SOFT
        assert Code.FACE_CUT not in found

    def test_whole_photos_lose_nobody(self) -> None:
        assert codes(ready(found=analysis(faces=(Box(0, 0, 1000, 1500),)), whole=True)) == {}


class TestText:
    def test_inside(self) -> None:
        inside = tuple(Box(b.left + 2000, b.top + 2000, b.right + 2000, b.bottom + 2000) for b in LINES)
        assert codes(ready(3000, 2000, analysis(text=inside))) == {}

    def test_in_the_bleed(self) -> None:
        assert codes(ready(3000, 2000, analysis(text=LINES)))[Code.TEXT_IN_BLEED] is Level.SOFT

    def test_cut(self) -> None:
        assert codes(ready(found=analysis(text=LINES), part=Part(200, 0, 3000, 2000)))[Code.TEXT_CUT] is Level.STRONG

    def test_one_hit_is_no_text(self) -> None:
        assert codes(ready(3000, 2000, analysis(text=LINES[:1]))) == {}


class TestShape:
    def test_panorama_loses_much(self) -> None:
        found = codes(ready(6000, 1500))
        assert found[Code.EXTREME_ASPECT] is Level.SOFT
        assert found[Code.CROP_LOSS] is Level.STRONG

    def test_four_to_three_on_three_to_two(self) -> None:
        answer = ready(4000, 3000)
        assert answer.lost == 94
        assert Code.CROP_LOSS not in codes(answer)

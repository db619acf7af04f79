import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagecore import recipe as recipes
from imagecore.recipe import Crop, MalformedRecipe, Recipe, fallback, parse, rung, text

GOLDEN = [
    (rung(200, "lv8187a"), "v1_preview_fit.200x200_jpg.80.420_srgb.rel.bpc_lv8187a"),
    (rung(1600, "lv8187a", "webp"), "v1_preview_fit.1600x1600_webp.78.2_srgb.rel.bpc_lv8187a"),
    (rung(800, "lv8187a", "avif"), "v1_preview_fit.800x800_avif.55.0_srgb.rel.bpc_lv8187a"),
    (
        Recipe(width=900, height=600, engine="e123", fit="cover", crop=Crop(0, 10, 300, 200), focal=(5000, 0)),
        "v1_preview_cover.900x600_c0.10.300.200_f5000.0_jpg.80.420_srgb.rel.bpc_e123",
    ),
    (
        Recipe(width=10, height=10_000, engine="abcd", fit="box", target="p3", intent="per", bpc=False, chroma="444"),
        "v1_preview_box.10x10000_jpg.80.444_p3.per_abcd",
    ),
    (fallback(rung(400, "lv8187a", "avif")), "v1_fallback_fit.400x400_jpg.55.420_srgb.rel.bpc_lv8187a"),
    (
        Recipe(width=1, height=1, engine="abcd", class_="proof", intent="abs", bpc=False),
        "v1_proof_fit.1x1_jpg.80.420_srgb.abs_abcd",
    ),
    (
        Recipe(width=1, height=1, engine="abcd", class_="proof", proof="fogra39", white=True),
        "v1_proof_fit.1x1_jpg.80.420_srgb.rel.bpc_pfogra39.white_abcd",
    ),
    (
        Recipe(width=1, height=1, engine="abcd", class_="proof", proof="srgb", bpc=False),
        "v1_proof_fit.1x1_jpg.80.420_srgb.rel_psrgb_abcd",
    ),
]


@st.composite
def any_recipe(draw: st.DrawFn) -> Recipe:
    fit = draw(st.sampled_from(["fit", "cover", "box"]))
    format_ = draw(st.sampled_from(["jpg", "webp", "avif"]))
    ten_thousandths = st.integers(0, recipes.FOCAL_SCALE)
    side = st.integers(0, 40_000)
    class_ = draw(st.sampled_from(["preview", "fallback", "proof"]))
    proof = draw(st.sampled_from([None, "srgb", "adobe", "fogra39"])) if class_ == "proof" else None
    crop = st.builds(Crop, side, side, st.integers(1, 50_000), st.integers(1, 50_000))
    return Recipe(
        width=draw(st.integers(1, recipes.MAX_SIDE)),
        height=draw(st.integers(1, recipes.MAX_SIDE)),
        engine=draw(st.from_regex(r"[a-z0-9]{4,24}", fullmatch=True)),
        fit=fit,
        class_=class_,
        crop=draw(st.none() | crop),
        focal=draw(st.none() | st.tuples(ten_thousandths, ten_thousandths)) if fit == "cover" else None,
        format=format_,
        quality=draw(st.integers(1, 100)),
        chroma=draw(st.sampled_from(["420", "444"])) if format_ == "jpg" else "420",
        effort=draw(st.integers(0, recipes.MAX_EFFORT[format_])),
        target="srgb" if proof else draw(st.sampled_from(["srgb", "p3"])),
        intent=draw(st.sampled_from(["rel", "per", "sat", "abs"])),
        bpc=draw(st.booleans()),
        proof=proof,
        white=draw(st.booleans()) if proof else False,
    )


class TestText:
    @pytest.mark.parametrize(("recipe", "expected"), GOLDEN, ids=[t for _, t in GOLDEN])
    def test_texts_never_change(self, recipe: Recipe, expected: str) -> None:
        assert text(recipe) == expected
        assert parse(expected) == recipe

    @given(any_recipe())
    def test_text_and_recipe_are_one_to_one(self, recipe: Recipe) -> None:
        assert parse(text(recipe)) == recipe
        assert set(text(recipe)) <= set("abcdefghijklmnopqrstuvwxyz0123456789._")
        assert len(text(recipe)) <= recipes.MAX_TEXT

    @given(any_recipe(), any_recipe())
    def test_different_recipes_have_different_texts(self, one: Recipe, other: Recipe) -> None:
        assert (one == other) == (text(one) == text(other))


class TestParse:
    @given(any_recipe(), st.data())
    def test_one_changed_character_is_another_recipe_or_none(self, recipe: Recipe, data: st.DataObject) -> None:
        canonical = text(recipe)
        at = data.draw(st.integers(0, len(canonical) - 1))
        other = data.draw(st.characters(min_codepoint=32, max_codepoint=0x2FF))
        changed = canonical[:at] + other + canonical[at + 1 :]
        try:
            parsed = parse(changed)
        except MalformedRecipe:
            return
        assert text(parsed) == changed

    @pytest.mark.parametrize(
        "spelling",
        [
            "",
            "v1",
            "v2_preview_fit.200x200_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.0200x200_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_jpg.080.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.0x200_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x10001_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_jpg.0.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_jpg.101.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_jpg.80.2_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_avif.55.2_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_webp.78.7_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_webp.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_f1.1_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_cover.200x200_f1.10001_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_c0.0.0.5_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_c60000.0.60000.5_jpg.80.420_srgb.rel.bpc_lv8187a",
            "v1_preview_fit.200x200_jpg.80.420_srgb.rel.bpc_LV8187A",
            "v1_preview_fit.200x200_jpg.80.420_srgb.rel.bpc_lv8187a\n",
            "v1_preview_fit.２００x200_jpg.80.420_srgb.rel.bpc_lv8187a",
        ],
    )
    def test_other_spellings_are_refused(self, spelling: str) -> None:
        with pytest.raises(MalformedRecipe):
            parse(spelling)


class TestRecipe:
    @pytest.mark.parametrize(
        "change",
        [
            {"width": 400.0},
            {"quality": True},
            {"focal": (0.5, 1), "fit": "cover"},
            {"crop": Crop(0, 0, 1.5, 1)},  # type: ignore[arg-type]
            {"fit": "stretch"},
            {"format": "png"},
            {"bpc": "yes"},
            {"engine": "a/b/c"},
        ],
        ids=str,
    )
    def test_only_whole_numbers_and_known_words(self, change: dict[str, object]) -> None:
        with pytest.raises(MalformedRecipe):
            Recipe(**{"width": 400, "height": 400, "engine": "lv8187a", **change})  # type: ignore[arg-type]


class TestFallback:
    @given(any_recipe())
    def test_of_any_recipe_it_is_a_lighter_one_with_a_key_of_its_own(self, recipe: Recipe) -> None:
        lighter = fallback(recipe)
        assert (lighter.format, lighter.chroma, lighter.quality <= min(recipe.quality, recipes.LIGHT)) == (
            "jpg",
            "420",
            True,
        )
        assert text(lighter) != text(recipe) or recipe.quality == 1
        assert parse(text(lighter)) == lighter

    @given(any_recipe().filter(lambda recipe: recipe.proof is not None))
    def test_of_a_proof_it_shows_the_same(self, recipe: Recipe) -> None:
        shown = ("class_", "proof", "white", "intent", "bpc", "crop", "focal", "fit", "width", "height", "target")
        assert all(getattr(fallback(recipe), name) == getattr(recipe, name) for name in shown)

    def test_what_is_light_becomes_lighter(self) -> None:
        once = fallback(rung(800, "lv8187a"))
        assert [once.quality, fallback(once).quality, fallback(fallback(once)).quality] == [60, 45, 33]

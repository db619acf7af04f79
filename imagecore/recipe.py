"""Recipes: one rendition, described by a frozen struct with exactly one text.

The text's bytes name the object and are covered by the URL's signature, so it has a fixed alphabet (unreserved
characters, RFC 3986 section 2.3), one spelling, and a version mark. Grammar of version 1, fields joined by `_`:

    v1_CLASS_FIT.WIDTHxHEIGHT[_cX.Y.W.H][_fX.Y]_ENCODER_TARGET.INTENT[.bpc][_pPRINT[.white]]_ENGINE
    ENCODER = jpg.QUALITY.420|444 | webp.QUALITY.EFFORT | avif.QUALITY.EFFORT

Sizes and the user's crop are pixels (the crop in upright coordinates of the original), the focal point is in 1/10000 of
the upright sides. A later field gets a prefix of its own and is written only where it is not the default, so that every
existing text stays as it is.
"""

import re
from typing import Final, Literal, cast, get_args

import msgspec

Class = Literal["preview", "fallback", "proof"]
Fit = Literal["fit", "cover", "box"]
Format = Literal["jpg", "webp", "avif"]
Chroma = Literal["420", "444"]
Target = Literal["srgb", "p3"]
Intent = Literal["rel", "per", "sat", "abs"]
Print = Literal["srgb", "adobe", "fogra39"]

MAX_SIDE: Final = 10_000
MAX_SOURCE_SIDE: Final = 99_999
FOCAL_SCALE: Final = 10_000
MAX_TEXT: Final = 160
RUNGS: Final = (200, 400, 800, 1600)
EXTENSIONS: Final = frozenset({"jpg", "webp", "avif"})
LIGHT: Final = 60
"""A fallback's quality, at most."""
MAX_EFFORT: Final = {"jpg": 0, "webp": 6, "avif": 1}
_WORDS: Final = {
    "class_": get_args(Class),
    "fit": get_args(Fit),
    "format": get_args(Format),
    "chroma": get_args(Chroma),
    "target": get_args(Target),
    "intent": get_args(Intent),
    "proof": (None, *get_args(Print)),
    "white": (True, False),
    "bpc": (True, False),
}


class MalformedRecipe(ValueError):
    """Not the canonical text of a recipe, or a field out of bounds."""


class Crop(msgspec.Struct, frozen=True):
    """A rectangle of the upright original, in its pixels; empty ones do not exist."""

    x: int
    y: int
    width: int
    height: int


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the bytes of a rendition, beside the source.

    `fit` scales into the box, `cover` fills it around the focal point, `box` fits and pads (letterbox). Nothing is ever
    enlarged by `fit`. `effort` counts for webp (0 to 6) and avif (0 or 1), `chroma` for jpg. `proof` shows what a print
    holds of the picture: through that printing condition, rendered as `intent` and `bpc` say, and back; with `white`
    the paper's tint stays. Raises `MalformedRecipe` when made with a field out of bounds or a number that is not whole.
    """

    width: int
    height: int
    engine: str
    fit: Fit = "fit"
    class_: Class = "preview"
    crop: Crop | None = None
    focal: tuple[int, int] | None = None
    format: Format = "jpg"
    quality: int = 80
    chroma: Chroma = "420"
    effort: int = 0
    target: Target = "srgb"
    intent: Intent = "rel"
    bpc: bool = True
    proof: Print | None = None
    white: bool = False

    def __post_init__(self) -> None:
        crop = (self.crop.x, self.crop.y, self.crop.width, self.crop.height) if self.crop else ()
        numbers = (self.width, self.height, self.quality, self.effort, *(self.focal or ()), *crop)
        _check(all(type(number) is int for number in numbers), "a number is not whole")
        _check(all(getattr(self, name) in words for name, words in _WORDS.items()), "unknown word")
        _check(1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE, "size")
        _check(re.fullmatch(r"[a-z0-9]{4,24}", self.engine) is not None, "engine")
        _check(1 <= self.quality <= 100, "quality")
        _check(0 <= self.effort <= MAX_EFFORT[self.format], "effort")
        _check(self.format == "jpg" or self.chroma == "420", "chroma")
        _check(self.focal is None or self.fit == "cover", "focal point without cover")
        _check(self.proof is None or (self.class_ == "proof" and self.target == "srgb"), "proof of another class")
        _check(self.proof is not None or not self.white, "paper without proof")
        if self.focal is not None:
            _check(all(0 <= part <= FOCAL_SCALE for part in self.focal), "focal point")
        if self.crop is not None:
            sides = (self.crop.width, self.crop.height)
            ends = (self.crop.x + self.crop.width, self.crop.y + self.crop.height)
            _check(min(sides) >= 1 and min(self.crop.x, self.crop.y) >= 0, "crop")
            _check(max(ends) <= MAX_SOURCE_SIDE, "crop")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise MalformedRecipe(what)


def text(recipe: Recipe) -> str:
    """The one text of a recipe."""
    parts = ["v1", recipe.class_, f"{recipe.fit}.{recipe.width}x{recipe.height}"]
    if recipe.crop is not None:
        crop = recipe.crop
        parts.append(f"c{crop.x}.{crop.y}.{crop.width}.{crop.height}")
    if recipe.focal is not None:
        parts.append(f"f{recipe.focal[0]}.{recipe.focal[1]}")
    last = recipe.chroma if recipe.format == "jpg" else str(recipe.effort)
    parts.append(f"{recipe.format}.{recipe.quality}.{last}")
    parts.append(f"{recipe.target}.{recipe.intent}" + (".bpc" if recipe.bpc else ""))
    if recipe.proof is not None:
        parts.append(f"p{recipe.proof}" + (".white" if recipe.white else ""))
    parts.append(recipe.engine)
    return "_".join(parts)


_NUMBER: Final = r"(0|[1-9][0-9]{0,4})"
_TEXT: Final = re.compile(
    r"v1_(?P<class_>preview|fallback|proof)"
    rf"_(?P<fit>fit|cover|box)\.(?P<width>{_NUMBER})x(?P<height>{_NUMBER})"
    rf"(?:_c(?P<crop>{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}))?"
    rf"(?:_f(?P<focal>{_NUMBER}\.{_NUMBER}))?"
    rf"_(?P<format>jpg|webp|avif)\.(?P<quality>{_NUMBER})\.(?P<last>420|444|[0-6])"
    r"_(?P<target>srgb|p3)\.(?P<intent>rel|per|sat|abs)(?P<bpc>\.bpc)?"
    r"(?:_p(?P<proof>srgb|adobe|fogra39)(?P<white>\.white)?)?"
    r"_(?P<engine>[a-z0-9]{4,24})"
)


def parse(canonical: str) -> Recipe:
    """The recipe with this text; raises `MalformedRecipe` for every other spelling."""
    found = _TEXT.fullmatch(canonical) if len(canonical) <= MAX_TEXT else None
    if found is None:
        raise MalformedRecipe("not a recipe")
    part = found.groupdict()
    is_jpg = part["format"] == "jpg"
    _check((len(part["last"]) == 3) == is_jpg, "encoder")
    recipe = Recipe(
        class_=cast(Class, part["class_"]),
        fit=cast(Fit, part["fit"]),
        width=int(part["width"]),
        height=int(part["height"]),
        crop=Crop(*_integers(part["crop"])) if part["crop"] else None,
        focal=cast("tuple[int, int]", _integers(part["focal"])) if part["focal"] else None,
        format=cast(Format, part["format"]),
        quality=int(part["quality"]),
        chroma=cast(Chroma, part["last"]) if is_jpg else "420",
        effort=0 if is_jpg else int(part["last"]),
        target=cast(Target, part["target"]),
        intent=cast(Intent, part["intent"]),
        bpc=part["bpc"] is not None,
        proof=cast("Print | None", part["proof"]),
        white=part["white"] is not None,
        engine=part["engine"],
    )
    _check(text(recipe) == canonical, "spelling")
    return recipe


def _integers(dotted: str) -> tuple[int, ...]:
    return tuple(int(part) for part in dotted.split("."))


def rung(side: int, engine: str, format_: Format = "jpg") -> Recipe:
    """A rung of the preview ladder: the whole picture within a square of `side` pixels."""
    quality = {"jpg": 80, "webp": 78, "avif": 55}[format_]
    effort = {"jpg": 0, "webp": 2, "avif": 0}[format_]
    return Recipe(width=side, height=side, engine=engine, format=format_, quality=quality, effort=effort)


def fallback(recipe: Recipe) -> Recipe:
    """The lower-quality stand-in for a recipe that took too long: another recipe with a key of its own.

    A proof stays one, and shows the same. What is as light as this already is made lighter still; nothing is lighter
    than a JPEG of quality 1.
    """
    is_light = recipe.format == "jpg" and recipe.chroma == "420" and recipe.quality <= LIGHT
    return msgspec.structs.replace(
        recipe,
        class_="fallback" if recipe.proof is None else recipe.class_,
        format="jpg",
        quality=max(1, recipe.quality * 3 // 4) if is_light else min(recipe.quality, LIGHT),
        chroma="420",
        effort=0,
    )

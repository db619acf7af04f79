"""Renditions: from a file to its ancestor and ladder, and from a recipe and a parent's bytes to one picture.

The original is decoded once, into an upright sRGB ancestor of at most 2560 px, and the ancestor's stored bytes into its
half. Every rung and later preview is made from the *stored bytes* of one of these two (their own encoder's losses
included), so ingest and an origin a year later give the same bytes. What would enlarge the ancestor, or needs colours
that it no longer has, comes from the original.

Sizes are decided by `geometry` before libvips sees a pixel; no encoder option is left to a default.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from imagecore import colour, engine, geometry, icc, inspect, measuring, proof, recipe, thumbhash, vips
from imagecore.errors import OutOfBounds, RevisionRetired
from imagecore.facts import Facts, Report, Verdict, canonical, encode_report, parse
from imagecore.geometry import Box
from imagecore.jail_wire import Output
from imagecore.load import load_part
from imagecore.recipe import Recipe

Parent = Literal["half", "ancestor", "original"]
Parents = Mapping[Parent, bytes]

ANCESTOR_SIDE: Final = 2560
ANCESTOR_QUALITY: Final = 90
OPTIMISED: Final = 250_000
"""A JPEG of up to so many pixels gets Huffman tables of its own."""
_WHITE: Final = (255, 255, 255)
_INTENTS: Final = {
    "rel": icc.Intent.RELATIVE,
    "per": icc.Intent.PERCEPTUAL,
    "sat": icc.Intent.SATURATION,
    "abs": icc.Intent.ABSOLUTE,
}
_TARGETS: Final = {"srgb": "srgb", "p3": "display-p3"}
_PRINTS: Final = {"srgb": "srgb", "adobe": "adobe-rgb", "fogra39": "fogra39"}


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a rendition's bytes; `recipe` is its canonical text."""

    recipe: str
    extension: str
    width: int
    height: int


# --- geometry of one recipe ------------------------------------------------------------------------------------------


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe applied to one original: which part, at which size, where on which canvas. All in pixels.

    `part` is in the upright original; `placed` is where the part, scaled, lies on `canvas`.
    """

    source: tuple[int, int]
    part: Box
    placed: geometry.Placement
    canvas: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole picture."""
        return self.part == Box(0, 0, *self.source)


def plan(wanted: Recipe, facts: Facts) -> Plan:
    """The geometry of a recipe on a file; raises `OutOfBounds` for a crop that leaves the picture."""
    source = _size(facts)
    part = Box(0, 0, *source)
    if wanted.crop is not None:
        part = Box(wanted.crop.x, wanted.crop.y, wanted.crop.width, wanted.crop.height)
        geometry.check_box(part, *source)
    canvas = (wanted.width, wanted.height)
    if wanted.fit == "fit":
        canvas = geometry.fit(part.width, part.height, *canvas)
        placed = geometry.Placement(0, 0, *canvas)
    elif wanted.fit == "cover":
        focal = _focal_within(wanted.focal or (5_000, 5_000), source, part)
        part = geometry.within(part, geometry.cover(part.width, part.height, *canvas, focal))
        placed = geometry.Placement(0, 0, *canvas)
    else:
        placed = geometry.letterbox(part.width, part.height, *canvas, True)
    return Plan(source=source, part=part, placed=placed, canvas=canvas)


def _size(facts: Facts) -> tuple[int, int]:
    if facts.width is None or facts.height is None:
        raise OutOfBounds("the facts hold no size")
    return facts.width, facts.height


def _focal_within(focal: tuple[int, int], source: tuple[int, int], part: Box) -> tuple[int, int]:
    """A focal point of the whole picture as one of a part of it; outside it is drawn to the part's edge."""
    points = []
    for at, side, start, length in zip(focal, source, (part.x, part.y), (part.width, part.height), strict=True):
        inside = (2 * (side * at - start * geometry.FOCAL_SCALE) + length) // (2 * length)
        points.append(max(0, min(geometry.FOCAL_SCALE, inside)))
    return points[0], points[1]


def ancestor_size(facts: Facts) -> tuple[int, int]:
    """Width and height of a file's ancestor."""
    return geometry.fit(*_size(facts), ANCESTOR_SIDE, ANCESTOR_SIDE)


def half_size(facts: Facts) -> tuple[int, int]:
    """Width and height of the ancestor's half, rounded down as libvips does; of a line of pixels, the line's own."""
    width, height = ancestor_size(facts)
    return (width // 2, height // 2) if min(width, height) > 1 else (width, height)


def parent_of(wanted: Recipe, facts: Facts) -> Parent:
    """What a recipe is made from: a pure function, part of the engine's revision (`engine.PARENT_RULE`).

    The ancestor's half where it has a quarter more pixels than are wanted (decision 0015), else the ancestor, unless
    the part would have to be enlarged although the original has more pixels. The original, too, where a wider target
    than sRGB is asked for and its colours may be wider.
    """
    decided, ancestor_has = plan(wanted, facts), ancestor_size(facts)
    is_srgb = facts.profile is not None and facts.profile.is_srgb
    if wanted.target != "srgb" and not is_srgb:
        return "original"
    width, height = decided.placed.width, decided.placed.height
    if _covers(half_size(facts), decided, (5 * width + 3) // 4, (5 * height + 3) // 4):
        return "half"
    return "ancestor" if ancestor_has == decided.source or _covers(ancestor_has, decided, width, height) else "original"


def _covers(stored: tuple[int, int], decided: Plan, width: int, height: int) -> bool:
    """Whether the wanted part has so many pixels in a picture stored at this size."""
    return not geometry.enlarges(geometry.rescale(decided.part, *decided.source, *stored), width, height)


# --- steps ----------------------------------------------------------------------------------------------------------


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What every step may know."""

    recipe: Recipe
    facts: Facts
    plan: Plan
    parent: Parent
    raw: bytes


def _read(work: Work, _: Any) -> vips.Image:
    """The parent's pixels: of an original the part; a stored one's in sRGB, and a whole one at its final size."""
    if work.parent == "original":
        return load_part(work.raw, work.plan.part, fail_on="error")
    if work.plan.is_whole:
        stored = half_size(work.facts) if work.parent == "half" else ancestor_size(work.facts)
        return _shrunk(work.raw, stored, (work.plan.placed.width, work.plan.placed.height))
    return vips.open_buffer(work.raw, fail_on="error")


def _cut(work: Work, image: vips.Image) -> vips.Image:
    """The part that is wanted, in the parent's pixels."""
    if work.plan.is_whole or work.parent == "original":
        return image
    box = geometry.rescale(work.plan.part, *work.plan.source, image.width, image.height)
    with vips.failures():
        return image.crop(*box)


def _convert(work: Work, image: vips.Image) -> vips.Image:
    """The recipe's colours; a stored parent is in sRGB, and stays as it is when that is wanted."""
    if work.parent != "original" and work.recipe.target == "srgb":
        return image
    rendering = icc.Rendering(_INTENTS[work.recipe.intent], work.recipe.bpc)
    return colour.convert(image, colour.named(_TARGETS[work.recipe.target]), rendering)


def _scale(work: Work, image: vips.Image) -> vips.Image:
    """Exactly the planned size; the profile goes along."""
    size = (work.plan.placed.width, work.plan.placed.height)
    if (image.width, image.height) == size:
        return image
    with vips.failures():
        return image.thumbnail_image(size[0], height=size[1], size="force", no_rotate=True)


def _flatten(_: Work, image: vips.Image) -> vips.Image:
    return flattened(image)


def _proof(work: Work, image: vips.Image) -> vips.Image:
    """What the print holds of it, as a screen shows that."""
    if work.recipe.proof is None:
        return image
    rendering = icc.Rendering(_INTENTS[work.recipe.intent], work.recipe.bpc)
    target = colour.named(_PRINTS[work.recipe.proof])
    return proof.soft_proof(image, target, rendering, paper_white=work.recipe.white)


def _pad(work: Work, image: vips.Image) -> vips.Image:
    """White around it, as paper is."""
    if (image.width, image.height) == work.plan.canvas:
        return image
    with vips.failures():
        return image.embed(work.plan.placed.x, work.plan.placed.y, *work.plan.canvas, extend="white")


STEPS: Final[tuple[Callable[[Work, Any], vips.Image], ...]] = (_read, _cut, _convert, _scale, _flatten, _proof, _pad)


def shrink(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """How many times smaller (1, 2, 4 or 8) a stored parent is decoded for a size: half as much again must be left.

    And a line of pixels at least: libvips decodes nothing to no height.
    """
    room = min(2 * max(stored) // (3 * max(size)), *stored)
    return next((factor for factor in (8, 4, 2) if room >= factor), 1)


def _shrunk(raw: bytes, stored: tuple[int, int], size: tuple[int, int]) -> vips.Image:
    """A stored parent at exactly this size. It is in sRGB, and says so: no profile is named, so nothing is converted.

    Not by libvips' `thumbnail_buffer`, which leaves twice the size or more: four times the pixels at every rung but
    the largest (decision 0013).
    """
    image = vips.open_jpeg(raw, fail_on="error", shrink=shrink(stored, size))
    with vips.failures():
        return image.thumbnail_image(size[0], height=size[1], size="force", no_rotate=True)


def flattened(image: vips.Image) -> vips.Image:
    """Transparency on white; an opaque picture as it is."""
    with vips.failures():
        return image.flatten(background=list(_WHITE)) if image.hasalpha() else image


# --- encoders -------------------------------------------------------------------------------------------------------


def encode_jpeg(image: vips.Image, quality: int, chroma: str, *, optimise: bool = True) -> bytes:
    """A baseline JPEG with the picture's profile, nothing else.

    Optimised tables change no pixel and cost two to three times the time; they save 2 % of the bytes of 400 px, and
    half a percent of 1600.
    """
    with vips.failures():
        return bytes(
            image.jpegsave_buffer(
                Q=quality,
                subsample_mode="off" if chroma == "444" else "on",
                optimize_coding=optimise,
                interlace=False,
                trellis_quant=False,
                overshoot_deringing=False,
                optimize_scans=False,
                quant_table=0,
                restart_interval=0,
                keep="icc",
            )
        )


def _encode_webp(image: vips.Image, quality: int, effort: int) -> bytes:
    with vips.failures():
        return bytes(
            image.webpsave_buffer(
                Q=quality,
                effort=effort,
                lossless=False,
                preset="default",
                smart_subsample=False,
                smart_deblock=False,
                near_lossless=False,
                alpha_q=100,
                min_size=False,
                target_size=0,
                passes=1,
                exact=False,
                keep="icc",
            )
        )


def _encode_avif(image: vips.Image, quality: int, effort: int) -> bytes:
    with vips.threads(engine.AVIF_THREADS), vips.failures():
        return bytes(
            image.heifsave_buffer(
                Q=quality,
                effort=effort,
                compression="av1",
                encoder="aom",
                bitdepth=8,
                lossless=False,
                subsample_mode="on",
                keep="icc",
            )
        )


def encode(image: vips.Image, wanted: Recipe) -> bytes:
    """The picture as the recipe's format."""
    if wanted.format == "jpg":
        return encode_jpeg(image, wanted.quality, wanted.chroma, optimise=image.width * image.height <= OPTIMISED)
    encoder = _encode_webp if wanted.format == "webp" else _encode_avif
    return encoder(image, wanted.quality, wanted.effort)


# --- operations -----------------------------------------------------------------------------------------------------


def render(wanted: Recipe, facts: Facts, parents: Parents) -> bytes:
    """One rendition from the parent that `parent_of` names, which has to be among them.

    Raises `RevisionRetired` for another engine's recipe, `OutOfBounds` for a crop outside the picture, and
    `PixelFailure`.
    """
    if wanted.engine != engine.revision():
        raise RevisionRetired(wanted.engine)
    parent = parent_of(wanted, facts)
    work = Work(recipe=wanted, facts=facts, plan=plan(wanted, facts), parent=parent, raw=parents[parent])
    image = None
    for step in STEPS:
        image = step(work, image)
    return encode(image, wanted)


def rendered(wanted: Recipe, facts: Facts) -> Rendered:
    """What will go with the rendition's bytes, known before it is made."""
    width, height = plan(wanted, facts).canvas
    return Rendered(recipe=recipe.text(wanted), extension=wanted.format, width=width, height=height)


def ancestor(raw: bytes, extension: str | None = None) -> tuple[Report, bytes]:
    """The report on an original and its ancestor, from one decode. Raises `Rejected`."""
    report, made, _ = _decoded(raw, extension, keep=False)
    return report, made


def _decoded(raw: bytes, extension: str | None, *, keep: bool) -> tuple[Report, bytes, vips.Image | None]:
    """Report, ancestor, and the original's stored pixels where they are to be kept and may be."""
    survey = inspect.Survey(raw)
    survey.read()
    facts = survey.facts()
    decoded = inspect.decode(raw, facts, *ancestor_size(facts), keep=keep)
    notes = inspect.notes_on(facts, decoded, survey.tail, extension)
    report = Report(verdict=Verdict.ACCEPT, reason=None, notes=notes, facts=facts)
    made = encode_jpeg(flattened(decoded.image), ANCESTOR_QUALITY, "420", optimise=False)
    return report, made, decoded.stored


def half(ancestor: bytes, facts: Facts) -> bytes:
    """The ancestor's half, from its stored bytes: the pixels of which small renditions are made, without the rest.

    The ancestor's chroma has the half's size already, and the half keeps all of it (decision 0017).
    """
    factor = 1 if half_size(facts) == ancestor_size(facts) else 2
    image = vips.open_jpeg(ancestor, fail_on="error", shrink=factor)
    return encode_jpeg(image, ANCESTOR_QUALITY, "444", optimise=False)


def parents(raw: bytes) -> tuple[Report, Parents]:
    """The report on an original, and all that its renditions are made from. Raises `Rejected`."""
    report, made = ancestor(raw)
    return report, {"original": raw, "ancestor": made, "half": half(made, report.facts)}


def placeholder(half: bytes, facts: Facts) -> bytes:
    """ThumbHash of the half's stored bytes."""
    width, height = geometry.fit(*half_size(facts), thumbhash.MAX_SIDE, thumbhash.MAX_SIDE)
    image = _shrunk(half, half_size(facts), (width, height))
    with vips.failures():
        return thumbhash.encode(width, height, bytes(image.write_to_memory()))


def ladder() -> tuple[Recipe, ...]:
    """The rungs made for every photo at ingest, lightest first."""
    return tuple(recipe.rung(side, engine.revision()) for side in recipe.RUNGS)


class IngestParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the operation `ingest`; `recipes` are canonical texts, made in this order (default: the ladder)."""

    recipes: tuple[str, ...] = ()
    extension: str | None = None


class LadderParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the operation `ladder`: canonical texts, made in this order, the original's facts file, and whether
    the placeholder is wanted before them; input is the ancestor.
    """

    recipes: tuple[str, ...]
    facts: bytes
    thumbhash: bool


class RenderParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the operation `render`: a recipe's canonical text and the original's facts file."""

    recipe: str
    facts: bytes


class FileParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the operation `render_file`: a recipe's canonical text; input is the original."""

    recipe: str


def ingest(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `ingest`: `report`, `facts`, `ancestor`, `half`, `thumbhash`, and a `rendition` for each recipe.

    Last `quality` (`measuring.encode`), so that no preview waits for it; none where the picture's own pixels could not
    be kept.
    """
    asked = msgspec.msgpack.decode(params, type=IngestParams)
    wanted = tuple(recipe.parse(text) for text in asked.recipes) or ladder()
    report, made, stored = _decoded(inputs[0], asked.extension, keep=True)
    yield Output(name="report", data=encode_report(report))
    yield Output(name="facts", data=canonical(report.facts))
    yield Output(name="ancestor", data=made)
    yield from _climb(wanted, report.facts, {"original": inputs[0], "ancestor": made}, with_placeholder=True)
    if stored is not None:
        yield Output(name="quality", data=measuring.encode(measuring.quality_in(stored)))


def from_ancestor(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `ladder`: outputs `half`, `thumbhash` if it is wanted, and a `rendition` for each recipe.

    The same bytes as at ingest come out.
    """
    asked = msgspec.msgpack.decode(params, type=LadderParams)
    wanted = [recipe.parse(text) for text in asked.recipes]
    yield from _climb(wanted, parse(asked.facts), {"ancestor": inputs[0]}, with_placeholder=asked.thumbhash)


def _climb(wanted: Sequence[Recipe], facts: Facts, known: Parents, *, with_placeholder: bool) -> Iterator[Output]:
    """Everything that is made of an ancestor's stored bytes."""
    made = half(known["ancestor"], facts)
    yield Output(name="half", data=made)
    if with_placeholder:
        yield Output(name="thumbhash", data=placeholder(made, facts))
    for each in wanted:
        yield _rendition(each, facts, {**known, "half": made})


def _rendition(wanted: Recipe, facts: Facts, parents: Parents) -> Output:
    told = msgspec.json.encode(rendered(wanted, facts))
    return Output(name="rendition", data=render(wanted, facts, parents), facts=told)


def operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `render`: one `rendition` from the bytes of its parent (the caller asks `parent_of` which)."""
    asked = msgspec.msgpack.decode(params, type=RenderParams)
    wanted, facts = recipe.parse(asked.recipe), parse(asked.facts)
    yield _rendition(wanted, facts, {parent_of(wanted, facts): inputs[0]})


def file_operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `render_file`: one `rendition` from an original, by way of what is stored where the rule says so."""
    wanted = recipe.parse(msgspec.msgpack.decode(params, type=FileParams).recipe)
    report, known = parents(inputs[0])
    yield _rendition(wanted, report.facts, known)

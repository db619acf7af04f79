"""`tirage gallery`: a page of pictures to look at: each class, soft proofs, fits, and crops that keep faces.

Pictures are the real photos of the test corpus; the page is for eyes, its figures come from the functions that serve
customers.
"""

import html
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from imagecore import analyse, classes, colour, crops, masters, proof, readiness, vips
from imagecore.classes import ClassName, OutputClass
from imagecore.findings import Analysis
from imagecore.geometry import Box as Part
from imagecore.icc import Intent, Rendering
from imagecore.load import load
from imagecore.readiness import Print

PORTRAIT: Final = "large-08-two-people-portrait.jpg"
FACE: Final = "icc-adobe-rgb-face.jpg"
BOARD: Final = "large-06-bar-face-text-24mp.jpg"
VIVID: Final = "large-03-iphone-xs-p3-rotated.jpg"
BIRD: Final = "large-05-nuthatch-20mp.jpg"
SMALL: Final = "social-whatsapp.jpg"
SIDE: Final = 900


class Figure(msgspec.Struct, frozen=True):
    """One picture of the page. `boxes`: outlines in per cent of the picture: class, left, top, width, height."""

    file: str
    title: str
    note: str
    width: int
    height: int
    boxes: tuple[tuple[str, float, float, float, float], ...] = ()


class Album:
    """Writes pictures into a folder; keeps each photo and its analysis."""

    def __init__(self, photos: Path, folder: Path) -> None:
        self.photos, self.folder = photos, folder
        self._seen: dict[str, tuple[bytes, vips.Image, Analysis]] = {}

    def photo(self, name: str) -> tuple[bytes, vips.Image, Analysis]:
        """Bytes, upright picture and findings."""
        if name not in self._seen:
            raw = (self.photos / name).read_bytes()
            self._seen[name] = raw, load(raw), analyse.analyse(raw)
        return self._seen[name]

    def figure(self, image: vips.Image, title: str, note: str, boxes: tuple[tuple[str, Part], ...] = ()) -> Figure:
        """The picture in sRGB at screen size; `boxes` are in its own pixels."""
        outlines = tuple(
            (kind, *(round(100 * v / side, 2) for v, side in zip(box, (image.width, image.height) * 2, strict=True)))
            for kind, box in boxes
        )
        with vips.failures():
            small = image.thumbnail_image(SIDE, height=SIDE, size="down")
            shown = colour.convert(small.flatten() if small.hasalpha() else small, colour.named("srgb"))
            name = f"{len(list(self.folder.glob('*.jpg'))):02}.jpg"
            (self.folder / name).write_bytes(vips.bare(shown).jpegsave_buffer(Q=88, keep="icc"))
        return Figure(name, title, note, shown.width, shown.height, outlines)


@click.command()
@click.option("--photos", type=click.Path(path_type=Path), default=None, help="The folder of real photos.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("gallery"))
def gallery(photos: Path | None, output: Path) -> None:
    """Write an HTML page of print pictures to look at."""
    here = Path(__file__).parents[1]
    found = photos or Path(os.environ.get("TIRAGE_PHOTOS", here.parent / "shared" / "photos"))
    if not (found / PORTRAIT).exists():
        raise click.ClickException(f"real photos are absent: {found} (set TIRAGE_PHOTOS)")
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("*.jpg"):
        old.unlink()
    album = Album(found, output)
    parts = (("Classes", _classes), ("Soft proof", _proofs), ("Fits", _fits), ("Crops that keep faces", _crops))
    sections = [(title, list(part(album))) for title, part in parts]
    page = output / "index.html"
    page.write_text(_page(sections))
    click.echo(f"{page}: {sum(len(figures) for _, figures in sections)} pictures")


def _master(
    album: Album,
    name: str,
    class_: OutputClass,
    trim_mm: tuple[int, int],
    title: str,
    *,
    fit: masters.Fit = "cover",
    profile: str | None = None,
    part: Part | None = None,
) -> Figure:
    """A real master, shown with its trim line, and what readiness says of it."""
    raw, image, analysis = album.photo(name)
    target = colour.named(profile or class_.targets[0])
    trim = (trim_mm[0] * 1000, trim_mm[1] * 1000)
    recipe = masters.plan(class_, (image.width, image.height), trim, fit=fit, profile=target, part=part)
    made = masters.make(raw, recipe, target)
    wanted = Print(class_=class_, trim_width_um=trim[0], trim_height_um=trim[1], part=recipe.part, whole=fit == "whole")
    ready = readiness.check(image.width, image.height, analysis, wanted, hdr=False)
    told = ", ".join(f"{f.level} {f.code}" for f in ready.findings) or "nothing to warn of"
    note = (
        f"{trim_mm[0]} × {trim_mm[1]} mm, {recipe.width} × {recipe.height} px, {target.name}, "
        f"{len(made.data) // 1024} KB, input {ready.ppi} ppi, loses {ready.lost / 10:.1f}\u00a0%: {told}"
    )
    return album.figure(load(made.data), title, note, (("trim", recipe.trim),))


def _classes(album: Album) -> Iterator[Figure]:
    standard, matte, poster, square = (classes.CLASSES[name] for name in ClassName)
    yield _master(album, BIRD, standard, (152, 102), "standard photo")
    yield _master(album, FACE, matte, (180, 120), "premium matte", profile="adobe-rgb")
    yield _master(album, SMALL, poster, (406, 305), "poster, enlarged from 1024 px")
    yield _master(album, VIVID, poster, (305, 406), "poster, FOGRA39 CMYK", profile="fogra39")
    yield _master(album, VIVID, square, (127, 127), "square social")


def _proofs(album: Album) -> Iterator[Figure]:
    fogra = colour.named("fogra39")
    for name in ("icc-prophoto-nebula.jpg", VIVID):
        _, image, _ = album.photo(name)
        small = proof.proxy(image)
        yield album.figure(small, "on screen", name)
        for rendering in (Rendering(Intent.RELATIVE, True), Rendering(Intent.PERCEPTUAL, False)):
            loss = proof.measure(small, fogra, rendering)
            note = (
                f"out of gamut {loss.out_of_gamut / 10:.1f}\u00a0%, shadows {loss.shadows / 10:.1f}\u00a0%, "
                f"mean ΔE2000 {loss.difference / 100:.2f}"
            )
            shown = proof.soft_proof(small, fogra, rendering)
            yield album.figure(shown, f"FOGRA39, {rendering.intent}", note)
        white = proof.soft_proof(small, fogra, Rendering(), paper_white=True)
        yield album.figure(white, "FOGRA39, paper white", "the paper's tint as seen beside a screen's white")


def _fits(album: Album) -> Iterator[Figure]:
    standard = classes.CLASSES[ClassName.STANDARD]
    _, image, _ = album.photo(PORTRAIT)
    yield _master(album, PORTRAIT, standard, (152, 102), "cover: fills the sheet with the middle")
    yield _master(album, PORTRAIT, standard, (152, 102), "letterbox: all of it, on white", fit="whole")
    part = Part(image.width // 4, image.height * 2 // 5, image.width // 2, image.height // 3)
    yield _master(album, PORTRAIT, standard, (152, 102), "the person's own crop", part=part)
    yield _master(album, "tiff-panorama.tif", standard, (152, 102), "a panorama, letterboxed", fit="whole")


def _crops(album: Album) -> Iterator[Figure]:
    standard = classes.CLASSES[ClassName.STANDARD]
    for name, trim in ((PORTRAIT, (152, 102)), (PORTRAIT, (102, 102)), (FACE, (102, 152)), (BOARD, (102, 152))):
        _, image, found = album.photo(name)
        inset = readiness.inset_of(standard, trim[0] * 1000, trim[1] * 1000)
        sheet = tuple(side * 1000 + 2 * standard.bleed_um for side in trim)
        best = crops.suggest(
            image.width, image.height, (sheet[0], sheet[1]), found.faces or (), found.text or (), inset
        )
        heads = tuple(("face", crops.pixels(crops.head(f), image.width, image.height)) for f in found.faces or ())
        lines = tuple(("text", crops.pixels(t, image.width, image.height)) for t in found.text or ())
        kept = f"faces {'kept' if best.keeps_faces else 'cut'}, text {'kept' if best.keeps_text else 'cut'}"
        title = f"suggested for {trim[0]} × {trim[1]} mm"
        yield album.figure(
            image, title, f"{kept}, loses {best.lost / 10:.1f}\u00a0%", (*heads, *lines, ("part", best.part))
        )
        yield _master(album, name, standard, trim, "as printed", part=best.part)


def _page(sections: list[tuple[str, list[Figure]]]) -> str:
    body = "".join(
        f"<section><h2>{html.escape(title)}</h2><div class=grid>{''.join(map(_figure, figures))}</div></section>"
        for title, figures in sections
    )
    return _HEAD + body + "</main>\n"


def _figure(figure: Figure) -> str:
    boxes = "".join(
        f'<i class={kind} style="left:{x}%;top:{y}%;width:{w}%;height:{h}%"></i>' for kind, x, y, w, h in figure.boxes
    )
    return (
        f'<figure><div class=frame><img src="{figure.file}" width={figure.width} height={figure.height} '
        f'loading=lazy alt="{html.escape(figure.title)}">{boxes}</div>'
        f"<figcaption><b>{html.escape(figure.title)}</b> {html.escape(figure.note)}</figcaption></figure>\n"
    )


_HEAD: Final = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1"><title>Tirage: prints to look at</title>
<style>
:root { color-scheme: light; font: 15px/1.45 system-ui, sans-serif }
body { margin: 0; background: #e9e9e9; color: #1a1a1a }
main { max-width: 1500px; margin: 0 auto; padding: 16px }
h1 { font-size: 1.4rem; margin: 8px 0 4px } h2 { font-size: 1.1rem; margin: 28px 0 10px }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 18px;
  align-items: start }
figure { margin: 0 } .frame { position: relative; line-height: 0; background: #fff; box-shadow: 0 1px 4px #0004 }
img { width: 100%; height: auto } figcaption { margin-top: 6px; font-size: .86rem; overflow-wrap: anywhere }
i { position: absolute; box-sizing: border-box; pointer-events: none }
.trim { outline: 1px dashed #f0f } .face { outline: 2px solid #0c3 } .text { outline: 1px solid #06f }
.part { outline: 3px solid #fd0; box-shadow: 0 0 0 2px #000a }
.key span { margin-right: 14px; white-space: nowrap } .key span::before { content: "▢ " }
</style><main><h1>Prints to look at</h1>
<p class=key><span style="color:#c0c">trim</span><span style="color:#093">head</span>
<span style="color:#06f">text</span><span style="color:#850">suggested part</span></p>
"""

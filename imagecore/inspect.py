"""Inspection: what a file is, by content, and whether we print it. Header first, then one bounded decode.

Runs in the decode child. Order: bytes, format, structure and limits (our own readers, nothing allocated), the native
header, limits again, then pixels. Limits on pixels are matched to the memory this process may really have.
"""

import functools
import hashlib
import resource
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from imagecore import colour, containers, exif, geometry, heif, icc, tiff, vips
from imagecore.errors import ImageError, PixelFailure, Reason, Rejected
from imagecore.facts import Facts, Note, Origin, Profile, Report, Verdict, belies, encode_report
from imagecore.jail_wire import Output
from imagecore.load import cicp_profile, is_unknown, load, stored, transfer_of

MAX_SIDE: Final = 32_768
MAX_PIXELS: Final = 200_000_000
MAX_FRAMES: Final = 500
DRAWN_FRAMES: Final = 5_000
"""A GIF of so many is refused before libvips reads them all to learn their number."""
MIN_SIDE: Final = 16
LOW_PPI: Final = 200

# What the process needs before it holds any picture: libraries, stacks, arenas, what earlier jobs left of them in
# pieces, and an output of 10 MP. A fresh child has 155 MiB; too small a figure here and libwebp's failed allocation
# reads as a corrupt file.
BASE_MEMORY: Final = 320 << 20

# What masters and previews count in, by libvips' names. A TIFF may hold floats, signed numbers, CIELAB and more.
_COUNTED: Final = frozenset({"b-w", "grey16", "srgb", "rgb16", "cmyk"})
_SAMPLES: Final = frozenset({"uchar", "ushort"})

_MAKERS: Final = {
    "jpeg": containers.jpeg,
    "png": containers.png,
    "webp": containers.webp,
    "heic": containers.heif,
    "avif": containers.heif,
    "tiff": tiff.read,
}


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the operation `inspect`; `extension` is the name's, lower case, without its dot."""

    extension: str | None = None


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_budget() -> int:
    """Bytes a picture may take in this process: what its address space limit leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 1 << 62 if limit == resource.RLIM_INFINITY else max(0, limit - BASE_MEMORY)


# Address space a pixel in 8 and in 16 bit, beyond `BASE_MEMORY`: the worst that each decoder was seen to take (alpha,
# lossless, 4:4:4, 10 bit), rounded up. libaom and libwebp hold several whole pictures, whatever comes out.
_PER_PIXEL: Final = {"heic": (6, 14), "avif": (18, 24), "webp": (18, 18), "gif": (8, 8)}


def memory_needed(facts: Facts) -> int:
    """Bytes that decoding holds at once: the file itself and, by format, what was measured for each of its pixels."""
    return facts.bytes + (facts.width or 0) * (facts.height or 0) * (_per_pixel(facts) + _turned(facts))


def _turned(facts: Facts) -> int:
    """Bytes for each pixel of the whole picture in memory, which turning takes where no smaller one is turned."""
    turned = facts.orientation_source == "exif" and (facts.orientation or 1) > 1
    return _bands(facts) * _width(facts) if turned else 0


def _bands(facts: Facts) -> int:
    space = (facts.colour_space or "rgb").partition("+")[0]
    return {"gray": 1, "rgb": 3}.get(space, 4) + facts.alpha


def _width(facts: Facts) -> int:
    """Bytes of a sample once decoded."""
    return 2 if (facts.bits or 8) > 8 else 1


def _per_pixel(facts: Facts) -> int:
    wide, bands = _width(facts), _bands(facts)
    if facts.format in _PER_PIXEL:
        return _PER_PIXEL[facts.format][wide - 1]
    if facts.format == "jpeg":
        # All coefficients of a picture in several scans are held, two bytes each, chroma as subsampled.
        chroma = {"4:2:0": 3, "4:2:2": 4, "4:4:0": 4, "4:1:1": 3, "4:1:0": 3}.get(facts.subsampling or "", 6)
        held = (8 if bands == 4 else 2 if bands == 1 else chroma) if facts.interlaced else 0
        return held + (8 if facts.colour_space == "cmyk" else 0)
    if facts.format == "png":
        return bands * wide if facts.interlaced else 0
    return bands * wide


KEPT_PIXELS: Final = 64_000_000
"""Larger pictures are not kept whole, whatever their memory: phones make 48 to 50 MP."""


def may_keep(facts: Facts) -> bool:
    """Whether a picture's own pixels may stay in memory beside all that decoding it takes."""
    if _is_decoded_whole(facts):
        return True
    pixels = (facts.width or 0) * (facts.height or 0)
    held = pixels * _bands(facts) * _width(facts)
    return pixels <= KEPT_PIXELS and memory_needed(facts) + held <= memory_budget()


def _is_decoded_whole(facts: Facts) -> bool:
    """Whether its decoder holds all pixels anyway, which `memory_needed` counts."""
    return facts.format == "heic" or facts.colour_space == "cmyk"


def refuse_oversized(facts: Facts) -> None:
    """Raise `Rejected` where sides, pixels or frames are over the limits or this process's memory."""
    width, height = facts.width or 0, facts.height or 0
    if facts.pages > MAX_FRAMES:
        raise Rejected(Reason.TOO_MANY_FRAMES, str(facts.pages))
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise Rejected(Reason.TOO_MANY_PIXELS, f"{width} x {height}")
    if memory_needed(facts) > memory_budget():
        raise Rejected(Reason.TOO_MANY_PIXELS, f"{width} x {height} {facts.format}")
    if 0 < min(width, height) < MIN_SIDE:
        raise Rejected(Reason.TOO_SMALL, f"{width} x {height}")


# --- headers ----------------------------------------------------------------------------------------------------------


class Survey:
    """Reads headers step by step; `facts()` gives whatever is known so far, also after a refusal."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.complete = True
        self.tail = b""
        self.exif_text = b""
        self.carries_profile = False
        self.known: dict[str, Any] = {
            "sha256": hashlib.sha256(raw).hexdigest(),
            "bytes": len(raw),
            "format": containers.label(raw),
        }

    def facts(self) -> Facts:
        """The facts so far, with what follows from them."""
        width, height = self.known.get("width"), self.known.get("height")
        if width and height and max(width, height) <= geometry.MAX_SIDE:
            longer, shorter = max(width, height), min(width, height)
            self.known["aspect"] = geometry.aspect_class(width, height)
            self.known["ppi_at_4x6_inches"] = min(longer // 6, shorter // 4)
        return Facts(**self.known)

    def read(self) -> None:
        """All headers within the limits. Raises `Rejected`."""
        if len(self.raw) > containers.MAX_BYTES:
            raise Rejected(Reason.TOO_MANY_BYTES, str(len(self.raw)))
        kind = containers.sniff(self.raw)
        if kind in _MAKERS:
            self._structure(_MAKERS[kind](self.raw))
        elif kind == "gif" and containers.gif_frames(self.raw, DRAWN_FRAMES) == DRAWN_FRAMES:
            raise Rejected(Reason.TOO_MANY_FRAMES, f"{DRAWN_FRAMES} or more")
        try:
            if kind in ("heic", "avif"):
                self._container(heif.read(self.raw))
            else:
                self._native(stored(self.raw))
        except PixelFailure as error:
            raise Rejected(Reason.CORRUPT if self.complete else Reason.TRUNCATED, str(error)[:200]) from None
        if not (self.known.get("width") and self.known.get("height")):
            raise Rejected(Reason.CORRUPT, "no size")
        refuse_oversized(self.facts())
        if not self.complete:
            raise Rejected(Reason.TRUNCATED)

    def _structure(self, found: containers.Structure) -> None:
        """What our own readers saw. Raises `Rejected`."""
        self.complete = found.complete
        self.tail = self.raw[found.end :]
        self.exif_text = found.exif_text
        self.carries_profile = found.carries_profile
        self.known.update(
            width=found.width,
            height=found.height,
            bits=found.bits,
            coding=found.coding if found.coding != "indexed" else None,
            subsampling=found.subsampling,
            adobe_transform=found.adobe_transform,
            interlaced=found.interlaced,
            gain_map=found.gain_map,
            depth_map=found.depth_map,
            mpf=found.multi_picture,
            metadata_bytes=found.metadata_bytes,
            trailing_bytes=len(self.tail),
            pages=found.frames or 1,
            nclx=found.cicp,
        )
        if found.refusal is not None:
            if found.refusal.reason is Reason.UNSUPPORTED_TYPE:
                self.known["format"] = found.refusal.detail
            raise Rejected(found.refusal.reason, found.refusal.detail)
        spaces = {1: "gray", 2: "gray+alpha", 3: "rgb", 4: "cmyk" if self.known["format"] == "jpeg" else "rgb+alpha"}
        space, alpha = spaces.get(found.components or 0), found.alpha or False
        if space and alpha and not space.endswith("+alpha"):
            space += "+alpha"
        self.known["colour_space"] = "indexed" if found.coding == "indexed" else space
        self.known["alpha"] = alpha
        if self.known["format"] != "tiff":  # whose native header tells how deep its pixels are
            refuse_oversized(self.facts())

    def _native(self, image: vips.Image) -> None:
        """What libvips' header says: size as displayed, EXIF, profile, pages."""
        kind = self.known["format"]
        blob = vips.blob(image, "exif-data") or containers.exif_in(self.exif_text)
        told = exif.read(self.raw if kind == "tiff" else blob)
        orientation = vips.number(image, "orientation") or (told.orientation if not self.exif_text else None)
        swapped = (orientation or 1) >= 5
        self.known.update(
            width=image.height if swapped else image.width,
            height=image.width if swapped else image.height,
            orientation=orientation,
            orientation_source="exif" if orientation else None,
            has_gps=told.has_gps or b"GPSLatitude" in (vips.blob(image, "xmp-data") or b""),
            camera=told.camera,
            taken_at=told.taken_at,
            transfer=transfer_of(self.known.get("nclx")),
        )
        if kind not in ("png", "tiff"):
            self.known["pages"] = max(self.known.get("pages", 1), vips.number(image, "n-pages") or 1)
        if kind not in ("jpeg", "png"):
            self._native_colour(image, kind)
        self._profile(vips.blob(image, "icc-profile-data"), colour.space_of(image))

    def _native_colour(self, image: vips.Image, kind: str) -> None:
        space = str(colour.space_of(image))
        extra = image.bands - icc.BANDS[colour.space_of(image)]
        if extra > (space != icc.Space.CMYK):
            raise Rejected(Reason.UNSUPPORTED_CODING, f"{image.bands} bands of {image.interpretation}")
        if image.interpretation not in _COUNTED or image.format not in _SAMPLES:
            raise Rejected(Reason.UNSUPPORTED_CODING, f"{image.interpretation} as {image.format}")
        self.known["alpha"] = extra == 1
        depth = vips.number(image, "bits-per-sample") if kind == "tiff" else None
        self.known["bits"] = depth or (16 if image.format == "ushort" else 8)
        palette = kind == "gif" or bool(vips.number(image, "palette"))
        self.known["colour_space"] = "indexed" if palette else space + ("+alpha" if self.known["alpha"] else "")

    def _container(self, header: heif.Header) -> None:
        """What a HEIF or AVIF says: the container's own turns are already in its size."""
        told = exif.read(header.exif)
        space = icc.Space.GRAY if header.bands < 3 else icc.Space.RGB
        self.known.update(
            width=header.width,
            height=header.height,
            bits=header.bits,
            images=header.images,
            alpha=header.bands in (2, 4),
            colour_space=str(space) + ("+alpha" if header.bands in (2, 4) else ""),
            nclx=header.cicp,
            transfer=transfer_of(header.cicp),
            gain_map=header.gain_map,
            depth_map=header.depth_map,
            orientation=told.orientation,
            orientation_source="container",
            camera=told.camera,
            taken_at=told.taken_at,
            has_gps=told.has_gps or header.has_gps_in_xmp,
        )
        self._profile(header.profile, space)

    def _profile(self, blob: bytes | None, space: icc.Space) -> None:
        reading, cicp = colour.judge(blob, space), self.known.get("nclx")
        named = cicp_profile(cicp) if not blob else None
        if named is not None:
            self.known["profile"] = Profile(
                origin=Origin.CICP, sha256=hashlib.sha256(named).hexdigest(), is_srgb=is_srgb(named)
            )
            return
        if reading.origin is colour.Origin.EMBEDDED:
            srgb = space is icc.Space.RGB and is_srgb(reading.profile.data)
            found = Profile(origin=Origin.EMBEDDED, sha256=reading.profile.sha256, is_srgb=srgb)
            self.known["icc"] = reading.profile.name
        elif reading.origin is colour.Origin.BROKEN or self.carries_profile:
            found = Profile(origin=Origin.BROKEN, fault=reading.fault or "not whole")
            self.known["icc"] = "unreadable"
        elif cicp and is_unknown(cicp):
            found = Profile(origin=Origin.ASSUMED, is_srgb=False, fault=f"no profile for CICP {cicp[0]}-{cicp[1]}")
        else:
            found = Profile(origin=Origin.ASSUMED, is_srgb=space is not icc.Space.CMYK)
        self.known["profile"] = found


@functools.lru_cache(maxsize=colour.CACHED)
def is_srgb(profile: bytes) -> bool:
    """Whether an RGB profile gives, for a grid of colours, what sRGB gives, within 3 of 255 levels."""
    steps = 6
    grid = vips.grid(steps)
    try:
        with vips.failures():
            turned = colour.convert(vips.with_profile(grid, profile), colour.named("srgb"))
            return bool((turned.cast("short") - grid.cast("short")).abs().max() <= 3)
    except ImageError:
        return False


# --- pixels -----------------------------------------------------------------------------------------------------------


class Decoded(msgspec.Struct, frozen=True):
    """A picture in memory at the size asked for: upright, sRGB, maybe with alpha; and what decoding told.

    `stored`: the file's own pixels, unturned and unscaled, in memory; None unless they were to be kept and may be.
    """

    image: Any
    damaged: bool
    translucent: bool
    stored: Any


def decode(raw: bytes, facts: Facts, width: int, height: int, *, keep: bool = False) -> Decoded:
    """Decode once, shrinking on the way, to exactly `width` x `height` in sRGB, 8 bit; the same bytes with `keep`.

    A JPEG with faults inside that still reads to its end is damaged, not refused. Raises `Rejected` (`corrupt` or
    `truncated`).
    """
    shrink = _jpeg_shrink(facts, max(width, height))
    keep = keep and shrink == 1 and may_keep(facts)
    is_whole = _is_decoded_whole(facts)
    attempts = ("warning", "error") if facts.format == "jpeg" else ("error",)
    for attempt in attempts:
        try:
            pixels = _stored(raw, facts, shrink, attempt)
            if keep and not is_whole:
                pixels = vips.in_memory(pixels)
            image = vips.in_memory(_resized(pixels, facts, width, height))
        except PixelFailure as error:
            # Its words alone: kept, it would keep this frame, and that the pictures, until the collector comes by.
            failure = str(error)
        else:
            with vips.failures():
                translucent = bool(image.hasalpha() and image[image.bands - 1].min() < 255)
            return Decoded(image, attempt != attempts[0], translucent, pixels if keep else None)
    raise Rejected(_meaning(failure), failure[:200])


def _jpeg_shrink(facts: Facts, side: int) -> int:
    """How much a JPEG may shrink while it is decoded and leave at least twice the size wanted; others may not."""
    if facts.format != "jpeg" or facts.colour_space == "cmyk":
        return 1
    room = max(facts.width or 0, facts.height or 0) // (2 * side)
    return next((shrink for shrink in (8, 4, 2) if room >= shrink), 1)


def _meaning(text: str) -> Reason:
    words = ("truncat", "premature end of jpeg", "unexpected end", "end of file", "not enough")
    return Reason.TRUNCATED if any(word in text.lower() for word in words) else Reason.CORRUPT


def _stored(raw: bytes, facts: Facts, shrink: int, fail_on: str) -> vips.Image:
    """The lazy picture as it is stored (HEIC upright, since its decoder turns it), a JPEG so many times smaller.

    Only JPEG shrinks while it loads, by its own loader: libvips' `thumbnail_buffer` forgets `fail_on`, and for AVIF it
    may take a stranger's embedded thumbnail for the picture.
    """
    if facts.format == "heic":
        return load(raw, fail_on=fail_on)
    if facts.format == "jpeg" and facts.colour_space != "cmyk":
        return vips.open_jpeg(raw, fail_on=fail_on, shrink=shrink)
    return stored(raw, fail_on=fail_on, sequential=facts.colour_space != "cmyk")


def _resized(pixels: vips.Image, facts: Facts, width: int, height: int) -> vips.Image:
    """Upright, in sRGB, at this size. Where it is converted both profiles are named: libvips is slow, or keeps a wrong
    one, else.
    """
    options: dict[str, Any] = {"height": height, "size": "force"}
    plain, image = _is_plain(facts), pixels
    if not plain:
        is_p3 = facts.profile is not None and facts.profile.origin is Origin.CICP and not facts.profile.is_srgb
        options |= {"input_profile": "p3" if is_p3 else "srgb", "output_profile": "srgb", "intent": "relative"}
    if facts.profile is not None and facts.profile.origin is Origin.BROKEN:
        image = vips.without_profile(pixels)  # what we call broken, Little CMS may still open
    with vips.failures():
        if facts.colour_space == "cmyk":
            image = colour.convert(vips.bare(image.autorot()), colour.named("srgb"))
        small = image.thumbnail_image(width, **options)
    return vips.with_profile(small, vips.built_in_profile("srgb")) if plain else small


def _is_plain(facts: Facts) -> bool:
    """Whether the numbers are sRGB's by assumption: converting them would cost a fifth and change none of them."""
    assumed = facts.profile is not None and facts.profile.origin in (Origin.ASSUMED, Origin.BROKEN)
    return assumed and facts.colour_space == "rgb" and facts.bits == 8


# --- verdict ----------------------------------------------------------------------------------------------------------


def notes_on(facts: Facts, decoded: Decoded, tail: bytes, extension: str | None) -> tuple[Note, ...]:
    """What is done with the file, and what should be known of it, in a fixed order."""
    profile = facts.profile or Profile(origin=Origin.ASSUMED)
    read, jpeg = profile.origin in (Origin.EMBEDDED, Origin.CICP), facts.format == "jpeg"
    extra = jpeg and (facts.gain_map or facts.depth_map)
    holds = {
        Note.APPLY_ORIENTATION: facts.orientation_source == "exif" and facts.orientation not in (None, 1),
        Note.CONVERT_COLOUR: read and not profile.is_srgb and facts.colour_space != "cmyk",
        Note.CONVERT_CMYK: facts.colour_space == "cmyk",
        Note.ASSUME_SRGB: profile.fault is not None and facts.transfer == "sdr",
        Note.BASE_IMAGE: extra,
        Note.PRIMARY_IMAGE: facts.images > 1,
        Note.FIRST_IMAGE: jpeg and facts.mpf and not extra,
        Note.FIRST_FRAME: facts.pages > 1 and facts.format != "tiff",
        Note.FIRST_PAGE: facts.pages > 1 and facts.format == "tiff",
        Note.FLATTEN_ALPHA: decoded.translucent,
        Note.BY_CONTENT: belies(extension or "", facts.format),
        Note.DROP_TRAILING_DATA: bool(tail) and not facts.mpf and containers.is_a_file(tail),
        Note.WARN_DAMAGED: decoded.damaged,
        Note.WARN_LOW_RESOLUTION: (facts.ppi_at_4x6_inches or 0) < LOW_PPI,
    }
    return tuple(note for note in Note if holds[note])


def inspect(raw: bytes, extension: str | None = None) -> Report:
    """The report on one file. Raises only what is no verdict: `OutOfMemory` and the like."""
    survey = Survey(raw)
    try:
        survey.read()
        facts = survey.facts()
        proof = geometry.fit(facts.width or 0, facts.height or 0, 400, 400)
        decoded = decode(raw, facts, *proof)
    except Rejected as refusal:
        return Report(verdict=Verdict.REJECT, reason=refusal.reason, notes=(), facts=survey.facts())
    notes = notes_on(facts, decoded, survey.tail, extension)
    return Report(verdict=Verdict.ACCEPT, reason=None, notes=notes, facts=facts)


def operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `inspect`: one output `report`."""
    asked = msgspec.msgpack.decode(params, type=Params)
    yield Output(name="report", data=encode_report(inspect(inputs[0], asked.extension)))

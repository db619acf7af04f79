"""One way to full pixels: any accepted format, upright, first or primary picture, nothing private attached."""

from typing import Final

from imagecore import containers, heif, tiff, vips
from imagecore.geometry import Box

# CICP (ITU-T H.273) primaries and transfer that libvips' built-in profiles describe exactly.
_CICP_PROFILES: Final = {(12, 13): "p3", (1, 13): "srgb"}
_HDR: Final = {16: "pq", 18: "hlg"}
# BT.709's primaries, or none named, on its own curve or sRGB's, or none named: shown as sRGB everywhere.
_AS_SRGB: Final = (frozenset({1, 2}), frozenset({1, 2, 6, 13, 14, 15}))


def cicp_profile(cicp: tuple[int, int, int] | None) -> bytes | None:
    """The ICC profile that says the same as these CICP code points, or None where we have none."""
    name = _CICP_PROFILES.get(cicp[:2]) if cicp else None
    return vips.built_in_profile(name) if name else None


def cicp_of(raw: bytes) -> tuple[int, int, int] | None:
    """The CICP code points (primaries, transfer, matrix) that a HEIC, AVIF or PNG names."""
    kind = containers.sniff(raw)
    if kind in ("heic", "avif"):
        return heif.read(raw).cicp
    return containers.png(raw).cicp if kind == "png" else None


def transfer_of(cicp: tuple[int, int, int] | None) -> str:
    """`pq` or `hlg`, whose numbers mean light that no print gives back before it is tone-mapped; else `sdr`."""
    return _HDR.get(cicp[1], "sdr") if cicp else "sdr"


def is_unknown(cicp: tuple[int, int, int]) -> bool:
    """Whether these code points name colours that we have no profile for and that are not sRGB's (BT.2020, BT.601)."""
    if cicp[:2] in _CICP_PROFILES:
        return False
    return any(code not in known for code, known in zip(cicp, _AS_SRGB, strict=False))


def stored(raw: bytes, *, fail_on: str = "none", sequential: bool = False) -> vips.Image:
    """The picture as it is stored, lazily: only the first, no HEIC. Its last band is alpha where it has one.

    Alpha that stands in the colours as well is taken out of them. A band that a TIFF calls nothing in particular, such
    as a saved selection, is left out. Raises `Rejected`, `PixelFailure`.
    """
    kind = containers.sniff(raw)
    if kind == "avif":
        image = vips.open_heif(raw, fail_on=fail_on, sequential=sequential)
        return heif.unpremultiplied(image) if heif.read(raw).premultiplied else image
    image = vips.open_buffer(raw, fail_on=fail_on, sequential=sequential)
    if kind == "tiff" and image.hasalpha() and tiff.read(raw).alpha is False:
        with vips.failures():
            return image.extract_band(0, n=image.bands - 1)
    return image


def load(raw: bytes, *, fail_on: str = "truncated") -> vips.Image:
    """The picture in `raw` at full size, lazily decoded (HEIC at once).

    Upright; bit depth, colour space and alpha as stored; its own ICC profile attached (or the one that its CICP
    code points name), unchecked and unapplied; no other metadata. `fail_on` is libvips'. Raises `Rejected` for
    unknown formats and `PixelFailure`.
    """
    if containers.sniff(raw) == "heic":
        image = heif.decode(raw)
    else:
        with vips.failures():
            image = stored(raw, fail_on=fail_on).autorot()
    return _told(image, raw)


def load_part(raw: bytes, part: Box, *, fail_on: str) -> vips.Image:
    """What `load` gives within this part of the upright picture, to be read once from top to bottom.

    Rows go by as they are decoded: only HEIC, and a part that has to be turned, are ever whole in memory. Raises as
    `load` does.
    """
    if containers.sniff(raw) == "heic":
        with vips.failures():
            return load(raw).crop(*part)
    whole = stored(raw, fail_on=fail_on, sequential=True)
    orientation = vips.number(whole, "orientation") or 1
    with vips.failures():
        image = whole.crop(*as_stored(part, whole.width, whole.height, orientation))
        if orientation > 1:
            image = vips.in_memory(image).autorot()
    return _told(image, raw)


def as_stored(part: Box, width: int, height: int, orientation: int) -> Box:
    """A part of the upright picture in the pixels of a stored one of these sides (EXIF 2.32, orientation)."""
    x, y, across, down = part if orientation < 5 else (part.y, part.x, part.height, part.width)
    return Box(
        width - x - across if orientation in (2, 3, 7, 8) else x,
        height - y - down if orientation in (3, 4, 6, 7) else y,
        across,
        down,
    )


def _told(image: vips.Image, raw: bytes) -> vips.Image:
    """With the profile that its code points name where it has none, and with nothing else."""
    if vips.blob(image, "icc-profile-data") is None:
        named = cicp_profile(cicp_of(raw))
        image = vips.with_profile(image, named) if named else image
    return vips.bare(image)

"""One way to full pixels: any accepted format, upright, first or primary picture, nothing private attached."""

from typing import Final

from imagecore import containers, heif, vips

# CICP (ITU-T H.273) primaries and transfer that libvips' built-in profiles describe exactly.
_CICP_PROFILES: Final = {(12, 13): "p3", (1, 13): "srgb"}


def cicp_profile(cicp: tuple[int, int, int] | None) -> bytes | None:
    """The ICC profile that says the same as these CICP code points, or None where we have none (PQ, HLG, BT.2020)."""
    name = _CICP_PROFILES.get(cicp[:2]) if cicp else None
    return vips.built_in_profile(name) if name else None


def load(raw: bytes, *, fail_on: str = "truncated") -> vips.Image:
    """The picture in `raw` at full size, lazily decoded (HEIC at once).

    Upright; bit depth, colour space and alpha as stored; its own ICC profile attached (or the one that its CICP
    code points name), unchecked and unapplied; no other metadata. `fail_on` is libvips'. Raises `Rejected` for
    unknown formats and `PixelFailure`.
    """
    kind = containers.sniff(raw)
    if kind == "heic":
        image, cicp = heif.decode(raw), heif.read(raw).cicp
    else:
        with vips.failures():
            image = vips.open_buffer(raw, fail_on=fail_on).autorot()
        cicp = heif.read(raw).cicp if kind == "avif" else containers.png(raw).cicp if kind == "png" else None
    if vips.blob(image, "icc-profile-data") is None:
        named = cicp_profile(cicp)
        image = vips.with_profile(image, named) if named else image
    return vips.bare(image)

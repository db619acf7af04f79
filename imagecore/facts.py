"""What is known of one original: read once at ingest, kept as a small file beside the ancestor, and never more.

`Facts` has one canonical byte form, so two workers that looked at the same file wrote the same facts file. It holds
no place, no owner, no file name.
"""

from enum import StrEnum
from typing import Final

import msgspec

SCHEMA: Final = 1

_SAYS: Final = {
    "jpg": {"jpeg"}, "jpeg": {"jpeg"}, "jpe": {"jpeg"}, "jfif": {"jpeg"}, "mpo": {"jpeg"}, "png": {"png"},
    "webp": {"webp"}, "gif": {"gif"}, "tif": {"tiff"}, "tiff": {"tiff"}, "heic": {"heic"}, "hif": {"heic"},
    "heif": {"heic", "avif"}, "avif": {"avif"},
}  # fmt: skip


class Verdict(StrEnum):
    """Whether we print the file."""

    ACCEPT = "accept"
    REJECT = "reject"


class Note(StrEnum):
    """What is done, or should be known, with an accepted file. One appears only where the work behind it is done."""

    APPLY_ORIENTATION = "apply-orientation"
    CONVERT_COLOUR = "convert-colour"
    CONVERT_CMYK = "convert-cmyk"
    ASSUME_SRGB = "assume-srgb"
    BASE_IMAGE = "base-image"
    PRIMARY_IMAGE = "primary-image"
    FIRST_IMAGE = "first-image"
    FIRST_FRAME = "first-frame"
    FIRST_PAGE = "first-page"
    FLATTEN_ALPHA = "flatten-alpha"
    BY_CONTENT = "by-content"
    DROP_TRAILING_DATA = "drop-trailing-data"
    WARN_DAMAGED = "warn-damaged"
    WARN_LOW_RESOLUTION = "warn-low-resolution"


class Origin(StrEnum):
    """Where the reading of colour numbers comes from."""

    EMBEDDED = "embedded"
    CICP = "cicp"
    ASSUMED = "assumed"
    BROKEN = "broken"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How colour numbers are read. `is_srgb` is measured, not taken from the name.

    `fault` says why the embedded one is broken, or which colours were named that we have no profile for.
    """

    origin: Origin
    sha256: str | None = None
    is_srgb: bool = True
    fault: str | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one file. Sizes are pixels as displayed; None is unknown or not applicable.

    `orientation` is the EXIF tag as found (in HEIF the container decides, so it may disagree with what is done);
    `orientation_source` is `exif`, `container` or None; `icc` is the profile's name or `unreadable`; `transfer` is
    `sdr`, `pq` or `hlg`; a JPEG in several scans is `interlaced`, too; `pages` counts frames or pages, `images`
    pictures of a HEIF; `ppi_at_4x6_inches` is floored.
    """

    schema: int = SCHEMA
    sha256: str
    bytes: int
    format: str
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    orientation_source: str | None = None
    icc: str | None = None
    profile: Profile | None = None
    colour_space: str | None = None
    bits: int | None = None
    alpha: bool = False
    transfer: str = "sdr"
    nclx: tuple[int, int, int] | None = None
    pages: int = 1
    images: int = 1
    coding: str | None = None
    subsampling: str | None = None
    adobe_transform: int | None = None
    interlaced: bool = False
    gain_map: bool = False
    depth_map: bool = False
    mpf: bool = False
    has_gps: bool = False
    taken_at: str | None = None
    camera: str | None = None
    metadata_bytes: int = 0
    trailing_bytes: int = 0
    aspect: str | None = None
    ppi_at_4x6_inches: int | None = None

    @property
    def is_hdr(self) -> bool:
        """Whether its numbers mean more light than paper gives back; nothing tone-maps them yet."""
        return self.transfer != "sdr"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one file, with everything that could be read of it."""

    verdict: Verdict
    reason: str | None
    notes: tuple[Note, ...]
    facts: Facts


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_FACTS: Final = msgspec.json.Decoder(Facts)
_REPORT: Final = msgspec.json.Decoder(Report)


def canonical(facts: Facts) -> bytes:
    """The facts file's bytes: JSON, fields in the order above, no white space, a line feed at the end."""
    return _ENCODER.encode(facts) + b"\n"


def parse(raw: bytes) -> Facts:
    """Facts from a facts file; raises `msgspec.ValidationError`."""
    return _FACTS.decode(raw)


def encode_report(report: Report) -> bytes:
    """A report for the way out of the decode child."""
    return _ENCODER.encode(report)


def parse_report(raw: bytes) -> Report:
    """The other end of `encode_report`."""
    return _REPORT.decode(raw)


def belies(extension: str, format_: str) -> bool:
    """Whether a name's extension, or the like part of a media type, says another format than the bytes have.

    One that we do not know says nothing.
    """
    return format_ not in _SAYS.get(extension, {format_})

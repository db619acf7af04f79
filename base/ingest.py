"""The messages of ingest: what a pixel worker is told of a new photo and what it answers, step by step."""

from typing import Final

import msgspec

from base.jobs import Result

KIND: Final = "asset.ingest"
ANALYSE: Final = "asset.analyse"


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """Turn an original into facts, ancestor and the preview ladder.

    `asset` is the TypeID that names every key (`base/keys.py`). `bytes` and `sha256` (hex) are what the client
    declared; the worker measures both and trusts neither.
    """

    asset: str
    bytes: int
    sha256: str | None


class Validated(msgspec.Struct, frozen=True, kw_only=True):
    """Step `validate`: the file is a photo we can print. `facts` is the canonical facts file's JSON."""

    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    notes: tuple[str, ...]
    facts: msgspec.Raw


class Rendition(msgspec.Struct, frozen=True, kw_only=True):
    """One stored derivative: its recipe's canonical text, file extension, size in pixels and bytes, SHA-256 (hex)."""

    recipe: str
    extension: str
    width: int
    height: int
    bytes: int
    sha256: str


class Previews(msgspec.Struct, frozen=True, kw_only=True):
    """Steps `first_previews` (200 and 400 px, with `thumbhash`, base64) and `previews` (the rest of the ladder).

    What took too much is there as its fallback: another recipe, and the result's reason says why.
    """

    renditions: tuple[Rendition, ...]
    thumbhash: str | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The final answer for a file that is no photo, or not the declared one; the reason is the result's."""

    sha256: str | None
    bytes: int


def digest_in(result: Result) -> str | None:
    """The SHA-256 (hex) of the original, where this answer has it."""
    return None if not result.body else msgspec.json.decode(result.body, type=_Digested).sha256


class _Digested(msgspec.Struct, frozen=True):
    sha256: str | None = None


class Analyse(msgspec.Struct, frozen=True, kw_only=True):
    """Look at a ready asset: what it shows, how good it is, what looks like it. `engine` made its ancestor."""

    asset: str
    engine: str


class Analysed(msgspec.Struct, frozen=True, kw_only=True):
    """Step `analyse`: the findings as JSON, the perceptual hash (unsigned, 64 bits) and its quality (0 to 100)."""

    analysis: msgspec.Raw
    fingerprint: int
    fingerprint_quality: int


class PrintFit(msgspec.Struct, frozen=True, kw_only=True):
    """How a photo suits one print: class, trim (micrometres, turned to suit it), pixels an inch, thousandths cut off.

    `level` is the worst of the findings, whose codes are `findings`; None when there is none.
    """

    output: str
    width_um: int
    height_um: int
    ppi: int
    lost: int
    level: str | None
    findings: tuple[str, ...]


class Suited(msgspec.Struct, frozen=True, kw_only=True):
    """Step `readiness`: the photo held against every target size of every class."""

    prints: tuple[PrintFit, ...]


class NotAnalysed(msgspec.Struct, frozen=True, kw_only=True):
    """The final answer when an asset cannot be looked at; the reason is the result's."""

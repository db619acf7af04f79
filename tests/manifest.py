"""What the real photos' manifest says of each, read as a test holds answers against it."""

import json
import os
from pathlib import Path
from typing import Any

MANIFEST = Path(os.environ.get("TIRAGE_PHOTOS", Path(__file__).parents[1].parent / "shared/photos")) / "manifest.jsonl"
ROWS = [json.loads(line) for line in MANIFEST.read_text().splitlines()] if MANIFEST.exists() else [None]

# Work that is not done yet: no tone mapping of PQ and HLG. The row is wrong in exactly this way until it is.
RED = {"avif-10bit-hdr-p3-20mp.avif": {"convert-colour", "tone-map"}}

# Where the manifest contradicts itself. Both lamps carry EXIF orientation 6 and are listed at their turned size, yet
# the note is not; the TIFF is listed at its stored size although its text stands upright only after the turn.
TURNED_TOO = {"nearmiss-lamp-1.jpg", "nearmiss-lamp-2.jpg"}
LISTED_UNTURNED = {"orient-tiff-6.tif"}


def verdict(expectation: str) -> tuple[str, frozenset[str]]:
    word, _, rest = expectation.partition(":")
    return word, frozenset(filter(None, rest.split(",")))


def expected(row: dict[str, Any]) -> set[tuple[str, frozenset[str]]]:
    answers = {verdict(row["expectation"]), verdict(row.get("or", row["expectation"]))}
    if row["file"] in TURNED_TOO:
        return {(word, words | {"apply-orientation"}) for word, words in answers}
    return answers


def turned(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the size of the upright picture."""
    if row["file"] not in LISTED_UNTURNED:
        return row
    return {**row, "width": row["height"], "height": row["width"]}

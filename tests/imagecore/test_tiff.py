"""TIFFs by their directories: which are pictures, which hold a thumbnail of something else, and what is alpha."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecore import inspect, render, tiff
from imagecore.errors import Reason, Rejected
from imagecore.facts import Note, Report, Verdict
from imagecore.load import load
from loadtests.bench.hostile import picture

WIDTH, HEIGHT = 120, 80
Tags = dict[int, Sequence[int]]


def plain(width: int = WIDTH, height: int = HEIGHT, bands: int = 3) -> Tags:
    """An uncompressed picture in one strip; `written` fills in where that lies."""
    return {
        254: [0], 256: [width], 257: [height], 258: [8] * bands, 259: [1], 262: [2], 273: [0], 277: [bands],
        278: [height], 279: [width * height * bands],
    }  # fmt: skip


def written(*pages: Tags, parts: Sequence[Tags] = (), order: str = "<", is_big: bool = False) -> bytes:
    """A TIFF of these directories, and of `parts` that the first one points at; pixels are a ramp."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHH" if is_big else "H"), *((43, 8, 0) if is_big else (42,))
    )
    word, room = ("Q", 8) if is_big else ("I", 4)
    out = bytearray(head + bytes(room))
    links = [len(head)]
    told: list[int] = []
    for tags in (*parts, *pages):
        entries = dict(tags)
        if parts and tags is pages[0]:
            entries[330] = told[: len(parts)]
        if 279 in entries:
            entries[273] = [len(out)]
            out += bytes(i * 7 % 251 for i in range(entries[279][0]))
        blobs: dict[int, int] = {}
        for tag, values in entries.items():
            if len(values) * 4 > room:
                blobs[tag] = len(out)
                out += struct.pack(f"{order}{len(values)}I", *values)
        at = len(out)
        out += struct.pack(order + ("Q" if is_big else "H"), len(entries))
        for tag in sorted(entries):
            values = entries[tag]
            inside = struct.pack(f"{order}{len(values)}I", *values).ljust(room, b"\0") if tag not in blobs else b""
            out += struct.pack(f"{order}HH{word}", tag, 4, len(values))
            out += inside or struct.pack(order + word, blobs[tag])
        out += bytes(room)
        told.append(at)
        if any(tags is page for page in pages):
            struct.pack_into(order + word, out, links[-1], at)
            links.append(len(out) - room)
    return bytes(out)


def report(raw: bytes) -> Report:
    return inspect.inspect(raw)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True], ids=["classic", "big"])
class TestDirectories:
    def test_a_plain_picture(self, order: str, is_big: bool) -> None:
        raw = written(plain(), order=order, is_big=is_big)
        told = report(raw)
        assert (told.verdict, told.facts.width, told.facts.height, told.facts.pages) == ("accept", WIDTH, HEIGHT, 1)
        assert told.facts.alpha is False

    def test_smaller_copies_are_no_pages(self, order: str, is_big: bool) -> None:
        smaller = {**plain(60, 40), 254: [1]}
        told = report(written(plain(), smaller, order=order, is_big=is_big))
        assert (told.facts.pages, Note.FIRST_PAGE in told.notes) == (1, False)
        told = report(written(plain(), plain(), order=order, is_big=is_big))
        assert (told.facts.pages, Note.FIRST_PAGE in told.notes) == (2, True)

    @pytest.mark.parametrize(
        ("first", "parts", "reason"),
        [
            ({50_706: [1]}, [], "unsupported-type"),
            ({262: [32_803], 277: [1], 258: [8]}, [], "unsupported-type"),
            ({262: [34_892]}, [], "unsupported-type"),
            ({254: [1]}, [{**plain(), 262: [32_803]}], "unsupported-type"),
            ({}, [{**plain(), 262: [34_892]}], "unsupported-type"),
            ({262: [6]}, [], "unsupported-coding"),
            ({262: [4]}, [], "unsupported-coding"),
            ({262: [8]}, [], "unsupported-coding"),
            ({262: [9]}, [], "unsupported-coding"),
            ({262: [5], 258: [8] * 4, 277: [4], 279: [WIDTH * HEIGHT * 4], 332: [2]}, [], "unsupported-coding"),
        ],
        ids=[
            "dng",
            "sensor",
            "linear",
            "sensor part",
            "linear part",
            "ycbcr",
            "mask",
            "lab",
            "icc lab",
            "inks",
        ],
    )
    def test_refused(self, order: str, is_big: bool, first: Tags, parts: list[Tags], reason: str) -> None:
        """Of a camera's raw file only a thumbnail would be printed; of the others, false colours."""
        told = report(written({**plain(), **first}, parts=parts, order=order, is_big=is_big))
        assert (told.verdict, told.reason) == (Verdict.REJECT, reason)
        assert told.facts.format == ("raw" if reason == "unsupported-type" else "tiff")
        assert (told.facts.width, told.facts.height) == (WIDTH, HEIGHT)

    def test_a_chain_that_bites_its_tail_ends(self, order: str, is_big: bool) -> None:
        raw = bytearray(written(plain(), plain(), order=order, is_big=is_big))
        word, at = ("Q", 8) if is_big else ("I", 4)
        (first,) = struct.unpack_from(order + word, raw, at)
        struct.pack_into(order + word, raw, len(raw) - struct.calcsize(word), first)
        assert tiff.read(bytes(raw)).frames == 2


def test_a_thumbnail_is_refused_before_its_picture_only() -> None:
    """Some programs call every picture of theirs a smaller copy."""
    small = {**plain(60, 40), 254: [1]}
    told = report(written(small, plain()))
    assert (told.verdict, told.reason, told.facts.width) == (Verdict.REJECT, "unsupported-coding", 60)
    told = report(written(small))
    assert (told.verdict, told.facts.width, told.facts.pages) == ("accept", 60, 1)


def test_black_is_no_selection() -> None:
    """Though the file says that its fourth sample is an extra one."""
    inks = {**plain(bands=4), 262: [5], 338: [0]}
    told = report(written(inks))
    assert (told.verdict, told.facts.colour_space) == ("accept", "cmyk")
    assert load(written(inks)).bands == 4


def test_canons_raw_files_are_known_by_their_beginning() -> None:
    told = report(b"II*\0\x10\0\0\0CR\x02\0" + bytes(64))
    assert (told.reason, told.facts.format) == ("unsupported-type", "raw")


def test_a_jpeg_in_ycbcr_is_a_picture() -> None:
    told = report(bytes(picture().tiffsave_buffer(compression="jpeg")))
    assert told.verdict is Verdict.ACCEPT


def with_extra(kind: int) -> bytes:
    """RGB and a fourth band that is nowhere full."""
    colours = picture(300, 200)
    raw = bytearray(colours.bandjoin((colours[0] / 2).cast("uchar")).tiffsave_buffer())
    (at,) = struct.unpack_from("<I", raw, 4)
    entries = range(at + 2, at + 2 + 12 * struct.unpack_from("<H", raw, at)[0], 12)
    (entry,) = (place for place in entries if struct.unpack_from("<H", raw, place)[0] == 338)
    struct.pack_into("<H", raw, entry + 8, kind)
    return bytes(raw)


def test_a_saved_selection_is_no_transparency() -> None:
    raw, wanted = with_extra(0), picture(300, 200)
    told, ancestor = render.ancestor(raw)
    assert (told.facts.alpha, told.facts.colour_space, Note.FLATTEN_ALPHA in told.notes) == (False, "rgb", False)
    assert np.abs(load(raw).numpy().astype(int) - wanted.numpy()).max() == 0
    assert abs(load(ancestor).avg() - wanted.avg()) < 1
    told, ancestor = render.ancestor(with_extra(2))
    assert (told.facts.alpha, told.facts.colour_space, Note.FLATTEN_ALPHA in told.notes) == (True, "rgb+alpha", True)
    assert load(ancestor).avg() > wanted.avg() + 20


@given(st.integers(0, 400), st.binary(min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_directory_is_read_or_refused(at: int, new: bytes) -> None:
    """And nothing else is raised."""
    raw = written({**plain(4, 4), 338: [0], 330: [8, 8]}, plain(4, 4))
    try:
        told = tiff.read(raw[:at] + new + raw[at + len(new) :]).refusal
        reason = told.reason if told else None
    except Rejected as refusal:
        reason = refusal.reason
    assert reason in {None, Reason.CORRUPT, Reason.UNSUPPORTED_TYPE, Reason.UNSUPPORTED_CODING}


def test_directories_without_end_are_refused() -> None:
    pages = [{**plain(4, 4), **{40_000 + i: [1] for i in range(600)}} for _ in range(400)]
    with pytest.raises(Rejected, match="directory entries"):
        tiff.read(written(*pages))

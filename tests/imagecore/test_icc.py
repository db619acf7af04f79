"""Profiles as strangers attach them: sound ones are read, all others refused with a reason."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecore import icc
from imagecore.icc import Space

PROFILES = Path(__file__).parents[2] / "imagecore/profiles"
SRGB = (PROFILES / "sRGB.icc").read_bytes()
FOGRA = (PROFILES / "FOGRA39L.icc").read_bytes()


def with_size(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data[4:]


def patched(at: int, new: bytes, data: bytes = SRGB) -> bytes:
    return data[:at] + new + data[at + len(new) :]


class TestRead:
    @pytest.mark.parametrize(
        ("file", "space", "description"),
        [
            ("sRGB.icc", Space.RGB, "sRGB"),
            ("DisplayP3.icc", Space.RGB, "sP3C"),
            ("AdobeRGB-compatible.icc", Space.RGB, "Compatible with Adobe RGB (1998)"),
            ("FOGRA39L.icc", Space.CMYK, "FOGRA39L coated (Tirage)"),
        ],
    )
    def test_shipped_profiles(self, file: str, space: Space, description: str) -> None:
        header = icc.read((PROFILES / file).read_bytes())
        assert (header.space, header.description) == (space, description)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "shorter"),
            (b"\0" * 200, "signature"),
            (SRGB[:-1], "declares"),
            (with_size(SRGB[:300]), "tag leaves"),
            (patched(16, b"HSV "), "colour space"),
            (patched(12, b"link"), "class"),
            (patched(128, b"\xff\xff\xff\xff"), "tag table"),
            (patched(128, b"\0\0\0\0"), "rXYZ missing"),
            (with_size(SRGB + bytes(icc.MAX_BYTES)), "larger"),
            (SRGB.replace(b"para", b"????"), "rTRC missing or malformed"),
            (SRGB.replace(b"para\0\0\0\0\0\3", b"para\0\0\0\0\0\5"), "rTRC missing or malformed"),
            (FOGRA.replace(b"A2B0", b"A2Bx"), "no table from inks"),
            (patched(8, b"\x05\x20"), "version 5"),
            (SRGB.replace(b"gTRC", b"rTRC", 1), "a tag twice"),
            (patched(64, b"\0\0\0\1", patched(16, b"GRAY", FOGRA)), "no table for its intent"),
        ],
    )
    def test_unusable(self, data: bytes, why: str) -> None:
        with pytest.raises(icc.Unusable, match=why):
            icc.read(data)

    def test_every_cut_is_noticed(self) -> None:
        for length in range(len(SRGB)):
            with pytest.raises(icc.Unusable):
                icc.read(SRGB[:length])

    @given(st.integers(0, len(SRGB) - 1), st.binary(min_size=1, max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_damage_is_read_or_refused(self, at: int, new: bytes) -> None:
        try:
            header = icc.read(patched(at, new))
        except icc.Unusable:
            return
        assert header.description.isprintable()
        assert len(header.description) <= icc.MAX_NAME

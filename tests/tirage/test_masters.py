"""`tirage master` and `tirage verify`, as somebody at a shell uses them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imagecore import colour, masters
from imagecore.load import load
from tirage.main import main


def tirage(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small matte master of a real photo."""
    output = tmp_path_factory.mktemp("masters") / "print.jpg"
    photo = photos / "large-03-iphone-xs-p3-rotated.jpg"
    done = tirage("master", photo, "--class", "matte", "--size", "60x80mm", "--profile", "adobe-rgb", "-o", output)
    assert done.exit_code == 0, done.output
    return output


def test_master_is_the_size_asked_for(made: Path) -> None:
    image = load(made.read_bytes())
    assert (image.width, image.height) == (780, 1016)  # (60 + 6) and (80 + 6) mm at 300 ppi


def test_manifest_lies_beside_it_and_is_canonical(made: Path) -> None:
    text = (made.parent / "print.jpg.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"
    assert masters.decode(text.encode()).output.bytes == made.stat().st_size


def test_verify_same(made: Path) -> None:
    done = tirage("verify", made)
    assert (done.exit_code, "byte for byte" in done.output) == (0, True)


def copied(made: Path, folder: Path, photos: Path) -> tuple[Path, dict[str, Any]]:
    """The master elsewhere, with its manifest's content to change."""
    told = json.loads((made.parent / "print.jpg.json").read_text())
    told["files"]["original"] = str(photos / "large-03-iphone-xs-p3-rotated.jpg")
    (folder / "print.jpg").write_bytes(made.read_bytes())
    return folder / "print.jpg", told


def test_verify_a_changed_byte(made: Path, tmp_path: Path, photos: Path) -> None:
    copy, told = copied(made, tmp_path, photos)
    data = bytearray(copy.read_bytes())
    data[-100] ^= 1
    copy.write_bytes(data)
    (tmp_path / "print.jpg.json").write_text(json.dumps(told))
    assert tirage("verify", copy).exit_code == 1


def test_verify_another_engine(made: Path, tmp_path: Path, photos: Path) -> None:
    copy, told = copied(made, tmp_path, photos)
    (tmp_path / "print.jpg.json").write_text(json.dumps({**told, "engine": "older-m1"}))
    done = tirage("verify", copy)
    assert (done.exit_code, "largest ΔE2000 0.00" in done.output) == (2, True)
    smaller = {**told["recipe"], "width": 100, "height": 100}
    (tmp_path / "print.jpg.json").write_text(json.dumps({**told, "engine": "older-m1", "recipe": smaller}))
    done = tirage("verify", copy)
    assert (done.exit_code, "another size" in done.output, "ΔE" in done.output) == (2, True, False)


def test_verify_without_the_original(made: Path, tmp_path: Path, photos: Path) -> None:
    copy, told = copied(made, tmp_path, photos)
    (tmp_path / "print.jpg.json").write_text(json.dumps({**told, "files": {"original": "gone.jpg", "profile": None}}))
    done = tirage("verify", copy)
    assert (done.exit_code, "cannot be verified" in done.output) == (3, True)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nosuch.jpg"], "cannot be verified"),
        (["."], "cannot be verified"),
        (["print.jpg", "--original", "nosuch.jpg"], "cannot be verified"),
        (["print.jpg", "--profile", "nosuch.icc"], "cannot be verified"),
        (["print.jpg", "--profile", "print.jpg"], "cannot be verified"),
        (["print.jpg", "--nosuch"], "No such option"),
        (["print.jpg", "print.jpg"], "unexpected extra argument"),
        ([], "Missing argument"),
    ],
)
def test_verify_of_what_is_not_there(
    made: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str
) -> None:
    """Never 2, which would be another engine's."""
    monkeypatch.chdir(made.parent)
    done = tirage("verify", *args)
    assert (done.exit_code, says in done.output) == (3, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: [told],
        lambda told: {**told, "files": []},
        lambda told: {**told, "files": {"original": 7}},
        lambda told: {**told, "files": {**told["files"], "profile": 7}},
        lambda told: {**told, "files": {**told["files"], "profile": "a\0b"}},
        lambda told: {**told, "recipe": {}},
        lambda told: {key: value for key, value in told.items() if key != "files"},
    ],
)
def test_verify_with_a_malformed_manifest(made: Path, tmp_path: Path, photos: Path, change: Any) -> None:
    copy, told = copied(made, tmp_path, photos)
    (tmp_path / "print.jpg.json").write_text(json.dumps(change(told)))
    done = tirage("verify", copy)
    assert (done.exit_code, "cannot be verified" in done.output) == (3, True)


def test_a_vendors_profile_by_file(photos: Path, tmp_path: Path) -> None:
    profile = tmp_path / "vendor.icc"
    profile.write_bytes(colour.named("fogra39").data)
    output = tmp_path / "print.tif"
    photo = photos / "neardup-koala-l.jpg"
    done = tirage("master", photo, "--class", "poster", "--size", "90x60mm", "--profile", profile, "-o", output)
    assert done.exit_code == 0, done.output
    assert load(output.read_bytes()).interpretation == "cmyk"
    told = json.loads((tmp_path / "print.tif.json").read_text())
    assert told["recipe"]["profile"] == f"file-{colour.named('fogra39').sha256[:8]}"
    assert told.pop("files")["profile"] == "vendor.icc"
    assert str(tmp_path) not in json.dumps(told)
    assert tirage("verify", output).exit_code == 0
    profile.write_bytes(colour.named("srgb").data)
    assert tirage("verify", output).exit_code == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bad-truncated.heic", "truncated"),
        ("bomb-280mp.jpg", "too-many-pixels"),
        ("avif-10bit-hdr-p3-20mp.avif", "hdr-not-printable"),
    ],
)
def test_what_cannot_be_printed(photos: Path, tmp_path: Path, name: str, says: str) -> None:
    output = tmp_path / "out.jpg"
    done = tirage("master", photos / name, "--class", "standard", "--size", "152x102mm", "-o", output)
    assert (done.exit_code, says in done.output, output.exists()) == (3, True, False)


@pytest.mark.parametrize("size", ["210", "210*297mm", "axb", "210x297cm", "-1x3"])
def test_sizes_that_are_none(photos: Path, tmp_path: Path, size: str) -> None:
    done = tirage("master", photos / "large-07-book-text.jpg", "--class", "matte", "--size", size, "-o", tmp_path / "o")
    assert done.exit_code == 2


def test_names_that_are_no_utf_8(made: Path, tmp_path: Path, photos: Path) -> None:
    """The manifest is read all the same, and the original found by the option."""
    photo, output = tmp_path / os.fsdecode(b"caf\xe9.jpg"), tmp_path / os.fsdecode(b"print\xff.jpg")
    photo.write_bytes((photos / "orient-land-6.jpg").read_bytes())
    done = tirage("master", photo, "--class", "standard", "--size", "60x40mm", "-o", output)
    assert (done.exit_code, done.output.startswith(str(tmp_path))) == (0, True)
    lost = tirage("verify", output)
    assert (lost.exit_code, "cannot be verified" in lost.output) == (3, True)
    assert tirage("verify", output, "--original", photo).exit_code == 0

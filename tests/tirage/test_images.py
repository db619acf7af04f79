"""`tirage inspect` and `tirage render` on real photos, as somebody at a shell uses them."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from imagecore import containers, engine
from imagecore import recipe as recipes
from imagecore.errors import ChildDied, DeadlineExceeded, ImageError, JailUnavailable, OutOfMemory, PixelFailure
from imagecore.jail import Jail
from imagecore.jail_wire import Output
from tests.manifest import RED, ROWS, expected, turned
from tirage import images
from tirage.images import look
from tirage.main import main

TIRAGE = Path(sysconfig.get_path("scripts")) / "tirage"
MANIFEST_KEYS = (
    "file", "sha256", "bytes", "format", "width", "height", "orientation", "icc", "colour_space", "bits", "has_gps",
)  # fmt: skip


def tirage(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TIRAGE, *args], capture_output=True, text=True, check=False, timeout=600)


def inside(*args: str | Path) -> Result:
    """The same in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.parametrize("rows", [ROWS[::6], pytest.param(ROWS, marks=pytest.mark.interop)], ids=["some", "all"])
def test_inspect_says_what_the_manifest_says(photos: Path, rows: list[dict[str, Any]]) -> None:
    """In one call; what each key means is the manifest's. The image core by itself is asked of every photo."""
    ran = tirage("inspect", "--json", *(photos / row["file"] for row in rows))
    assert ran.returncode == 0
    told: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [one["file"] for one in told] == [row["file"] for row in rows]
    for one, row in zip(told, map(turned, rows), strict=True):
        assert {key: one[key] for key in MANIFEST_KEYS} == {key: row[key] for key in MANIFEST_KEYS}
        said = set(one["notes"]) if one["verdict"] == "accept" else {one["reason"]}
        missing = RED.get(one["file"], set())
        assert (one["verdict"], frozenset(said | missing)) in expected(row)
        assert said.isdisjoint(missing)
        assert one.keys() == told[0].keys()
    assert "gps" not in "".join(key for key in told[0] if key != "has_gps")


class Broken:
    """A jail in which every job ends in one way."""

    def __init__(self, error: ImageError) -> None:
        self.error = error

    def run(self, *_: object) -> Iterator[Output]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemory("no more"), "needs-too-much-memory"),
        (DeadlineExceeded("too late"), "took-too-long"),
        (ChildDied(signal=11, status=None), "breaks-decoder"),
        (PixelFailure("no"), "pixel-failure"),
    ],
)
def test_a_file_that_breaks_its_child_has_all_keys(photos: Path, error: ImageError, reason: str) -> None:
    file = photos / "orient-land-6.jpg"
    told = look(Broken(error), file)  # type: ignore[arg-type]
    with Jail.open(preload=("inspect",)) as jail:
        assert told.keys() == look(jail, file).keys()
    assert (told["verdict"], told["reason"], told["notes"]) == ("reject", reason, [])
    assert (told["sha256"], told["format"]) == (hashlib.sha256(file.read_bytes()).hexdigest(), "jpeg")
    assert (told["width"], told["colour_space"]) == (None, None)


def test_a_jail_that_fails_is_no_verdict(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a run, after files that were told."""
    monkeypatch.setattr(images, "_jail", lambda: contextlib.nullcontext(Broken(JailUnavailable("two children died"))))
    ran = CliRunner().invoke(main, ["inspect", "--json", str(photos / "orient-land-6.jpg")])
    assert (ran.exit_code, "two children died" in ran.output, "verdict" in ran.output) == (1, True, False)


def test_what_cannot_be_read_is_told_among_the_others(photos: Path, tmp_path: Path) -> None:
    folder, good, bad = tmp_path / "folder.jpg", photos / "orient-land-6.jpg", photos / "bad-truncated.png"
    folder.mkdir()
    ran = inside("inspect", "--json", tmp_path / "lost.jpg", good, folder, bad)
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(one["file"], one["verdict"], one["reason"] == "unreadable") for one in told] == [
        ("lost.jpg", "reject", True),
        (good.name, "accept", False),
        ("folder.jpg", "reject", True),
        (bad.name, "reject", False),
    ]
    assert (ran.exit_code, ran.stderr) == (2, "")
    assert {tuple(one) for one in told} == {tuple(told[0])}
    assert [told[0][key] for key in ("sha256", "bytes", "format", "width", "notes")] == [None, None, None, None, []]
    plain = inside("inspect", tmp_path / "lost.jpg")
    assert (plain.exit_code, plain.stdout.split()) == (2, ["reject", "-", "-", "lost.jpg", "unreadable"])


def test_a_name_that_is_no_utf_8(photos: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.jp\xff")
    odd.write_bytes((photos / "orient-land-6.jpg").read_bytes())
    for flags in (["--json"], []):
        ran = inside("inspect", *flags, odd, photos / "orient-land-1.jpg")
        assert (ran.exit_code, ran.stderr) == (0, "")
        first, second = ran.stdout.splitlines()
        assert "caf\N{REPLACEMENT CHARACTER}.jp\N{REPLACEMENT CHARACTER}" in first
        assert "orient-land-1.jpg" in second


def test_too_many_bytes_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(b"\xff\xd8\xff\xe0")
    os.truncate(huge, containers.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda file: pytest.fail(f"{file} was read"))
    told = look(Broken(PixelFailure("not asked")), huge)  # type: ignore[arg-type]
    assert (told["reason"], told["bytes"], told["format"]) == ("too-many-bytes", containers.MAX_BYTES + 1, "jpeg")
    assert told["sha256"] is None


def test_no_result_takes_the_place_of_its_original(photos: Path, tmp_path: Path) -> None:
    file, link = tmp_path / "photo.jpg", tmp_path / "link.jpg"
    file.write_bytes((photos / "orient-land-6.jpg").read_bytes())
    link.symlink_to(file)
    before = file.read_bytes()
    text = recipes.text(recipes.rung(200, engine.revision()))
    for out in (file, link):
        ran = tirage("render", file, "--recipe", text, "-o", out)
        assert (ran.returncode, "overwritten" in ran.stderr) == (2, True)
        ran = tirage("master", file, "--class", "standard", "--size", "60x40mm", "-o", out)
        assert (ran.returncode, "overwritten" in ran.stderr) == (2, True)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jpg", "photo.jpg"]


@pytest.mark.parametrize("folder", ["nosuch", "file", "/proc"])
def test_a_folder_that_takes_no_file_is_seen_before_the_work(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "file").touch()
    photo, out = photos / "orient-land-6.jpg", tmp_path / folder / "out.jpg"
    monkeypatch.setattr(Jail, "open", lambda *_, **__: pytest.fail("the work was begun"))
    text = recipes.text(recipes.rung(200, engine.revision()))
    render = inside("render", photo, "--recipe", text, "-o", out)
    master = inside("master", photo, "--class", "standard", "--size", "60x40mm", "-o", out)
    assert [(ran.exit_code, "nothing can be written into" in ran.stderr) for ran in (render, master)] == [
        (2, True),
        (3, True),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_afterwards_is_told(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    photo, out = photos / "orient-land-6.jpg", tmp_path / "out.jpg"
    monkeypatch.setattr(Path, "write_bytes", full)
    text = recipes.text(recipes.rung(200, engine.revision()))
    render = inside("render", photo, "--recipe", text, "-o", out)
    master = inside("master", photo, "--class", "standard", "--size", "60x40mm", "-o", out)
    assert [(ran.exit_code, "full" in ran.stderr) for ran in (render, master)] == [(2, True), (3, True)]
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jpg"
    out.write_bytes(b"before")

    def full(file: Path, data: bytes) -> None:
        with file.open("wb") as opened:
            opened.write(data[:1])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="full"):
        images.write_whole(out, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.jpg", b"before")]


def test_render_makes_the_recipe(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    text = recipes.text(recipes.rung(200, engine.revision()))
    ran = tirage("render", photos / "orient-land-6.jpg", "--recipe", text, "-o", out)
    assert ran.returncode == 0, ran.stderr
    with Image.open(out) as image:
        assert max(image.size) == 200
        assert image.size[0] > image.size[1]
        assert not image.getexif()
    assert json.loads(ran.stdout)["recipe"] == text
    first = out.read_bytes()
    assert tirage("render", photos / "orient-land-6.jpg", "--recipe", text, "-o", out).returncode == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("bad-truncated.png", recipes.text(recipes.rung(200, engine.revision())), 2),
        ("orient-land-6.jpg", recipes.text(recipes.rung(200, "another1")), 2),
        ("orient-land-6.jpg", "v1_preview", 2),
    ],
)
def test_render_that_cannot_be_writes_nothing(photos: Path, tmp_path: Path, name: str, text: str, code: int) -> None:
    ran = tirage("render", photos / name, "--recipe", text, "-o", tmp_path / "out.jpg")
    assert ran.returncode == code
    assert ran.stderr
    assert list(tmp_path.iterdir()) == []

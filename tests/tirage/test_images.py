"""`tirage inspect` and `tirage render` on real photos, as somebody at a shell uses them."""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecore import engine
from imagecore import recipe as recipes

TIRAGE = Path(sysconfig.get_path("scripts")) / "tirage"
MANIFEST_KEYS = ("file", "sha256", "bytes", "format", "width", "height", "orientation", "icc", "bits", "has_gps")


def tirage(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TIRAGE, *args], capture_output=True, text=True, check=False, timeout=120)


def test_inspect_says_what_the_manifest_says(photos: Path) -> None:
    names = ["large-03-iphone-xs-p3-rotated.jpg", "heic-two-images.heic", "png-alpha.png", "bad-truncated.png"]
    rows = {row["file"]: row for row in map(json.loads, (photos / "manifest.jsonl").read_text().splitlines())}
    ran = tirage("inspect", "--json", *(photos / name for name in names))
    assert ran.returncode == 0
    told: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [t["file"] for t in told] == names
    for one in told[:3]:
        row = rows[one["file"]]
        assert {key: one[key] for key in MANIFEST_KEYS} == {key: row[key] for key in MANIFEST_KEYS}
        assert one["verdict"] == "accept"
        assert set(one["notes"]) == set(row["expectation"].partition(":")[2].split(",")) - {""}
    assert (told[3]["verdict"], told[3]["reason"]) == ("reject", "truncated")
    assert "gps" not in "".join(k for one in told for k in one if k != "has_gps")


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

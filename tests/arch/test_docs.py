"""Pages that claim something are held to it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (R\d+) \| (.+?) \| (works|partly|open) \| (.*?) ?\|$", flags=re.M)


def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall((ROOT / "docs/requirements.md").read_text())


def test_every_requirement_has_one_row() -> None:
    assert [number for number, *_ in rows()] == [f"R{n}" for n in range(1, 51)]


def test_a_claimed_row_names_what_shows_it() -> None:
    for number, _, state, shown in rows():
        named = re.findall(r"`([\w./-]+)`", shown)
        assert bool(named) == (state != "open"), number
        assert [n for n in named if not (ROOT / n).exists()] == [], number


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(p.name[:4]) for p in sorted((ROOT / "docs/adr").glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
    for page in (ROOT / "docs/adr").glob("[0-9]*.md"):
        text = page.read_text()
        for part in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"**{part}.**" in text, f"{page.name}: {part}"

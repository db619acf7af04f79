"""The linters and type checkers, as tests: what `make lint` and `make types` say is part of `make test`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "-q", "."],
        ["ruff", "format", "--check", "-q", "."],
        ["lint-imports", "--no-cache"],
        ["mypy"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_tool_has_nothing_to_say(command: list[str]) -> None:
    run = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

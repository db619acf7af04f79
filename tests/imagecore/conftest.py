"""Shared by the image tests: kernels in both lanes, and the real photos where this machine has them."""

import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def photos_folder() -> Path:
    return Path(os.environ.get("TIRAGE_PHOTOS", ROOT / "../shared/photos")).resolve()


def load_kernel(name: str, lane: str) -> ModuleType:
    """A kernel as built ("compiled") or straight from its source ("pure"), the latter outside `sys.modules`."""
    if lane == "compiled":
        module = import_module(f"imagecore.{name}")
        assert str(module.__file__).endswith(".so"), f"imagecore.{name} is not compiled: make setup"
        return module
    loader = SourceFileLoader(f"pure_{name}", str(ROOT / f"imagecore/{name}.py"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kernel() -> Callable[[str, str], ModuleType]:
    return load_kernel


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photos; absent it is a skip, or a failure where TIRAGE_REQUIRE_PHOTOS is set."""
    folder = photos_folder()
    if not (folder / "manifest.jsonl").exists():
        if os.environ.get("TIRAGE_REQUIRE_PHOTOS") == "1":
            pytest.fail(f"no photos in {folder}")
        pytest.skip("real photos absent (TIRAGE_PHOTOS)")
    return folder


@pytest.fixture(scope="session")
def manifest(photos: Path) -> dict[str, dict[str, Any]]:
    """Each row of the photos' manifest by file name."""
    rows = [json.loads(line) for line in (photos / "manifest.jsonl").read_text().splitlines()]
    return {row["file"]: row for row in rows}

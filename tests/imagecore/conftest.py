"""Shared by the image tests: kernels in both lanes, and the facts of the real photos."""

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from imagecore.jail import Jail

ROOT = Path(__file__).parents[2]


def load_kernel(name: str, lane: str) -> ModuleType:
    """A kernel as built ("compiled") or straight from its source ("pure"), the latter outside `sys.modules`."""
    if lane == "compiled":
        module = import_module(f"imagecore.{name}")
        assert str(module.__file__).endswith(".so"), f"imagecore.{name} is not compiled: make setup"
        return module
    return load_source(f"pure_{name}", ROOT / f"imagecore/{name}.py")


def load_source(name: str, path: Path) -> ModuleType:
    """A Python file as a module, outside `sys.modules`."""
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kernel() -> Callable[[str, str], ModuleType]:
    return load_kernel


@pytest.fixture(scope="session")
def source() -> Callable[[str, Path], ModuleType]:
    return load_source


@pytest.fixture(scope="session")
def manifest(photos: Path) -> dict[str, dict[str, Any]]:
    """Each row of the photos' manifest by file name."""
    rows = [json.loads(line) for line in (photos / "manifest.jsonl").read_text().splitlines()]
    return {row["file"]: row for row in rows}


@pytest.fixture(scope="session")
def pixel_jail() -> Iterator[Jail]:
    """One jail with the limits and operations that a pixel worker has."""
    with Jail.open() as jail:
        yield jail

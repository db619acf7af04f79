"""The build of the kernels: a failed one fails, and leaves nothing that would hide the edit that broke it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tree(folder: Path) -> Path:
    """A small tree with one kernel and our own setup.py."""
    (folder / "imagecore").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "imagecore" / "__init__.py").touch()
    (folder / "imagecore" / "tiny.py").write_text("def twice(n: int) -> int:\n    return n + n\n")
    (folder / "imagecore" / "tiny.pxd").write_text("cpdef long twice(long n)\n")
    return folder


def build(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False
    )


def test_a_failed_build_leaves_no_extension(tmp_path: Path) -> None:
    folder = tree(tmp_path / "t")
    assert build(folder).returncode == 0
    assert len(list((folder / "imagecore").glob("tiny*.so"))) == 1
    (folder / "imagecore" / "tiny.pxd").write_text("cpdef long twice(long n, long m)\n")
    assert build(folder).returncode != 0
    assert list((folder / "imagecore").glob("*.so")) == []
    assert list((folder / "imagecore").glob("*.c")) == []


def test_purity_is_asked_for(tmp_path: Path) -> None:
    folder = tree(tmp_path / "t")
    assert build(folder, TIRAGE_PURE="1").returncode == 0
    assert list((folder / "imagecore").glob("*.so")) == []

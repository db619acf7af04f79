"""Build imagecore's kernels: every `imagecore/*.py` with a sibling `.pxd` becomes an extension.

A failed build fails the install and leaves no stale extension behind: a `.so` shadows its `.py` on import, so an
old one would hide the edit that broke the build. `TIRAGE_PURE=1` asks for an install without extensions.
"""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
DIRECTIVES = {
    "language_level": "3",
    "annotation_typing": False,  # types live in the .pxd; annotations stay plain Python
    "boundscheck": False,
    "wraparound": False,
    "cdivision": False,  # Python's floor division, also for negative numbers
    "overflowcheck": True,
}


def stale_extensions() -> list[Path]:
    """Every compiled module and generated C file in the tree."""
    return [
        *(ROOT / "imagecore").glob("*.so"),
        *(p.with_suffix(".c") for p in (ROOT / "imagecore").glob("*.pxd")),
    ]


class BuildOrNothing(build_ext):
    """Build all extensions, or leave none."""

    def run(self) -> None:
        try:
            super().run()
        except BaseException:
            for path in stale_extensions():
                path.unlink(missing_ok=True)
            raise


def extensions() -> list[object]:
    """The kernels to compile; empty when a pure install is asked for."""
    for path in stale_extensions():
        path.unlink(missing_ok=True)
    sources = [f"imagecore/{p.stem}.py" for p in sorted((ROOT / "imagecore").glob("*.pxd"))]
    if os.environ.get("TIRAGE_PURE") == "1" or not sources:
        return []
    from Cython.Build import cythonize

    return cythonize(sources, compiler_directives=DIRECTIVES, nthreads=0)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrNothing})

"""The engine revision: one short id for everything that decides an output's bytes beside source and recipe.

It stands in every recipe, so in every key: an upgrade can never change bytes behind an immutable URL. It is read
from the installed wheels' own lists, so a process that only mints URLs need not load a pixel library.
"""

import base64
import functools
import hashlib
import importlib.metadata
from importlib import resources
from pathlib import PurePath
from typing import Final

# Raised by hand when our own steps change any output's bytes: geometry, order of steps, encoder options.
STEPS: Final = 6
# Raised when another parent is chosen for the same recipe and facts (`render.parent_of`).
PARENT_RULE: Final = 3
# Threads an AVIF is encoded with: its bytes depend on them.
AVIF_THREADS: Final = 1

_WHEELS: Final = ("pyvips-binary", "pi-heif")
_NATIVE: Final = ("libvips", "libheif", "libde265")


def _libraries(wheel: str) -> list[str]:
    """File names of the native libraries in a wheel; the wheel's maker put a hash of each library in its name."""
    names = sorted({PurePath(str(f)).name for f in importlib.metadata.files(wheel) or ()})
    return [name for name in names if name.startswith(_NATIVE)]


def _profiles() -> list[str]:
    """`name:sha256` of every ICC profile we ship."""
    folder = resources.files("imagecore").joinpath("profiles")
    if not folder.is_dir():
        return []
    files = sorted((f for f in folder.iterdir() if f.name.endswith((".icc", ".icm"))), key=lambda f: f.name)
    return [f"{f.name}:{hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]


@functools.cache
def parts() -> tuple[str, ...]:
    """What the revision is made of, one `name value…` a line."""
    wheels = [f"{w} {importlib.metadata.version(w)} {' '.join(_libraries(w))}" for w in _WHEELS]
    profiles = [f"profile {p}" for p in _profiles()]
    return (*wheels, *profiles, f"steps {STEPS}", f"parent-rule {PARENT_RULE}", f"avif-threads {AVIF_THREADS}")


@functools.cache
def revision() -> str:
    """The engine's id: twelve characters of [a-z2-7], the same on every machine with the same wheels and profiles."""
    digest = hashlib.sha256("\n".join(parts()).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:12]

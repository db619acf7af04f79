"""The only door to libvips: importing this module starts it, checks it, and closes every loader but six.

No operation cache (a cache holds customers' pixels and memory), no file ever looked at by name, no save option left
to a default that could change. Pixels are lazy: wrap everything up to the encoder in `failures()`.
"""

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import pyvips

from imagecore.errors import EngineUnfit, OutOfMemory, PixelFailure

Image: TypeAlias = Any  # pyvips has no types

WHEEL: Final = "pyvips-binary"
LOADERS: Final = ("Jpeg", "Png", "Webp", "Heif", "Tiff", "Nsgif")
KEPT_FIELDS: Final = frozenset(
    {
        "width", "height", "bands", "format", "coding", "interpretation", "xres", "yres", "xoffset", "yoffset",
        "filename", "vips-loader", "icc-profile-data", "bits-per-sample", "palette", "vips-sequential",
    }
)  # fmt: skip

# libvips and GLib tell of a failed allocation in words only.
_MEMORY_WORDS: Final = ("out of memory", "unable to allocate", "cannot allocate", "insufficient memory")


def _start() -> str:
    """Check that the pinned wheel's libvips is the one in this process, set it up, return its version.

    Raises `EngineUnfit`: a system libvips decodes and scales to other bytes (and Debian's, to other bytes with each
    processor).
    """
    version = ".".join(str(pyvips.version(part)) for part in range(3))
    pinned = importlib.metadata.version(WHEEL)
    if not pyvips.API_mode or version != pinned:
        raise EngineUnfit(f"libvips {version} is loaded, the wheel holds {pinned}")
    # pyvips has libvips' warnings told to Python's logging, on whichever thread they come up. Python may then collect
    # garbage, that may close a damaged file, that may warn, and GLib aborts the process for a warning inside a warning.
    pyvips._remove_log_handler()
    pyvips.cache_set_max(0)
    pyvips.cache_set_max_mem(0)
    pyvips.cache_set_max_files(0)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in LOADERS:
        pyvips.operation_block_set(f"VipsForeignLoad{name}", False)
    return version


VERSION: Final = _start()


@contextmanager
def failures() -> Iterator[None]:
    """Turn libvips' errors into ours: `OutOfMemory` for failed allocations, else `PixelFailure`."""
    try:
        yield
    except pyvips.Error as error:
        text = " ".join(str(error).split())
        if any(words in text.lower() for words in _MEMORY_WORDS):
            raise OutOfMemory(text) from None
        raise PixelFailure(text) from None
    except MemoryError as error:
        raise OutOfMemory(str(error) or "allocation failed") from None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with `count` libvips threads: AVIF's bytes depend on the number, nothing else's do.

    The number is the process's: only single-threaded users (the decode child, the command line) may call this.
    """
    before = pyvips.vips_lib.vips_concurrency_get()
    pyvips.vips_lib.vips_concurrency_set(count)
    try:
        yield
    finally:
        pyvips.vips_lib.vips_concurrency_set(before)


def open_buffer(raw: bytes | memoryview, *, fail_on: str = "none", sequential: bool = False) -> Image:
    """The picture in `raw`, found by content, pixels not yet read; only the first frame or page.

    `fail_on` is libvips' `none`, `truncated`, `error` or `warning`. Raises `PixelFailure`.
    """
    access = "sequential" if sequential else "random"
    with failures():
        return pyvips.Image.new_from_buffer(raw, "", access=access, fail_on=fail_on)


def open_jpeg(raw: bytes | memoryview, *, fail_on: str, shrink: int) -> Image:
    """A JPEG read once from top to bottom, made 1, 2, 4 or 8 times smaller while it is decoded.

    `thumbnail_buffer` would shrink as well, but forgets `fail_on`: a file cut in its middle then reads as a grey half.
    Raises `PixelFailure`.
    """
    with failures():
        return pyvips.Image.new_from_buffer(raw, "", access="sequential", fail_on=fail_on, shrink=shrink)


def open_heif(raw: bytes | memoryview, *, fail_on: str, sequential: bool) -> Image:
    """`open_buffer` for AVIF, by its own loader: libvips does not know an image sequence by its content.

    Raises `PixelFailure`.
    """
    access = "sequential" if sequential else "random"
    with failures():
        return pyvips.Image.heifload_buffer(raw, access=access, fail_on=fail_on)


def from_pixels(data: Any, width: int, height: int, bands: int, *, wide: bool, owner: object) -> Image:
    """A picture over foreign pixels (16 bit a sample if `wide`), not copied; `owner` lives as long as it does.

    pyvips only keeps the view, and a view of a library's buffer does not own it: without `owner` libvips reads freed
    memory. References pass on to every picture computed from this one.
    """
    with failures():
        image = pyvips.Image.new_from_memory(data, width, height, bands, "ushort" if wide else "uchar")
    image._references.append(owner)
    return image


def matrix(rows: Sequence[Sequence[int]], scale: int) -> Image:
    """A convolution kernel of integers with its divisor."""
    with failures():
        return pyvips.Image.new_from_array([list(row) for row in rows], scale=scale)


def in_memory(image: Image) -> Image:
    """The picture computed, here and now, once; what comes after may read it in any order. Raises `PixelFailure`."""
    with failures():
        return image.copy_memory()


def blob(image: Image, name: str) -> bytes | None:
    """A metadata blob of the picture, or None."""
    return bytes(image.get(name)) if image.get_typeof(name) else None


def number(image: Image, name: str) -> int | None:
    """A metadata integer of the picture, or None."""
    return int(image.get(name)) if image.get_typeof(name) else None


def with_profile(image: Image, profile: bytes) -> Image:
    """The picture with this ICC profile attached; pixels unchanged."""
    tagged = image.copy()
    tagged.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return tagged


def without_profile(image: Image) -> Image:
    """The picture with no ICC profile attached; pixels unchanged."""
    untagged = image.copy()
    untagged.remove("icc-profile-data")
    return untagged


def built_in_profile(name: str) -> bytes:
    """libvips' own profile `srgb` or `p3` (480 bytes each, CC0); part of the pinned wheel."""
    with failures():
        return bytes(pyvips.Operation.call("profile_load", name))


def bare(image: Image) -> Image:
    """The picture with nothing but pixels and profile: no EXIF, XMP, comments, thumbnails, gain maps."""
    private = [name for name in image.get_fields() if name not in KEPT_FIELDS]
    if not private:
        return image
    cleaned = image.copy()
    for name in private:
        cleaned.remove(name)
    return cleaned


def grid(steps: int) -> Image:
    """Every combination of `steps` levels of red, green and blue, one pixel each."""
    levels = [255 * i // (steps - 1) for i in range(steps)]
    data = bytes(v for r in levels for g in levels for b in levels for v in (r, g, b))
    with failures():
        image = pyvips.Image.new_from_memory(data, steps * steps, steps, 3, "uchar")
        return image.copy(interpretation="srgb")

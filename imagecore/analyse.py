"""What a photo shows and how good it is: faces, text, sharpness, exposure, noise, JPEG damage.

Runs in a child of its own kind: it holds the models (240 MB resident), and needs `LIMITS`. Faces and text are looked
for on the upright picture, for which the stored ancestor is enough. Quality is measured where the original is decoded
anyway (`measuring`); only where it was not, the original is decoded for it here.
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from imagecore import colour, containers, faces, likeness, measuring, models, text, vips
from imagecore.findings import Analysis
from imagecore.jail_wire import Limits, Output
from imagecore.likeness import Fingerprint
from imagecore.load import load
from imagecore.quality import Quality

REVISION: Final = 1
"""Raised when the same photo gets other findings: another model, threshold or measure."""

LIMITS: Final = Limits(memory_mb=1400, output_mb=16, jobs=200, nice=10)
"""Nobody waits for it as for a preview, so it steps back."""
_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_LARGE: Final = 4 << 20


def analyse(raw: bytes, ancestor: bytes | None = None) -> Analysis:
    """The findings; a stored `ancestor` of the same photo saves a decode. Raises `Rejected`, `PixelFailure`."""
    return _findings(proxy(_small(ancestor or raw)), measuring.quality_of(raw))


def _findings(rgb: Any, quality: Quality | None) -> Analysis:
    return Analysis(revision=REVISION, faces=faces.find(rgb), text=text.find(rgb), quality=quality)


def _small(raw: bytes) -> vips.Image:
    """The upright picture, at least twice the models' size where it is larger; a JPEG shrinks while it is decoded."""
    if containers.sniff(raw) != "jpeg":
        return load(raw)
    whole = vips.open_buffer(raw)
    room = min(max(whole.width, whole.height) // (2 * models.PROXY), whole.width, whole.height)
    shrink = next((factor for factor in (8, 4, 2) if room >= factor), 1)
    # Upright only once it is small: turning needs the whole picture in memory.
    with vips.failures():
        return vips.bare(vips.in_memory(vips.open_jpeg(raw, fail_on="none", shrink=shrink)).autorot())


def proxy(image: vips.Image) -> Any:
    """The upright picture for the models: sRGB, at most 640 px, on white, as a numpy array."""
    with vips.failures():
        small = image.thumbnail_image(models.PROXY, height=models.PROXY, size="down")
    small = colour.convert(small, colour.named("srgb"))
    with vips.failures():
        flat = small.flatten(background=[255, 255, 255]) if small.hasalpha() else small
        return flat.numpy()


def operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `analyse`: the findings, then the fingerprint, as JSON.

    Parameters are the quality as it was kept (`measuring.encode`), inputs the ancestor. Where nothing was kept the
    parameters are empty, and the original is the last input.
    """
    _return_large_blocks()
    small = _small(inputs[0])
    look, rgb = _fingerprint(small), proxy(small)
    del small  # as large as a photo may be; the models need the room
    quality = measuring.decode(params) if params else measuring.quality_of(inputs[-1])
    yield Output(name="analysis", data=msgspec.json.encode(_findings(rgb, quality)))
    yield Output(name="fingerprint", data=msgspec.json.encode(look))


def _return_large_blocks() -> None:
    """Keep glibc's bound for blocks of their own where it is; it grows with the first 30 MB tensor freed otherwise.

    Pixels and tensors then go back to the machine when they are freed, not into a heap that never shrinks: a quarter
    of the peak, for a fifth more processor time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def fingerprint_of(raw: bytes) -> Fingerprint:
    """How a photo looks in 64 bits, from its upright pixels squeezed to 32 x 32 gray."""
    return _fingerprint(_small(raw))


def _fingerprint(image: vips.Image) -> Fingerprint:
    with vips.failures():
        gray = image.thumbnail_image(32, height=32, size="force").colourspace("b-w")
        return likeness.fingerprint(bytes(gray[0].cast("uchar").write_to_memory()))


def decode(data: bytes) -> Analysis:
    """Findings from an untrusted child's JSON; raises `msgspec.ValidationError`."""
    return msgspec.json.decode(data, type=Analysis)

"""Is this file the master that its manifest tells of? Made again, and compared.

The same engine must give the same bytes. Another engine cannot be asked for that: then the largest difference in
colour is stated, or that there is none to state, and judging it is left to people.
"""

import hashlib
from collections.abc import Iterator, Sequence
from enum import IntEnum

import msgspec

from imagecore import colour, masters, vips
from imagecore.colour import Profile
from imagecore.jail_wire import Output
from imagecore.load import load
from imagecore.masters import Manifest


class Verdict(IntEnum):
    """Also the exit status of `tirage verify`."""

    SAME = 0
    DIFFERENT = 1
    OTHER_ENGINE = 2


class Report(msgspec.Struct, frozen=True):
    """The verdict, why, and (for another engine, if sizes agree) the largest CIEDE2000 in hundredths."""

    verdict: Verdict
    reason: str
    largest: int | None = None


def verify(master: bytes, manifest: Manifest, original: bytes, target: Profile) -> Report:
    """Make the master again and compare. Raises what `masters.make` raises."""
    if hashlib.sha256(original).hexdigest() != manifest.source.sha256:
        return Report(Verdict.DIFFERENT, "the original is not the one in the manifest")
    if hashlib.sha256(master).hexdigest() != manifest.output.sha256:
        return Report(Verdict.DIFFERENT, "the master's hash is not the one in the manifest")
    again = masters.make(original, manifest.recipe, target)
    if manifest.engine == masters.revision():
        same = again.data == master
        return Report(Verdict.SAME, "byte for byte") if same else Report(Verdict.DIFFERENT, "made again, it differs")
    found = largest_difference(master, again.data)
    alike = "" if found is not None else "; of another size or colour space, so no difference can be told"
    engines = f"made by engine {manifest.engine}, this is {masters.revision()}"
    return Report(Verdict.OTHER_ENGINE, engines + alike, found)


def largest_difference(one: bytes, other: bytes) -> int | None:
    """The largest CIEDE2000 between two pictures, in hundredths, rounded up; None where they cannot be compared."""
    first, second = load(one), load(other)
    sides = {(image.width, image.height, colour.space_of(image)) for image in (first, second)}
    if len(sides) > 1:
        return None
    with vips.failures():
        return -int(-100 * colour.to_lab(first).dE00(colour.to_lab(second)).max() // 1)


def operation(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """The jail's `verify`: manifest as JSON, original, profile and master in; the report as JSON out."""
    manifest = masters.decode(params)
    target = colour.pinned(manifest.recipe.profile, inputs[1], manifest.recipe.profile_sha256)
    report = verify(inputs[2], manifest, inputs[0], target)
    yield Output(name="report", data=msgspec.json.encode(report))


def decode(data: bytes) -> Report:
    """A report from an untrusted child's JSON; raises `msgspec.ValidationError`."""
    return msgspec.json.decode(data, type=Report)

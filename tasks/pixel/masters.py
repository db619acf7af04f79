"""Print masters: from an original to a locked object. The jail renders; this process fetches and stores.

The bytes are a function of original, recipe and engine, so an attempt after a lost answer stores the same bytes once
more, as another version under the same lock; the version that the answer names is the one that is sent to the vendor.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from base import keys, tracing
from base.jobs import Job
from base.objects import ObjectAbsent, Sites
from base.printing import MasterMade, MasterRefused, PrintMaster
from imagecore import classes, colour, masters
from imagecore.errors import ChildDied, DeadlineExceeded, OutOfBounds, OutOfMemory, PixelFailure, Rejected
from imagecore.geometry import Box
from imagecore.jail import Jail
from imagecore.jail_wire import Output
from imagecore.masters import MasterRecipe
from tasks.pixel.worker import PixelKind, Refusal, StepDone

STEPS: Final = ("master",)
DEADLINE_S: Final = 240
PATIENCE: Final = 2  # attempts after which an original that breaks its child is the original's fault

_CONTENT: Final = {"jpeg": ("jpg", "image/jpeg"), "tiff": ("tif", "image/tiff")}
_WANTED: Final = msgspec.json.Decoder(PrintMaster)


class MasterMaker:
    """Runs `print.master`: an original of any region becomes a master of this one.

    The jail for large pictures is opened at the first job.
    """

    def __init__(self, sites: Sites, jail: Callable[[], Jail]) -> None:
        self._sites, self._jail = sites, jail

    @property
    def kind(self) -> PixelKind:
        """The entry of the kinds table."""
        return PixelKind(STEPS, self.run)

    async def run(self, job: Job) -> AsyncIterator[StepDone]:
        """Make and store the master; raises `Refusal` when no attempt could."""
        wanted = _WANTED.decode(job.payload)
        refused = MasterRefused(line=wanted.line)
        try:
            yield await self._made(wanted)
        except Rejected as rejected:
            raise Refusal(rejected.reason.value, refused) from rejected
        except OutOfBounds as error:
            raise Refusal("master-impossible", refused) from error
        except OutOfMemory as error:
            raise Refusal("needs-too-much-memory", refused) from error
        except (DeadlineExceeded, ChildDied, PixelFailure) as error:
            if job.attempt < PATIENCE:
                raise
            raise Refusal("breaks-renderer", refused) from error

    async def _made(self, wanted: PrintMaster) -> StepDone:
        raw = await self._original(wanted)
        target = colour.named(wanted.profile or classes.named(wanted.class_).targets[0])
        recipe = _planned(wanted, target)
        jail = await asyncio.to_thread(self._jail)
        with tracing.span("child master"):
            running = jail.arun("master", masters.encode_recipe(recipe), [raw, target.data], DEADLINE_S)
            (output,) = [output async for output in running]
        return await self._keep(wanted, recipe, output)

    async def _original(self, wanted: PrintMaster) -> bytes:
        site = self._sites.here if wanted.original_region is None else self._sites.at(wanted.original_region)
        try:
            raw = await site.store.get(site.buckets.originals, keys.original(wanted.asset))
        except ObjectAbsent as absent:
            raise Refusal("original-gone", MasterRefused(line=wanted.line)) from absent
        if (await asyncio.to_thread(hashlib.sha256, raw)).hexdigest() != wanted.sha256:
            raise Refusal("original-changed", MasterRefused(line=wanted.line))
        return raw

    async def _keep(self, wanted: PrintMaster, recipe: MasterRecipe, output: Output) -> StepDone:
        manifest = masters.decode(output.facts)
        extension, content_type = _CONTENT[recipe.format]
        digest = hashlib.sha256(masters.encode_recipe(recipe)).hexdigest()
        key = keys.master(wanted.asset, wanted.line, digest[:32], manifest.engine, extension)
        here = self._sites.here
        version = await here.store.put_version(here.buckets.masters, key, output.data, content_type)
        made = MasterMade(
            line=wanted.line,
            key=key,
            version=version,
            sha256=manifest.output.sha256,
            md5=hashlib.md5(output.data, usedforsecurity=False).hexdigest(),
            bytes=len(output.data),
            width=manifest.output.width,
            height=manifest.output.height,
            content_type=content_type,
            manifest=msgspec.Raw(output.facts),
        )
        return StepDone(step="master", body=made, engine=manifest.engine)


def _planned(wanted: PrintMaster, target: colour.Profile) -> MasterRecipe:
    return masters.plan(
        classes.named(wanted.class_),
        (wanted.width, wanted.height),
        wanted.trim_um,
        area=wanted.area_px,
        part=None if wanted.part is None else Box(*wanted.part),
        focal=wanted.focal,
        fit=wanted.fit,
        border_um=wanted.border_um,
        profile=target,
    )

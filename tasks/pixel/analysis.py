"""Analysis: what a ready photo shows, how good it is, what looks like it. The jail looks; this process fetches.

A job of its own, after the previews: the models need a large child of their own, and nobody waits for them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from base import keys, tracing
from base.ingest import Analyse, Analysed, NotAnalysed
from base.jobs import Job
from base.objects import Buckets, ObjectAbsent, ObjectStore
from imagecore import analyse
from imagecore.errors import ChildDied, DeadlineExceeded, OutOfMemory, PixelFailure, Rejected
from imagecore.jail import Jail
from imagecore.likeness import Fingerprint
from tasks.pixel.worker import PixelKind, Refusal, StepDone

STEPS: Final = ("analyse",)
DEADLINE_S: Final = 60
PATIENCE: Final = 2
_WANTED: Final = msgspec.json.Decoder(Analyse)


class Analyst:
    """Runs `asset.analyse` with one store; the jail with the models is opened at the first job."""

    def __init__(self, store: ObjectStore, buckets: Buckets, jail: Callable[[], Jail]) -> None:
        self._store, self._buckets, self._jail = store, buckets, jail

    @property
    def kind(self) -> PixelKind:
        """The entry of the kinds table."""
        return PixelKind(STEPS, self.run)

    async def run(self, job: Job) -> AsyncIterator[StepDone]:
        """Look at the photo; raises `Refusal` when no attempt could."""
        try:
            yield await self._look(_WANTED.decode(job.payload))
        except ObjectAbsent as absent:
            raise Refusal("original-gone", NotAnalysed()) from absent
        except Rejected as rejected:
            raise Refusal(rejected.reason.value, NotAnalysed()) from rejected
        except OutOfMemory as error:
            raise Refusal("needs-too-much-memory", NotAnalysed()) from error
        except (DeadlineExceeded, ChildDied, PixelFailure) as error:
            if job.attempt < PATIENCE:
                raise
            raise Refusal("breaks-analysis", NotAnalysed()) from error

    async def _look(self, wanted: Analyse) -> StepDone:
        raw, ancestor = await asyncio.gather(
            self._store.get(self._buckets.originals, keys.original(wanted.asset)),
            self._store.get(self._buckets.ancestors, keys.ancestor(wanted.asset, wanted.engine)),
        )
        jail = await asyncio.to_thread(self._jail)
        with tracing.span("child analyse"):
            running = jail.arun("analyse", b"", [raw, ancestor], DEADLINE_S)
            found = {output.name: output.data async for output in running}
        analyse.decode(found["analysis"])  # from an untrusted child: it must be what it says
        likeness = msgspec.json.decode(found["fingerprint"], type=Fingerprint)
        body = Analysed(
            analysis=msgspec.Raw(found["analysis"]),
            fingerprint=likeness.bits,
            fingerprint_quality=likeness.quality,
        )
        return StepDone(step="analyse", body=body, engine=f"analysis-{analyse.REVISION}")

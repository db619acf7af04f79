"""Analysis: what a ready photo shows, how good it is, what looks like it, what it suits. The jail looks.

A job of its own, after the previews: the models need a large child of their own, and nobody waits for them. They look
at the ancestor; the photo's quality was measured and stored at ingest. Where it was not (a photo of an earlier release,
one too large to be kept in memory, an ingest that was killed and went on from the ancestor) the original is read once
more, and counted. Two steps: `analyse`, whose findings are stored beside the ancestor before it is answered, and
`readiness`, a pure function of them and of the photo's size: a retried job reads them and looks at no pixel.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from prometheus_client import Counter

from base import keys, tracing
from base.ingest import Analyse, Analysed, NotAnalysed, PrintFit, Suited
from base.jobs import Job
from base.objects import Buckets, ObjectAbsent, ObjectStore
from imagecore import analyse, measuring, readiness
from imagecore.errors import ChildDied, DeadlineExceeded, OutOfMemory, PixelFailure, Rejected
from imagecore.facts import parse
from imagecore.jail import Jail
from imagecore.likeness import Fingerprint
from imagecore.readiness import Judged
from tasks.pixel.worker import PixelKind, Refusal, StepDone

STEPS: Final = ("analyse", "readiness")
DEADLINE_S: Final = 60
PATIENCE: Final = 2
ORIGINALS: Final = Counter(
    "tirage_analysis_originals_total", "Originals read by the analysis, since no quality was stored at ingest"
)
_ENGINE: Final = f"analysis-{analyse.REVISION}"
_WANTED: Final = msgspec.json.Decoder(Analyse)
_KEPT: Final = msgspec.json.Decoder(Analysed)


class Analyst:
    """Runs `asset.analyse` with one store; the jail with the models is opened at the first job."""

    def __init__(self, store: ObjectStore, buckets: Buckets, jail: Callable[[], Jail]) -> None:
        self._store, self._buckets, self._jail = store, buckets, jail

    @property
    def kind(self) -> PixelKind:
        """The entry of the kinds table."""
        return PixelKind(STEPS, self.run)

    async def run(self, job: Job) -> AsyncIterator[StepDone]:
        """Look at the photo, then hold it against every target size; raises `Refusal` when no attempt could."""
        wanted = _WANTED.decode(job.payload)
        try:
            if "analyse" in job.done:
                seen = _KEPT.decode(await self._store.get(self._buckets.ancestors, _kept(wanted)))
            else:
                seen = await self._look(wanted)
                yield StepDone(step="analyse", body=seen, engine=_ENGINE)
            yield StepDone(step="readiness", body=await self._suited(wanted, seen), engine=_ENGINE)
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

    async def _suited(self, wanted: Analyse, seen: Analysed) -> Suited:
        facts = parse(await self._store.get(self._buckets.ancestors, keys.facts(wanted.asset, wanted.engine)))
        seen_on_it = analyse.decode(bytes(seen.analysis))
        found = readiness.survey(facts.width or 1, facts.height or 1, seen_on_it, hdr=facts.is_hdr)
        return Suited(prints=tuple(_fit(one) for one in found))

    async def _look(self, wanted: Analyse) -> Analysed:
        ancestor, quality = await asyncio.gather(
            self._store.get(self._buckets.ancestors, keys.ancestor(wanted.asset, wanted.engine)),
            self._quality(wanted),
        )
        inputs = [ancestor] if quality else [ancestor, await self._original(wanted)]
        jail = await asyncio.to_thread(self._jail)
        with tracing.span("child analyse"):
            running = jail.arun("analyse", quality, inputs, DEADLINE_S)
            found = {output.name: output.data async for output in running}
        analyse.decode(found["analysis"])  # from an untrusted child: it must be what it says
        likeness = msgspec.json.decode(found["fingerprint"], type=Fingerprint)
        seen = Analysed(
            analysis=msgspec.Raw(found["analysis"]),
            fingerprint=likeness.bits,
            fingerprint_quality=likeness.quality,
        )
        await self._store.put(self._buckets.ancestors, _kept(wanted), msgspec.json.encode(seen), "application/json")
        return seen

    async def _quality(self, wanted: Analyse) -> bytes:
        """What ingest measured, as it was stored; empty where it was not."""
        key = keys.quality(wanted.asset, wanted.engine, measuring.REVISION)
        try:
            return await self._store.get(self._buckets.ancestors, key)
        except ObjectAbsent:
            return b""

    async def _original(self, wanted: Analyse) -> bytes:
        ORIGINALS.inc()
        return await self._store.get(self._buckets.originals, keys.original(wanted.asset))


def _kept(wanted: Analyse) -> str:
    return keys.analysis(wanted.asset, wanted.engine, analyse.REVISION)


def _fit(one: Judged) -> PrintFit:
    return PrintFit(
        output=one.class_.value,
        width_um=one.trim_um[0],
        height_um=one.trim_um[1],
        ppi=one.readiness.ppi,
        lost=one.readiness.lost,
        level=None if one.level is None else one.level.value,
        findings=tuple(finding.code.value for finding in one.readiness.findings),
    )

"""Ingest: from an original's bytes to facts, ancestor and previews. The jail decodes; this process fetches and stores.

Three steps: `validate` (hash, inspection, ancestor), `first_previews` (200 and 400 px, placeholder), `previews` (the
rest). What a step answers is stored before it answers; the ancestor's half is stored with the attempt's first
rendition. The photo's quality is measured last, on the pixels that are decoded already, and stored before `previews` is
answered: the analysis that follows needs no original. A retried job makes only what is missing, from the stored
ancestor: the half and every rung are functions of the ancestor's bytes, so they come out the same; quality stays absent
then. What takes more time or memory than a job may is made lighter, under a key of its own; the wanted key stays empty,
and the step says so.
"""

import asyncio
import contextlib
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import Counter

from base import keys, telemetry, tracing
from base.ingest import Ingest, Previews, Refused, Rendition, Validated
from base.jobs import Job
from base.objects import Buckets, ObjectAbsent, ObjectExists, ObjectStore
from imagecore import engine, measuring
from imagecore import recipe as recipes
from imagecore.errors import ChildDied, DeadlineExceeded, OutOfMemory, PixelFailure, Rejected
from imagecore.facts import parse_report
from imagecore.jail import Jail
from imagecore.jail_wire import Output
from tasks import policy
from tasks.pixel.pushing import Pushes, PushTo
from tasks.pixel.worker import PixelKind, Refusal, StepDone

log = telemetry.logger(__name__)

STEPS: Final = ("validate", "first_previews", "previews")
FIRST: Final = 2  # rungs that can be shown before the rest is encoded
CEILING_S: Final = 40
FALLBACK_S: Final = 20

_CONTENT: Final[Mapping[str, str]] = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
BEYOND: Final = (DeadlineExceeded, OutOfMemory, ChildDied, PixelFailure)
BEYOND_DECODING: Final[Mapping[type[Exception], str]] = {
    DeadlineExceeded: "needs-too-much-time",
    ChildDied: "breaks-decoder",
}
BLAMED: Final = frozenset(policy.crash(kind) for kind in BEYOND_DECODING)  # twice in a row: the file's fault
FALLBACKS: Final = Counter("tirage_ingest_fallbacks_total", "Ladders finished with fallback recipes", ("reason",))
_INGEST: Final = msgspec.json.Decoder(Ingest)


class _Made(msgspec.Struct, frozen=True):
    """What the jail says of a rendition."""

    recipe: str
    extension: str
    width: int
    height: int


class _Climb:
    """The ladder of one attempt: its parent, once there is one, what is still to be made, and what is made."""

    def __init__(self, asset: str, wanted: list[recipes.Recipe], first: int, pushes: Pushes) -> None:
        self.asset, self.missing, self._first = asset, wanted, first
        self.is_first = first > 0
        self.facts = self.parent = self.half = self.thumbhash = b""
        self.reason: str | None = None
        self.made: list[Rendition] = []
        self.last: StepDone | None = None
        self.pushes = pushes

    @property
    def wants_placeholder(self) -> bool:
        """Whether the first previews, which carry it, are still to be answered."""
        return self._first > 0 and not self.thumbhash

    def params(self) -> bytes:
        """Of the operation `ladder`, for what is missing."""
        texts = [recipes.text(recipe) for recipe in self.missing]
        return msgspec.msgpack.encode({"recipes": texts, "facts": self.facts, "thumbhash": self.wants_placeholder})

    def fall_back(self, reason: str) -> None:
        """What is missing is made lighter, and the steps it belongs to say why."""
        self.reason = f"fallback/{reason}"
        self.missing = [recipes.fallback(recipe) for recipe in self.missing]

    def step(self) -> tuple[str, Previews] | None:
        """The step that the rendition made last completes, if any."""
        if self._first and len(self.made) == self._first:
            return "first_previews", _previews(self.made, self.thumbhash)
        return None if self.missing else ("previews", _previews(self.made[self._first :], b""))


class Ingestor:
    """Runs ingest jobs with one store and one jail; previews are pushed to the edges that want them.

    The original is decoded at most once an attempt, and the ladder with it, in `ceiling_s` seconds and the child's
    memory. What of the ladder is beyond either is made once more, from the stored ancestor, by its fallback recipe.
    The decode itself has no lighter way: a photo that cannot be decoded whole cannot be printed, and is rejected with
    what it needs too much of (`docs/uploads.md`).
    """

    def __init__(
        self,
        store: ObjectStore,
        buckets: Buckets,
        jail: Jail,
        targets: Sequence[PushTo] = (),
        ceiling_s: float = CEILING_S,
    ) -> None:
        self._store, self._buckets, self._jail, self._targets = store, buckets, jail, targets
        self._engine, self._ceiling_s = engine.revision(), ceiling_s

    @property
    def kind(self) -> PixelKind:
        """The entry of the kinds table."""
        return PixelKind(STEPS, self.run)

    async def run(self, job: Job) -> AsyncIterator[StepDone]:
        """Answer the steps that are not done yet; raises `Refusal` for a file that is no printable photo."""
        told = _INGEST.decode(job.payload)
        try:
            steps = self._rest(told, job.done) if "validate" in job.done else self._whole(told)
            async with contextlib.aclosing(steps):
                async for done in steps:
                    yield done
        except Rejected as rejected:
            raise Refusal(rejected.reason.value, Refused(sha256=None, bytes=told.bytes)) from rejected
        except ObjectAbsent:
            await self._original(told)  # gone with it: the photo was erased while we worked
            raise
        except OutOfMemory as failure:
            raise Refusal("needs-too-much-memory", Refused(sha256=None, bytes=told.bytes)) from failure
        except (DeadlineExceeded, ChildDied) as failure:
            if job.last_reason not in BLAMED:  # the machine may have been busy, or another job broke the child
                raise
            raise Refusal(BEYOND_DECODING[type(failure)], Refused(sha256=None, bytes=told.bytes)) from failure

    async def _whole(self, told: Ingest) -> AsyncGenerator[StepDone, None]:
        """Every step, from one decode of the original."""
        raw, digest = await self._original(told)
        climb, head = _Climb(told.asset, self._ladder(0), FIRST, self._pushes(told)), {"report": b"", "facts": b""}
        params = msgspec.msgpack.encode({"recipes": [recipes.text(r) for r in climb.missing], "extension": None})
        try:
            async with self._running("ingest", params, raw, self._ceiling_s) as outputs:
                async for output in outputs:
                    if output.name in head:
                        head[output.name] = output.data
                    elif output.name == "ancestor":
                        await self._keep_ancestor(told.asset, output.data, head["facts"])
                        climb.parent, climb.facts = output.data, head["facts"]
                        yield self._done("validate", _validated(digest, **head))
                    elif done := await self._take(climb, output):
                        yield done
        except BEYOND as failure:
            if not climb.parent:
                raise
            climb.fall_back(failure.code)
        async for done in self._ended(climb):
            yield done

    async def _rest(self, told: Ingest, done: tuple[str, ...]) -> AsyncGenerator[StepDone, None]:
        """The steps after `validate` that are not done, from the stored ancestor."""
        begun = FIRST if "first_previews" in done else 0
        climb = _Climb(told.asset, self._ladder(begun), FIRST - begun, self._pushes(told))
        bucket = self._buckets.ancestors
        climb.parent, climb.facts = await asyncio.gather(
            self._store.get(bucket, keys.ancestor(told.asset, self._engine)),
            self._store.get(bucket, keys.facts(told.asset, self._engine)),
        )
        try:
            async for step in self._climbed(climb, self._ceiling_s):
                yield step
        except BEYOND as failure:
            climb.fall_back(failure.code)
        async for step in self._ended(climb):
            yield step

    async def _ended(self, climb: _Climb) -> AsyncGenerator[StepDone, None]:
        """What was beyond the ceiling, by its fallback recipe; then the last step, now that all is stored."""
        if climb.missing:
            FALLBACKS.labels(climb.reason).inc()
            log.warning("ladder_falls_back", asset=climb.asset, reason=climb.reason, missing=len(climb.missing))
            async for step in self._climbed(climb, FALLBACK_S):
                yield step
        if climb.last:
            yield climb.last
        await climb.pushes.settle()

    async def _climbed(self, climb: _Climb, seconds: float) -> AsyncGenerator[StepDone, None]:
        async with self._running("ladder", climb.params(), climb.parent, seconds) as outputs:
            async for output in outputs:
                if done := await self._take(climb, output):
                    yield done

    @contextlib.asynccontextmanager
    async def _running(
        self, operation: str, params: bytes, data: bytes, seconds: float
    ) -> AsyncIterator[AsyncGenerator[Output, None]]:
        with tracing.span(f"child {operation}"):
            async with contextlib.aclosing(self._jail.arun(operation, params, [data], seconds)) as outputs:
                yield outputs

    async def _take(self, climb: _Climb, output: Output) -> StepDone | None:
        """Keep one output after the ancestor; the answer of the step that it completes, but the last's, which waits."""
        if output.name == "thumbhash":
            climb.thumbhash = output.data
            return None
        if output.name == "half":
            climb.half = output.data
            return None
        if output.name == "quality":
            await self._keep_quality(climb.asset, output.data)
            return None
        if not climb.is_first:
            await climb.pushes.settle()
        kept, _ = await asyncio.gather(self._keep(climb.asset, output), self._keep_half(climb))
        climb.made.append(kept)
        side, climb.missing = climb.missing[0].width, climb.missing[1:]
        climb.pushes.begin(side, climb.made[-1], output.data)
        done = climb.step()
        climb.is_first = climb.is_first and done is None
        if done is None:
            return None
        answer = StepDone(step=done[0], body=done[1], engine=self._engine, reason=climb.reason)
        if climb.missing:
            return answer
        climb.last = answer
        return None

    async def _original(self, told: Ingest) -> tuple[bytes, str]:
        """The original's bytes and SHA-256; refused when they are not what was declared."""
        try:
            raw = await self._store.get(self._buckets.originals, keys.original(told.asset))
        except ObjectAbsent as absent:
            raise Refusal("original-gone", Refused(sha256=None, bytes=0)) from absent
        digest = (await asyncio.to_thread(hashlib.sha256, raw)).hexdigest()
        if len(raw) != told.bytes:
            raise Refusal("size-mismatch", Refused(sha256=digest, bytes=len(raw)))
        if told.sha256 not in (None, digest):
            raise Refusal("file-digest-mismatch", Refused(sha256=digest, bytes=len(raw)))
        return raw, digest

    async def _keep_ancestor(self, asset: str, ancestor: bytes, facts: bytes) -> None:
        bucket = self._buckets.ancestors
        await asyncio.gather(
            self._store.put(bucket, keys.ancestor(asset, self._engine), ancestor, "image/jpeg"),
            self._store.put(bucket, keys.facts(asset, self._engine), facts, "application/json"),
        )

    async def _keep_quality(self, asset: str, told: bytes) -> None:
        """Store the figures, as we write them: the child is not trusted with more than their values."""
        key = keys.quality(asset, self._engine, measuring.REVISION)
        kept = measuring.encode(measuring.decode(told))
        await self._store.put(self._buckets.ancestors, key, kept, "application/json")

    async def _keep_half(self, climb: _Climb) -> None:
        """Store the half, once an attempt; at the same time as the first rendition, so that nothing waits for it."""
        if climb.half:
            key = keys.half(climb.asset, self._engine)
            await self._store.put(self._buckets.ancestors, key, climb.half, "image/jpeg")
            climb.half = b""

    async def _keep(self, asset: str, output: Output) -> Rendition:
        """Store a rendition once; that it is there already is as good, since its bytes are a function of its key."""
        made = msgspec.json.decode(output.facts, type=_Made)
        key = keys.derivative(asset, made.recipe, made.extension)
        with contextlib.suppress(ObjectExists):
            await self._store.put_new(self._buckets.derivatives, key, output.data, _CONTENT[made.extension])
        return Rendition(
            recipe=made.recipe,
            extension=made.extension,
            width=made.width,
            height=made.height,
            bytes=len(output.data),
            sha256=hashlib.sha256(output.data).hexdigest(),
        )

    def _pushes(self, told: Ingest) -> Pushes:
        return Pushes(self._targets, told.asset)

    def _ladder(self, begun: int) -> list[recipes.Recipe]:
        return [recipes.rung(side, self._engine) for side in recipes.RUNGS[begun:]]

    def _done(self, step: str, body: msgspec.Struct) -> StepDone:
        return StepDone(step=step, body=body, engine=self._engine)


def _validated(digest: str, report: bytes, facts: bytes) -> Validated:
    found = parse_report(report)
    assert found.facts.width is not None
    assert found.facts.height is not None
    return Validated(
        sha256=digest,
        bytes=found.facts.bytes,
        format=found.facts.format,
        width=found.facts.width,
        height=found.facts.height,
        notes=tuple(note.value for note in found.notes),
        facts=msgspec.Raw(facts.rstrip(b"\n")),
    )


def _previews(made: list[Rendition], thumbhash: bytes) -> Previews:
    return Previews(renditions=tuple(made), thumbhash=b64encode(thumbhash).decode() if thumbhash else None)

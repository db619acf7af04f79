"""Ingest: from an original's bytes to facts, ancestor and previews. The jail decodes; this process fetches and stores.

Three steps: `validate` (hash, inspection, ancestor), `first_previews` (200 and 400 px, placeholder), `previews` (the
rest). What a step answers is stored before it answers. A retried job makes only what is missing, from the stored
ancestor: every rung is a function of the ancestor's bytes, so they come out the same.
"""

import asyncio
import contextlib
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final

import msgspec

from base import keys, telemetry, tracing
from base.edges import EdgeClient
from base.errors import ServiceUnavailable
from base.ingest import Ingest, Previews, Refused, Rendition, Validated
from base.jobs import Job
from base.objects import Buckets, ObjectAbsent, ObjectExists, ObjectStore
from imagecore import engine
from imagecore import recipe as recipes
from imagecore.errors import ChildDied, DeadlineExceeded, OutOfMemory, Rejected
from imagecore.facts import parse_report
from imagecore.jail import Jail
from imagecore.jail_wire import Output
from tasks.pixel.worker import PixelKind, Refusal, StepDone

log = telemetry.logger(__name__)

STEPS: Final = ("validate", "first_previews", "previews")
FIRST: Final = 2  # rungs that can be shown before the rest is encoded
PUSH_S: Final = 2  # how long the rest may wait for the first previews to be at the edge
DEADLINE_S: Final = 40
PATIENCE: Final = 2  # attempts after which a file that breaks its child is the file's fault

_CONTENT: Final[Mapping[str, str]] = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
_INGEST: Final = msgspec.json.Decoder(Ingest)


class _Made(msgspec.Struct, frozen=True):
    """What the jail says of a rendition."""

    recipe: str
    extension: str
    width: int
    height: int


class Ingestor:
    """Runs ingest jobs with one store and one jail; first previews are pushed to `edge`, if there is one."""

    def __init__(self, store: ObjectStore, buckets: Buckets, jail: Jail, edge: EdgeClient | None = None) -> None:
        self._store, self._buckets, self._jail, self._edge = store, buckets, jail, edge
        self._engine = engine.revision()

    @property
    def kind(self) -> PixelKind:
        """The entry of the kinds table."""
        return PixelKind(STEPS, self.run)

    async def run(self, job: Job) -> AsyncIterator[StepDone]:
        """Answer the steps that are not done yet; raises `Refusal` for a file that is no printable photo."""
        told = _INGEST.decode(job.payload)
        try:
            steps = self._rest(told) if "first_previews" in job.done else self._whole(told, job.done)
            async with contextlib.aclosing(steps):
                async for done in steps:
                    yield done
        except Rejected as rejected:
            raise Refusal(rejected.reason.value, Refused(sha256=None, bytes=told.bytes)) from rejected
        except OutOfMemory as failure:
            raise Refusal("needs-too-much-memory", Refused(sha256=None, bytes=told.bytes)) from failure
        except (DeadlineExceeded, ChildDied) as failure:
            if job.attempt < PATIENCE:
                raise
            raise Refusal("breaks-decoder", Refused(sha256=None, bytes=told.bytes)) from failure

    async def _whole(self, told: Ingest, done: tuple[str, ...]) -> AsyncGenerator[StepDone, None]:
        """Every step that is not done, from one decode of the original."""
        raw, digest = await self._original(told)
        report = facts = thumbhash = b""
        made: list[Rendition] = []
        pushes: list[asyncio.Task[None]] = []
        params = msgspec.msgpack.encode({"recipes": [recipes.text(r) for r in self._ladder()], "extension": None})
        with tracing.span("child ingest"):
            async with contextlib.aclosing(self._jail.arun("ingest", params, [raw], DEADLINE_S)) as outputs:
                async for output in outputs:
                    if output.name == "report":
                        report = output.data
                    elif output.name == "facts":
                        facts = output.data
                    elif output.name == "ancestor":
                        await self._keep_ancestor(told.asset, output.data, facts)
                        if "validate" not in done:
                            yield self._done("validate", _validated(digest, report, facts))
                    elif output.name == "thumbhash":
                        thumbhash = output.data
                    else:
                        made.append(await self._keep(told.asset, output))
                        self._begin_push(told.asset, made, output.data, pushes)
                        if len(made) == FIRST:
                            yield self._done("first_previews", _previews(made, thumbhash))
                            await _settle(pushes)
        yield self._done("previews", _previews(made[FIRST:], b""))

    async def _rest(self, told: Ingest) -> AsyncGenerator[StepDone, None]:
        """The last step alone, from the stored ancestor."""
        bucket = self._buckets.ancestors
        parent, facts = await asyncio.gather(
            self._store.get(bucket, keys.ancestor(told.asset, self._engine)),
            self._store.get(bucket, keys.facts(told.asset, self._engine)),
        )
        made = [await self._render(told.asset, recipe, facts, parent) for recipe in self._ladder()[FIRST:]]
        yield self._done("previews", _previews(made, b""))

    async def _render(self, asset: str, recipe: recipes.Recipe, facts: bytes, parent: bytes) -> Rendition:
        params = msgspec.msgpack.encode({"recipe": recipes.text(recipe), "facts": facts})
        with tracing.span("child render"):
            outputs = [output async for output in self._jail.arun("render", params, [parent], DEADLINE_S)]
        return await self._keep(asset, outputs[0])

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

    def _begin_push(self, asset: str, made: list[Rendition], data: bytes, pushes: "list[asyncio.Task[None]]") -> None:
        if self._edge is not None and len(made) <= FIRST:
            pushes.append(asyncio.create_task(_push(self._edge, asset, made[-1], data)))

    def _ladder(self) -> list[recipes.Recipe]:
        return [recipes.rung(side, self._engine) for side in recipes.RUNGS]

    def _done(self, step: str, body: msgspec.Struct) -> StepDone:
        return StepDone(step=step, body=body, engine=self._engine)


async def _push(edge: EdgeClient, asset: str, made: Rendition, data: bytes) -> None:
    """Hand a first preview to the edge; what fails is fetched when somebody asks for it."""
    try:
        if not await edge.push(asset, made.recipe, made.extension, data):
            log.warning("push_refused", asset=asset, recipe=made.recipe)
    except ServiceUnavailable as error:
        log.warning("push_failed", asset=asset, detail=str(error))


async def _settle(pushes: list[asyncio.Task[None]]) -> None:
    """Let pushes end, for a short time: an edge that hangs holds up no photo."""
    if pushes:
        _, late = await asyncio.wait(pushes, timeout=PUSH_S)
        for task in late:
            task.cancel()


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

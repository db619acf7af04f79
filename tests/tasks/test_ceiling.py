"""What a job may take: a ladder beyond it is finished lighter, the step says so; a retry redoes what is missing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from base import ids, ingest, keys
from base.jobs import Job
from base.objects import Buckets, ObjectAbsent, ObjectStore
from imagecore import measuring, vips
from imagecore import recipe as recipes
from imagecore.errors import ChildDied, DeadlineExceeded
from imagecore.jail import Jail
from tasks import policy
from tasks.pixel.ingest import Ingestor
from tasks.pixel.worker import Refusal, StepDone
from tests.conftest import store_of

TABLE = """
import time
from imagecore import render

OPERATIONS = {{"ingest": "jail_table:stuck", "ladder": "imagecore.render:from_ancestor"}}


def stuck(params, inputs):
    made = 0
    for output in render.ingest(params, inputs):
        if {after} < 0 and output.name == "ancestor":
            {deed}
        if output.name == "rendition":
            if made == {after}:
                {deed}
            made += 1
        if output.name == "quality" and {after} == made:
            {deed}
        yield output
"""
DEEDS = {"time": "time.sleep(3600)", "memory": "raise MemoryError", "death": "import os; os.abort()"}


class Reads:
    """The worker's store, which counts what is read of originals."""

    def __init__(self, store: ObjectStore, originals: str) -> None:
        self._store, self._originals, self.count = store, originals, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def get(self, bucket: str, key: str) -> bytes:
        self.count += bucket == self._originals
        return await self._store.get(bucket, key)


@pytest.fixture
def reads(stack_env: dict[str, str], buckets: Buckets) -> Iterator[Reads]:
    store = store_of(stack_env, "PIXEL")
    yield Reads(store, buckets.originals)
    store.close()


@pytest.fixture(scope="module")
def raw() -> bytes:
    rows = np.random.default_rng(3).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    return bytes(vips.from_pixels(rows.data, 150, 100, 3, wide=False, owner=rows).resize(14).jpegsave_buffer(Q=90))


Open = Callable[[int, str], Jail]


@pytest.fixture
def misbehaving(tmp_path: Path) -> Iterator[Open]:
    """`misbehaving(after, deed)`: a jail whose `ingest` does that in place of its next rendition, or of quality."""
    opened: list[Jail] = []

    def open_(after: int, deed: str) -> Jail:
        table = tmp_path / "table.py"
        table.write_text(TABLE.format(after=after, deed=DEEDS[deed]))
        opened.append(Jail.open(preload=("ladder",), table=table))
        return opened[-1]

    yield open_
    for jail in opened:
        jail.close()


async def planned(record_store: ObjectStore, buckets: Buckets, raw: bytes, *done: str) -> Job:
    asset = ids.encode("asset", uuid4())
    await record_store.put(buckets.originals, keys.original(asset), raw, "image/jpeg")
    payload = msgspec.json.encode(ingest.Ingest(asset=asset, bytes=len(raw), sha256=None))
    return Job(
        id=uuid4(), kind=ingest.KIND, region="home", lane="preview", attempt=1, nonce=b"n" * 16, deadline=None,
        time_limit_s=60, owner_id=None, payload=payload, done=done,
    )  # fmt: skip


def told(steps: list[StepDone]) -> list[tuple[str, str | None, list[tuple[int, str]]]]:
    """Step, reason, and the box and class of each rendition."""
    found = []
    for step in steps:
        made = step.body.renditions if isinstance(step.body, ingest.Previews) else ()
        parsed = [recipes.parse(one.recipe) for one in made]
        found.append((step.step, step.reason, [(one.width, one.class_) for one in parsed]))
    return found


@pytest.mark.parametrize(
    ("after", "deed", "reason"),
    [
        (1, "memory", "out-of-memory"),
        pytest.param(2, "time", "deadline-exceeded", marks=pytest.mark.soak),
        pytest.param(3, "death", "child-died", marks=pytest.mark.soak),
    ],
)
async def test_a_ladder_beyond_its_ceiling_is_finished_lighter(
    misbehaving: Open, reads: Reads, record_store: ObjectStore, buckets: Buckets, raw: bytes, after: int, deed: str,
    reason: str,
) -> None:  # fmt: skip
    ceiling = {"ceiling_s": 15} if deed == "time" else {}  # the others end by themselves
    ingestor = Ingestor(reads, buckets, misbehaving(after, deed), **ceiling)  # type: ignore[arg-type]
    job = await planned(record_store, buckets, raw)
    steps = [step async for step in ingestor.run(job)]
    classes = ["preview"] * after + ["fallback"] * (4 - after)
    rungs = list(zip(recipes.RUNGS, classes, strict=True))
    said = f"fallback/{reason}"
    assert told(steps) == [
        ("validate", None, []),
        ("first_previews", said if after < 2 else None, rungs[:2]),
        ("previews", said, rungs[2:]),
    ]
    asset = msgspec.json.decode(job.payload)["asset"]
    engine = steps[0].engine or ""
    for side, class_ in rungs:
        wanted = recipes.rung(side, engine)
        made = wanted if class_ == "preview" else recipes.fallback(wanted)
        assert await record_store.get(buckets.derivatives, keys.derivative(asset, recipes.text(made), "jpg"))
        if class_ == "fallback":  # the wanted key stays empty
            with pytest.raises(ObjectAbsent):
                await record_store.get(buckets.derivatives, keys.derivative(asset, recipes.text(wanted), "jpg"))
    assert isinstance(steps[1].body, ingest.Previews)
    assert steps[1].body.thumbhash
    assert await record_store.get(buckets.ancestors, keys.half(asset, engine))
    assert reads.count == 1


async def test_quality_beyond_the_ceiling_is_left_to_the_analysis(
    misbehaving: Open, reads: Reads, record_store: ObjectStore, buckets: Buckets, raw: bytes
) -> None:
    """All previews are made by then, and are answered as they are."""
    ingestor = Ingestor(reads, buckets, misbehaving(4, "death"))  # type: ignore[arg-type]
    job = await planned(record_store, buckets, raw)
    rungs = [(side, "preview") for side in recipes.RUNGS]
    steps = [step async for step in ingestor.run(job)]
    assert told(steps) == [
        ("validate", None, []),
        ("first_previews", None, rungs[:2]),
        ("previews", None, rungs[2:]),
    ]
    assert await qualities(record_store, buckets, job) == []


async def qualities(record_store: ObjectStore, buckets: Buckets, job: Job) -> list[bytes]:
    """What is stored of an asset's quality."""
    asset = msgspec.json.decode(job.payload)["asset"]
    found = [key for key in await record_store.list_keys(buckets.ancestors, asset) if "quality" in key]
    return [await record_store.get(buckets.ancestors, key) for key in found]


async def test_quality_is_stored_before_the_step_is_answered_that_makes_the_photo_ready(
    reads: Reads, record_store: ObjectStore, buckets: Buckets, raw: bytes
) -> None:
    job, seen = await planned(record_store, buckets, raw), dict[str, list[bytes]]()
    with Jail.open(preload=("ingest",)) as jail:
        async for step in Ingestor(reads, buckets, jail).run(job):  # type: ignore[arg-type]
            seen[step.step] = await qualities(record_store, buckets, job)
    assert seen["previews"] == [measuring.encode(measuring.quality_of(raw))]
    assert seen["validate"] == seen["first_previews"] == []


@pytest.mark.parametrize(
    ("deed", "before", "reason"),
    [
        ("memory", (), "needs-too-much-memory"),
        ("death", (None, "crash/deadlockdetectederror", "unanswered"), "breaks-decoder"),
        ("time", (None,), "needs-too-much-time"),
    ],
)
async def test_a_decode_beyond_its_ceiling_is_a_rejection_that_says_so(
    misbehaving: Open, reads: Reads, record_store: ObjectStore, buckets: Buckets, raw: bytes, deed: str,
    before: tuple[str | None, ...], reason: str,
) -> None:  # fmt: skip
    """Whose fault it is, is asked once more where a busy machine could be to blame; then nothing is left of it."""
    ingestor = Ingestor(reads, buckets, misbehaving(-1, deed), ceiling_s=1 if deed == "time" else 30)  # type: ignore[arg-type]
    job = await planned(record_store, buckets, raw)
    for attempt, ended in enumerate(before, 1):
        job = msgspec.structs.replace(job, attempt=attempt, last_reason=ended)
        with pytest.raises((DeadlineExceeded, ChildDied)) as failed:
            [step async for step in ingestor.run(job)]
        job = msgspec.structs.replace(job, attempt=attempt + 1, last_reason=policy.reason(failed.value))
    with pytest.raises(Refusal) as refused:
        [step async for step in ingestor.run(job)]
    assert refused.value.reason == reason
    asset = msgspec.json.decode(job.payload)["asset"]
    assert [await record_store.list_keys(bucket, asset) for bucket in (buckets.ancestors, buckets.derivatives)] == [
        [],
        [],
    ]
    assert reads.count == len(before) + 1


async def test_a_retry_redoes_only_what_is_missing_and_decodes_nothing_again(
    reads: Reads, record_store: ObjectStore, buckets: Buckets, raw: bytes
) -> None:
    with Jail.open(preload=("ingest", "ladder")) as jail:
        ingestor = Ingestor(reads, buckets, jail)  # type: ignore[arg-type]
        job = await planned(record_store, buckets, raw)
        whole = [step async for step in ingestor.run(job)]
        assert reads.count == 1
        await record_store.delete(buckets.originals, keys.original(msgspec.json.decode(job.payload)["asset"]))
        kept = buckets.ancestors, keys.half(msgspec.json.decode(job.payload)["asset"], whole[0].engine or "")
        half = await record_store.get(*kept)
        for done in (("validate",), ("validate", "first_previews")):
            await record_store.delete(*kept)
            again = [step async for step in ingestor.run(msgspec.structs.replace(job, done=done, attempt=2))]
            assert again == whole[len(done) :]
            assert await record_store.get(*kept) == half
    assert reads.count == 1

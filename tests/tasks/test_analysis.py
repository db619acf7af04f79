"""`asset.analyse` on real storage: findings and fingerprint of a photo, and refusals that name their cause."""

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from base import ids, ingest, keys
from base.jobs import Job
from base.objects import Buckets, ObjectStore
from imagecore import analyse, measuring, readiness, render, vips
from imagecore.facts import canonical
from imagecore.jail import Jail
from tasks.pixel.analysis import ORIGINALS, Analyst
from tasks.pixel.worker import Refusal, StepDone
from tests.conftest import store_of


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail.open(analyse.LIMITS, preload=("analyse",)) as jail:
        yield jail


@pytest.fixture
def analyst(stack_env: dict[str, str], buckets: Buckets, jail: Jail) -> Iterator[Analyst]:
    store = store_of(stack_env, "PIXEL")
    yield Analyst(store, buckets, lambda: jail)
    store.close()


@pytest.fixture
def raw() -> bytes:
    rows = np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return bytes(vips.from_pixels(rows.data, 60, 40, 3, wide=False, owner=rows).resize(10).jpegsave_buffer(Q=90))


@pytest.fixture
async def asset(record_store: ObjectStore, buckets: Buckets, raw: bytes) -> str:
    """A photo as it is once it was ingested, but for its quality; its original is gone."""
    name = ids.encode("asset", uuid4())
    report, ancestor = render.ancestor(raw)
    facts = canonical(report.facts)
    await record_store.put(buckets.ancestors, keys.ancestor(name, "engine1"), ancestor, "image/jpeg")
    await record_store.put(buckets.ancestors, keys.facts(name, "engine1"), facts, "application/json")
    return name


def job(asset: str, *done: str) -> Job:
    payload = msgspec.json.encode(ingest.Analyse(asset=asset, engine="engine1"))
    return Job(
        id=uuid4(), kind=ingest.ANALYSE, region="home", lane="bulk", attempt=1, nonce=b"n" * 16, deadline=None,
        time_limit_s=60, owner_id=None, payload=payload, done=done,
    )  # fmt: skip


def originals_read() -> float:
    """By any analysis of this process."""
    (metric,) = ORIGINALS.collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def looked(analyst: Analyst, job: Job) -> list[StepDone]:
    return [step async for step in analyst.run(job)]


async def test_what_is_seen_is_answered(
    analyst: Analyst, record_store: ObjectStore, buckets: Buckets, raw: bytes, asset: str
) -> None:
    """From what ingest stored alone: there is no original to read."""
    kept = measuring.quality_of(raw)
    key = keys.quality(asset, "engine1", measuring.REVISION)
    await record_store.put(buckets.ancestors, key, measuring.encode(kept), "application/json")
    before = originals_read()
    done, suited = await looked(analyst, job(asset))
    assert originals_read() == before
    assert (done.step, done.engine) == ("analyse", f"analysis-{analyse.REVISION}")
    assert isinstance(suited.body, ingest.Suited)
    usual = [(name, trim) for name, sizes in readiness.TARGETS.items() for trim in sizes]
    assert [(one.output, (one.width_um, one.height_um)) for one in suited.body.prints] == usual
    assert [one.ppi for one in suited.body.prints[:3]] == [95, 77, 49]  # 400 pixels on 106, 131, 207 mm
    assert {one.level for one in suited.body.prints} == {"reject"}
    assert await looked(analyst, job(asset, "analyse")) == [suited]  # a retry looks at no pixel
    assert isinstance(done.body, ingest.Analysed)
    ancestor = await record_store.get(buckets.ancestors, keys.ancestor(asset, "engine1"))
    found = analyse.decode(bytes(done.body.analysis))
    assert kept is not None
    assert found == analyse.analyse(raw, ancestor)
    assert found.quality == kept
    likeness = analyse.fingerprint_of(ancestor)
    assert (done.body.fingerprint, done.body.fingerprint_quality) == (likeness.bits, likeness.quality)


async def test_where_no_quality_was_kept_the_original_tells_it_and_that_is_counted(
    analyst: Analyst, record_store: ObjectStore, buckets: Buckets, raw: bytes, asset: str
) -> None:
    await record_store.put(buckets.originals, keys.original(asset), raw, "image/jpeg")
    before = originals_read()
    done, _ = await looked(analyst, job(asset))
    assert originals_read() == before + 1
    assert isinstance(done.body, ingest.Analysed)
    ancestor = await record_store.get(buckets.ancestors, keys.ancestor(asset, "engine1"))
    assert analyse.decode(bytes(done.body.analysis)) == analyse.analyse(raw, ancestor)


async def test_a_photo_too_small_to_measure_is_not_read_again(
    analyst: Analyst, record_store: ObjectStore, buckets: Buckets, asset: str
) -> None:
    key = keys.quality(asset, "engine1", measuring.REVISION)
    await record_store.put(buckets.ancestors, key, measuring.encode(None), "application/json")
    done, _ = await looked(analyst, job(asset))
    assert isinstance(done.body, ingest.Analysed)
    assert analyse.decode(bytes(done.body.analysis)).quality is None


async def test_refusals(analyst: Analyst, asset: str) -> None:
    with pytest.raises(Refusal) as gone:
        await looked(analyst, job(asset))
    assert gone.value.reason == "original-gone"
    with pytest.raises(Refusal) as gone:
        await looked(analyst, job(ids.encode("asset", uuid4())))
    assert gone.value.reason == "original-gone"

"""`asset.analyse` on real storage: findings and fingerprint of a photo, and refusals that name their cause."""

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from base import ids, ingest, keys
from base.jobs import Job
from base.objects import Buckets, ObjectStore
from imagecore import analyse, vips
from imagecore.jail import Jail
from tasks.pixel.analysis import Analyst
from tasks.pixel.worker import Refusal
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


def job(asset: str) -> Job:
    payload = msgspec.json.encode(ingest.Analyse(asset=asset, engine="engine1"))
    return Job(
        id=uuid4(), kind=ingest.ANALYSE, region="home", lane="bulk", attempt=1, nonce=b"n" * 16, deadline=None,
        time_limit_s=60, owner_id=None, payload=payload,
    )  # fmt: skip


async def test_what_is_seen_is_answered(analyst: Analyst, record_store: ObjectStore, buckets: Buckets) -> None:
    rows = np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    raw = bytes(vips.from_pixels(rows.data, 60, 40, 3, wide=False, owner=rows).resize(10).jpegsave_buffer(Q=90))
    asset = ids.encode("asset", uuid4())
    await record_store.put(buckets.originals, keys.original(asset), raw, "image/jpeg")
    await record_store.put(buckets.ancestors, keys.ancestor(asset, "engine1"), raw, "image/jpeg")
    (done,) = [step async for step in analyst.run(job(asset))]
    assert (done.step, done.engine) == ("analyse", f"analysis-{analyse.REVISION}")
    assert isinstance(done.body, ingest.Analysed)
    assert analyse.decode(bytes(done.body.analysis)).quality is not None
    likeness = analyse.fingerprint_of(raw)
    assert (done.body.fingerprint, done.body.fingerprint_quality) == (likeness.bits, likeness.quality)


async def test_refusals(analyst: Analyst, record_store: ObjectStore, buckets: Buckets) -> None:
    asset = ids.encode("asset", uuid4())
    with pytest.raises(Refusal) as gone:
        _ = [step async for step in analyst.run(job(asset))]
    assert gone.value.reason == "original-gone"

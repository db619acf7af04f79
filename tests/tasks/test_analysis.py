"""`asset.analyse` on real storage: findings and fingerprint of a photo, and refusals that name their cause."""

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from base import ids, ingest, keys
from base.jobs import Job
from base.objects import Buckets, ObjectStore
from imagecore import analyse, readiness, render, vips
from imagecore.facts import canonical
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
    report, ancestor = render.ancestor(raw)
    await record_store.put(buckets.originals, keys.original(asset), raw, "image/jpeg")
    await record_store.put(buckets.ancestors, keys.ancestor(asset, "engine1"), ancestor, "image/jpeg")
    await record_store.put(buckets.ancestors, keys.facts(asset, "engine1"), canonical(report.facts), "application/json")
    done, suited = [step async for step in analyst.run(job(asset))]
    assert (done.step, done.engine) == ("analyse", f"analysis-{analyse.REVISION}")
    assert isinstance(suited.body, ingest.Suited)
    usual = [(name, trim) for name, sizes in readiness.TARGETS.items() for trim in sizes]
    assert [(one.output, (one.width_um, one.height_um)) for one in suited.body.prints] == usual
    assert [one.ppi for one in suited.body.prints[:3]] == [95, 77, 49]  # 400 pixels on 106, 131, 207 mm
    assert {one.level for one in suited.body.prints} == {"reject"}
    await record_store.delete(buckets.originals, keys.original(asset))  # a retry looks at no pixel
    (again,) = [step async for step in analyst.run(msgspec.structs.replace(job(asset), done=("analyse",)))]
    assert again == suited
    assert isinstance(done.body, ingest.Analysed)
    assert analyse.decode(bytes(done.body.analysis)).quality is not None
    likeness = analyse.fingerprint_of(ancestor)
    assert (done.body.fingerprint, done.body.fingerprint_quality) == (likeness.bits, likeness.quality)


async def test_refusals(analyst: Analyst, record_store: ObjectStore, buckets: Buckets) -> None:
    asset = ids.encode("asset", uuid4())
    with pytest.raises(Refusal) as gone:
        _ = [step async for step in analyst.run(job(asset))]
    assert gone.value.reason == "original-gone"

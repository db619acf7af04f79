"""`print.master` on real storage: a locked version, the same bytes at every attempt, refusals that name their cause."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from botocore.exceptions import ClientError

from base import ids, keys
from base.jobs import Job
from base.objects import Buckets, ObjectStore, Site, Sites
from base.printing import KIND, MasterMade, PrintMaster
from devstack import s3
from imagecore import masters, vips
from imagecore.jail import Jail
from imagecore.jail_wire import Limits
from loadtests.bench.hostile import picture, with_cicp
from tasks.pixel.masters import MasterMaker
from tasks.pixel.worker import Refusal, StepDone
from tests.conftest import store_of


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail.open(Limits(memory_mb=masters.LIMITS.memory_mb), preload=("master",)) as jail:
        yield jail


@pytest.fixture
def pixel_store(stack_env: dict[str, str]) -> Iterator[ObjectStore]:
    store = store_of(stack_env, "PIXEL")
    yield store
    store.close()


@dataclass
class Bench:
    """A maker with a photo of 600 x 400 in storage."""

    maker: MasterMaker
    asset: str
    sha256: str

    def wanted(self, **changes: Any) -> PrintMaster:
        plain = PrintMaster(
            asset=self.asset,
            line=ids.encode("order_line", uuid4()),
            fulfilment=ids.encode("fulfilment", uuid4()),
            sha256=self.sha256,
            width=600,
            height=400,
            class_="standard",
            trim_um=(60_000, 40_000),
        )
        return msgspec.structs.replace(plain, **changes)

    async def run(self, wanted: PrintMaster, attempt: int = 1) -> MasterMade:
        job = Job(
            id=uuid4(), kind=KIND, region="home", lane="print", attempt=attempt, nonce=b"n" * 16, deadline=None,
            time_limit_s=60, owner_id=None, payload=msgspec.json.encode(wanted),
        )  # fmt: skip
        (done,) = [step async for step in self.maker.run(job)]
        assert isinstance(done, StepDone)
        assert isinstance(done.body, MasterMade)
        return done.body


@pytest.fixture
async def bench(pixel_store: ObjectStore, record_store: ObjectStore, buckets: Buckets, jail: Jail) -> Bench:
    rows = np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    raw = bytes(vips.from_pixels(rows.data, 60, 40, 3, wide=False, owner=rows).resize(10).jpegsave_buffer(Q=90))
    asset = ids.encode("asset", uuid4())
    await record_store.put(buckets.originals, keys.original(asset), raw, "image/jpeg")
    maker = MasterMaker(Sites("home", Site(pixel_store, buckets)), lambda: jail)
    return Bench(maker, asset, hashlib.sha256(raw).hexdigest())


class TestMade:
    async def test_what_is_answered_is_what_is_stored_under_lock(
        self, bench: Bench, record_store: ObjectStore, buckets: Buckets, stack_env: dict[str, str]
    ) -> None:
        made = await bench.run(bench.wanted())
        data = await record_store.get(buckets.masters, made.key, made.version)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (made.sha256, made.bytes)
        assert hashlib.md5(data, usedforsecurity=False).hexdigest() == made.md5
        assert masters.decode(bytes(made.manifest)).source.sha256 == bench.sha256
        key = (stack_env["TIRAGE_S3_RECORD_ACCESS_KEY"], stack_env["TIRAGE_S3_RECORD_SECRET_KEY"])
        client = s3.client(stack_env["TIRAGE_S3_ENDPOINT"], key)
        lock = client.get_object_retention(Bucket=buckets.masters, Key=made.key, VersionId=made.version)["Retention"]
        assert lock["Mode"] == "COMPLIANCE"
        assert lock["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=29)
        with pytest.raises(ClientError):
            client.delete_object(Bucket=buckets.masters, Key=made.key, VersionId=made.version)

    async def test_a_second_attempt_stores_the_same_bytes(self, bench: Bench) -> None:
        wanted = bench.wanted()
        first, second = await bench.run(wanted), await bench.run(wanted, attempt=2)
        assert (first.key, first.sha256) == (second.key, second.sha256)
        assert first.version != second.version

    async def test_the_vendors_area_decides_the_size(self, bench: Bench) -> None:
        made = await bench.run(bench.wanted(area_px=(720, 480)))
        assert (made.width, made.height) == (720, 480)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"sha256": "0" * 64}, "original-changed"),
            ({"asset": ids.encode("asset", uuid4())}, "original-gone"),
            ({"part": (0, 0, 601, 400)}, "master-impossible"),
            ({"border_um": 30_000}, "master-impossible"),
        ],
    )
    async def test_says_why(self, bench: Bench, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(Refusal) as refused:
            await bench.run(bench.wanted(**changes))
        assert refused.value.reason == reason

    async def test_hdr_at_the_first_attempt(self, bench: Bench, record_store: ObjectStore, buckets: Buckets) -> None:
        """Another would give nothing else."""
        raw = with_cicp(bytes(picture(600, 400).pngsave_buffer()), 9, 16)
        await record_store.put(buckets.originals, keys.original(bench.asset), raw, "image/png")
        with pytest.raises(Refusal) as refused:
            await bench.run(bench.wanted(sha256=hashlib.sha256(raw).hexdigest()))
        assert refused.value.reason == "hdr-not-printable"

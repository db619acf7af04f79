"""What pixel workers run: one literal table from job kind to steps."""

from collections.abc import AsyncIterator, Callable

import msgspec

from base import ingest, printing
from base.edges import EdgeClient
from base.jobs import Job
from base.objects import Buckets, ObjectStore
from imagecore.jail import Jail
from tasks.pixel.analysis import Analyst
from tasks.pixel.ingest import Ingestor
from tasks.pixel.masters import MasterMaker
from tasks.pixel.worker import PixelKind, StepDone


class Echoed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `pixel.echo`: how many bytes of payload came."""

    bytes: int


async def echo(job: Job) -> AsyncIterator[StepDone]:
    """Answer what was asked: the way from a row to a worker and back without any pixels, for probes."""
    yield StepDone(step="echo", body=Echoed(bytes=len(job.payload)))


def kinds(
    store: ObjectStore,
    buckets: Buckets,
    jail: Jail,
    large: Callable[[], Jail],
    seeing: Callable[[], Jail],
    edge: EdgeClient | None = None,
) -> dict[str, PixelKind]:
    """The table, with its parts built for this process.

    `large` opens, once, the jail for print masters, `seeing` the one with the models; first previews are pushed to
    `edge`, if there is one.
    """
    return {
        ingest.KIND: Ingestor(store, buckets, jail, edge).kind,
        ingest.ANALYSE: Analyst(store, buckets, seeing).kind,
        printing.KIND: MasterMaker(store, buckets, large).kind,
        "pixel.echo": PixelKind(("echo",), echo),
    }

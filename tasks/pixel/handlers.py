"""What pixel workers run: one literal table from job kind to steps."""

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from base import ingest, printing
from base.jobs import Job
from base.objects import Sites
from imagecore.jail import Jail
from tasks.pixel.analysis import Analyst
from tasks.pixel.ingest import Ingestor
from tasks.pixel.masters import MasterMaker
from tasks.pixel.pushing import PushTo
from tasks.pixel.worker import PixelKind, StepDone


class Echoed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `pixel.echo`: how many bytes of payload came."""

    bytes: int


async def echo(job: Job) -> AsyncIterator[StepDone]:
    """Answer what was asked: the way from a row to a worker and back without any pixels, for probes."""
    yield StepDone(step="echo", body=Echoed(bytes=len(job.payload)))


def kinds(
    sites: Sites,
    jail: Jail,
    large: Callable[[], Jail],
    seeing: Callable[[], Jail],
    pushes: Sequence[PushTo] = (),
) -> dict[str, PixelKind]:
    """The table, with its parts built for this process.

    `large` opens, once, the jail for print masters, `seeing` the one with the models; previews go to the edges that
    `pushes` names.
    """
    store, buckets = sites.here.store, sites.here.buckets
    return {
        ingest.KIND: Ingestor(store, buckets, jail, pushes).kind,
        ingest.ANALYSE: Analyst(store, buckets, seeing).kind,
        printing.KIND: MasterMaker(sites, large).kind,
        "pixel.echo": PixelKind(("echo",), echo),
    }

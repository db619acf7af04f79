"""Denials: what edges must not serve any more. Home keeps the list, tells every edge, and keeps the receipts.

An edge without receipts, a new one say, is told everything; one whose own list is shorter than ours has lost it and is
told everything again. Ids are never given twice, so the list only grows. An edge serves no share from its start until
it was told that this is all: home looks every second (`app/kernel/reach.py`) and tells at once who was not told yet.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from app.delivery import store
from app.kernel.db import Database, Transaction
from app.kernel.events import Recorded
from app.kernel.jobs import Plan
from app.kernel.reach import Probe
from app.kernel.spine import Spine
from base import telemetry
from base.edges import EdgeClient, Purge, Receipt
from base.errors import ServiceUnavailable
from base.regions import read_edges, read_regions
from base.settings import Keys, Reader

log = telemetry.logger(__name__)

KIND: Final = "edges.purge"
BATCH: Final = 500


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The edges that home tells, and the keys it tells them with."""

    urls: tuple[str, ...]
    purge_keys: Keys
    ca: str | None


def read_edge_settings(read: Reader) -> EdgeSettings:
    """Every edge that is named, and the purge keys."""
    here, _ = read_regions(read)
    return EdgeSettings(
        urls=tuple(read_edges(read, here).values()),
        purge_keys=read.keys("TIRAGE_EDGE_PURGE_KEYS"),
        ca=read.file("TIRAGE_EDGE_CA"),
    )


class ToldEverything(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the job: it tells what is untold, whatever that is by then."""


class Denials:
    """The use case. Only record workers have edges to tell."""

    def __init__(self, db: Database, spine: Spine, edges: Mapping[str, EdgeClient]) -> None:
        self._db, self._spine, self._edges = db, spine, edges

    async def revoke(self, tx: Transaction, subjects: Sequence[str]) -> None:
        """Deny shares and public pictures (TypeIDs) at every edge, in the caller's transaction."""
        await store.deny(tx, subjects)
        await self._spine.plan(tx, planned(), cause=None)

    async def tell(self) -> None:
        """Tell every edge what it was not told; raises `ServiceUnavailable` when one did not take it.

        An edge that fails, or is slow, does not keep the others from being told.
        """
        told = await asyncio.gather(*(self._is_told(url) for url in self._edges))
        if not all(told):
            raise ServiceUnavailable(f"{told.count(False)} of {len(told)} edges were not told")

    def probes(self) -> dict[str, Probe]:
        """By subject, how to ask an edge whether it is there; one that has started since is told everything then."""
        return {f"edge:{url}": partial(self._look, url) for url in self._edges}

    async def _look(self, url: str) -> None:
        receipt = await self._edges[url].purge(Purge())
        if not receipt.listed:
            log.info("edge_started", edge=url)
            await self._tell(url, receipt)

    async def _is_told(self, url: str) -> bool:
        try:
            await self._tell(url, await self._edges[url].purge(Purge()))
        except ServiceUnavailable as error:
            log.warning("edge_not_told", edge=url, detail=str(error))
            return False
        return True

    async def _tell(self, url: str, receipt: Receipt) -> None:
        """Tell one edge, which has just given this receipt, what it was not told."""
        client = self._edges[url]
        async with self._db.reading() as read:
            wanted = await store.count(read)
        receipt = await self._drain(url, client) or receipt
        if receipt.denied < wanted:
            log.warning("edge_lost_its_list", edge=url, has=receipt.denied, wanted=wanted)
            async with self._db.transaction() as tx:
                await store.forget(tx, url)
            await self._drain(url, client)
        if not receipt.listed:
            await client.purge(Purge(total=wanted))

    async def _drain(self, url: str, client: EdgeClient) -> Receipt | None:
        """Tell in batches until nothing is untold; the last receipt."""
        last = None
        while True:
            async with self._db.reading() as read:
                subjects = await store.untold(read, url, BATCH)
            if not subjects:
                return last
            last = await client.purge(
                Purge(
                    assets=tuple(s for s in subjects if s.startswith("ast_")),
                    shares=tuple(s for s in subjects if s.startswith("shr_")),
                    pictures=tuple(s for s in subjects if s.startswith("pic_")),
                )
            )
            async with self._db.transaction() as tx:
                await store.keep(tx, url, last)


def planned() -> Plan:
    """The job that tells edges; one at a time."""
    return Plan(kind=KIND, payload=ToldEverything(), dedupe=KIND)


async def planned_purge(tx: Transaction, happened: Recorded) -> Plan | None:
    """Telling edges of an asset that was erased; the erasure put it on the list."""
    return planned()

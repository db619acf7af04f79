"""Erasing a person: one transaction over every slice's eraser; then the key goes, and the receipt tells what is left.

What becomes of each table is said in `tables.py`.
"""

from app.assets.service import Assets
from app.drafts.service import Drafts
from app.erasure import store
from app.erasure.domain import OwnerErased, Receipt
from app.identity import store as identity
from app.kernel import jobs
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin
from app.kernel.persons import PersonKeys
from app.kernel.spine import Spine
from app.orders.checkout import Checkout
from app.orders.printfiles import PrintFiles
from app.pricing.service import Quotes
from app.shares.service import Shares
from app.uploads.service import Uploads
from base import printing
from base.errors import DomainError, Kind
from base.ids import OwnerId


class NobodyToErase(DomainError):
    """There is no such owner."""

    code, title, kind = "nobody-to-erase", "There is nobody to erase", Kind.NOT_FOUND
    next_step = "Begin as a new guest with POST /v1/devices."


class Erasure:
    """The use case."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        persons: PersonKeys,
        assets: Assets,
        uploads: Uploads,
        drafts: Drafts,
        quotes: Quotes,
        shares: Shares,
        checkout: Checkout,
        print_files: PrintFiles,
    ) -> None:
        self._db, self._spine, self._persons = db, spine, persons
        self._assets, self._uploads, self._drafts, self._quotes = assets, uploads, drafts, quotes
        self._shares, self._checkout, self._print_files = shares, checkout, print_files

    async def erase(self, owner_id: OwnerId) -> Receipt:
        """Erase the caller; asked again, the same receipt. Raises `NobodyToErase`.

        Objects are removed by the jobs that `asset.erased` and `upload.aborted` cause; what a worker still writes
        afterwards is removed when its answer comes.
        """
        async with self._db.transaction() as tx:
            if not await store.lock(tx, owner_id):
                raise NobodyToErase()
            done = await store.read(tx, owner_id)
            return done if done is not None else await self._erase(tx, owner_id)

    async def _erase(self, tx: Transaction, owner_id: OwnerId) -> Receipt:
        origin = Origin(actor="owner")
        await self._persons.lock(tx, owner_id)
        await self._checkout.erase_all(tx, owner_id)
        await self._drafts.erase_all(tx, owner_id, origin)
        await self._quotes.erase_all(tx, owner_id)
        await self._shares.erase_all(tx, owner_id)
        gone = await self._assets.erase_all(tx, owner_id, origin)
        await self._uploads.erase_all(tx, owner_id)
        await jobs.forget_owner(tx, owner_id, bound=(printing.KIND,))
        await identity.erase(tx, owner_id)
        await self._spine.record(
            tx,
            OwnerErased(owner_id=owner_id, assets=len(gone)),
            aggregate_id=owner_id,
            owner_id=owner_id,
            origin=origin,
        )
        await self._persons.destroy(tx, owner_id)
        kept = (*await self._print_files.kept_of(tx, owner_id), *await store.remains(tx, owner_id))
        return await store.record(tx, owner_id, len(gone), kept)

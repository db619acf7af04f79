"""Quotes: asking for a price, reading it, taking it for an order."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from app.catalog.domain import Offer
from app.catalog.service import Catalog
from app.drafts.domain import OPEN
from app.drafts.errors import DraftClosed
from app.drafts.service import Drafts
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin
from app.kernel.spine import Spine
from app.pricing import engine, store
from app.pricing.domain import (
    AcceptedQuote,
    Inputs,
    Quote,
    QuoteAccepted,
    QuoteExpired,
    QuotePriced,
    QuoteState,
    Wanted,
    Way,
    accepted,
)
from app.pricing.errors import CountryNotServed, QuoteNotFound, QuoteOver, QuoteUsed
from app.pricing.taxes import TaxProvider, TaxTable
from base.clock import Clock
from base.ids import OwnerId, QuoteId, new_id
from base.money import Money

OWNER: Final = Origin(actor="owner")
SYSTEM: Final = Origin(actor="system")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a price is asked for; no currency is the country's own."""

    draft_id: UUID
    country: str
    region: str | None
    postcode: str | None
    currency: str | None
    way: Way


class Quotes:
    """The use cases. `taxes` makes a provider of a catalogue."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        catalog: Catalog,
        drafts: Drafts,
        clock: Clock,
        taxes: Callable[[Offer], TaxProvider] = TaxTable,
    ) -> None:
        self._db, self._spine, self._catalog, self._drafts = db, spine, catalog, drafts
        self._clock, self._taxes = clock, taxes

    async def ask(self, tx: Transaction, owner_id: OwnerId, wish: Ask) -> Quote:
        """Price a draft as it is, for a while: one read, one row, one event.

        Raises `DraftNotFound`, `DraftClosed`, `NothingToPrice`, `CountryNotServed`, `VariantUnknown`.
        """
        offer = await self._catalog.current(tx)
        draft = await self._drafts.read(tx, owner_id, wish.draft_id)
        if draft.state not in OPEN:
            raise DraftClosed()
        now = self._clock.now()
        inputs = Inputs(
            catalogue_version=offer.version,
            currency=wish.currency or currency_of(offer, wish.country),
            country=wish.country,
            region=wish.region,
            way=wish.way,
            day=now.date(),
            items=tuple(Wanted(item_id=i.id, sku=i.sku, copies=i.copies, paper=i.paper) for i in draft.items),
        )
        quote = Quote(
            id=QuoteId(new_id()),
            owner_id=owner_id,
            state=QuoteState.PRICED,
            draft_id=draft.id,
            draft_version=draft.version,
            postcode=wish.postcode,
            inputs=inputs,
            result=engine.priced(offer, self._taxes(offer), inputs),
            created_at=now,
            expires_at=now + timedelta(seconds=offer.catalogue.quote_valid_s),
        )
        await store.insert(tx, quote)
        told = QuotePriced(
            quote_id=quote.id,
            draft_id=draft.id,
            draft_version=draft.version,
            total=Money(quote.result.total, inputs.currency),
        )
        await self._spine.record(tx, told, aggregate_id=quote.id, owner_id=owner_id, origin=OWNER)
        return quote

    async def get(self, owner_id: OwnerId, quote_id: UUID) -> Quote:
        """An owner's quote, in the state it has now; raises `QuoteNotFound`."""
        async with self._db.reading() as db:
            found = await store.get(db, quote_id, owner_id)
        if found is None:
            raise QuoteNotFound()
        return msgspec.structs.replace(found, state=found.state_at(self._clock.now()))

    async def accept(self, tx: Transaction, owner_id: OwnerId, quote_id: UUID) -> AcceptedQuote:
        """Take a quote for an order; that its draft is still of that version, freezing it will see.

        Raises `QuoteNotFound`, `QuoteUsed`, `QuoteOver`.
        """
        quote = await store.lock(tx, quote_id, owner_id)
        if quote is None:
            raise QuoteNotFound()
        state = quote.state_at(self._clock.now())
        if state is QuoteState.ACCEPTED:
            raise QuoteUsed()
        if state is QuoteState.EXPIRED:
            raise QuoteOver()
        told = QuoteAccepted(quote_id=quote.id, draft_id=quote.draft_id)
        await store.transition(tx, self._spine, quote, QuoteState.ACCEPTED, told, OWNER)
        return accepted(quote)

    async def expire_overdue(self, tx: Transaction, limit: int = 500) -> int:
        """Write down that quotes have expired; how many."""
        found = await store.overdue(tx, self._clock.now(), limit)
        for quote in found:
            told = QuoteExpired(quote_id=quote.id)
            await store.transition(tx, self._spine, quote, QuoteState.EXPIRED, told, SYSTEM)
        return len(found)

    async def erase_all(self, tx: Transaction, owner_id: UUID) -> None:
        """Forget where an owner had asked to send things."""
        await store.forget(tx, owner_id)


def currency_of(offer: Offer, country: str) -> str:
    """The currency offered first in a country; raises `CountryNotServed`."""
    zone = offer.zones.get(country)
    if zone is None:
        raise CountryNotServed(f"we do not send to {country}")
    return zone.currency

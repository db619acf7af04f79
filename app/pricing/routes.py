"""Quotes over HTTP."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, JSONBody

from app.catalog.errors import CatalogueMissing, VariantUnknown
from app.drafts.errors import DraftClosed, DraftNotFound
from app.kernel.idempotency import Idempotency
from app.pricing.errors import CountryNotServed, NothingToPrice, QuoteNotFound
from app.pricing.schemas import AskQuote, QuoteOut
from app.pricing.service import Quotes
from app.web.guards import CustomerController, customer
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids


class QuoteController(CustomerController):
    """Prices."""

    path = "/v1/quotes"
    tags = ("prices",)
    quotes: Quotes
    idempotency: Idempotency

    @post(
        "/",
        operation_id="AskQuote",
        summary="Price a draft",
        status_code=201,
        responses=fails(
            *KEY_ERRORS, DraftNotFound, DraftClosed, NothingToPrice, CountryNotServed, VariantUnknown, CatalogueMissing
        ),
    )
    async def ask(self, data: JSONBody[AskQuote], request: Request[Any, Any, Any]) -> Response[QuoteOut]:
        """What a draft costs as it is now, explained line by line, and by when it can be there."""
        call = await keyed(request)
        given = await self.idempotency.once(
            call, lambda tx: self.quotes.ask(tx, call.owner_id, data.ask()), as_json(201, QuoteOut.of)
        )
        return answered(given)

    @get("/{quote_id:str}", operation_id="ReadQuote", summary="Read a quote", responses=fails(QuoteNotFound))
    async def read(self, quote_id: FromPath[str]) -> QuoteOut:
        """One quote, in the state it has now."""
        who = customer()
        return QuoteOut.of(await self.quotes.get(who.owner_id, ids.decode("quote", quote_id)))

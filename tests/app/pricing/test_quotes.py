"""Quotes as apps and orders use them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.assets.domain import Brought
from app.drafts.errors import QuoteStale
from app.kernel.db import Database, Transaction
from app.pricing.domain import AcceptedQuote
from app.pricing.errors import QuoteOver, QuoteUsed
from app.pricing.service import Ask, Quotes
from app.services import Services
from base import ids
from base.ids import OwnerId
from base.money import Money
from tests.app.conftest import Guest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Still:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Desk:
    """A guest with a draft of one photo, and quotes on a clock of ours."""

    def __init__(self, client: httpx.AsyncClient, services: Services, grant: dict[str, Any], draft: str) -> None:
        self.client, self.services, self.auth, self.draft = client, services, grant["auth"], draft
        self.owner = OwnerId(ids.decode("owner", grant["ownerId"]))
        self.clock = Still()
        self.quotes = Quotes(services.db, services.spine, services.catalog, services.drafts, self.clock)

    def wish(self, **more: Any) -> Ask:
        plain = {"country": "GB", "region": None, "postcode": "N1 9GU", "currency": None, "way": "standard"}
        return Ask(**{"draft_id": ids.decode("draft", self.draft), **plain, **more})

    async def ask(self, expected: int = 201, **more: Any) -> dict[str, Any]:
        key = {"Idempotency-Key": ids.encode("event", ids.new_id())}
        body = {"draftId": self.draft, "country": "GB", "postcode": "N1 9GU", **more}
        answer = await self.client.post("/v1/quotes", json=body, headers={**self.auth, **key})
        assert answer.status_code == expected, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def accept(self, quote: str) -> AcceptedQuote:
        async with self.services.db.transaction() as tx:
            return await self.quotes.accept(tx, self.owner, ids.decode("quote", quote))

    async def change(self, version: int, copies: int) -> None:
        asset = (await self.client.get(f"/v1/drafts/{self.draft}", headers=self.auth)).json()["items"][0]["assetId"]
        body = {"items": [{"assetId": asset, "sku": "photo-10x15-standard", "copies": copies}]}
        headers = {**self.auth, "If-Match": f'"{version}"'}
        assert (await self.client.patch(f"/v1/drafts/{self.draft}", json=body, headers=headers)).status_code == 200


@pytest.fixture
async def desk(client: httpx.AsyncClient, guest: Guest, services: Services) -> Desk:
    grant = await guest()
    owner = OwnerId(ids.decode("owner", grant["ownerId"]))
    asset = ids.AssetId(ids.new_id())
    async with services.db.transaction() as tx:
        brought = Brought(upload_id=ids.UploadId(ids.new_id()), region="home", bytes=5, declared_type="image/jpeg")
        await services.assets.create(tx, asset, owner, brought)
    body = {"items": [{"assetId": ids.encode("asset", asset), "sku": "photo-10x15-standard", "copies": 10}]}
    key = {"Idempotency-Key": ids.encode("event", ids.new_id())}
    answer = await client.post("/v1/drafts", json=body, headers={**grant["auth"], **key})
    assert answer.status_code == 201, answer.text
    return Desk(client, services, grant, answer.json()["id"])


class TestAsking:
    async def test_a_price_is_explained_stored_and_read_again(self, desk: Desk) -> None:
        quote = await desk.ask()
        assert (quote["total"], quote["tax"], quote["currency"], quote["state"]) == (749, 125, "GBP", "priced")
        assert quote["total"] == sum(line["total"] for line in quote["lines"]) + quote["shippingTotal"]
        assert [part["part"] for part in quote["lines"][0]["parts"]] == ["base", "size", "class", "paper"]
        assert {quote["shipping"]["option"], *(o["option"] for o in quote["otherShipping"])} == {
            "budget",
            "standard",
            "express",
        }
        assert quote["validForS"] == 7200
        answer = await desk.client.get(f"/v1/quotes/{quote['id']}", headers=desk.auth)
        assert (answer.status_code, answer.json()) == (200, quote)

    async def test_the_country_decides_the_currency_unless_asked(self, desk: Desk) -> None:
        told = {country: (await desk.ask(country=country))["currency"] for country in ("GB", "DE", "US", "JP")}
        assert told == {"GB": "GBP", "DE": "EUR", "US": "USD", "JP": "JPY"}
        assert (await desk.ask(country="JP", currency="EUR"))["currency"] == "EUR"

    async def test_refusals(self, desk: Desk, guest: Guest) -> None:
        assert (await desk.ask(409, country="AQ"))["code"] == "country-not-served"
        await desk.ask(422, country="gb")
        await desk.ask(422, currency="CHF")
        assert (await desk.ask(404, draftId="drf_01h455vb4pex5vsknk084sn02q"))["code"] == "draft-not-found"
        quote = await desk.ask()
        other = (await guest())["auth"]
        assert (await desk.client.get(f"/v1/quotes/{quote['id']}", headers=other)).status_code == 404
        headers = {**other, "Idempotency-Key": "another-key"}
        body = {"draftId": desk.draft, "country": "GB"}
        assert (await desk.client.post("/v1/quotes", json=body, headers=headers)).status_code == 404

    async def test_it_takes_three_statements(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[str] = []
        for name in ("fetch", "one", "value", "execute", "many"):
            plain = getattr(Transaction, name)

            def counted(self: Transaction, sql: str, *args: object, _plain: Any = plain) -> Any:
                said.append(sql)
                return _plain(self, sql, *args)

            monkeypatch.setattr(Transaction, name, counted)
        async with desk.services.db.transaction() as tx:
            await desk.services.catalog.current(tx)
            said.clear()
            await desk.quotes.ask(tx, desk.owner, desk.wish())
        assert len(said) == 3, said

    async def test_the_same_inputs_the_same_price(self, desk: Desk) -> None:
        async with desk.services.db.transaction() as tx:
            one, two = [await desk.quotes.ask(tx, desk.owner, desk.wish()) for _ in range(2)]
        assert (one.inputs, one.result) == (two.inputs, two.result)
        assert one.id != two.id


class TestAccepting:
    async def test_once(self, desk: Desk) -> None:
        quote = await desk.ask()
        taken = await desk.accept(quote["id"])
        assert taken.total == Money(749, "GBP")
        assert taken.shipping + taken.lines[0].total == taken.total
        assert (taken.country, taken.postcode, taken.draft_version) == ("GB", "N1 9GU", 1)
        with pytest.raises(QuoteUsed):
            await desk.accept(quote["id"])

    async def test_another_version_is_stale(self, desk: Desk) -> None:
        quote = await desk.ask()
        await desk.change(1, copies=11)
        async with desk.services.db.transaction() as tx:
            taken = await desk.quotes.accept(tx, desk.owner, ids.decode("quote", quote["id"]))
            with pytest.raises(QuoteStale):
                await desk.services.drafts.freeze(tx, desk.owner, taken.draft_id, taken.draft_version)

    async def test_late_is_too_late_and_is_written_down(self, desk: Desk, db: Database) -> None:
        async with desk.services.db.transaction() as tx:
            quote = await desk.quotes.ask(tx, desk.owner, desk.wish())
        desk.clock.time = NOW + timedelta(seconds=7199)
        assert (await desk.quotes.get(desk.owner, quote.id)).state.value == "priced"
        desk.clock.time = NOW + timedelta(seconds=7200)
        assert (await desk.quotes.get(desk.owner, quote.id)).state.value == "expired"
        with pytest.raises(QuoteOver):
            await desk.accept(ids.encode("quote", quote.id))
        async with db.transaction() as tx:
            assert [await desk.quotes.expire_overdue(tx) for _ in range(2)] == [1, 0]
        async with db.transaction() as tx:
            assert await tx.value("SELECT state FROM quotes") == "expired"

    async def test_erased_people_live_nowhere(self, desk: Desk, db: Database) -> None:
        await desk.ask()
        assert (await desk.client.delete("/v1/me", headers=desk.auth)).status_code == 200
        async with db.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM quotes WHERE postcode IS NOT NULL") == 0
            assert await tx.value("SELECT count(*) FROM quotes WHERE inputs::text LIKE '%N1 9GU%'") == 0

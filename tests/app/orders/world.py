"""The whole order line on one machine: our API and our workers, Stripe and a printer, answers that get lost between
them, and one virtual clock for all. Sockets, Postgres and storage are real; a pixel worker's answer is made by hand.
"""

import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import msgspec
import pyvips

from app.handlers import HANDLERS, appliers
from app.kernel import jobs
from app.kernel.access import AccessTokens
from app.main import Api, create_app
from app.orders.desk import Wanted
from app.services import Services
from app.settings import load
from base import ids
from base.ids import AssetId, DeviceId, OwnerId
from base.jobs import Outcome, Result, signed
from base.printing import KIND as MASTER
from base.printing import MasterMade, MasterRefused, PrintMaster
from devstack.prodigi.app import ProdigiApp
from devstack.prodigi.knobs import Knobs
from devstack.stripe.app import Config, StripeApp
from tests.app import working
from tests.app.conftest import api_settings
from tests.app.losing import LosingProxy
from tests.conftest import Printer, Stripe, Switch, emptied, served

SKU: Final = "photo-10x15-standard"
AREA: Final = (1252, 1843)
HOME: Final = {"name": "A. Person", "line1": "12 High Street", "town": "Leeds", "postcode": "LS1 4AP", "country": "GB"}
READY: Final = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256, format, width, height)
VALUES ($1, $2, 'ready', 1000, 'image/jpeg', $3, 'jpeg', 4032, 3024)
"""


class Died(BaseException):
    """A worker ends between two transactions, as a killed one would."""


class MovedClock:
    """The machine's clock, as far ahead as a test moves it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Place:
    """An address whose application is exchanged: straight, and through a proxy that loses answers."""

    def __init__(self, switch: Switch, port: int) -> None:
        self.switch, self.url, self.proxy = switch, f"http://127.0.0.1:{port}", LosingProxy(port)


class Places:
    """Where everybody is, with our own processes, for many worlds one after the other; and the one print file."""

    def __init__(self, env: Mapping[str, str], folder: Path, api: Place, stripe: Place, printer: Place) -> None:
        self.folder, self.api, self.stripe, self.printer = folder, api, stripe, printer
        self.env = {
            **env,
            "TIRAGE_STRIPE_URL": stripe.proxy.base,
            "TIRAGE_STRIPE_KEY": Stripe.KEY,
            "TIRAGE_STRIPE_PUBLISHABLE_KEY": Stripe.PUBLISHABLE,
            "TIRAGE_STRIPE_TIMEOUT": "5",
            "TIRAGE_STRIPE_WEBHOOK_SECRETS": Stripe.SECRET,
            "TIRAGE_PRODIGI_URL": printer.proxy.base,
            "TIRAGE_PRODIGI_KEY": Printer.KEY,
            "TIRAGE_PRODIGI_TIMEOUT_S": "5",
            "TIRAGE_API_URL": api.proxy.base,
            "TIRAGE_FULFILMENT_POLL_S": "60",
            "TIRAGE_FULFILMENT_POLL_MOST_S": "600",
        }
        self.clock = MovedClock()
        self.master: MasterMade | None = None
        self.services: Services
        self.tokens: AccessTokens

    async def begin_services(self) -> None:
        """Our workers begin."""
        self.services = Services(load(self.env, "RECORD"), self.clock)
        await self.services.start()

    async def begin_api(self) -> None:
        """Our API begins."""
        settings = api_settings(dict(self.env))
        app: Api = create_app(settings, self.clock)
        self.tokens = AccessTokens(settings.web.token_keys, self.clock)
        self._over, ready = asyncio.Event(), asyncio.Event()

        async def live() -> None:  # a lifespan is opened and closed by one task
            async with app.lifespan():
                ready.set()
                await self._over.wait()

        self._life = asyncio.create_task(live())
        await ready.wait()
        self.api.switch.app = app

    async def end_api(self) -> None:
        """Our API ends."""
        self._over.set()
        await self._life

    async def file(self, services: Services) -> MasterMade:
        """The print file of every line: made once."""
        if self.master is None:
            data: bytes = (pyvips.Image.black(*AREA, bands=3) + 128).cast("uchar").jpegsave_buffer(Q=50)
            key = f"{ids.encode('asset', uuid4())}/print.jpg"
            version = await services.store.put_version(services.settings.buckets.masters, key, data, "image/jpeg")
            self.master = MasterMade(
                line="", key=key, version=version, sha256=hashlib.sha256(data).hexdigest(),
                md5=hashlib.md5(data, usedforsecurity=False).hexdigest(), bytes=len(data), width=AREA[0],
                height=AREA[1], content_type="image/jpeg", manifest=msgspec.Raw(b"{}"),
            )  # fmt: skip
        return self.master


@contextlib.asynccontextmanager
async def places(env: Mapping[str, str], folder: Path) -> AsyncIterator[Places]:
    """Addresses that stay, and our own processes."""
    async with contextlib.AsyncExitStack() as stack:
        made = [Place(*await stack.enter_async_context(served())) for _ in range(3)]
        for place in made:
            stack.callback(place.proxy.close)
        places = Places(env, folder, *made)
        await places.begin_services()
        await places.begin_api()
        yield places
        await places.end_api()
        await places.services.stop()


class Bought(msgspec.Struct, kw_only=True):
    """An order as the phone knows it."""

    id: str
    total: int
    copies: list[int]
    secret: str | None = None


class World:
    """One run: a person with a photo, and everybody else."""

    def __init__(self, places: Places, seed: int = 0) -> None:
        self.places, self.clock, self.random = places, places.clock, random.Random(seed)
        self.folder = places.folder / uuid4().hex
        self.orders: list[Bought] = []
        self.errors: Counter[str] = Counter()
        self.kept: dict[str, bytes] = {}
        self.unprintable = 0
        self.disputed: set[str] = set()
        self.owner, self.asset = OwnerId(ids.new_id()), AssetId(ids.new_id())
        self.stripe: StripeApp
        self.printer: ProdigiApp

    # Starting, stopping, starting again.

    @property
    def services(self) -> Services:
        """Our workers' parts."""
        return self.places.services

    async def start(self) -> None:
        """Everybody else begins; the database belongs to this run from now on."""
        self.folder.mkdir()
        await emptied(self.places.env["TIRAGE_DATABASE_URL"])
        self._begin_stripe()
        self._begin_printer()
        self.clock.ahead = timedelta()
        self.http = httpx.AsyncClient(timeout=30)
        await self.turn_stripe(webhooks={"automatic": False, "virtual_time": True})
        async with self.services.db.transaction() as tx:
            await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", self.owner)
            await self.services.persons.create(tx, self.owner)
            await tx.execute("ALTER TABLE assets DISABLE TRIGGER USER")
            await tx.execute(READY, self.asset, self.owner, "b" * 64)
            await tx.execute("ALTER TABLE assets ENABLE TRIGGER USER")

    async def stop(self) -> None:
        """Everybody else ends."""
        await self.http.aclose()
        await self.stripe.stop()
        await self.printer.stop()

    async def restart(self, who: str) -> None:
        """End one of `api`, `services`, `stripe`, `printer` and begin it anew on what it kept."""
        if who == "api":
            await self.places.end_api()
            await self.places.begin_api()
        elif who == "services":
            await self.services.stop()
            await self.places.begin_services()
        elif who == "stripe":
            await self.stripe.stop()
            self._begin_stripe()
        else:
            await self.printer.stop()
            self._begin_printer()

    def _begin_stripe(self) -> None:
        endpoint = f"{self.places.api.proxy.base}/webhooks/stripe"
        self.stripe = self.places.stripe.switch.app = StripeApp(
            Config(
                key=Stripe.KEY,
                publishable=Stripe.PUBLISHABLE,
                secrets=(Stripe.SECRET,),
                endpoint=endpoint,
                path=self.folder / "stripe.db",
            )
        )

    def _begin_printer(self) -> None:
        self.printer = self.places.printer.switch.app = ProdigiApp(
            self.folder / "prodigi.db", Printer.KEY, Knobs(), auto=False
        )

    # What a person does.

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        """What an app does: ask again until there is an answer. The same key has always the same answer."""
        headers = {"Authorization": f"Bearer {self.token()}", "Idempotency-Key": key or uuid4().hex}
        for _ in range(50):
            try:
                answer = await self.http.request(method, self.places.api.proxy.base + path, json=body, headers=headers)
            except httpx.TransportError:
                continue
            self.errors[f"api-{answer.status_code}"] += answer.status_code >= 500
            if answer.status_code < 500 and not (answer.status_code == 409 and "in-flight" in answer.text):
                if key is not None and answer.is_success:
                    assert self.kept.setdefault(f"{path} {key}", answer.content) == answer.content
                return answer
            await asyncio.sleep(0.01)
        raise AssertionError(f"{method} {path} was never answered")

    def token(self) -> str:
        """What lets the person in now."""
        return self.places.tokens.customer(self.owner, DeviceId(UUID(int=1)), timedelta(hours=1))[0]

    async def quote(self, copies: Sequence[int]) -> dict[str, Any]:
        """A price for so many prints of each."""
        items = [{"assetId": ids.encode("asset", self.asset), "sku": SKU, "copies": n} for n in copies]
        draft = (await self.call("POST", "/v1/drafts", {"items": items})).json()["id"]
        asked = {"draftId": draft, "currency": "GBP", "country": "GB", "postcode": HOME["postcode"]}
        quote: dict[str, Any] = (await self.call("POST", "/v1/quotes", asked)).json()
        return quote

    async def buy(self, copies: Sequence[int], taps: int) -> None:
        """Order prints, tapping so often: half of the taps by an app that was started again."""
        quote = await self.quote(copies)
        body, key = {"quoteId": quote["id"], "recipient": HOME}, uuid4().hex
        keys = [key if n % 2 == 0 else uuid4().hex for n in range(taps)]
        told = await asyncio.gather(*(self.call("POST", "/v1/orders", body, key) for key in keys))
        assert {one.status_code for one in told} == {201}, [one.text for one in told]
        (order,) = {one.json()["id"] for one in told}
        self.orders.append(Bought(id=order, total=quote["total"], copies=list(copies)))

    async def pay(self, order: Bought, taps: int) -> None:
        """Begin to pay."""
        path = f"/v1/orders/{order.id}/payment"
        await asyncio.gather(*(self.call("POST", path) for _ in range(taps)))
        told = await self.call("GET", path)
        if told.is_success:
            order.secret = told.json()["clientSecret"] or order.secret

    async def confirm(self, order: Bought, method: str) -> None:
        """Confirm at Stripe; the answer may get lost."""
        if order.secret is None:
            return
        intent = order.secret.partition("_secret_")[0]
        form = {"client_secret": order.secret, "payment_method": method}
        headers = {"Authorization": f"Bearer {Stripe.PUBLISHABLE}"}
        url = f"{self.places.stripe.proxy.base}/v1/payment_intents/{intent}/confirm"
        with contextlib.suppress(httpx.TransportError):
            await self.http.post(url, data=form, headers=headers)

    async def answer_bank(self, order: Bought, *, passed: bool) -> None:
        """3-D Secure, if the bank asks."""
        if order.secret is not None:
            intent = order.secret.partition("_secret_")[0]
            await self.http.post(f"{self.places.stripe.url}/_sim/bank/{intent}", json={"passed": passed})

    async def cancel(self, order: Bought) -> None:
        """Change one's mind."""
        await self.call("POST", f"/v1/orders/{order.id}/cancel")

    # What an operator, or the person's bank, does.

    async def give_back(self, order: Bought, line: int, copies: int) -> None:
        """Refund copies that are shipped or cancelled, if there are as many."""
        wanted = Wanted(reason="damaged", line=line, copies=copies, reference=uuid4().hex)
        async with self.services.db.transaction() as tx:
            await self.services.desk.refund(tx, ids.decode("order", order.id), wanted)

    async def end(self, order: Bought) -> None:
        """End an order, as far as it can be."""
        async with self.services.db.transaction() as tx:
            await self.services.desk.end(tx, ids.decode("order", order.id), "not-possible")

    async def dispute(self, order: Bought, status: str) -> None:
        """A bank's dispute begins or moves on; where nothing is paid there is none."""
        intent = str(order.secret).partition("_secret_")[0]
        told = {"payment_intent": intent, "status": status}
        if (await self.http.post(f"{self.places.stripe.url}/_sim/disputes", json=told)).is_success:
            self.disputed.add(order.id)

    # What the world does.

    async def turn_stripe(self, **knobs: Any) -> None:
        answer = await self.http.post(f"{self.places.stripe.url}/_sim/knobs", json=knobs)
        assert answer.status_code == 200, answer.text

    async def turn_printer(self, **knobs: Any) -> None:
        answer = await self.http.post(f"{self.places.printer.url}/_sim/knobs", json=knobs)
        assert answer.status_code == 200, answer.text

    async def later(self, seconds: int) -> None:
        """Time passes for everybody."""
        self.clock.ahead += timedelta(seconds=seconds)
        await self.http.post(f"{self.places.stripe.url}/_sim/clock", json={"advance_s": seconds})
        await self.http.post(f"{self.places.printer.url}/_sim/clock", json={"advance_s": seconds})
        await self.printer.shop.sent()

    async def deliver(self) -> None:
        """Stripe sends what is due."""
        await self.http.post(f"{self.places.stripe.url}/_sim/webhooks/flush", json={})

    async def work(self, *, shuffle: bool = False, twice: bool = False, dies_at: int = 0) -> int:
        """Run what is due now; how much that was. `dies_at`: each job's worker dies before its n-th transaction."""
        waiting = await working.due(self.services, [*HANDLERS, MASTER], self.clock.now())
        if shuffle:
            self.random.shuffle(waiting)
        for job in waiting:
            with self._dying(dies_at), contextlib.suppress(Died):
                told = await asyncio.gather(*[self.attempt(job) for _ in range(2 if twice else 1)])
                self.errors.update(code for code in told if code is not None)
        if dies_at:
            await self._requeue()
        await self.printer.shop.sent()
        return len(waiting)

    async def attempt(self, job: UUID) -> str | None:
        """One attempt at a job; what went wrong, by code."""
        async with self.services.db.reading() as db:
            kind = await db.value("SELECT kind FROM jobs WHERE id = $1", job)
        if kind == MASTER:
            await self._render(job)
            return None
        return await working.attempt(self.services, job)

    @contextlib.contextmanager
    def _dying(self, at: int) -> Any:
        """Nothing after the n-th transaction is begun."""
        db, begun = self.services.db, 0
        whole = db.transaction

        def counted(*given: Any, **named: Any) -> Any:
            nonlocal begun
            begun += 1
            if begun == at + 1:  # the first one is the worker's own look at the row
                raise Died
            return whole(*given, **named)

        if at:
            db.transaction = counted  # type: ignore[method-assign]
        try:
            yield
        finally:
            db.transaction = whole  # type: ignore[method-assign]

    async def _requeue(self) -> None:
        """The dispatcher finds what nobody answered."""
        async with self.services.db.transaction() as tx:
            for lane in ("checkout", "record", "sweep", "print"):
                await jobs.requeue_stale(tx, "home", lane, 0)

    async def _render(self, job: UUID) -> None:
        """What a pixel worker answers."""
        file = await self.places.file(self.services)
        async with self.services.db.transaction() as tx:
            row = await jobs.lock(tx, job)
            assert row is not None
            await jobs.mark_published(tx, [row])
        line = msgspec.json.decode(row.payload, type=PrintMaster).line
        is_good, self.unprintable = self.unprintable == 0, max(0, self.unprintable - 1)
        body = msgspec.structs.replace(file, line=line) if is_good else MasterRefused(line=line)
        result = Result(
            job_id=row.id, kind=row.kind, attempt=row.attempt, step="master", index=0, last=True,
            outcome=Outcome.OK if is_good else Outcome.REFUSED, reason=None if is_good else "source-changed",
            ms=1, engine="test", body=msgspec.json.encode(body),
        )  # fmt: skip
        key = self.services.settings.result_key.reveal()
        async with self.services.db.transaction() as tx:
            await jobs.apply(tx, key, signed(key, row.nonce, result), appliers(self.services))

    async def sweep(self) -> None:
        """What the scheduler plans now and then."""
        async with self.services.db.transaction() as tx:
            await self.services.checkout.expire_overdue(tx)
            await self.services.fulfilments.tend(tx)
            await self.services.quotes.expire_overdue(tx)

    # The end.

    async def _give_up_what_is_held(self) -> None:
        """A person does not wait for what cannot be printed."""
        for order in self.orders:
            if (await self.call("GET", f"/v1/orders/{order.id}")).json()["state"] == "on_hold":
                await self.cancel(order)

    async def heal(self) -> None:
        """Nobody misbehaves any more."""
        for place in (self.places.api, self.places.stripe, self.places.printer):
            place.proxy.faults.clear()
        await self.turn_stripe(faults=[], settle_s=5, webhooks={"duplicate": 0, "drop": 0, "shuffle": False})
        await self.turn_printer(faults=[], outage=False)
        self.unprintable = 0
        for order in self.orders:
            if order.id in self.disputed:
                await self.dispute(order, "won")

    async def settle(self) -> None:
        """Everybody behaves, and time passes until every order has come to its end."""
        await self.heal()
        for seconds in (1, 10, 61, 600, 600, 600, 25 * 3600, 10, 60, 600, 3600, 3600, 3600, 3600):
            await self.later(seconds)
            await self.sweep()
            await self.deliver()
            await self._give_up_what_is_held()
            for _ in range(8):
                if not await self.work():
                    break

"""The simulated printer at work: moves orders on by the clock, fetches files, sends callbacks."""

import asyncio
import hashlib
import random
from typing import Any, Final

import httpx
import msgspec

from devstack.prodigi import orders
from devstack.prodigi.book import Book
from devstack.prodigi.images import NotAnImage, size_of
from devstack.prodigi.orders import Asset, Order, Phase

TICK_S: Final = 0.1
FETCH_S: Final = 30
CALLBACK_S: Final = 5


class Workshop:
    """Moves every order as far as the clock allows; in automatic mode a task does so by itself."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._http = httpx.AsyncClient(timeout=FETCH_S, trust_env=False)
        self._busy = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work by the clock."""
        if self._book.auto and self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """End after the step that runs."""
        tasks = [*self._sending, *([self._ticking] if self._ticking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    async def sent(self) -> None:
        """Wait until every callback that is being sent is sent."""
        await asyncio.gather(*self._sending)

    async def _tick(self) -> None:
        while True:
            await self.work()
            await asyncio.sleep(TICK_S)

    async def work(self) -> None:
        """Do everything that is due now."""
        async with self._busy:
            for order in self._book.all(only_open=True):
                await self._advance(order.id)

    async def _advance(self, order_id: str) -> None:
        while True:
            order = self._book.by_id(order_id)
            if order is None or order.phase is Phase.OVER or order.due > self._book.now():
                return
            now = order.due  # a clock that jumped passes every station on the way
            if order.phase is Phase.DOWNLOADING:
                told = await self._download(order, now)
                if told is None:
                    continue
            else:
                told = orders.move(order, now)
            self._book.save(order)
            self._book.count("shipments", sum(kind.endswith("shipment#Complete") for kind in told))
            self.call_back(order, told)

    async def _download(self, order: Order, now: int) -> list[str] | None:
        """One round over the missing files; None when the order changed meanwhile."""
        arrivals = [(asset, await self._fetch(order, asset)) for asset in orders.waiting(order)]
        if self._book.by_id(order.id) != order:
            return None
        for asset, data in arrivals:
            if data is None:
                orders.missed(order, asset, now)
                self._book.count("fetches_failed")
                continue
            self._book.count("fetches")
            try:
                size = size_of(data)
            except NotAnImage:
                size = None
            orders.arrived(order, asset, hashlib.md5(data, usedforsecurity=False).hexdigest(), size, now)
        return orders.fetched(order, now)

    async def _fetch(self, order: Order, asset: Asset) -> bytes | None:
        if asset.tries < order.knobs.fetch_failures:
            return None
        try:
            answer = await self._http.get(asset.url)
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        data = answer.content
        return data if order.knobs.fetched == "as_sent" else data + b"\x00"

    def call_back(self, order: Order, kinds: list[str]) -> None:
        """Send callbacks, each once, as the knobs want; the vendor does not promise to try again."""
        url, how = order.body.get("callbackUrl"), self._book.knobs.callbacks
        if not url or how == "off":
            self._book.count("callbacks_dropped", len(kinds))
            return
        bodies = [self._event(order, kind) for kind in kinds]
        bodies = bodies[::-1] if how == "reversed" else bodies * 2 if how == "duplicate" else bodies
        if bodies:
            task = asyncio.create_task(self._send(url, bodies))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _event(self, order: Order, kind: str) -> dict[str, Any]:
        self._book.count("events")
        number = 300_000 + self._book.counts()["events"]
        shape = self._book.knobs.callback_shape
        if shape == "mixed":
            shape = random.Random(f"{self._book.knobs.seed}:{number}").choice(["order", "root"])
        told = orders.shown(order, phone="mobilePhoneNumber")
        return {
            "specversion": "1.0",
            "type": kind,
            "source": "http://api.prodigi.com/v4.0/Orders/",
            "id": f"evt_{number}",
            "time": orders.written(self._book.now()),
            "datacontenttype": "application/json",
            "subject": order.id,
            "data": {"order": told} if shape == "order" else told,
        }

    async def _send(self, url: str, bodies: list[dict[str, Any]]) -> None:
        await asyncio.sleep(self._book.knobs.callback_delay_ms / 1000)
        for body in bodies:
            headers = {"Content-Type": "application/cloudevents+json"}
            try:
                await self._http.post(url, content=msgspec.json.encode(body), headers=headers, timeout=CALLBACK_S)
                self._book.count("callbacks")
            except httpx.HTTPError:
                self._book.count("callbacks_failed")

"""A holiday album, as locust runs it: several real photos, prints of them, one order, one payment.

`make load` runs it against a stack of its own and ends with the audit. By hand, against any stack:
`LOAD_STRIPE=… LOAD_LEDGER=… LOAD_PHOTOS=… locust -f loadtests/album.py --headless --host http://…`
"""

import hashlib
import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import gevent
from locust import HttpUser, between, task

from loadtests.phone import TWICE, Broken, Ledger, Phone, note

NAMES: Final = (
    "large-01-mi-a3-dinner.jpg",
    "large-02-pixel-path.jpg",
    "large-03-iphone-xs-p3-rotated.jpg",
    "large-05-nuthatch-20mp.jpg",
    "large-08-two-people-portrait.jpg",
    "large-09-leica-orientation8.jpg",
    "heic-iphone11pro-p3-rotated.heic",
    "heic-iphone13promax-hdr-gainmap.heic",
)
SKUS: Final = ("photo-10x15-standard", "photo-13x18-standard", "photo-13x13-square")
PACES: Final = (None, None, None, 600_000)
HOME: Final = {
    "name": "Robin Sample",
    "line1": "12 High Street",
    "town": "Leeds",
    "postcode": "LS1 4AP",
    "country": "GB",
    "email": "robin@customer.invalid",
}
DECLINED: Final = "pm_card_chargeDeclined"
GOOD: Final = "pm_card_visa"
SLOW_S: Final = 240
"""How long a wait may be before it counts as never: a busy machine is no broken promise."""


class Around(NamedTuple):
    """What the people are given: photos, where Stripe is, where promises are noted, a number for their whims."""

    photos: Path
    stripe: str
    ledger: Ledger
    seed: int


@cache
def around() -> Around:
    """From `LOAD_PHOTOS`, `LOAD_STRIPE`, `LOAD_LEDGER` and `LOAD_SEED`."""
    env = os.environ
    photos = Path(env.get("LOAD_PHOTOS", "../shared/photos"))
    return Around(photos, env["LOAD_STRIPE"], Ledger(Path(env["LOAD_LEDGER"])), int(env.get("LOAD_SEED", "1")))


def own_copy(raw: bytes) -> bytes:
    """The same picture in a file of its own: a comment behind the first marker (JPEG), or a free box at the end."""
    mark = uuid4().hex.encode()
    if raw[:2] == b"\xff\xd8":
        return raw[:2] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + raw[2:]
    return raw + (len(mark) + 8).to_bytes(4, "big") + b"free" + mark


class Holiday(HttpUser):
    """Somebody home from a holiday."""

    wait_time = between(0.5, 2)
    network_timeout = 60.0
    numbers = iter(range(1_000_000))

    def on_start(self) -> None:
        self.photos, self.stripe, self.ledger, seed = around()
        self.chance = random.Random(f"{seed}:{next(self.numbers)}")
        self.phone = Phone(self.client, self.host or "", self.chance)
        self.phone.begin()
        self.cursor = ""
        self.seen: set[str] = set()

    @task
    def album(self) -> None:
        """From the camera roll to the paid order; a broken promise is counted and the person begins anew."""
        begun = time.monotonic()
        try:
            self._album()
        except Broken as broken:
            note("album", begun, broken)
        else:
            note("album", begun)

    def _album(self) -> None:
        chosen = [
            own_copy((self.photos / name).read_bytes()) for name in self.chance.sample(NAMES, self.chance.randint(2, 4))
        ]
        if self.chance.random() < 0.2:
            chosen.append(chosen[0])  # the same photo, chosen twice
        assets = [self._send(data) for data in chosen]
        self._show(assets[0])
        order = self._order(self._draft(assets))
        if order is not None:
            self._pay(order)

    def _send(self, data: bytes) -> str:
        kind = "image/jpeg" if data[:2] == b"\xff\xd8" else "image/heic"
        digest = hashlib.sha256(data).hexdigest()
        declared = {"sha256": digest} if self.chance.random() < 0.5 else {}
        wish = {"bytes": len(data), "contentType": kind, **declared}
        upload = self.phone.post("create upload", "/v1/uploads", wish)
        pace = self.chance.choice(PACES)
        while parts := self.phone.post("ask where to send", f"/v1/uploads/{upload['id']}/parts")["parts"]:
            self.phone.send("send to storage", parts[0], data, pace)
        last_byte = time.monotonic()
        self.phone.post("complete upload", f"/v1/uploads/{upload['id']}/complete")
        self.ledger.note("upload", upload=upload["id"], asset=upload["assetId"], sha256=digest, bytes=len(data))
        self._await_preview(upload["assetId"], last_byte)
        return str(upload["assetId"])

    def _await_preview(self, asset: str, last_byte: float) -> None:
        look = self._told_of if self.chance.random() < 0.5 else self._state_of
        self.phone.wait("preview ready", lambda: look(asset), SLOW_S)
        note("last byte to preview ready", last_byte)

    def _told_of(self, asset: str) -> bool:
        page = self.phone.get("events", f"/v1/events?after={self.cursor}")
        self.cursor = page["cursor"]
        for event in page["events"]:
            if event["type"] in ("asset.preview_ready", "asset.ready", "asset.duplicate_found"):
                self.seen.add(event["data"]["assetId"])
            if event["type"] == "asset.rejected":
                raise Broken(f"a good photo was rejected: {event}")
        return asset in self.seen

    def _state_of(self, asset: str) -> bool:
        state = self.phone.get("read photo", f"/v1/assets/{asset}")["state"]
        if state == "rejected":
            raise Broken(f"a good photo was rejected: {asset}")
        return state in ("preview_ready", "ready", "duplicate")

    def _show(self, asset: str) -> None:
        told = self.phone.post("mint addresses", "/v1/images", {"assetIds": [asset], "sides": [200, 400]})
        for variant in told["images"][0]["variants"]:
            with self.client.get(variant["url"], name="preview from the edge", catch_response=True) as answer:
                if answer.status_code != 200:
                    answer.failure(f"the edge: {answer.status_code}")

    def _draft(self, assets: list[str]) -> dict[str, Any]:
        items = [
            {"assetId": asset, "sku": self.chance.choice(SKUS), "copies": self.chance.randint(1, 3)} for asset in assets
        ]
        draft: dict[str, Any] = self.phone.post("put a draft together", "/v1/drafts", {"items": items})
        path = f"/v1/drafts/{draft['id']}"
        ready = lambda: self.phone.get("read draft", path)["state"] == "ready_for_checkout"  # noqa: E731
        self.phone.wait("draft can be ordered", ready, SLOW_S)
        self.phone.post("preview the prints", f"{path}/preview", {"side": 800, "proof": False})
        return draft

    def _order(self, draft: dict[str, Any]) -> str | None:
        wish = {
            "draftId": draft["id"],
            "currency": "GBP",
            "country": HOME["country"],
            "postcode": HOME["postcode"],
            "shipping": "standard",
        }
        quote = self.phone.post("ask for the price", "/v1/quotes", wish)
        self.ledger.note("intent", quote=quote["id"])
        body = {"quoteId": quote["id"], "recipient": HOME}
        placed = self.phone.post("place the order", "/v1/orders", body)["id"]
        if self.chance.random() < TWICE:  # the app was started again and has forgotten its key
            again = self.phone.post("place the order again", "/v1/orders", body)["id"]
            if again != placed:
                raise Broken(f"one price, two orders: {placed} and {again}")
        order = self.phone.get("read order", f"/v1/orders/{placed}")
        self.ledger.note("order", order=placed, quote=quote["id"], **_money(order["total"]))
        return None if self.chance.random() < 0.05 else str(placed)  # some leave without paying

    def _pay(self, order: str) -> None:
        self.phone.post("begin to pay", f"/v1/orders/{order}/payment")
        payment: dict[str, Any] = {}

        def has_secret() -> bool:
            payment.update(self.phone.get("read payment", f"/v1/orders/{order}/payment"))
            return bool(payment["clientSecret"])

        self.phone.wait("payment can be confirmed", has_secret, SLOW_S)
        if self.chance.random() < 0.2:
            self._confirm(payment, DECLINED)
        taps = [gevent.spawn(self._confirm, payment, GOOD) for _ in range(2 if self.chance.random() < TWICE else 1)]
        if "succeeded" not in [tap.get() for tap in taps]:
            raise Broken(f"Stripe did not take the payment of {order}")
        self.ledger.note("paid", order=order)
        confirmed = time.monotonic()
        paid = lambda: self.phone.get("read order", f"/v1/orders/{order}")["state"] != "priced"  # noqa: E731
        self.phone.wait("order is paid", paid, SLOW_S)
        note("confirmed to paid", confirmed)
        if self.chance.random() < 0.1:
            self.ledger.note("regret", order=order)
            self.phone.refused("cancel the order", f"/v1/orders/{order}/cancel")

    def _confirm(self, payment: dict[str, Any], method: str) -> str:
        """What the phone does at Stripe, with the client secret; the intent's state."""
        intent = payment["clientSecret"].split("_secret_")[0]
        form = {"client_secret": payment["clientSecret"], "payment_method": method}
        with self.client.post(
            f"{self.stripe}/v1/payment_intents/{intent}/confirm",
            data=form,
            auth=(payment["publishableKey"], ""),
            name="confirm at Stripe",
            catch_response=True,
        ) as answer:
            told = answer.json()
            intent_told = told.get("error", {}).get("payment_intent", told)
            if answer.status_code in (200, 400, 402, 409):
                answer.success()
            return str(intent_told.get("status", ""))


def _money(told: dict[str, Any]) -> dict[str, Any]:
    return {"total": told["amount"], "currency": told["currency"]}

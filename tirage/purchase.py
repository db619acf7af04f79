"""What a phone does after the photos are up: choose prints, see a price, order, pay at Stripe, wait for the parcel."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import httpx

from base import telemetry

SHIPPED: Final = ("shipped", "delivered")
WAIT_S: Final = 120
HOME: Final = {
    "name": "Robin Sample",
    "line1": "12 High Street",
    "town": "Leeds",
    "postcode": "LS1 4AP",
    "country": "GB",
    "email": "robin@customer.invalid",
}
Note = Callable[[str, float, str | None], None]


class PurchaseFailed(Exception):
    """A step did not answer as it must; the text says what came."""


class Purchase:
    """One order of a few photos, as an app makes it. `is_clumsy`: taps twice, loses answers, as people on trains do."""

    def __init__(self, client: httpx.Client, stripe: str, note: Note, *, is_clumsy: bool) -> None:
        self._client, self._stripe, self._note, self._clumsy = client, stripe, note, is_clumsy
        self.order = ""
        self.state = ""
        self.proofs: list[bytes] = []

    def run(self, assets: Sequence[str], sku: str) -> str:
        """Buy a print of each; the order's id once its parcel has left. Raises `PurchaseFailed`."""
        begun = time.monotonic()
        items = [{"assetId": asset, "sku": sku, "copies": 1} for asset in assets]
        draft = self._call("put a draft together", "POST", "/v1/drafts", {"items": items})
        self._await_draft(draft["id"])
        self._look_at_proofs(draft["id"])
        quote = self._call(
            "ask for the price",
            "POST",
            "/v1/quotes",
            {
                "draftId": draft["id"],
                "currency": "GBP",
                "country": HOME["country"],
                "postcode": HOME["postcode"],
                "shipping": "standard",
            },
        )
        self.order = self._place(quote["id"])
        self._pay()
        self._await_parcel()
        self._note("everything, from the draft to the parcel", begun, None)
        return self.order

    def _place(self, quote: str) -> str:
        body = {"quoteId": quote, "recipient": HOME}
        key = uuid4().hex
        placed = self._call("place the order", "POST", "/v1/orders", body, key)
        if self._clumsy:
            again = self._call("tap again", "POST", "/v1/orders", body, key)
            anew = self._call("start the app again and order", "POST", "/v1/orders", body)
            if {again["id"], anew["id"]} != {placed["id"]}:
                raise PurchaseFailed("a second tap made a second order")
        return str(placed["id"])

    def _pay(self) -> None:
        self._call("begin to pay", "POST", f"/v1/orders/{self.order}/payment")
        payment = self._wait_for_secret()
        intent = payment["clientSecret"].split("_secret_")[0]
        for attempt in range(2 if self._clumsy else 1):
            begun = time.monotonic()
            answer = httpx.post(
                f"{self._stripe}/v1/payment_intents/{intent}/confirm",
                data={"client_secret": payment["clientSecret"], "payment_method": "pm_card_visa"},
                auth=(payment["publishableKey"], ""),
                timeout=30,
            )
            if answer.status_code != 200 and attempt == 0:
                raise PurchaseFailed(f"Stripe answered {answer.status_code}: {answer.text}")
            self._note("confirm at Stripe" + (" again, the answer was lost" if attempt else ""), begun, None)

    def _wait_for_secret(self) -> Mapping[str, Any]:
        begun = time.monotonic()
        while time.monotonic() - begun < WAIT_S:
            payment = self._call("read the payment", "GET", f"/v1/orders/{self.order}/payment")
            if payment["clientSecret"]:
                return payment
            time.sleep(0.5)
        raise PurchaseFailed("Stripe gave no secret")

    def _await_draft(self, draft: str) -> None:
        begun = time.monotonic()
        while time.monotonic() - begun < WAIT_S:
            state = self._read(f"/v1/drafts/{draft}")["state"]
            if state == "ready_for_checkout":
                self._note("wait until the draft can be ordered", begun, None)
                return
            time.sleep(0.1)
        raise PurchaseFailed(f"the draft is still {state}: {self._read(f'/v1/drafts/{draft}/checks')}")

    def _look_at_proofs(self, draft: str) -> None:
        wish = {"side": 1600, "proof": True, "paperWhite": True}
        shown = self._call("ask how the prints will look", "POST", f"/v1/drafts/{draft}/preview", wish)
        for item in shown["items"]:
            begun, answer = time.monotonic(), httpx.get(item["url"], timeout=60)
            if answer.status_code != 200:
                raise PurchaseFailed(f"the edge answered {answer.status_code} for a proof")
            self.proofs.append(answer.content)
            self._note(f"fetch a soft proof from the edge ({len(answer.content)} bytes)", begun, None)

    def _await_parcel(self) -> None:
        begun = time.monotonic()
        while self.state not in SHIPPED:
            if time.monotonic() - begun > WAIT_S:
                raise PurchaseFailed(f"{self.order} is still {self.state} after {WAIT_S} s")
            state = self._read(f"/v1/orders/{self.order}")["state"]
            if state != self.state:
                self._note(f"the order is {state}", begun, None)
            self.state = state
            time.sleep(0.1)

    def _read(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        if answer.status_code != 200:
            raise PurchaseFailed(f"GET {path} answered {answer.status_code}: {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

    def _call(
        self, what: str, method: str, path: str, body: Mapping[str, Any] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        begun, trace = time.monotonic(), telemetry.new_traceparent()
        headers = {"idempotency-key": key or uuid4().hex, "traceparent": trace}
        answer = self._client.request(method, path, json=body, headers=headers)
        if answer.status_code >= 300:
            raise PurchaseFailed(f"{method} {path} answered {answer.status_code}: {answer.text}")
        self._note(what, begun, trace.split("-")[1])
        told: dict[str, Any] = answer.json()
        return told

"""Webhooks out: signed, tried again for three days, and as unreliable as the knobs say."""

import asyncio
import hashlib
import hmac
import itertools
import json
import time
from typing import Final

import httpx

from devstack.stripe import shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.knobs import Knobs, Signature

RETRY_S: Final = (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 36_000, 36_000, 36_000)
TIMEOUT_S: Final = 20
SHIFT_S: Final = 600
WRONG: Final = "whsec_this_is_not_the_secret"


def sign(body: bytes, secrets: list[str], moment: int) -> str:
    """A `Stripe-Signature`: the time, and one `v1` for each secret that is in force."""
    signed = [hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={moment}", *(f"v1={one}" for one in signed)])


class Deliveries:
    """What is to be sent to the endpoint, and sending it."""

    def __init__(self, book: Book, endpoint: str | None, secrets: list[str]) -> None:
        self._book, self.endpoint = book, endpoint
        self._client: httpx.AsyncClient | None = None
        self._busy: set[str] = set()
        if not book.kinds["secret"]:
            for secret in secrets[:1]:
                book.put("secret", secret, {"until": None})

    def roll(self, secret: str, overlap_s: int) -> None:
        """Sign with a new secret; the old ones sign too for `overlap_s` more."""
        until = self._book.now() + overlap_s
        for name, kept in self._book.kinds["secret"].items():
            kept["until"] = until if kept["until"] is None else kept["until"]
            self._book.touch("secret", name)
        self._book.put("secret", secret, {"until": None})

    def plan(self, knobs: Knobs) -> list[str]:
        """Plan the deliveries of events that are new; their names."""
        planned = int(self._book.meta.get("planned", 0))
        fresh = list(itertools.islice(self._book.kinds["event"].values(), planned, None))
        self._book.meta["planned"] = planned + len(fresh)
        made, chance = [], self._book.random
        for told in fresh if self.endpoint else ():
            copies = 2 if chance.randrange(1000) < knobs.webhooks.duplicate else 1
            dropped = chance.randrange(1000) < knobs.webhooks.drop
            for copy in range(copies):
                due = self._book.now() + knobs.webhooks.delay_s + chance.randrange(knobs.webhooks.jitter_s + 1)
                name = f"{told['id']}:{copy}"
                state = "dropped" if dropped else "due"
                self._book.put(
                    "delivery", name, {"event": told["id"], "due": due, "attempt": 0, "state": state, "answers": []}
                )
                made.append(name)
        return made

    def due(self) -> list[str]:
        """What is to be sent now."""
        now = self._book.now()
        every = self._book.kinds["delivery"].items()
        return [n for n, d in every if d["state"] == "due" and d["due"] <= now and n not in self._busy]

    def next_due(self) -> int | None:
        """The virtual moment of the next try, or None."""
        waiting = [d["due"] for d in self._book.kinds["delivery"].values() if d["state"] == "due"]
        return min(waiting, default=None)

    async def send(self, names: list[str], knobs: Knobs) -> int:
        """Try each once; how many there were."""
        if knobs.webhooks.shuffle:
            self._book.random.shuffle(names)
        self._busy.update(names)
        try:
            for some in _batches(names, 8):
                await asyncio.gather(*(self._try(name, knobs) for name in some))
        finally:
            self._busy.difference_update(names)
        self._book.commit()
        return len(names)

    async def _try(self, name: str, knobs: Knobs) -> None:
        delivery = self._book.kinds["delivery"][name]
        event = self._book.kinds["event"][delivery["event"]]
        status = await self._post(event, knobs)
        delivery["answers"].append(status)
        if status // 100 == 2:
            delivery["state"] = "sent"
            event["pending_webhooks"] = 0
            self._book.touch("event", event["id"])
        elif delivery["attempt"] >= len(RETRY_S):
            delivery["state"] = "given_up"
        else:
            delivery["due"] = self._book.now() + RETRY_S[delivery["attempt"]]
            delivery["attempt"] += 1
        self._book.touch("delivery", name)

    async def _post(self, event: Object, knobs: Knobs) -> int:
        body = json.dumps(shapes.wire(event), indent=2).encode()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": self._signature(body, knobs),
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S)
        assert self.endpoint is not None
        try:
            return (await self._client.post(self.endpoint, content=body, headers=headers)).status_code
        except httpx.HTTPError:
            return 0

    def _signature(self, body: bytes, knobs: Knobs) -> str:
        how, now = knobs.webhooks.signature, self._book.now()
        moment = now if knobs.webhooks.virtual_time else int(time.time())
        moment += {Signature.OLD: -SHIFT_S, Signature.FUTURE: SHIFT_S}.get(how, 0)
        kept = self._book.kinds["secret"].items()
        secrets = [name for name, secret in kept if secret["until"] is None or secret["until"] > now][::-1]
        return sign(body, [WRONG] if how is Signature.WRONG else secrets, moment)

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()


def _batches(names: list[str], size: int) -> list[list[str]]:
    return [names[i : i + size] for i in range(0, len(names), size)]

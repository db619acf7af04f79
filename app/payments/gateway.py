"""Stripe, through its own library: one call at a time, never longer than eight seconds, never retried blindly.

What comes back is facts, `ProviderSilent` (the outcome is unknown) or `ProviderRefused`.
"""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import stripe

from app.payments.domain import Capture, DisputeFacts, IntentFacts, RefundFacts
from app.payments.errors import ProviderRefused, ProviderSilent
from base.clock import Clock
from base.settings import Reader, Secret

TIMEOUT_S: Final = 8
PAGES: Final = 20
PAGE: Final = 100


class StripeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where Stripe is, our secret key, the key that apps use, and how long one call may take."""

    url: str
    key: Secret[str]
    publishable_key: str
    timeout_s: int


def read_stripe(read: Reader) -> StripeSettings:
    """The settings in `TIRAGE_STRIPE_*`."""
    return StripeSettings(
        url=read.url("TIRAGE_STRIPE_URL", frozenset({"http", "https"}), "https://api.stripe.com"),
        key=read.secret("TIRAGE_STRIPE_KEY"),
        publishable_key=read.text("TIRAGE_STRIPE_PUBLISHABLE_KEY"),
        timeout_s=read.number("TIRAGE_STRIPE_TIMEOUT", TIMEOUT_S, 1, TIMEOUT_S),
    )


class Gateway:
    """Stripe's API as payments use it."""

    def __init__(self, settings: StripeSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._http: stripe.HTTPXClient | None = None
        self._client: stripe.StripeClient | None = None

    @property
    def publishable_key(self) -> str:
        """The key that apps use."""
        return self._settings.publishable_key

    def _intents(self) -> Any:
        return self._connected().v1.payment_intents

    def _refunds(self) -> Any:
        return self._connected().v1.refunds

    def _connected(self) -> stripe.StripeClient:
        if self._client is None:
            self._http = stripe.HTTPXClient(timeout=self._settings.timeout_s)
            self._client = stripe.StripeClient(
                self._settings.key.reveal(),
                base_addresses={"api": self._settings.url},
                http_client=self._http,
                max_network_retries=0,
            )
        return self._client

    async def close(self) -> None:
        """Give the connections back."""
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create(
        self, *, amount: int, currency: str, order_ref: str, payment_ref: str, key: str
    ) -> tuple[IntentFacts, str]:
        """Make an intent, or get the one made under `key`; its facts and its client secret."""
        body = {
            "amount": amount,
            "currency": currency.lower(),
            "automatic_payment_methods": {"enabled": True},
            "metadata": {"order_id": order_ref, "payment_id": payment_ref},
        }
        began = self._clock.now()
        made = await self._answer(self._intents().create_async(body, {"idempotency_key": key}))
        return _facts(made, began), made.client_secret

    async def retrieve(self, intent_id: str) -> tuple[IntentFacts, str]:
        """Read an intent; its facts and its client secret."""
        began = self._clock.now()
        read = await self._answer(self._intents().retrieve_async(intent_id, {"expand": ["latest_charge"]}))
        return _facts(read, began), read.client_secret

    async def find(self, payment_ref: str, since: datetime) -> str | None:
        """The id of the intent that was made for a payment, by reading the list (which never lags) from `since`."""
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp()) - 300}, "limit": 100}
        for _ in range(PAGES):
            page = await self._answer(self._intents().list_async(params))
            for one in page.data:
                if _words(one).get("payment_id") == payment_ref:
                    return str(one.id)
            if not page.has_more:
                return None
            params["starting_after"] = page.data[-1].id
        raise ProviderSilent("too many intents to look through")

    async def captures(self, since: datetime) -> list[Capture]:
        """All money taken by tries that were made from `since` on, newest first."""
        every = await self._every(self._connected().v1.charges, {"created": {"gte": int(since.timestamp())}})
        return [_capture(one) for one in every if one.status == "succeeded" and one.captured]

    async def refunds_since(self, since: datetime) -> list[RefundFacts]:
        """Every refund made from `since` on, whoever made it."""
        return [
            _refund(one) for one in await self._every(self._refunds(), {"created": {"gte": int(since.timestamp())}})
        ]

    async def disputes(self, intent_id: str) -> list[DisputeFacts]:
        """Every dispute about an intent."""
        found = await self._every(self._connected().v1.disputes, {"payment_intent": intent_id})
        return [_dispute(one) for one in found]

    async def _every(self, kind: Any, params: dict[str, Any]) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        while True:
            after = {"starting_after": found[-1].id} if found else {}
            page = await self._answer(kind.list_async({**params, "limit": PAGE, **after}))
            found += page.data
            if not page.has_more:
                return found

    async def cancel(self, intent_id: str, key: str) -> IntentFacts:
        """Have an intent cancelled; raises `ProviderRefused` when its state does not allow it."""
        began, options = self._clock.now(), {"idempotency_key": key}
        return _facts(await self._answer(self._intents().cancel_async(intent_id, {}, options)), began)

    async def _answer(self, call: Awaitable[Any]) -> Any:
        """What Stripe answered. Its own errors, silence, limits and running twins are all of unknown outcome."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await call
        except (TimeoutError, stripe.APIConnectionError) as error:
            raise ProviderSilent() from error
        except (stripe.CardError, stripe.InvalidRequestError, stripe.IdempotencyError) as error:
            raise ProviderRefused(error.code or type(error).__name__.lower()) from error
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise ProviderSilent("our key is not accepted") from error
        except stripe.StripeError as error:
            raise ProviderSilent(spoiled=error.http_status == 500) from error

    async def refund(self, *, intent_id: str, amount: int, refund_ref: str, key: str) -> RefundFacts:
        """Give money back."""
        body = {"payment_intent": intent_id, "amount": amount, "metadata": {"refund_id": refund_ref}}
        return _refund(await self._answer(self._refunds().create_async(body, {"idempotency_key": key})))

    async def refunds(self, intent_id: str) -> list[RefundFacts]:
        """Every refund of an intent."""
        return [_refund(one) for one in await self._every(self._refunds(), {"payment_intent": intent_id})]


def _facts(intent: Any, began: datetime) -> IntentFacts:
    charge, failed = intent.latest_charge, intent.last_payment_error
    return IntentFacts(
        id=intent.id,
        status=intent.status,
        amount=intent.amount,
        currency=intent.currency,
        received=intent.amount_received,
        refunded=charge.amount_refunded if isinstance(charge, stripe.Charge) else 0,
        disputed=isinstance(charge, stripe.Charge) and charge.disputed,
        order_ref=_words(intent).get("order_id", ""),
        payment_ref=_words(intent).get("payment_id", ""),
        failed_charge=None if failed is None else getattr(failed, "charge", None) or failed.code,
        failure=None if failed is None else getattr(failed, "decline_code", None) or failed.code,
        read_at=began,
    )


def _refund(made: Any) -> RefundFacts:
    return RefundFacts(
        id=made.id,
        intent_id=made.payment_intent,
        status=made.status,
        amount=made.amount,
        currency=made.currency,
        refund_ref=_words(made).get("refund_id", ""),
        failure=getattr(made, "failure_reason", None),
        created_at=_moment(made.created),
    )


def _capture(charge: Any) -> Capture:
    return Capture(
        id=charge.id,
        intent_id=charge.payment_intent,
        order_ref=_words(charge).get("order_id", ""),
        payment_ref=_words(charge).get("payment_id", ""),
        amount=charge.amount_captured,
        currency=charge.currency.upper(),
        refunded=charge.amount_refunded,
        disputed=charge.disputed,
        created_at=_moment(charge.created),
    )


def _dispute(told: Any) -> DisputeFacts:
    due_by = told.evidence_details.due_by
    return DisputeFacts(
        id=told.id,
        status=told.status,
        amount=told.amount,
        currency=told.currency,
        reason=told.reason,
        due_by=None if due_by is None else _moment(due_by),
    )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _words(of: Any) -> dict[str, str]:
    """An object's metadata."""
    found: dict[str, str] = {} if of.metadata is None else of.metadata.to_dict()
    return found

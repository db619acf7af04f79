"""Stripe's test payment methods that the simulator knows, and how each behaves."""

from typing import Final

import msgspec

Failure = tuple[str, str | None]


class Behaviour(msgspec.Struct, frozen=True):
    """`decline` is (code, decline code); `settles` is None for cards, else whether the bank pays later; `refund` is
    what becomes of a refund: `ok`, `fails` later, or `pending` first."""

    kind: str = "card"
    decline: Failure | None = None
    authenticate: bool = False
    settles: bool | None = None
    refund: str = "ok"


def _declined(code: str, decline: str | None = None) -> Behaviour:
    return Behaviour(decline=(code, decline))


METHODS: Final[dict[str, Behaviour]] = {
    "pm_card_visa": Behaviour(),
    "pm_card_mastercard": Behaviour(),
    "pm_card_chargeDeclined": _declined("card_declined", "generic_decline"),
    "pm_card_visa_chargeDeclined": _declined("card_declined", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": _declined("card_declined", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": _declined("card_declined", "insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": _declined("expired_card"),
    "pm_card_authenticationRequired": Behaviour(authenticate=True),
    "pm_card_threeDSecure2Required": Behaviour(authenticate=True),
    "pm_card_refundFail": Behaviour(refund="fails"),
    "pm_card_pendingRefund": Behaviour(refund="pending"),
    "pm_usBankAccount_success": Behaviour(kind="us_bank_account", settles=True),
    "pm_usBankAccount_insufficientFunds": Behaviour(
        kind="us_bank_account", settles=False, decline=("payment_intent_payment_attempt_failed", "insufficient_funds")
    ),
}

"""Objects as Stripe's API gives them at the pinned version; a test holds them to stripe-python's typed resources.

A name that begins with an underscore is the simulator's own and never leaves it.
"""

from typing import Any, Final

from devstack.stripe.book import Object

API_VERSION: Final = "2026-10-28.endive"


def wire(stored: Object) -> Object:
    """The object without what is the simulator's own."""
    return {name: value for name, value in stored.items() if not name.startswith("_")}


def payment_intent(name: str, secret: str, now: int, params: dict[str, Any]) -> Object:
    """A new PaymentIntent that waits for a payment method."""
    return {
        "id": name,
        "object": "payment_intent",
        "amount": int(params["amount"]),
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": _automatic(params),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": f"{name}_secret_{secret}",
        "confirmation_method": "automatic",
        "created": now,
        "currency": params["currency"].lower(),
        "customer": None,
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": dict(params.get("metadata", {})),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def _automatic(params: dict[str, Any]) -> Object | None:
    given = params.get("automatic_payment_methods", {"enabled": "true"})
    if given.get("enabled") != "true":
        return None
    return {"allow_redirects": given.get("allow_redirects", "always"), "enabled": True}


def charge(name: str, intent: Object, now: int, kind: str, failure: tuple[str, str | None] | None) -> Object:
    """The attempt to take an intent's money: succeeded, or failed with (code, decline code)."""
    code = failure[0] if failure else None
    return {
        "id": name,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0 if failure else intent["amount"],
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
        "calculated_statement_descriptor": "TIRAGE",
        "captured": not failure,
        "created": now,
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": code,
        "failure_message": DECLINED if failure else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": _outcome(failure),
        "paid": not failure,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": {"type": kind, kind: {}},
        "refunded": False,
        "status": "failed" if failure else "succeeded",
        **dict.fromkeys(_EMPTY),
    }


_EMPTY: Final = (
    *("balance_transaction", "receipt_email", "receipt_number", "receipt_url", "review", "shipping", "source"),
    *("source_transfer", "statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group"),
)


DECLINED: Final = "Your card was declined."


def _outcome(failure: tuple[str, str | None] | None) -> Object:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if failure else "approved_by_network",
        "reason": (failure[1] or failure[0]) if failure else None,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": "The bank did not accept the payment." if failure else "Payment complete.",
        "type": "issuer_declined" if failure else "authorized",
    }


def refund(name: str, of: Object, amount: int, now: int, params: dict[str, Any], status: str) -> Object:
    """Money on its way back from a charge."""
    return {
        "id": name,
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": dict(params.get("metadata", {})),
        "payment_intent": of["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }


EVIDENCE_S: Final = 7 * 86_400


def dispute(name: str, of: Object, now: int, reason: str, status: str) -> Object:
    """A charge that the payer's bank wants back, whole."""
    return {
        "id": name,
        "object": "dispute",
        "amount": of["amount"],
        "balance_transactions": [],
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": now + EVIDENCE_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": of["payment_intent"],
        "reason": reason,
        "status": status,
    }


def event(name: str, kind: str, subject: Object, now: int, request: tuple[str | None, str | None]) -> Object:
    """Something happened to `subject`, as it is at this moment."""
    return {
        "id": name,
        "object": "event",
        "api_version": API_VERSION,
        "created": now,
        "data": {"object": wire(subject)},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": request[0], "idempotency_key": request[1]},
        "type": kind,
    }


def page(url: str, found: list[Object], *, has_more: bool) -> Object:
    """A list."""
    return {"object": "list", "data": [wire(one) for one in found], "has_more": has_more, "url": url}


def payment_error(intent: Object, of: Object, failure: tuple[str, str | None]) -> Object:
    """`last_payment_error`, and the `error` of a 402."""
    code, decline = failure
    error: Object = {
        "charge": of["id"],
        "code": code,
        "doc_url": f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}",
        "message": DECLINED,
        "payment_method": {"id": intent["payment_method"], "object": "payment_method", "type": "card"},
        "type": "card_error",
    }
    return error if decline is None else {**error, "decline_code": decline}

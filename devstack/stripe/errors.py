"""Stripe's error answers, as its API reference spells them."""

from typing import Any


class ApiError(Exception):
    """An answer that is not a success. `stored` says whether v1 idempotency keeps it under the request's key."""

    def __init__(self, status: int, kind: str, message: str, *, stored: bool = False, **more: Any) -> None:
        super().__init__(message)
        self.status, self.stored = status, stored
        self.body = {"error": {"message": message, "type": kind, **more}}
        self.headers: dict[str, str] = {}


def missing(what: str, name: str) -> ApiError:
    """404 for an id that does not exist."""
    return ApiError(
        404, "invalid_request_error", f"No such {what}: '{name}'", code="resource_missing", param=_param(what)
    )


def _param(what: str) -> str:
    return {"payment_intent": "intent"}.get(what, "id")


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400 before anything was done."""
    more: dict[str, Any] = {name: value for name, value in (("param", param), ("code", code)) if value is not None}
    return ApiError(400, "invalid_request_error", message, **more)


def unexpected(intent: dict[str, Any], wanted: str) -> ApiError:
    """400: the intent's state does not allow it."""
    return ApiError(
        400,
        "invalid_request_error",
        f"You cannot {wanted} this PaymentIntent because it has a status of {intent['status']}.",
        stored=True,
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )

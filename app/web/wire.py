"""What goes over the wire: JSON in camelCase, unknown fields refused on the way in, nothing left out on the way out."""

from typing import Annotated, Any, Self

import msgspec
from litestar import Request, Response
from msgspec import Meta

from base.money import Money


class WireIn(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of request bodies. Every field carries `Meta` with a description and its bounds."""


class WireOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of answers. No defaults: a field is always there, `null` where there is nothing to say."""


class MoneyOut(WireOut, frozen=True, kw_only=True):
    """An amount of money."""

    amount: Annotated[int, Meta(description="Minor units of the currency: cents, yen.", examples=[1299])]
    currency: Annotated[str, Meta(description="ISO 4217.", examples=["EUR"])]

    @classmethod
    def of(cls, money: Money) -> Self:
        """From the domain."""
        return cls(amount=money.amount, currency=money.currency)


class WireResponse(Response[Any]):
    """The answer of a handler that returns a `WireOut`: encoded once, sent with two headers, nothing looked up."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **given: Any) -> Any:
        """Anything else goes Litestar's way."""
        if isinstance(self.content, WireOut) and not given.get("headers"):
            return _Encoded(self.status_code or 200, msgspec.json.encode(self.content))
        return super().to_asgi_response(app, request, **given)


class _Encoded:
    __slots__ = ("_body", "_status")

    def __init__(self, status: int, body: bytes) -> None:
        self._status, self._body = status, body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})

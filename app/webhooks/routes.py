"""Webhooks over HTTP: the raw bytes, nothing parsed before they are verified."""

from typing import Any, Final

from litestar import Request, post
from litestar.params import FromPath

from app.web.guards import PublicController
from app.webhooks.service import Intake

BODY_LIMIT: Final = 256 * 1024
SIGNATURE: Final = b"stripe-signature"


class WebhookController(PublicController):
    """For Stripe and vendors; apps do not call these."""

    path = "/webhooks"
    opt = {"free": True, "raw": True}  # noqa: RUF012 Litestar's own field
    include_in_schema = False
    request_max_body_size = BODY_LIMIT
    intake: Intake

    @post("/stripe", operation_id="TakeStripeEvent", status_code=200)
    async def stripe(self, request: Request[Any, Any, Any]) -> dict[str, bool]:
        """Take an event; answered once it is stored."""
        headers = [value for name, value in request.scope["headers"] if name == SIGNATURE]
        header = headers[0].decode("latin-1") if len(headers) == 1 else ""
        return {"new": await self.intake.stripe(await request.body(), header)}

    @post("/vendors/{vendor:str}/{token:str}", operation_id="TakeVendorCallback", status_code=200)
    async def vendor(
        self, request: Request[Any, Any, Any], vendor: FromPath[str], token: FromPath[str]
    ) -> dict[str, bool]:
        """Take a callback; answered once it is stored."""
        return {"new": await self.intake.vendor(vendor, token, await request.body())}

"""What a vendor's callbacks are told to: the vendor's orders are looked at early, and only what is read then counts."""

from app.kernel.db import Transaction
from app.webhooks.domain import Heard, Vendors
from app.webhooks.errors import WebhookMalformed


class VendorListener:
    """Tells fulfilment which vendor order a callback is about."""

    def __init__(self, vendor: str, vendors: Vendors) -> None:
        self._vendor, self._vendors = vendor, vendors

    async def __call__(self, tx: Transaction, body: bytes) -> Heard | None:
        """Plan an early look; None while the order is not known here."""
        hint = self._vendors.read_hint(self._vendor, body)
        if hint is None:
            raise WebhookMalformed()
        found = await self._vendors.hint(tx, self._vendor, hint.vendor_order_id)
        return Heard(outcome="hinted") if found else None

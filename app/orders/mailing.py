"""Sending an order's mails: nothing is sent inside a transaction, and a mail that is recorded is not sent again."""

from uuid import UUID

import msgspec

from app.kernel import alerts
from app.kernel.alerts import Severity
from app.kernel.db import Database, Transaction
from app.kernel.persons import PersonErased, PersonKeys
from app.orders import store
from app.orders.domain import Line, Order
from app.orders.mails import SendMail, written
from base import ids
from base.mail import Mailer
from base.recipients import Recipient

CONTEXT = "order_recipients.sealed"


class Mailing:
    """The use case. Only record workers have a mailer."""

    def __init__(self, db: Database, persons: PersonKeys, mailer: Mailer | None) -> None:
        self._db, self._persons, self._mailer = db, persons, mailer

    async def keep(self, tx: Transaction, order: Order, recipient: Recipient, overridden: tuple[str, ...]) -> None:
        """Seal the recipient of a new order under its owner's key."""
        sealed = await self._persons.seal(tx, order.owner_id, msgspec.json.encode(recipient), CONTEXT)
        await store.insert_recipient(tx, order, sealed, overridden)

    async def recipient(self, tx: Transaction, order: Order) -> Recipient | None:
        """Who receives it; None when the person was erased."""
        return await self.recipient_of(tx, order.id, order.owner_id)

    async def recipient_of(self, tx: Transaction, order_id: UUID, owner_id: UUID) -> Recipient | None:
        """Who receives an order, without reading or locking the order; None when the person was erased."""
        sealed = await store.recipient(tx, order_id)
        if sealed is None:
            return None
        try:
            plain = await self._persons.unseal(tx, owner_id, sealed, CONTEXT)
        except PersonErased:
            return None
        return msgspec.json.decode(plain, type=Recipient)

    async def send(self, wanted: SendMail, tracking: tuple[str, ...] = ()) -> bool:
        """Send a mail that was not sent yet; whether there was one to send. Raises `ServiceUnavailable`.

        The server may have taken a message whose answer was lost: it then gets the same one again, with the same
        Message-ID.
        """
        async with self._db.transaction() as tx:
            found = await self._to_send(tx, wanted)
        if found is None or self._mailer is None:
            return False
        order, lines, recipient = found
        assert recipient.email is not None
        try:
            await self._mailer.send(written(wanted.kind, recipient.email, order, lines, tracking))
        except ValueError:
            async with self._db.transaction() as tx:
                await alerts.alert(tx, "mail-address-refused", Severity.WARNING, ids.encode("order", order.id))
            return False
        return True

    async def sent(self, tx: Transaction, wanted: SendMail) -> None:
        """Record that it was sent."""
        await store.record_mail(tx, wanted.order_id, wanted.kind)

    async def _to_send(self, tx: Transaction, wanted: SendMail) -> tuple[Order, list[Line], Recipient] | None:
        order = await store.lock(tx, wanted.order_id)
        if order is None or await store.was_mailed(tx, order.id, wanted.kind):
            return None
        recipient = await self.recipient(tx, order)
        if recipient is None or recipient.email is None:
            return None
        return order, (await store.lines(tx, [order.id]))[order.id], recipient

"""The two mails of an order: confirmed and shipped. Each is sent once, to the address its recipient gave."""

from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from app.kernel.db import Transaction
from app.kernel.events import Recorded
from app.kernel.jobs import Plan
from app.orders.domain import Line, Order
from base import ids
from base.mail import Mail

_WHOLE: Final = frozenset({"JPY"})
"""Currencies without minor units (ISO 4217); the others of the catalogue have two digits."""


class MailKind(StrEnum):
    """What a mail tells."""

    CONFIRMED = "confirmed"
    SHIPPED = "shipped"


class SendMail(msgspec.Struct, frozen=True, kw_only=True):
    """The job's payload: which order, which mail."""

    order_id: UUID
    kind: MailKind


CONFIRMED: Final = """Thank you for your order {order}.

{lines}

Total: {total}, tax and shipping included.

We are making it now. You can still change your mind for a short while: the app shows until when.
"""
SHIPPED: Final = """Your order {order} is on its way.

{lines}

{tracking}
"""


def written(kind: MailKind, to: str, order: Order, lines: list[Line], tracking: tuple[str, ...] = ()) -> Mail:
    """The mail, ready to be sent; `tracking` are numbers or addresses of parcels."""
    name = ids.encode("order", order.id)
    text = CONFIRMED if kind is MailKind.CONFIRMED else SHIPPED
    subject = "Your order is confirmed" if kind is MailKind.CONFIRMED else "Your order is on its way"
    parcels = "\n".join(f"Parcel: {number}" for number in tracking) or "The carrier gave no tracking number."
    said = text.format(
        order=name,
        lines="\n".join(f"  {line.quantities.ordered} x {line.sku}" for line in lines),
        total=amount(order.total, order.currency),
        tracking=parcels,
    )
    return Mail(to=to, subject=subject, text=said, about=f"{name}/{kind}")


def amount(minor: int, currency: str) -> str:
    """Minor units as people write them: `12.99 EUR`, `1200 JPY`."""
    return f"{minor} {currency}" if currency in _WHOLE else f"{minor // 100}.{minor % 100:02} {currency}"


async def planned_confirmation(tx: Transaction, happened: Recorded) -> Plan | None:
    """The mail that follows the payment."""
    return _planned(happened, MailKind.CONFIRMED)


async def planned_shipping(tx: Transaction, happened: Recorded) -> Plan | None:
    """The mail that follows the first parcel."""
    return _planned(happened, MailKind.SHIPPED)


def _planned(happened: Recorded, kind: MailKind) -> Plan | None:
    if happened.order_id is None:
        return None
    return Plan(
        kind="order.mail",
        payload=SendMail(order_id=happened.order_id, kind=kind),
        owner_id=happened.owner_id,
        dedupe=f"order.mail:{happened.order_id}:{kind}",
    )

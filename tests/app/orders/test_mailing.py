"""An order's mails: one of each kind whatever is repeated, and nothing of the person anywhere but in the mail."""

import mailbox
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.kernel.db import Database
from app.orders.domain import Order
from app.orders.mails import SendMail, amount
from app.services import Services
from app.settings import load
from base import ids
from base.clock import SystemClock
from base.mail import MailSettings, mailer
from base.recipients import Recipient
from base.settings import Secret
from tests.app.orders.test_routes import pay, place

SOMEBODY = Recipient(
    name="Marked Person", line1="12 Marked Street", town="Leeds", postcode="LS1 4AP", country="GB",
    email="marked@example.org",
)  # fmt: skip


async def owner_of(services: Services) -> UUID:
    owner = ids.new_id()
    async with services.db.transaction() as tx:
        await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", owner)
        await services.persons.create(tx, owner)
    return owner


@pytest.fixture
async def mailing(env: dict[str, str], db: Database, tmp_path: Path) -> AsyncIterator[Services]:
    sender = mailer(MailSettings(url=Secret(f"maildir://{tmp_path}/mail"), sender="prints@shop.example"), SystemClock())
    made = Services(load(env, "RECORD"), mailer=sender)
    await made.start()
    yield made
    await made.stop()


async def paid_order(services: Services, recipient: Recipient = SOMEBODY) -> Order:
    order = await place(services.db, services.spine, await owner_of(services))
    async with services.db.transaction() as tx:
        await services.mailing.keep(tx, order, recipient, ())
    await pay(services.db, services.spine, order)
    return order


async def run_mail_jobs(services: Services, *, forget: bool = False) -> int:
    """Run every mail job as a record worker does; `forget` loses the record, as a worker killed after sending."""
    async with services.db.transaction(readonly=True) as tx:
        waiting = [row for row in await jobs.list_jobs(tx, None, "order.mail", 50) if row.state == "queued"]
    for row in waiting:
        if forget:
            await services.mailing.send(msgspec.json.decode(row.payload, type=SendMail))
        else:
            await HANDLERS["order.mail"](services, Attempt(row))
    return len(waiting)


async def test_a_payment_is_confirmed_by_one_mail_whatever_is_repeated(mailing: Services, tmp_path: Path) -> None:
    order = await paid_order(mailing)
    assert await run_mail_jobs(mailing, forget=True) == 1
    assert await run_mail_jobs(mailing) == 1
    assert await run_mail_jobs(mailing) == 0
    (message,) = mailbox.Maildir(tmp_path / "mail", create=False)
    assert message["To"] == SOMEBODY.email
    text = message.get_payload()
    assert ids.encode("order", order.id) in text
    assert "10.98 EUR" in text


async def test_the_recipient_is_sealed_and_an_erased_person_gets_no_mail(mailing: Services, tmp_path: Path) -> None:
    order = await paid_order(mailing)
    async with mailing.db.transaction() as tx:
        sealed = await tx.value("SELECT sealed FROM order_recipients WHERE order_id = $1", order.id)
        assert b"Marked" not in sealed
        await mailing.persons.destroy(tx, order.owner_id)
    assert await run_mail_jobs(mailing) == 1
    assert not (tmp_path / "mail").exists()


async def test_without_an_address_there_is_nothing_to_send(mailing: Services, tmp_path: Path) -> None:
    await paid_order(mailing, msgspec.structs.replace(SOMEBODY, email=None))
    assert await run_mail_jobs(mailing) == 1
    assert not (tmp_path / "mail").exists()


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1299, "EUR", "12.99 EUR"), (5, "GBP", "0.05 GBP"), (1200, "JPY", "1200 JPY")],
)
def test_amounts_read_as_people_write_them(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text

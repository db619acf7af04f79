"""Mail out: the same contract over SMTP, to a real server, and into a Maildir."""

import email
import mailbox
import socket
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from base.clock import SystemClock
from base.errors import ServiceUnavailable
from base.mail import Mail, Mailer, MailSettings, composed, mailer, read_mail
from base.settings import Reader, Secret

SENDER = "prints@shop.example"
MAIL = Mail(to="person@example.org", subject="Your order is confirmed", text="Grüße\n", about="ord_1/confirmed")


class Inbox:
    """Keeps what an SMTP server took; refuses one address."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address.startswith("nobody@"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.got.append(envelope.content)
        return "250 OK"


Given = tuple[Mailer, Callable[[], list[Message]]]


def settings(url: str) -> MailSettings:
    return MailSettings(url=Secret(url), sender=SENDER)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def smtp(inbox: Inbox) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield f"smtp://127.0.0.1:{port}"
    controller.stop()


@pytest.fixture(params=["smtp", "maildir"])
def given(request: pytest.FixtureRequest, inbox: Inbox, smtp: str, tmp_path: Path) -> Given:
    """A mailer, and what arrived through it."""
    if request.param == "smtp":
        return mailer(settings(smtp), SystemClock()), lambda: [email.message_from_bytes(raw) for raw in inbox.got]
    box = tmp_path / "mail"
    return mailer(settings(f"maildir://{box}"), SystemClock()), lambda: list(mailbox.Maildir(box))


async def test_what_is_sent_arrives(given: Given) -> None:
    sender, arrived = given
    await sender.send(MAIL)
    (message,) = arrived()
    assert (message["To"], message["From"], message["Subject"]) == (MAIL.to, SENDER, MAIL.subject)
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == "Grüße"


async def test_the_same_mail_has_the_same_id_and_another_has_not(given: Given) -> None:
    sender, arrived = given
    await sender.send(MAIL)
    await sender.send(MAIL)
    assert len({message["Message-ID"] for message in arrived()}) == 1
    other = Mail(to=MAIL.to, subject=MAIL.subject, text=MAIL.text, about="ord_1/shipped")
    assert composed(other, SENDER, SystemClock())["Message-ID"] != arrived()[0]["Message-ID"]


async def test_a_line_break_cannot_become_a_header(given: Given) -> None:
    sender, arrived = given
    with pytest.raises(ValueError, match=r"linefeed|newline|header"):
        await sender.send(Mail(to="a@example.org\r\nBcc: b@example.org", subject="x", text="x", about="x"))
    assert arrived() == []


async def test_a_refused_address_is_no_outage_and_an_outage_no_refusal(smtp: str) -> None:
    with pytest.raises(ValueError, match="refuses"):
        await mailer(settings(smtp), SystemClock()).send(
            Mail(to="nobody@example.org", subject="x", text="x", about="x")
        )
    with pytest.raises(ServiceUnavailable):
        await mailer(settings("smtp://127.0.0.1:1"), SystemClock()).send(MAIL)


def test_mail_never_shows_itself() -> None:
    assert "person@example.org" not in repr(MAIL)
    assert isinstance(composed(MAIL, SENDER, SystemClock()), EmailMessage)


@pytest.mark.parametrize("url", ["", "http://example.org", "example.org"])
def test_a_wrong_setting_is_a_fault(url: str) -> None:
    read = Reader({"TIRAGE_MAIL_URL": url, "TIRAGE_MAIL_FROM": SENDER})
    read_mail(read)
    assert any("TIRAGE_MAIL_URL" in fault for fault in read.faults)

"""Mail out: one port, over SMTP in production and into a Maildir folder in the embedded stack.

A message's id is a function of what it tells, so that one sent again after a lost answer can be known for the same.
"""

import asyncio
import hashlib
import os
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from base.clock import Clock
from base.errors import ServiceUnavailable
from base.settings import Reader, Secret

TIMEOUT_S: Final = 15
SCHEMES: Final = frozenset({"smtp", "smtps", "maildir"})


class MailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`url`: `smtp://user:password@host:port` (STARTTLS where the server has it), `smtps://…`, or `maildir:///folder`."""

    url: Secret[str]
    sender: str


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One message of plain text. `about` names what it tells, for instance `ord_…/confirmed`."""

    to: str
    subject: str
    text: str
    about: str

    def __repr__(self) -> str:
        return f"Mail(about={self.about!r}, …)"


class Mailer(Protocol):
    """Sends; returns once the message is in the other side's hands."""

    async def send(self, mail: Mail) -> None:
        """Raises `ServiceUnavailable`, and `ValueError` for an address that cannot be one."""
        ...


def read_mail(read: Reader) -> MailSettings:
    """Settings from `TIRAGE_MAIL_URL` and `TIRAGE_MAIL_FROM`."""
    url = read.secret("TIRAGE_MAIL_URL")
    if urlsplit(url.reveal() or "smtp:").scheme not in SCHEMES:
        read.fault(f"TIRAGE_MAIL_URL must begin with one of {', '.join(sorted(SCHEMES))}")
    return MailSettings(url=url, sender=read.text("TIRAGE_MAIL_FROM"))


def mailer(settings: MailSettings, clock: Clock) -> Mailer:
    """The adapter that the URL names."""
    parts = urlsplit(settings.url.reveal())
    if parts.scheme == "maildir":
        return MaildirMailer(Path(unquote(parts.path)), settings.sender, clock)
    return SmtpMailer(settings, clock)


def composed(mail: Mail, sender: str, clock: Clock) -> EmailMessage:
    """The message (RFC 5322); raises `ValueError` for a header with a line break in it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, mail.to, mail.subject
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = f"<{hashlib.sha256(mail.about.encode()).hexdigest()[:32]}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message


class MaildirMailer:
    """Into `new/` of a Maildir, written beside it and renamed; the same message again replaces itself."""

    def __init__(self, folder: Path, sender: str, clock: Clock) -> None:
        self._folder, self._sender, self._clock = folder, sender, clock

    async def send(self, mail: Mail) -> None:
        """See `Mailer`."""
        await asyncio.to_thread(self._write, composed(mail, self._sender, self._clock), mail.about)

    def _write(self, message: EmailMessage, about: str) -> None:
        for name in ("tmp", "new", "cur"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        name = hashlib.sha256(about.encode()).hexdigest()[:32]
        beside = self._folder / "tmp" / f"{name}.{os.getpid()}"
        beside.write_bytes(message.as_bytes())
        beside.replace(self._folder / "new" / name)


class SmtpMailer:
    """Over SMTP (RFC 5321), one connection a message."""

    def __init__(self, settings: MailSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock

    async def send(self, mail: Mail) -> None:
        """See `Mailer`."""
        await asyncio.to_thread(self._send, composed(mail, self._settings.sender, self._clock))

    def _send(self, message: EmailMessage) -> None:
        parts = urlsplit(self._settings.url.reveal())
        try:
            with self._connection(parts.scheme, parts.hostname or "", parts.port) as connection:
                if parts.username:
                    connection.login(unquote(parts.username), unquote(parts.password or ""))
                connection.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            raise ValueError("the mail server refuses the address") from error
        except (OSError, smtplib.SMTPException) as error:
            raise ServiceUnavailable("the mail server does not take the message") from error

    def _connection(self, scheme: str, host: str, port: int | None) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if scheme == "smtps":
            return smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=context)
        connection = smtplib.SMTP(host, port or 587, timeout=TIMEOUT_S)
        connection.ehlo()
        if connection.has_extn("starttls"):
            connection.starttls(context=context)
            connection.ehlo()
        return connection

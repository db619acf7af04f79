"""Webhooks: verified, stored sealed and committed before they are answered; looked at later, in any order, once."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta
from prometheus_client import Counter

from app.kernel import alerts, jobs
from app.kernel.alerts import Severity
from app.kernel.db import Database, Readable, Transaction
from app.kernel.persons import PersonErased, PersonKeys
from app.kernel.spine import Spine
from app.webhooks import signatures, store
from app.webhooks.domain import STRIPE, Delivery, Heard, Kept, Listed, Listener, Received, Vendors
from app.webhooks.errors import SignatureRefused, SubjectMissing, WebhookMalformed, WebhookUnknown
from app.webhooks.settings import WebhookSettings
from app.webhooks.writing import Writer
from base import envelope, ids, telemetry
from base.clock import Clock
from base.settings import Keys

RECEIVED: Final = Counter("tirage_webhooks_received_total", "Webhooks stored, by source", ("source",))
REPEATED: Final = Counter("tirage_webhooks_repeated_total", "Deliveries that were here before", ("source",))
REFUSED: Final = Counter("tirage_webhooks_refused_total", "Webhooks refused, by reason", ("source", "reason"))
BODIES_KEPT: Final = timedelta(days=90)
CONTEXT: Final = "webhooks.sealed"

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")]


class _Envelope(msgspec.Struct, frozen=True):
    """What is read of a Stripe event at the door."""

    id: Word
    type: Word
    created: Annotated[int, Meta(ge=0, le=2**40)]
    data: dict[str, msgspec.Raw]
    account: Word | None = None


class Intake:
    """The door: runs in the API, holds the secrets."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        keks: Keys,
        clock: Clock,
        settings: WebhookSettings,
        vendors: Vendors | None = None,
    ) -> None:
        self._writer, self._keks, self._clock = Writer(db, spine), keks, clock
        self._settings, self._vendors = settings, vendors

    async def stripe(self, body: bytes, header: str) -> bool:
        """Take an event of Stripe's; whether it is new. Raises `SignatureRefused`, `WebhookMalformed`."""
        try:
            key_name = signatures.verify(body, header, self._settings.stripe, int(self._clock.now().timestamp()))
            told = msgspec.json.decode(body, type=_Envelope)
        except SignatureRefused as error:
            REFUSED.labels(STRIPE, error.reason).inc()
            raise
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            REFUSED.labels(STRIPE, "malformed").inc()
            raise WebhookMalformed() from error
        received = Received(
            source=STRIPE,
            account=told.account or "",
            dedupe_key=told.id,
            type=told.type,
            body=body,
            key_name=key_name,
            headers={"stripe-signature": header},
            told_at=datetime.fromtimestamp(told.created, UTC),
        )
        return await self._keep(received)

    async def vendor(self, vendor: str, token: str, body: bytes) -> bool:
        """Take a vendor's callback, as a hint; whether it is new. Raises `WebhookUnknown`, `WebhookMalformed`."""
        if self._vendors is None or not self._vendors.accepts(vendor, token):
            REFUSED.labels("vendor", "unknown").inc()
            raise WebhookUnknown()
        hint = self._vendors.read_hint(vendor, body)
        if hint is None:
            REFUSED.labels(f"vendor/{vendor}", "malformed").inc()
            raise WebhookMalformed()
        received = Received(
            source=f"vendor/{vendor}",
            account="",
            dedupe_key=_plain(hint.dedupe),
            type="callback",
            body=body,
            key_name=None,
            headers={},
            told_at=None,
        )
        return await self._keep(received)

    async def _keep(self, received: Received) -> bool:
        """Seal it and have it stored."""
        webhook_id = ids.new_id()
        kek_id, wrapped, key = envelope.new_data_key(self._keks, webhook_id.bytes)
        sealed = envelope.seal(key, received.body, CONTEXT.encode() + webhook_id.bytes)
        traceparent = telemetry.traceparent()
        is_new = await self._writer.keep(
            Delivery(
                id=webhook_id, received=received, kek_id=kek_id, wrapped=wrapped, sealed=sealed, traceparent=traceparent
            )
        )
        (RECEIVED if is_new else REPEATED).labels(received.source).inc()
        return is_new


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "-" for c in text)[:200]


class Inbox:
    """What becomes of stored webhooks: runs in record workers."""

    def __init__(
        self, db: Database, persons: PersonKeys, keks: Keys, clock: Clock, listeners: Mapping[str, Listener]
    ) -> None:
        self._db, self._persons, self._keks, self._clock = db, persons, keks, clock
        self._listeners = listeners

    async def process(self, tx: Transaction, webhook_id: UUID) -> None:
        """Tell a webhook to who listens to its source, once. Raises `SubjectMissing` to be tried again."""
        kept = await store.lock(tx, webhook_id)
        if kept is None or kept.handled_at is not None:
            return
        body = await self._open(tx, kept)
        heard = Heard(outcome="forgotten") if body is None else await self._hear(tx, kept, body)
        if heard.alert is not None:
            rule, detail = heard.alert
            subject = f"{kept.source}:{kept.type}"
            await alerts.alert(tx, rule, Severity.WARNING, subject, detail=detail)
        if body is not None and heard.owner_id is not None:
            kept = await self._sealed_for(tx, kept, heard.owner_id, body)
        await store.handled(tx, kept, self._clock.now(), heard)

    async def _hear(self, tx: Transaction, kept: Kept, body: bytes) -> Heard:
        listener = self._listeners.get(kept.source)
        if listener is None:
            return Heard(outcome="nobody-listens", alert=("webhook-source-unknown", kept.source))
        heard = await listener(tx, body)
        if heard is None:
            raise SubjectMissing()
        return heard

    async def _open(self, tx: Transaction, kept: Kept) -> bytes | None:
        """The body, or None when it is erased or forgotten."""
        if kept.sealed is None:
            return None
        if kept.kek_id is not None and kept.wrapped is not None:
            key = envelope.unwrap(self._keks, kept.kek_id, kept.wrapped, kept.id.bytes)
            return envelope.unseal(key, kept.sealed, CONTEXT.encode() + kept.id.bytes)
        assert kept.owner_id is not None
        try:
            return await self._persons.unseal(tx, kept.owner_id, kept.sealed, CONTEXT)
        except PersonErased:
            return None

    async def _sealed_for(self, tx: Transaction, kept: Kept, owner_id: UUID, body: bytes) -> Kept:
        """The body under its person's key, so that it goes with the person; an erased person's is dropped."""
        try:
            sealed = await self._persons.seal(tx, owner_id, body, CONTEXT)
        except PersonErased:
            sealed = None
        return msgspec.structs.replace(kept, kek_id=None, wrapped=None, sealed=sealed)

    async def forget(self, tx: Transaction) -> int:
        """Drop bodies nobody needs any more; that they came stays."""
        return await store.forget(tx, self._clock.now() - BODIES_KEPT)


async def listed(db: Readable, *, dead: bool, limit: int) -> list[Listed]:
    """The newest webhooks, or the dead letters, with their causes."""
    return await store.listed(db, dead=dead, limit=limit)


async def replay(tx: Transaction, webhook_id: UUID | None) -> int:
    """Look again at one dead letter, or at all; how many. A handled webhook is never handled twice."""
    if webhook_id is None:
        return len(await jobs.replay(tx, None, "webhook.process"))
    job = await store.dead_job(tx, webhook_id)
    return 0 if job is None else len(await jobs.replay(tx, job, None))

"""Idempotency: a keyed call takes effect once, and its answer is given again byte for byte for seven days.

The key's row and the effect commit together, so there is no recovery state: either both are there or neither. Refusals
roll back and are not stored; the same key may then be used again. Stored answers are sealed under the owner's key and
hold no URL or token that ends (such things come by a second call).
"""

import hashlib
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from app.kernel.db import Database, Transaction
from app.kernel.persons import DataKey, PersonErased, PersonKeys
from base.errors import DomainError, Kind
from base.ids import OwnerId

LIFETIME_DAYS: Final = 7
KEY_MAX: Final = 128

KEYED: Final[frozenset[str]] = frozenset(
    {
        "POST /v1/assets/{asset_id}/processing",
        "POST /v1/orders",
        "POST /v1/orders/{order_id}/payment",
        "POST /v1/orders/{order_id}/cancel",
        "POST /v1/shares",
        "POST /v1/uploads",
        "POST /v1/uploads/{upload_id}/complete",
        "POST /v1/drafts",
        "POST /v1/quotes",
    }
)
"""Routes that need an `Idempotency-Key`. A new POST stands here or below; a test compares with the routes."""

UNKEYED: Final[dict[str, str]] = {
    "POST /webhooks/stripe": "the event's own id is the key: a delivery that comes again is the same row",
    "POST /webhooks/vendors/{vendor}/{token}": "the callback's own id is the key; it is only a hint",
    "POST /v1/uploads/{upload_id}/parts": "makes addresses, changes nothing",
    "POST /v1/uploads/check": "asks, changes nothing",
    "POST /v1/tus": "tus 1.0 has no place for a key; `reference` in its metadata finds the open session again",
    "POST /v1/uploads/{upload_id}/revive": "a state move: an open session stays open",
    "POST /v1/assets/{asset_id}/restore": "a hold's end: what is not in the trash stays outside",
    "POST /v1/assets/{asset_id}/original-link": "makes an address, changes nothing",
    "POST /v1/drafts/{draft_id}/preview": "makes addresses, changes nothing; the same ones within their quantum",
    "POST /v1/images": "makes addresses, changes nothing; the same ones within their quantum",
    "POST /ops/pictures": "the photo is the key: published again it is the same picture",
    "POST /v1/devices": "no caller yet to keep a key for; a lost answer leaves an empty guest, nothing more",
    "POST /v1/tokens": "the last refresh token gives the same successor until that one is used",
}
"""Every other POST, with the reason why it needs no key."""


class IdempotencyKeyMissing(DomainError):
    """The call changes something that must not happen twice, and came without a key."""

    code, title, kind = "idempotency-key-missing", "This call needs an Idempotency-Key", Kind.MALFORMED
    next_step = (
        "Send `Idempotency-Key` with a new random value for each new intention; the same value when trying again."
    )


class IdempotencyKeyMalformed(DomainError):
    """The key is not 8 to 128 visible ASCII characters."""

    code, title, kind = "idempotency-key-malformed", "The Idempotency-Key is not well-formed", Kind.MALFORMED
    next_step = "Use 8 to 128 letters, digits and `-_.:`, for instance a UUID."


class IdempotencyKeyReused(DomainError):
    """The key belongs to another request."""

    code, title, kind = "idempotency-key-reused", "This Idempotency-Key belongs to another request", Kind.INVALID
    next_step = "Use a new key for a new request; the first request's effect stands."


class IdempotencyInFlight(DomainError):
    """The same call is being worked on."""

    code, title, kind = "idempotency-in-flight", "The same call is being worked on", Kind.CONFLICT
    next_step = "Send the same request with the same key again after Retry-After seconds."
    retry_after_s = 1


class KeyedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call with a key: whose, which operation (method and route template), and what it asks."""

    owner_id: OwnerId
    operation: str
    key: str
    fingerprint: bytes


class Answer(msgspec.Struct, frozen=True):
    """What went back: status and the body's bytes."""

    status: int
    body: bytes


class Given(msgspec.Struct, frozen=True):
    """An answer, and whether it is a repetition."""

    answer: Answer
    replayed: bool


T = TypeVar("T")
Effect = Callable[[Transaction], Awaitable[T]]
Reply = Callable[[T], Answer]

LOOK_UP: Final = """
SELECT p.kek_id, p.wrapped, i.fingerprint, i.answer FROM person_keys p
LEFT JOIN idempotency_keys i ON i.owner_id = p.owner_id AND i.operation = $2 AND i.key = $3
WHERE p.owner_id = $1
"""
CLAIM: Final = """
SELECT pg_try_advisory_xact_lock(hashtextextended($2, 7104)) FROM person_keys WHERE owner_id = $1 FOR KEY SHARE
"""
STORE: Final = """
INSERT INTO idempotency_keys (owner_id, operation, key, fingerprint, answer) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""
CONTEXT: Final = "idempotency_keys.answer"


class Idempotency:
    """Runs keyed calls."""

    def __init__(self, db: Database, persons: PersonKeys) -> None:
        self._db, self._persons = db, persons

    async def once(
        self, call: KeyedCall, effect: Effect[T], reply: Reply[T], before: Callable[[], Awaitable[None]] | None = None
    ) -> Given:
        """The stored answer, or `effect` in a new transaction with the key's row in it, answered by `reply`.

        `before` runs ahead of the transaction, for what asks another system; it must bear being run twice. A
        repetition runs neither and costs one round trip to the database. Raises `IdempotencyKeyReused`,
        `IdempotencyInFlight`, `PersonErased`, and whatever `before` and `effect` raise (then nothing is stored).
        """
        key, found = await self._look_up(call)
        if found is not None:
            return Given(found, replayed=True)
        if before is not None:
            await before()
        async with self._db.transaction() as tx:
            claimed = await tx.value(CLAIM, call.owner_id, f"{call.owner_id}|{call.operation}|{call.key}")
            if claimed is None:  # erased since our look; who is not is not erased before our commit
                raise PersonErased()
            if not claimed:
                raise IdempotencyInFlight()
            answer = reply(await effect(tx))
            sealed = key.seal(msgspec.msgpack.encode(answer), CONTEXT)
            stored = await tx.execute(STORE, call.owner_id, call.operation, call.key, call.fingerprint, sealed)
            if stored != 1:
                # Its twin committed between our look and our claim: undo ours; the next try is a replay.
                raise IdempotencyInFlight()
        return Given(answer, replayed=False)

    async def _look_up(self, call: KeyedCall) -> tuple[DataKey, Answer | None]:
        async with self._db.reading() as db:
            row = await db.one(LOOK_UP, call.owner_id, call.operation, call.key)
        if row is None:
            raise PersonErased()
        key = self._persons.unwrap(call.owner_id, row["kek_id"], row["wrapped"])
        if row["fingerprint"] is None:
            return key, None
        if row["fingerprint"] != call.fingerprint:
            raise IdempotencyKeyReused()
        return key, msgspec.msgpack.decode(key.unseal(row["answer"], CONTEXT), type=Answer)


def fingerprint(operation: str, path: dict[str, Any], query: str, body: bytes) -> bytes:
    """SHA-256 over operation, path values, query and canonical JSON (sorted keys, NFC text).

    Headers are left out: traces, dates and user agents change between tries. `body` is what the call's own type was
    read from, or empty.
    """
    value = _normal(msgspec.json.decode(body)) if body else None
    parts = (operation, {name: str(part) for name, part in path.items()}, query, value)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).digest()


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {_normal(name): _normal(item) for name, item in value.items()}
    return value

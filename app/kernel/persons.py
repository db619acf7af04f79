"""Per-person keys: one data key an owner, wrapped by the key-encryption key; without it what it sealed is gone."""

from typing import Final
from uuid import UUID

from app.kernel.db import Readable, Transaction
from base import envelope
from base.errors import DomainError, Kind
from base.settings import Keys

INSERT: Final = """
INSERT INTO person_keys (owner_id, kek_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT (owner_id) DO NOTHING
"""
SELECT: Final = "SELECT kek_id, wrapped FROM person_keys WHERE owner_id = $1"
HOLD: Final = "SELECT owner_id FROM person_keys WHERE owner_id = $1 FOR KEY SHARE"
LOCK: Final = "SELECT owner_id FROM person_keys WHERE owner_id = $1 FOR UPDATE"
REWRAP: Final = "UPDATE person_keys SET kek_id = $2, wrapped = $3 WHERE owner_id = $1 AND kek_id = $4"
DESTROY: Final = "DELETE FROM person_keys WHERE owner_id = $1"


class PersonErased(DomainError):
    """The person's key is destroyed; nothing of theirs can be read."""

    code, title, kind = "person-erased", "This person's data has been erased", Kind.GONE
    next_step = "Begin anew; erased data cannot be brought back."


class DataKey:
    """An owner's unwrapped key."""

    def __init__(self, owner_id: UUID, key: bytes) -> None:
        self._owner_id, self._key = owner_id, key

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt; `context` names table and column."""
        return envelope.seal(self._key, plain, context.encode() + self._owner_id.bytes)

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Decrypt; raises `SealBroken` for another owner's or a changed value."""
        return envelope.unseal(self._key, sealed, context.encode() + self._owner_id.bytes)


class PersonKeys:
    """Seals and opens an owner's personal fields; `context` names table and column."""

    def __init__(self, keks: Keys) -> None:
        self._keks = keks

    async def create(self, tx: Transaction, owner_id: UUID) -> None:
        """Give an owner a key, once."""
        kek_id, wrapped, _ = envelope.new_data_key(self._keks, owner_id.bytes)
        await tx.execute(INSERT, owner_id, kek_id, wrapped)

    async def seal(self, tx: Transaction, owner_id: UUID, plain: bytes, context: str) -> bytes:
        """Encrypt under the owner's key; raises `PersonErased`."""
        return (await self._key(tx, owner_id)).seal(plain, context)

    async def unseal(self, tx: Transaction, owner_id: UUID, sealed: bytes, context: str) -> bytes:
        """Decrypt; raises `PersonErased`, or `SealBroken` for another owner's or a changed value."""
        return (await self._key(tx, owner_id)).unseal(sealed, context)

    async def hold(self, tx: Transaction, owner_id: UUID) -> None:
        """The first statement of whatever makes something for a person: they are not erased before the commit.

        Raises `PersonErased`.
        """
        if await tx.value(HOLD, owner_id) is None:
            raise PersonErased()

    async def lock(self, tx: Transaction, owner_id: UUID) -> None:
        """The first statement of an erasure: what was begun for the person is committed, and nothing new begins."""
        await tx.value(LOCK, owner_id)

    async def is_erased(self, tx: Readable, owner_id: UUID) -> bool:
        """Whether the owner's key is destroyed."""
        return await tx.one(SELECT, owner_id) is None

    async def destroy(self, tx: Transaction, owner_id: UUID) -> None:
        """Forget the key: everything it sealed is unreadable from the commit on."""
        await tx.execute(DESTROY, owner_id)

    async def rewrap(self, tx: Transaction, owner_id: UUID) -> None:
        """Wrap the owner's key with the current key-encryption key (rotation)."""
        row = await tx.one(SELECT, owner_id)
        kek_id, kek = self._keks.current
        if row is None or row["kek_id"] == kek_id:
            return
        plain = envelope.unwrap(self._keks, row["kek_id"], row["wrapped"], owner_id.bytes)
        fresh = envelope.seal(kek.reveal(), plain, b"dek:" + owner_id.bytes)
        await tx.execute(REWRAP, owner_id, kek_id, fresh, row["kek_id"])

    def unwrap(self, owner_id: UUID, kek_id: str, wrapped: bytes) -> DataKey:
        """The key from a row that the caller has read; raises `SealBroken`."""
        return DataKey(owner_id, envelope.unwrap(self._keks, kek_id, wrapped, owner_id.bytes))

    async def _key(self, tx: Transaction, owner_id: UUID) -> DataKey:
        row = await tx.one(SELECT, owner_id)
        if row is None:
            raise PersonErased()
        return self.unwrap(owner_id, row["kek_id"], row["wrapped"])

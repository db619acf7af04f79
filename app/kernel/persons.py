"""Per-person keys: one data key an owner, wrapped by the key-encryption key; without it what it sealed is gone."""

from typing import Final
from uuid import UUID

from app.kernel.db import Transaction
from base import envelope
from base.errors import DomainError, Kind
from base.settings import Keys

INSERT: Final = """
INSERT INTO person_keys (owner_id, kek_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT (owner_id) DO NOTHING
"""
SELECT: Final = "SELECT kek_id, wrapped FROM person_keys WHERE owner_id = $1"
REWRAP: Final = "UPDATE person_keys SET kek_id = $2, wrapped = $3 WHERE owner_id = $1 AND kek_id = $4"
DESTROY: Final = "DELETE FROM person_keys WHERE owner_id = $1"


class PersonErased(DomainError):
    """The person's key is destroyed; nothing of theirs can be read."""

    code, title, kind = "person-erased", "This person's data has been erased", Kind.GONE
    next_step = "Begin anew; erased data cannot be brought back."


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
        return envelope.seal(await self._key(tx, owner_id), plain, context.encode() + owner_id.bytes)

    async def unseal(self, tx: Transaction, owner_id: UUID, sealed: bytes, context: str) -> bytes:
        """Decrypt; raises `PersonErased`, or `SealBroken` for another owner's or a changed value."""
        return envelope.unseal(await self._key(tx, owner_id), sealed, context.encode() + owner_id.bytes)

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

    async def _key(self, tx: Transaction, owner_id: UUID) -> bytes:
        row = await tx.one(SELECT, owner_id)
        if row is None:
            raise PersonErased()
        return envelope.unwrap(self._keks, row["kek_id"], row["wrapped"], owner_id.bytes)

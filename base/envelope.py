"""Envelope encryption: a key-encryption key wraps one data key a person; destroying the data key erases the person.

AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D); the context (table, column, owner) is authenticated, so a
sealed value moved to another row does not open.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from base.settings import Keys

_NONCE: Final = 12


class SealBroken(Exception):
    """A sealed value does not open: wrong key, wrong context or changed bytes."""


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt `plain`; the result is nonce, ciphertext and tag."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Decrypt what `seal` made; raises `SealBroken`."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("a sealed value does not open") from error


def new_data_key(keks: Keys, person: bytes) -> tuple[str, bytes, bytes]:
    """A fresh 256-bit data key: (key-encryption key's id, wrapped key, plain key)."""
    kek_id, kek = keks.current
    plain = AESGCM.generate_key(256)
    return kek_id, seal(kek.reveal(), plain, b"dek:" + person), plain


def unwrap(keks: Keys, kek_id: str, wrapped: bytes, person: bytes) -> bytes:
    """The plain data key; raises `SealBroken` when the key-encryption key is gone or wrong."""
    kek = keks.find(kek_id)
    if kek is None:
        raise SealBroken(f"key-encryption key {kek_id!r} is not configured")
    return unseal(kek, wrapped, b"dek:" + person)

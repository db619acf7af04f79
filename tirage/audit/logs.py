"""What a stack's processes have written: nothing of the people in the database, no secret, no token."""

import json
import mmap
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from app.kernel.db import Database, Transaction
from app.kernel.persons import PersonErased, PersonKeys
from app.orders.mailing import CONTEXT
from base import ids
from base.recipients import Recipient
from base.settings import Keys
from tirage.audit.books import Finding

CHECK: Final = "nothing-private-logged"
SHORTEST: Final = 6
"""Shorter words stand in logs by chance."""
TOKENS: Final = {
    "a refresh token": rb"\brt1\.[\w-]{40}",
    "an access token": rb"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
    "a payment's client secret": rb"\bpi_\w+_secret_\w{8}",
    "a signature of a store's address": rb"X-Amz-Signature=\w{32}",
}
OF_PERSON: Final = ("name", "line1", "line2", "email", "phone")
_RECIPIENTS: Final = "SELECT order_id, owner_id, sealed FROM order_recipients WHERE sealed IS NOT NULL"


async def people(database: Database, keks: Keys) -> dict[str, str]:
    """What is known of every person that receives something: the words, and whose they are."""
    keys, found = PersonKeys(keks), {}
    async with database.transaction("repeatable_read", readonly=True) as tx:
        for row in await tx.fetch(_RECIPIENTS):
            recipient = await _opened(tx, keys, row)
            for field in OF_PERSON:
                word = None if recipient is None else getattr(recipient, field)
                if word is not None and len(word) >= SHORTEST:
                    found[word] = f"the {field} of {ids.encode('order', row['order_id'])}"
    return found


async def _opened(tx: Transaction, keys: PersonKeys, row: Mapping[str, object]) -> Recipient | None:
    try:
        plain = await keys.unseal(tx, row["owner_id"], row["sealed"], CONTEXT)  # type: ignore[arg-type]
    except PersonErased:
        return None
    return msgspec.json.decode(plain, type=Recipient)


def secrets_of(folder: Path) -> dict[str, str]:
    """The secrets of the stack in a folder and their names; what only names a key is none."""
    kept: dict[str, str] = json.loads((folder / "secrets.json").read_text())
    public = ("_access", "publishable_key")
    return {value.partition(":")[2] or value: name for name, value in kept.items() if not name.endswith(public)}


def nothing_private_logged(folder: Path, words: Mapping[str, str]) -> Iterable[Finding]:
    """The first place of each word, or of something like a token, in each log of a stack; told without repeating it."""
    needles = {form: what for word, what in words.items() for form in _forms(word)}
    for path in sorted([*folder.glob("logs/*.log*"), *folder.glob("*/logs/*.log*"), *folder.glob("traces/*")]):
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for needle, what in needles.items():
                if (at := text.find(needle)) >= 0:
                    yield _finding(path, text, at, what)
            for what, pattern in TOKENS.items():
                if seen := re.search(pattern, text):
                    yield _finding(path, text, seen.start(), what)


def _forms(word: str) -> set[bytes]:
    """As a line of text has it, and as JSON does."""
    return {word.encode(), json.dumps(word)[1:-1].encode(), json.dumps(word, ensure_ascii=False)[1:-1].encode()}


def _finding(path: Path, text: mmap.mmap, at: int, what: str) -> Finding:
    line = text[:at].count(b"\n") + 1
    return Finding(check=CHECK, subject=path.name, detail=f"line {line} has {what}")

"""The simulator's books: objects by kind and id in memory, written through to one SQLite file, and a virtual clock.

What a request changed is committed before its answer; a simulator started again on the same file goes on where the
other ended. Ids come from the seed and a counter, so that a run can be repeated.
"""

import hashlib
import json
import random
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

Object = dict[str, Any]

KINDS: Final = ("payment_intent", "charge", "refund", "dispute", "event", "delivery", "key", "timer", "secret", "meta")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Book:
    """Everything the simulator knows. `path` None keeps it in memory only."""

    def __init__(self, path: Path | None, seed: int = 1) -> None:
        self._file = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute("CREATE TABLE IF NOT EXISTS book (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id))")
        self._dirty: dict[tuple[str, str], None] = {}
        self.kinds: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        for kind, name, body in self._file.execute("SELECT kind, id, body FROM book ORDER BY rowid"):
            self.kinds[kind][name] = json.loads(body)
        self.meta = self.kinds["meta"].setdefault("meta", {"seed": seed, "counter": 0, "offset": 0, "frozen": None})
        self.random = random.Random(f"{self.meta['seed']}:{self.meta['counter']}")

    def now(self) -> int:
        """The virtual time, in seconds of the epoch."""
        if self.meta["frozen"] is not None:
            return int(self.meta["frozen"])
        return int(time.time()) + int(self.meta["offset"])

    def advance(self, seconds: int) -> None:
        """Move the virtual clock on."""
        if self.meta["frozen"] is not None:
            self.meta["frozen"] += seconds
        else:
            self.meta["offset"] += seconds
        self.touch("meta", "meta")

    def freeze(self, at: int | None) -> None:
        """Stop the clock at `at`, or let it run on from where it stands."""
        if at is None and self.meta["frozen"] is not None:
            self.meta["offset"] = self.meta["frozen"] - int(time.time())
        self.meta["frozen"] = at
        self.touch("meta", "meta")

    def new_id(self, prefix: str, length: int = 24) -> str:
        """`prefix_` and letters that depend on the seed and on how many ids were made before."""
        self.meta["counter"] += 1
        self.touch("meta", "meta")
        digest = hashlib.sha512(f"{self.meta['seed']}:{prefix}:{self.meta['counter']}".encode()).digest()
        return f"{prefix}_" + "".join(_ALPHABET[byte % 62] for byte in digest[:length])

    def put(self, kind: str, name: str, body: Object) -> Object:
        """Add or replace an object."""
        self.kinds[kind][name] = body
        self.touch(kind, name)
        return body

    def touch(self, kind: str, name: str) -> None:
        """An object was changed in place, or removed."""
        self._dirty[(kind, name)] = None

    def drop(self, kind: str, name: str) -> None:
        """Remove an object."""
        self.kinds[kind].pop(name, None)
        self.touch(kind, name)

    def commit(self) -> None:
        """Write what was changed."""
        if not self._dirty:
            return
        self._file.execute("BEGIN")
        for kind, name in self._dirty:
            body = self.kinds[kind].get(name)
            if body is None:
                self._file.execute("DELETE FROM book WHERE kind = ? AND id = ?", (kind, name))
            else:
                self._file.execute(
                    "INSERT INTO book VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                    (kind, name, json.dumps(body)),
                )
        self._file.execute("COMMIT")
        self._dirty.clear()

    def close(self) -> None:
        """Write and close."""
        self.commit()
        self._file.close()

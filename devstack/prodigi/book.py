"""What the simulated printer remembers, in one SQLite file: a restart, or a kill, loses nothing that was answered."""

import sqlite3
import time
from pathlib import Path
from typing import Final

import msgspec

from devstack.prodigi.knobs import Knobs
from devstack.prodigi.orders import Order, Phase

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, key TEXT UNIQUE, reference TEXT, over INTEGER NOT NULL,
    doc BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS orders_reference ON orders (reference);
CREATE INDEX IF NOT EXISTS orders_open ON orders (over) WHERE over = 0;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""
_ORDER: Final = msgspec.json.Decoder(Order)
_KNOBS: Final = msgspec.json.Decoder(Knobs)
FIRST: Final = 1_000_000


class Book:
    """The printer's memory and its virtual clock: real time (standing still unless `auto`) plus what was advanced."""

    def __init__(self, path: Path, knobs: Knobs, *, auto: bool) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)
        self.auto = auto
        kept = self._kept("knobs")
        self.knobs = knobs if kept is None else _KNOBS.decode(kept)
        self._offset = int(self._kept("offset") or b"0")
        begun = self._kept("begun")
        if begun is None:
            begun = str(time.time_ns() // 1_000_000).encode()
            self._keep("begun", begun)
        self._begun = int(begun)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def now(self) -> int:
        """Virtual milliseconds since the epoch."""
        return (time.time_ns() // 1_000_000 if self.auto else self._begun) + self._offset

    def advance(self, milliseconds: int) -> None:
        """Let the clock jump ahead."""
        self._offset += milliseconds
        self._keep("offset", str(self._offset).encode())

    def save_knobs(self) -> None:
        """Keep the knobs as they are now."""
        self._keep("knobs", msgspec.json.encode(self.knobs))

    def _kept(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def _keep(self, name: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO kept (name, value) VALUES (?, ?)", (name, value))

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        sql = "INSERT INTO counts (name, n) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"
        self._db.execute(sql, (name, by))

    def counts(self) -> dict[str, int]:
        """Every counter, and the number of orders."""
        told = {str(name): int(n) for name, n in self._db.execute("SELECT name, n FROM counts ORDER BY name")}
        return {"orders": int(self._db.execute("SELECT count(*) FROM orders").fetchone()[0]), **told}

    def next_number(self) -> int:
        """The number of the next order."""
        last = int(self._kept("last") or FIRST)
        return max(last, int(self._db.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()[0])) + 1

    def save(self, order: Order) -> None:
        """Store an order."""
        sql = "INSERT OR REPLACE INTO orders (number, key, reference, over, doc) VALUES (?, ?, ?, ?, ?)"
        body = order.body
        over = int(order.phase is Phase.OVER)
        doc = msgspec.json.encode(order)
        self._db.execute(sql, (order.number, body.get("idempotencyKey"), body.get("merchantReference"), over, doc))

    def forget(self, name: str) -> None:
        """Lose an order; its number is not given again."""
        self._keep("last", str(self.next_number() - 1).encode())
        self._db.execute("DELETE FROM orders WHERE number = ?", (int(name.removeprefix("ord_")),))

    def by_id(self, name: str) -> Order | None:
        """An order by the vendor's id."""
        number = name.removeprefix("ord_")
        return self._one("number = ?", int(number)) if number.isdigit() else None

    def by_key(self, key: str) -> Order | None:
        """The order that an idempotency key made, for ever."""
        return self._one("key = ?", key)

    def _one(self, where: str, value: object) -> Order | None:
        row = self._db.execute(f"SELECT doc FROM orders WHERE {where}", (value,)).fetchone()  # noqa: S608
        return None if row is None else _ORDER.decode(row[0])

    def all(self, *, only_open: bool = False) -> list[Order]:
        """Every order, latest first."""
        where = "WHERE over = 0" if only_open else ""
        rows = self._db.execute(f"SELECT doc FROM orders {where} ORDER BY number DESC").fetchall()  # noqa: S608
        return [_ORDER.decode(row[0]) for row in rows]

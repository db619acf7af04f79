"""What every table holds, as sums that any INSERT, UPDATE or DELETE changes: a refused call leaves them alone.

And a photo that can be bought, which only workers make.
"""

from typing import Final
from uuid import UUID

import asyncpg

from base import ids

TABLES: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""
SUM: Final = "SELECT '{name}' AS name, count(*) AS rows, sum(hashtextextended(t::text, 0)) AS sum FROM {name} t"
READY: Final = """
INSERT INTO assets (id, owner_id, state, bytes, declared_type, sha256, format, width, height)
VALUES ($1, $2, 'ready', 1000, 'image/jpeg', repeat('b', 64), 'jpeg', 4032, 3024)
"""

Sums = dict[str, tuple[int, int]]


async def adding(connection: asyncpg.Connection) -> str:
    """The statement that adds every table up."""
    return " UNION ALL ".join(SUM.format(name=row["relname"]) for row in await connection.fetch(TABLES))


async def added(connection: asyncpg.Connection, statement: str) -> Sums:
    """Of each table how many rows it has, and a sum that changes with any of their values."""
    return {row["name"]: (row["rows"], row["sum"]) for row in await connection.fetch(statement)}


async def add_photo(connection: asyncpg.Connection, owner: UUID) -> str:
    """A photo that can be ordered, as workers leave it; its id."""
    asset = ids.new_id()
    async with connection.transaction():
        await connection.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        await connection.execute(READY, asset, owner)
        await connection.execute("ALTER TABLE assets ENABLE TRIGGER USER")
    return ids.encode("asset", asset)

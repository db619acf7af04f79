"""What a demo leaves to look at: print files as they were sent to the printer, and how they were shown before."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.kernel.db import Database
from base.objects import ObjectStore
from tirage.audit import books
from tirage.audit.command import Sources

FOLDER: Final = "demo"


def save_proofs(folder: Path, order: str, proofs: Iterable[bytes]) -> list[str]:
    """Keep the soft proofs of an order; their paths."""
    place = folder / FOLDER / order
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, data in enumerate(proofs, 1):
        path = place / f"proof-{number}.jpg"
        path.write_bytes(data)
        paths.append(str(path.resolve()))
    return paths


def save_masters(where: Sources, folder: Path, order: str) -> list[str]:
    """Keep an order's print files, read by the version that the printer was sent; their paths."""
    place = folder / FOLDER / order
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in asyncio.run(_masters(where, order)):
        (place / name).write_bytes(data)
        paths.append(str((place / name).resolve()))
    return paths


async def _masters(where: Sources, order: str) -> list[tuple[str, bytes]]:
    """Those that are kept at home: no other region's store is read."""
    database, store = Database(where.database), ObjectStore(where.store)
    await database.start()
    try:
        read = await books.read(database, 0)
        files = [file for making in read.makings if making.order == order for file in making.files]
        here = os.environ.get("TIRAGE_REGION", "home")
        return [
            (file.line + Path(file.key).suffix, await store.get(where.buckets.masters, file.key, file.version))
            for file in files
            if file.region in (None, here)
        ]
    finally:
        await database.stop()
        store.close()

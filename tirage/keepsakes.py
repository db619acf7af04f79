"""What a demo leaves to look at: print files as they were sent to the printer, and how they were shown before."""

import asyncio
from collections.abc import Iterable, Mapping
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
    """Each is read where it is kept."""
    database = Database(where.database)
    stores = {name: ObjectStore(site.store) for name, site in where.sites.items()}
    await database.start()
    try:
        read = await books.read(database, 0)
        files = [file for making in read.makings if making.order == order for file in making.files]
        return [(file.line + Path(file.key).suffix, await _master(where, stores, file)) for file in files]
    finally:
        await database.stop()
        for store in stores.values():
            store.close()


async def _master(where: Sources, stores: Mapping[str, ObjectStore], file: books.File) -> bytes:
    region = file.region or where.home
    return await stores[region].get(where.sites[region].buckets.masters, file.key, file.version)

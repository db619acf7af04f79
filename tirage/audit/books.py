"""What the database says, read in one snapshot: the rows that break a rule, and what outside has to agree with it."""

from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from app.kernel.db import Database, Readable
from base import ids
from tirage.audit.rows import RULES


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it must be. `subject` is an id or a key."""

    check: str
    subject: str
    detail: str


class Photo(msgspec.Struct, frozen=True, kw_only=True):
    """An asset; `name` is its TypeID, `region` keeps it, `first` is the photo whose duplicate it is."""

    name: str
    region: str
    state: str
    bytes: int
    sha256: str | None
    engine: str | None
    first: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An upload session that may still have bytes in its region's store."""

    name: str
    region: str
    asset: str
    storage_id: str | None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A stored rendition."""

    asset: str
    recipe: str
    extension: str
    bytes: int
    sha256: str


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A print master as a fulfilment names it; `region` keeps it, None for home.

    `kept`: `locked`, `stored` once its lock has ended, `gone` once it may have been removed.
    """

    line: str
    region: str | None = None
    key: str
    version: str
    bytes: int
    sha256: str
    md5: str
    copies: int
    kept: Literal["locked", "stored", "gone"] = "locked"


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """A fulfilment and its files."""

    name: str
    order: str
    state: str
    vendor_order: str | None
    files: tuple[File, ...]


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """An order and its money, in minor units."""

    name: str
    quote: str
    state: str
    total: int
    currency: str
    captured: int
    refunded: int


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read."""

    findings: tuple[Finding, ...]
    photos: dict[str, Photo]
    sessions: tuple[Session, ...]
    uploads: dict[str, str]
    pictures: tuple[Picture, ...]
    makings: tuple[Making, ...]
    sales: dict[str, Sale]
    lines: frozenset[str]

    def kept_in(self, region: str, home: str) -> "Books":
        """The same books, of what one region's store has to hold only."""
        photos = {name: photo for name, photo in self.photos.items() if photo.region == region}
        makings = [
            msgspec.structs.replace(one, files=tuple(f for f in one.files if (f.region or home) == region))
            for one in self.makings
        ]
        return msgspec.structs.replace(
            self,
            photos=photos,
            sessions=tuple(one for one in self.sessions if one.region == region),
            pictures=tuple(one for one in self.pictures if one.asset in photos),
            makings=tuple(makings),
        )


async def under_way(db: Database) -> int:
    """How many things are not at their end yet; what is only looked at again from time to time does not count."""
    async with db.reading() as read_:
        return int(await read_.value(_UNDER_WAY))


async def read(db: Database, grace_s: int) -> Books:
    """The books of one moment."""
    async with db.transaction("repeatable_read", readonly=True) as tx:
        return await gather(tx, grace_s)


async def gather(db: Readable, grace_s: int) -> Books:
    """The books as `db` sees them."""
    found = [finding for rule in RULES for finding in await broken(db, rule.name, grace_s)]
    uploads = await db.fetch(_UPLOADS)
    return Books(
        findings=tuple(found),
        photos={photo.name: photo for photo in [_photo(row) for row in await db.fetch(_PHOTOS)]},
        sessions=tuple(_session(row) for row in uploads if row["state"] in ("open", "expired", "verifying")),
        uploads={ids.encode("upload", row["id"]): ids.encode("asset", row["asset_id"]) for row in uploads},
        pictures=tuple(_picture(row) for row in await db.fetch(_PICTURES)),
        makings=await _makings(db),
        sales={sale.name: sale for sale in [_sale(row) for row in await db.fetch(_SALES)]},
        lines=frozenset(ids.encode("order_line", row["id"]) for row in await db.fetch("SELECT id FROM order_lines")),
    )


async def broken(db: Readable, name: str, grace_s: int) -> list[Finding]:
    """What breaks one rule."""
    (rule,) = [rule for rule in RULES if rule.name == name]
    rows = await db.fetch(rule.sql, *([grace_s] if "$1" in rule.sql else []))
    return [Finding(check=rule.name, subject=ids.encode(rule.of, row["subject"]), detail=row["detail"]) for row in rows]


_UNDER_WAY: Final = """
SELECT (SELECT count(*) FROM jobs WHERE state = 'published' OR (state = 'queued' AND (not_before <= now()
            OR (lane <> 'sweep' AND kind NOT IN ('fulfilment.poll', 'payment.read', 'payment.refund')))))
     + (SELECT count(*) FROM fulfilments WHERE state NOT IN ('closed', 'cancelled', 'failed'))
     + (SELECT count(*) FROM refunds WHERE state = 'requested')
     + (SELECT count(*) FROM uploads WHERE state = 'verifying')
"""
_PHOTOS: Final = "SELECT id, region, state, bytes, sha256, engine, duplicate_of FROM assets"
_UPLOADS: Final = "SELECT id, region, asset_id, state, storage_id FROM uploads"
_PICTURES: Final = "SELECT asset_id, recipe, extension, bytes, sha256 FROM renditions"
_SALES: Final = """
SELECT o.id, o.quote_id, o.state, o.total, o.currency,
       (SELECT coalesce(sum(p.amount), 0) FROM payments p WHERE p.order_id = o.id AND p.state = 'captured') AS captured,
       (SELECT coalesce(sum(r.amount), 0) FROM refunds r WHERE r.order_id = o.id AND r.state = 'succeeded') AS refunded
FROM orders o
"""
_MAKINGS: Final = """
SELECT f.id, f.order_id, f.state, f.vendor_order_id, n.line_id, n.copies, n.master::text AS master,
       CASE WHEN p.locked_until <= now() THEN 'stored'
            WHEN p.key IS NULL AND (f.ended_at IS NOT NULL OR w.erased_at IS NOT NULL) THEN 'gone'
            ELSE 'locked' END AS kept
FROM fulfilments f JOIN fulfilment_lines n ON n.fulfilment_id = f.id
JOIN orders o ON o.id = f.order_id JOIN owners w ON w.id = o.owner_id
LEFT JOIN print_files p ON p.key = n.master->>'key' AND p.version = n.master->>'version'
ORDER BY f.id, n.number
"""


def _photo(row: Any) -> Photo:
    return Photo(
        name=ids.encode("asset", row["id"]),
        region=row["region"],
        state=row["state"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        engine=row["engine"],
        first=None if row["duplicate_of"] is None else ids.encode("asset", row["duplicate_of"]),
    )


def _session(row: Any) -> Session:
    return Session(
        name=ids.encode("upload", row["id"]),
        region=row["region"],
        asset=ids.encode("asset", row["asset_id"]),
        storage_id=row["storage_id"],
    )


def _picture(row: Any) -> Picture:
    return Picture(
        asset=ids.encode("asset", row["asset_id"]),
        recipe=row["recipe"],
        extension=row["extension"],
        bytes=row["bytes"],
        sha256=row["sha256"],
    )


def _sale(row: Any) -> Sale:
    return Sale(
        name=ids.encode("order", row["id"]),
        quote=ids.encode("quote", row["quote_id"]),
        state=row["state"],
        total=row["total"],
        currency=row["currency"],
        captured=int(row["captured"]),
        refunded=int(row["refunded"]),
    )


async def _makings(db: Readable) -> tuple[Making, ...]:
    made: dict[UUID, Making] = {}
    for row in await db.fetch(_MAKINGS):
        files = made[row["id"]].files if row["id"] in made else ()
        made[row["id"]] = Making(
            name=ids.encode("fulfilment", row["id"]),
            order=ids.encode("order", row["order_id"]),
            state=row["state"],
            vendor_order=row["vendor_order_id"],
            files=(*files, *_file(row)),
        )
    return tuple(made.values())


def _file(row: Any) -> tuple[File, ...]:
    if row["master"] is None:
        return ()
    told = msgspec.json.decode(row["master"])
    named = {name: told[name] for name in ("key", "version", "bytes", "sha256", "md5")}
    line = ids.encode("order_line", row["line_id"])
    return (File(line=line, region=told.get("region"), copies=row["copies"], kept=row["kept"], **named),)

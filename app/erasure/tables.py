"""Every table of the database: what it holds of a person, what an erasure does with that, and how long it is kept.

`TABLES` is total: a test compares it with the database. What stays of an erased person has a name in `KEPT`, under
which the receipt tells of it.
"""

from enum import StrEnum
from typing import Final

import msgspec

from app.erasure.domain import EVENT_MONTHS


class Stays(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may stay of an erased person: `where` says in SQL whether it does of owner `$1`."""

    what: str
    reason: str
    until: str
    where: str


ACCOUNTS: Final = f"{EVENT_MONTHS}-months-after-each"
_ORDERED: Final = "EXISTS (SELECT FROM orders WHERE owner_id = $1)"
_SENT: Final = "EXISTS (SELECT FROM fulfilments WHERE owner_id = $1 AND begun_at IS NOT NULL)"
_PHOTOS: Final = "EXISTS (SELECT FROM uploads WHERE owner_id = $1) OR EXISTS (SELECT FROM assets WHERE owner_id = $1)"

KEPT: Final = (
    Stays(what="events", reason="audit-trail-without-personal-data", until=ACCOUNTS, where="true"),
    Stays(what="receipt", reason="proof-of-erasure", until="unlimited", where="true"),
    Stays(what="ids-sizes-and-states-of-photos", reason="named-by-events-and-orders", until="unlimited", where=_PHOTOS),
    Stays(
        what="ids-at-edges",
        reason="edges-must-never-serve-them-again",
        until="unlimited",
        where=f"EXISTS (SELECT FROM events WHERE owner_id = $1 AND type = 'share.revoked') OR {_PHOTOS}",
    ),
    Stays(
        what="finished-work",
        reason="support",
        until="30-days-after-each",
        where="EXISTS (SELECT FROM jobs WHERE owner_id = $1)",
    ),
    Stays(
        what="drafts-without-notes",
        reason="named-by-quotes-and-orders",
        until="30-days-after-each-if-never-ordered",
        where="EXISTS (SELECT FROM drafts WHERE owner_id = $1)",
    ),
    Stays(
        what="prices-without-postcodes",
        reason="accounts",
        until=ACCOUNTS,
        where="EXISTS (SELECT FROM quotes WHERE owner_id = $1)",
    ),
    Stays(what="orders-without-recipients", reason="accounts", until=ACCOUNTS, where=_ORDERED),
    Stays(what="payments-and-refunds", reason="accounts", until=ACCOUNTS, where=_ORDERED),
    Stays(what="digests-of-ordered-photos", reason="proof-of-what-was-printed", until=ACCOUNTS, where=_ORDERED),
    Stays(
        what="parcels-without-tracking",
        reason="accounts",
        until=ACCOUNTS,
        where="EXISTS (SELECT FROM fulfilments WHERE owner_id = $1)",
    ),
    Stays(
        what="deliveries-of-stripe-and-printers",
        reason="none-is-handled-twice",
        until="365-days-after-each",
        where="EXISTS (SELECT FROM webhooks WHERE owner_id = $1)",
    ),
    Stays(what="order-at-the-printer", reason="kept-by-the-printer", until="30-days-after-printing", where=_SENT),
    Stays(
        what="payment-at-stripe",
        reason="kept-by-stripe-as-the-law-asks",
        until="as-stripe-says",
        where="EXISTS (SELECT FROM payments WHERE owner_id = $1 AND asked_at IS NOT NULL)",
    ),
)


class Fate(StrEnum):
    """What an erasure does with a person's rows."""

    GONE = "deleted"
    EMPTIED = "what is personal is emptied"
    SEALED = "unreadable without the person's key"
    STAYS = "stays: nothing personal in it"
    NOBODY = "not of a person"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table. `named` are the entries of `KEPT` that tell of what stays; `kept` says how long rows are kept, or why
    they are not forgotten."""

    holds: str
    fate: Fate
    kept: str
    named: tuple[str, ...] = ()


_OURS: Final = "as long as we sell or run it"
_ACCOUNTS: Final = f"{EVENT_MONTHS // 12} years: accounts must be explained so long; nothing is so old yet"
_PRINT_FILE: Final = "print-file"
_GOES_WITH: Final = "as long as its {}"

TABLES: Final[dict[str, Table]] = {
    "owners": Table(holds="an id and times", fate=Fate.STAYS, kept="empty guests: 30 days", named=("receipt",)),
    "devices": Table(holds="the platform", fate=Fate.GONE, kept="as long as its owner"),
    "sessions": Table(holds="when and which key", fate=Fate.GONE, kept="30 days after its end"),
    "idempotency_keys": Table(holds="answers, sealed", fate=Fate.GONE, kept="7 days"),
    "quotas": Table(holds="counts", fate=Fate.GONE, kept="3 days"),
    "person_keys": Table(holds="the key that seals", fate=Fate.GONE, kept="as long as its owner"),
    "erasures": Table(holds="the receipt", fate=Fate.STAYS, kept="for good: proof of erasure", named=("receipt",)),
    "assets": Table(
        holds="digest, facts, findings, fingerprint",
        fate=Fate.EMPTIED,
        kept="the photo: until erased, or 30 days in the trash; its id for good, since events and orders name it",
        named=("ids-sizes-and-states-of-photos",),
    ),
    "asset_holds": Table(holds="trash and flags", fate=Fate.GONE, kept="as long as its photo"),
    "renditions": Table(holds="sizes and digests of previews", fate=Fate.GONE, kept="as long as its photo", named=()),
    "uploads": Table(
        holds="what a device said of a file, digests",
        fate=Fate.EMPTIED,
        kept="as long as its photo: apps ask by it what is here; of ended sessions 30 days",
        named=("ids-sizes-and-states-of-photos",),
    ),
    "drafts": Table(
        holds="states", fate=Fate.STAYS, kept="given up: 30 days, unless priced", named=("drafts-without-notes",)
    ),
    "draft_items": Table(
        holds="crops; notes, sealed",
        fate=Fate.EMPTIED,
        kept="of drafts given up: 30 days",
        named=("drafts-without-notes",),
    ),
    "quotes": Table(
        holds="country, region, postcode, prices",
        fate=Fate.EMPTIED,
        kept="expired: 30 days; postcodes of used ones too; what was bought at: " + _ACCOUNTS,
        named=("prices-without-postcodes",),
    ),
    "orders": Table(
        holds="amounts, codes, country", fate=Fate.STAYS, kept=_ACCOUNTS, named=("orders-without-recipients",)
    ),
    "order_lines": Table(
        holds="amounts, crops, the photo's digest",
        fate=Fate.STAYS,
        kept=_ACCOUNTS,
        named=("orders-without-recipients", "digests-of-ordered-photos"),
    ),
    "order_recipients": Table(
        holds="who receives it, sealed", fate=Fate.GONE, kept="210 days after the last parcel, or the order's end"
    ),
    "order_holds": Table(holds="codes", fate=Fate.STAYS, kept=_ACCOUNTS, named=("orders-without-recipients",)),
    "order_mails": Table(
        holds="which mails were sent", fate=Fate.STAYS, kept=_ACCOUNTS, named=("orders-without-recipients",)
    ),
    "order_manifests": Table(
        holds="digests of photo and print file",
        fate=Fate.STAYS,
        kept=_ACCOUNTS,
        named=("digests-of-ordered-photos",),
    ),
    "print_files": Table(
        holds="where print files are, until when locked",
        fate=Fate.STAYS,
        kept="with the file: 210 days after printing, of an erased person until its lock ends",
        named=(_PRINT_FILE,),
    ),
    "payments": Table(holds="amounts, ids", fate=Fate.STAYS, kept=_ACCOUNTS, named=("payments-and-refunds",)),
    "payment_facts": Table(holds="amounts, ids", fate=Fate.STAYS, kept=_ACCOUNTS, named=("payments-and-refunds",)),
    "payment_failures": Table(holds="ids, codes", fate=Fate.STAYS, kept=_ACCOUNTS, named=("payments-and-refunds",)),
    "payment_disputes": Table(holds="amounts, codes", fate=Fate.STAYS, kept=_ACCOUNTS, named=("payments-and-refunds",)),
    "refunds": Table(holds="amounts, ids", fate=Fate.STAYS, kept=_ACCOUNTS, named=("payments-and-refunds",)),
    "fulfilments": Table(
        holds="states, amounts, tracking numbers",
        fate=Fate.EMPTIED,
        kept="tracking: 210 days after its end; the rest: " + _ACCOUNTS,
        named=("parcels-without-tracking",),
    ),
    "fulfilment_lines": Table(
        holds="crops, digests of photo and print file",
        fate=Fate.STAYS,
        kept=_ACCOUNTS,
        named=("parcels-without-tracking", "digests-of-ordered-photos"),
    ),
    "vendor_facts": Table(
        holds="what printers said, tracking; their words, sealed",
        fate=Fate.EMPTIED,
        kept="tracking and words: 210 days after its end; the rest: " + _ACCOUNTS,
        named=("parcels-without-tracking",),
    ),
    "shipments": Table(holds="carrier and dates", fate=Fate.STAYS, kept=_ACCOUNTS, named=("parcels-without-tracking",)),
    "shipment_lines": Table(holds="ids", fate=Fate.STAYS, kept=_ACCOUNTS, named=("parcels-without-tracking",)),
    "shipment_trackings": Table(holds="tracking numbers", fate=Fate.GONE, kept="210 days after its fulfilment's end"),
    "webhooks": Table(
        holds="what Stripe and printers sent, sealed",
        fate=Fate.SEALED,
        kept="bodies 90 days, rows 365 days",
        named=("deliveries-of-stripe-and-printers",),
    ),
    "shares": Table(holds="ids and times", fate=Fate.GONE, kept="90 days after it ended"),
    "share_photos": Table(holds="ids", fate=Fate.GONE, kept="as long as its share"),
    "pictures": Table(
        holds="ids of photos that operators published",
        fate=Fate.STAYS,
        kept=_OURS,
        named=("ids-sizes-and-states-of-photos",),
    ),
    "edge_denials": Table(
        holds="ids", fate=Fate.STAYS, kept="for good: edges must not serve them again", named=("ids-at-edges",)
    ),
    "edge_receipts": Table(holds="ids", fate=Fate.STAYS, kept="as long as the denial", named=("ids-at-edges",)),
    "jobs": Table(
        holds="ids; digests of photos",
        fate=Fate.EMPTIED,
        kept="30 days after its end; set aside ones until somebody decides",
        named=("finished-work",),
    ),
    "step_runs": Table(
        holds="what workers found", fate=Fate.EMPTIED, kept="as long as its job", named=("finished-work",)
    ),
    "events": Table(
        holds="ids, codes, amounts and times, by a closed set of field types",
        fate=Fate.STAYS,
        kept=f"{EVENT_MONTHS} months, dropped by whole months",
        named=("events",),
    ),
    "event_heads": Table(holds="ids and counts", fate=Fate.STAYS, kept="for good: numbers go on", named=("events",)),
    "findings": Table(
        holds="ids, codes and amounts",
        fate=Fate.STAYS,
        kept="365 days after it was repaired or closed",
        named=("payments-and-refunds",),
    ),
    "alerts": Table(
        holds="ids, codes and amounts",
        fate=Fate.STAYS,
        kept="365 days after it was closed",
        named=("orders-without-recipients",),
    ),
    "catalogues": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "catalog_variants": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "vendor_skus": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "lane_holds": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "sweeps": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "transitions": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
    "migration": Table(holds="", fate=Fate.NOBODY, kept=_OURS),
}

OWNED: Final = frozenset(
    {
        "assets",
        "devices",
        "drafts",
        "erasures",
        "events",
        "fulfilments",
        "idempotency_keys",
        "jobs",
        "order_recipients",
        "orders",
        "payments",
        "person_keys",
        "quotas",
        "quotes",
        "refunds",
        "sessions",
        "shares",
        "uploads",
        "webhooks",
    }
)
"""Those with an `owner_id`."""

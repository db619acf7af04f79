"""What must hold between our rows and what Stripe, the printer and the phones themselves say."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from base import keys
from imagecore.signing import Durable, Ephemeral, Ring
from tirage.audit.books import Books, Finding, Making

OWED: Final = frozenset({"paid", "closed"})
PROBES: Final = 20
FAR: Final = 4_102_444_800  # 2100-01-01
SENT: Final = frozenset({"submitted", "closed", "cancelling"})


def charged_once(books: Books, by_order: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Stripe has one intent and one capture of exactly the total for each paid order, and none for any other.

    `by_order` is the simulator's count: order id → payment_intents, captures, captured, refunded.
    """
    found = [(order, "Stripe knows an order that we do not") for order in by_order if order not in books.sales]
    for name, sale in books.sales.items():
        told = by_order.get(name, {"payment_intents": 0, "captures": 0, "captured": 0, "refunded": 0})
        if told["captured"] != sale.captured or told["refunded"] != sale.refunded:
            found.append((name, f"Stripe {dict(told)}, ours captured {sale.captured}, refunded {sale.refunded}"))
        if sale.state in OWED and (told["captures"], told["captured"]) != (1, sale.total):
            found.append((name, f"{sale.state}, but {told['captures']} captures of {told['captured']}"))
        if told["captures"] > 1 or (told["payment_intents"] > 1 and sale.state in OWED):
            found.append((name, f"{told['payment_intents']} intents, {told['captures']} captures"))
    return [Finding(check="charged-once", subject=name, detail=detail) for name, detail in found]


def printed_once(books: Books, orders: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The printer has one order for each fulfilment that was sent, with every file and copy, and no other.

    `orders` is what the simulator keeps; a cancelled order is none.
    """
    living: dict[str, list[Mapping[str, Any]]] = {}
    for order in orders:
        if order["stage"] != "Cancelled":
            living.setdefault(order["body"].get("merchantReference", ""), []).append(order)
    makings = {making.name: making for making in books.makings}
    found = [(name, "the printer knows a fulfilment that we do not") for name in living if name not in makings]
    for name, making in makings.items():
        at_printer = living.get(name, [])
        if len(at_printer) > 1 or (making.state in SENT and len(at_printer) != 1):
            found.append((name, f"{making.state}, orders at the printer: {len(at_printer)}"))
        found += [(name, detail) for order in at_printer if (detail := _unlike(making, order))]
    return [Finding(check="printed-once", subject=name, detail=detail) for name, detail in found]


def _unlike(making: Making, order: Mapping[str, Any]) -> str | None:
    """How the printer's order differs from ours, by line, copies and hash, as announced and as fetched."""
    ours = sorted((file.line, file.copies, file.md5) for file in making.files)
    items = order["items"]
    theirs = sorted((item["reference"], item["copies"], asset["md5"]) for item in items for asset in item["assets"])
    fetched = {asset["found_md5"] for item in items for asset in item["assets"] if asset["found_md5"]}
    if ours != theirs:
        return f"ordered {theirs}, ours {ours}"
    strange = fetched - {file.md5 for file in making.files}
    return f"fetched other bytes: {sorted(strange)}" if strange else None


async def edge_private(books: Books, client: httpx.AsyncClient, edge: str) -> list[Finding]:
    """The edge gives no picture to who has no address of ours: not by its key, not by one that another key signed."""
    found = []
    strange = Ring.of_masters([("u1", secrets.token_bytes(32))], "home")
    for one in books.pictures[:PROBES]:
        key = keys.derivative(one.asset, one.recipe, one.extension)
        ending = Ephemeral(asset=one.asset, recipe=one.recipe, expires=FAR)
        forged = [strange.sign(wanted)[1:] for wanted in (ending, Durable(asset=one.asset, recipe=one.recipe))]
        for path in (key, f"d/{key}", *forged):
            answer = await client.get(f"{edge}/{path}")
            if answer.status_code != 404:
                found.append((path, f"the edge answers {answer.status_code}"))
    return [Finding(check="edge-private", subject=path, detail=detail) for path, detail in found]


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a ledger: what a phone did (`intent`, `regret`), or was told (`upload`, `order`, `paid`).

    `intent` names the quote that an order was about to be placed for, before the call was made; `regret` an order that
    was asked to end after it was paid.
    """

    what: str
    upload: str = ""
    asset: str = ""
    sha256: str = ""
    bytes: int = 0
    quote: str = ""
    order: str = ""
    total: int = 0
    currency: str = ""


def read_ledger(file: Path) -> list[Said]:
    """The lines of a ledger; raises `msgspec.DecodeError`."""
    decoder = msgspec.json.Decoder(Said)
    return [decoder.decode(line) for line in file.read_bytes().splitlines() if line.strip()]


def promises_kept(books: Books, ledger: Sequence[Said]) -> list[Finding]:
    """What phones were told holds: their uploads are kept, each intent is one order, what was paid is paid."""
    found = [pair for said in ledger if said.what == "upload" for pair in _upload(books, said)]
    told = {said.order: said for said in ledger if said.what == "order"}
    for name, said in told.items():
        sale = books.sales.get(name)
        if sale is None or (sale.total, sale.currency, sale.quote) != (said.total, said.currency, said.quote):
            found.append((name, f"a phone was told {said.total} {said.currency}; here: {sale}"))
    regretted = {said.order for said in ledger if said.what == "regret"}
    for name in {said.order for said in ledger if said.what == "paid"}:
        sale = books.sales.get(name)
        allowed = OWED | {"cancelled"} if name in regretted else OWED
        if sale is None or sale.state not in allowed:
            found.append((name, f"a phone paid it; here: {sale}"))
    return [Finding(check="promises-kept", subject=name, detail=detail) for name, detail in found]


def _upload(books: Books, said: Said) -> list[tuple[str, str]]:
    photo = books.photos.get(said.asset)
    if photo is None or books.uploads.get(said.upload) != said.asset:
        return [(said.upload, "a phone was told that it is kept; it is not here")]
    if photo.first is not None:  # its bytes are kept once, as the first one's
        photo = books.photos.get(photo.first, photo)
    if photo.state == "rejected" or photo.bytes != said.bytes or photo.sha256 != said.sha256:
        return [(said.asset, f"a phone sent {said.bytes} bytes of {said.sha256[:12]}; here: {photo}")]
    return []


def nothing_unasked(books: Books, ledger: Sequence[Said]) -> list[Finding]:
    """There is no order that no phone asked for, and no two for one asking. The ledger must be of every phone."""
    asked = {said.quote for said in ledger if said.what == "intent"}
    orders: dict[str, list[str]] = {}
    for sale in books.sales.values():
        orders.setdefault(sale.quote, []).append(sale.name)
    found = [(quote, f"nobody asked for {names}") for quote, names in orders.items() if quote not in asked]
    found += [(quote, f"one asking, orders {names}") for quote, names in orders.items() if len(names) > 1]
    return [Finding(check="nothing-unasked", subject=quote, detail=detail) for quote, detail in found]

"""What Stripe, the printer and phones say is made to differ from the books in every way, and must be seen."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tirage.audit import outside
from tirage.audit.books import Books, File, Making, Photo, Sale
from tirage.audit.command import CHECKS, Audit, written
from tirage.audit.outside import Said

FILE = File(line="oln", key="k", version="v", bytes=9, sha256="ab", md5="cd", copies=2)
MAKING = Making(name="ful", order="ord", state="submitted", vendor_order="1", files=(FILE,))
SALE = Sale(name="ord", quote="quo", state="paid", total=434, currency="GBP", captured=434, refunded=0)
UNPAID = Sale(name="ord2", quote="quo2", state="placed", total=434, currency="GBP", captured=0, refunded=0)
PHOTO = Photo(name="ast", region="home", state="ready", bytes=9, sha256="ab", engine="e")
BOOKS = Books(
    findings=(),
    photos={"ast": PHOTO},
    sessions=(),
    uploads={"upl": "ast"},
    pictures=(),
    makings=(MAKING,),
    sales={"ord": SALE, "ord2": UNPAID},
    lines=frozenset(),
)
STRIPE = {
    "ord": {"payment_intents": 1, "captures": 1, "captured": 434, "refunded": 0},
    "ord2": {"payment_intents": 1, "captures": 0, "captured": 0, "refunded": 0},
}


def printed(**more: Any) -> dict[str, Any]:
    asset = {"md5": more.pop("md5", "cd"), "found_md5": more.pop("found", "cd")}
    item = {"reference": more.pop("line", "oln"), "copies": more.pop("copies", 2), "assets": [asset]}
    return {"stage": "Complete", "body": {"merchantReference": "ful"}, "items": [item], **more}


LEDGER = (
    Said(what="upload", upload="upl", asset="ast", sha256="ab", bytes=9),
    Said(what="intent", quote="quo"),
    Said(what="intent", quote="quo2"),
    Said(what="order", order="ord", quote="quo", total=434, currency="GBP"),
    Said(what="paid", order="ord"),
)


def test_what_agrees_is_not_named() -> None:
    assert outside.charged_once(BOOKS, STRIPE) == []
    assert outside.printed_once(BOOKS, [printed(), printed(stage="Cancelled")]) == []
    assert outside.promises_kept(BOOKS, LEDGER) == []
    assert outside.nothing_unasked(BOOKS, LEDGER) == []


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {**STRIPE, "ord3": STRIPE["ord2"]},
        {**STRIPE, "ord": {**STRIPE["ord"], "captures": 2}},
        {**STRIPE, "ord": {**STRIPE["ord"], "captures": 2, "captured": 868}},
        {**STRIPE, "ord": {**STRIPE["ord"], "payment_intents": 2}},
        {**STRIPE, "ord": {**STRIPE["ord"], "captured": 433}},
        {**STRIPE, "ord": {**STRIPE["ord"], "refunded": 1}},
        {**STRIPE, "ord2": STRIPE["ord"]},
    ],
)
def test_every_other_charge_is_seen(counts: dict[str, dict[str, int]]) -> None:
    assert outside.charged_once(BOOKS, counts)


@pytest.mark.parametrize(
    "orders",
    [
        [],
        [printed(stage="Cancelled")],
        [printed(), printed()],
        [printed(), {**printed(), "body": {"merchantReference": "other"}}],
        [printed(md5="ef")],
        [printed(found="ef")],
        [printed(copies=1)],
        [printed(line="another")],
    ],
)
def test_every_other_print_job_is_seen(orders: list[dict[str, Any]]) -> None:
    assert outside.printed_once(BOOKS, orders)


@pytest.mark.parametrize(
    "changed",
    [
        {"photos": {}},
        {"uploads": {}},
        {"photos": {"ast": msgspec.structs.replace(PHOTO, state="rejected")}},
        {"photos": {"ast": msgspec.structs.replace(PHOTO, bytes=8)}},
        {"photos": {"ast": msgspec.structs.replace(PHOTO, sha256="cd")}},
        {"sales": {}},
        {"sales": {"ord": msgspec.structs.replace(SALE, total=1)}},
        {"sales": {"ord": msgspec.structs.replace(SALE, currency="EUR")}},
        {"sales": {"ord": msgspec.structs.replace(SALE, quote="quo2")}},
        {"sales": {"ord": msgspec.structs.replace(SALE, state="awaiting_payment")}},
    ],
)
def test_every_broken_promise_is_seen(changed: dict[str, Any]) -> None:
    assert outside.promises_kept(msgspec.structs.replace(BOOKS, **changed), LEDGER)


def test_a_duplicates_bytes_are_those_of_the_first() -> None:
    twin = Photo(name="ast2", region="home", state="duplicate", bytes=9, sha256=None, engine=None, first="ast")
    books = msgspec.structs.replace(BOOKS, photos={"ast": PHOTO, "ast2": twin}, uploads={"upl2": "ast2"})
    said = Said(what="upload", upload="upl2", asset="ast2", sha256="ab", bytes=9)
    assert outside.promises_kept(books, (said,)) == []
    assert outside.promises_kept(books, (msgspec.structs.replace(said, sha256="cd"),))
    lost = msgspec.structs.replace(books, photos={"ast2": twin})
    assert outside.promises_kept(lost, (said,))


def test_a_regretted_order_may_be_cancelled_and_no_other() -> None:
    cancelled = msgspec.structs.replace(SALE, state="cancelled")
    books = msgspec.structs.replace(BOOKS, sales={"ord": cancelled})
    assert outside.promises_kept(books, LEDGER)
    assert outside.promises_kept(books, (*LEDGER, Said(what="regret", order="ord"))) == []


def test_orders_nobody_asked_for_and_doubled_ones_are_seen() -> None:
    assert [one.subject for one in outside.nothing_unasked(BOOKS, LEDGER[:2])] == ["quo2"]
    doubled = {**BOOKS.sales, "ord3": msgspec.structs.replace(SALE, name="ord3")}
    found = outside.nothing_unasked(msgspec.structs.replace(BOOKS, sales=doubled), LEDGER)
    assert [one.subject for one in found] == ["quo"]


def test_a_ledger_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    file.write_bytes(b"\n".join(msgspec.json.encode(said) for said in LEDGER) + b"\n\n")
    assert tuple(outside.read_ledger(file)) == LEDGER
    file.write_bytes(b'{"what": "order"')
    with pytest.raises(msgspec.DecodeError):
        outside.read_ledger(file)


def test_the_answer_names_failed_and_unchecked_checks() -> None:
    found = outside.charged_once(BOOKS, {})
    audit = Audit(findings=tuple(found), unchecked=("promises-kept",), counted={"orders": 2})
    told = audit.told()
    assert not told["passed"]
    assert {name: state for name, state in told["checks"].items() if state != "passed"} == {
        "charged-once": "failed",
        "promises-kept": "unchecked",
    }
    assert set(told["checks"]) == set(CHECKS)
    assert written(audit)[-1].endswith("something is wrong")

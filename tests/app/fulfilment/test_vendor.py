"""The contract of the vendor port, held against each adapter at its simulator."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.fulfilment.errors import VendorBusy, VendorRefused, VendorUnavailable
from app.fulfilment.prodigi import Prodigi
from app.fulfilment.vendor import CancelOutcome, ParcelState, Stage, VendorItem, VendorOrder
from base.recipients import Recipient
from base.settings import Secret

RECIPIENT = Recipient(name="Ada Byron", line1="1 High Street", town="London", postcode="N1 1AA", country="GB")


@pytest.fixture
async def vendor(printer: Any) -> AsyncIterator[Prodigi]:
    made = Prodigi(printer.url, Secret(printer.KEY), callback=None, hold_s=0, timeout_s=1)
    yield made
    await made.close()


def wanted(printer: Any, key: str = "k-1", reference: str = "ful_1", copies: int = 2) -> VendorOrder:
    """An order whose file cannot be fetched, which is the vendor's problem later on."""
    item = VendorItem(
        line="oln_1", sku="GLOBAL-PHO-4X6", attributes={}, copies=copies, url=f"{printer.url}/absent",
        md5=hashlib.md5(b"x").hexdigest(),
    )  # fmt: skip
    return VendorOrder(key=key, reference=reference, shipping_option="standard", recipient=RECIPIENT, items=(item,))


@pytest.mark.parametrize("casing", ["pascal", "camel", "lower"])
async def test_one_key_is_one_order_whatever_the_spelling(vendor: Prodigi, printer: Any, casing: str) -> None:
    await printer.turn(casing=casing)
    first = await vendor.create(wanted(printer))
    again = await vendor.create(wanted(printer, copies=5))
    assert (first.existed, again.existed) == (False, True)
    assert first.vendor_order_id == again.vendor_order_id
    assert first.read is not None
    assert (first.read.seen.stage, first.read.seen.reference, first.read.seen.unknown) == (Stage.OPEN, "ful_1", ())
    assert [(i.line, i.copies) for i in first.read.seen.items] == [("oln_1", 2)]
    (found,) = await vendor.find("ful_1")
    assert found.seen.vendor_order_id == first.vendor_order_id
    assert await vendor.find("ful_2") == []


async def test_a_lost_answer_is_said_to_be_unknown(vendor: Prodigi, printer: Any) -> None:
    for kind in ("error_after", "hang_after"):
        await printer.turn(faults=[{"on": "create", "kind": kind, "hang_ms": 1500}])
        with pytest.raises(VendorUnavailable):
            await vendor.create(wanted(printer, key=kind, reference=kind))
        assert len(await vendor.find(kind)) == 1
        assert (await vendor.create(wanted(printer, key=kind, reference=kind))).existed


async def test_patience_and_refusals_are_told_apart(vendor: Prodigi, printer: Any) -> None:
    await printer.turn(faults=[{"on": "create", "kind": "rate_limit", "retry_after_s": 7}])
    with pytest.raises(VendorBusy) as busy:
        await vendor.create(wanted(printer))
    assert busy.value.retry_after_s == 7
    with pytest.raises(VendorRefused) as refused:
        await vendor.create(wanted(printer, copies=0))
    assert "items[0].copies" in str(refused.value)
    assert "Ada" not in str(refused.value)
    with pytest.raises(VendorRefused):
        await vendor.create(msgspec.structs.replace(wanted(printer), shipping_option="by-balloon"))
    assert (await printer.counts())["orders"] == 0


async def test_what_is_not_shown_is_none(vendor: Prodigi, printer: Any) -> None:
    assert await vendor.read("ord_404") is None
    assert await vendor.cancel("ord_404") is None
    await printer.turn(pause_s=60)
    made = await vendor.create(wanted(printer))
    assert (made.read, await vendor.read(made.vendor_order_id), await vendor.find("ful_1")) == (None, None, [])
    await printer.advance(60)
    assert await vendor.read(made.vendor_order_id) is not None


async def test_a_cancellation_has_an_answer_and_shows_the_order(vendor: Prodigi, printer: Any) -> None:
    name = (await vendor.create(wanted(printer))).vendor_order_id
    done = await vendor.cancel(name)
    assert done is not None
    assert done.outcome is CancelOutcome.CANCELLED
    assert done.read is not None
    assert (done.read.seen.stage, done.read.seen.charges[-1].amount.amount < 0) == (Stage.CANCELLED, True)
    again = await vendor.cancel(name)
    assert again is not None
    assert (again.outcome, again.code) == (CancelOutcome.REFUSED, "actionnotavailable")


async def test_a_quote_is_what_is_charged_and_orders_nothing(vendor: Prodigi, printer: Any) -> None:
    quoted = await vendor.cost(wanted(printer))
    assert (await printer.counts())["orders"] == 0
    made = await vendor.create(wanted(printer))
    assert made.read is not None
    assert [charge.amount for charge in made.read.seen.charges] == [quoted]


async def test_the_list_has_every_order_since_on_however_many_pages(
    vendor: Prodigi, printer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fulfilment.prodigi.PAGE", 2)
    for number in range(3):
        await vendor.create(wanted(printer, key=f"k-{number}", reference=f"ful_{number}"))
    await printer.advance(3600)
    await vendor.create(wanted(printer, key="later", reference="later"))
    now = datetime.now(UTC)
    assert [read.seen.reference for read in await vendor.orders(now - timedelta(hours=1))] == [
        "later", "ful_2", "ful_1", "ful_0",
    ]  # fmt: skip
    assert [read.seen.reference for read in await vendor.orders(now + timedelta(minutes=30))] == ["later"]


async def test_files_that_never_arrive_are_refused_and_a_hold(vendor: Prodigi, printer: Any) -> None:
    name = (await vendor.create(wanted(printer))).vendor_order_id
    await printer.advance(1)
    read = await vendor.read(name)
    assert read is not None
    assert (read.seen.holds, read.seen.unknown) == ((), ())  # the vendor tries again by itself
    await printer.advance(30)
    read = await vendor.read(name)
    assert read is not None
    assert (read.seen.holds, read.seen.items[0].refused) == (("file-refused",), True)


@pytest.mark.parametrize(("knob", "hold"), [("item_unavailable", "item-unavailable"), ("needs_authorisation", None)])
async def test_what_the_vendor_waits_for_is_a_hold(vendor: Prodigi, printer: Any, knob: str, hold: str | None) -> None:
    await printer.turn(**{knob: True})
    name = (await vendor.create(wanted(printer))).vendor_order_id
    order = printer.app.book.by_id(name)
    order.phase, order.due = "allocating", 0
    printer.app.book.save(order)
    await printer.advance(1)
    read = await vendor.read(name)
    assert read is not None
    assert read.seen.stage is Stage.OPEN
    assert read.seen.holds == ((hold,) if hold else ("awaiting-payment", "payment-authorisation"))


@pytest.mark.parametrize(
    "nonsense", [b"", b"[]", b"{", b'{"id": 1, "subject": []}', b'{"data": {"order": 3}}', b"\xff"]
)
def test_a_callback_that_cannot_be_read_is_none(nonsense: bytes) -> None:
    vendor = Prodigi("http://127.0.0.1:9", Secret("k"), callback=None, hold_s=0, timeout_s=1)
    assert vendor.hint(nonsense) is None


async def test_parcels_and_their_unknown_states(vendor: Prodigi, printer: Any) -> None:
    name = (await vendor.create(wanted(printer))).vendor_order_id
    parcel = {"id": "shp_1", "status": "Levitating", "items": [{"itemId": "ori_1"}], "tracking": {"number": "T1"}}
    await printer.patch(name, {"shipments": [parcel]})
    read = await vendor.read(name)
    assert read is not None
    (seen,) = read.seen.parcels
    assert (seen.state, seen.items, seen.tracking and seen.tracking.number) == (ParcelState.UNKNOWN, ("ori_1",), "T1")
    assert read.seen.unknown == ("shipment.status/levitating",)

"""A fulfilment from the plan to the parcel, at a printer that answers as the real one does."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec.structs import replace

from app.fulfilment import facts as merged
from app.fulfilment import store
from app.fulfilment.domain import FulfilmentState
from app.fulfilment.sending import HELD_S
from app.fulfilment.vendor import Observation, ParcelState, Read, SeenItem, SeenParcel, Stage, Tracking
from app.main import create_app
from app.orders import store as orders
from app.orders.checkout import OfOrder
from app.orders.domain import OrderState
from app.orders.fold import Facts, Visible, fold
from app.settings import load_api
from base import ids

_S = FulfilmentState
SENT = ["planned", "rendering", "submitting", "submitted"]


async def test_polling_alone_reaches_the_parcel(house: Any) -> None:
    """No callback arrives at all; the printer fetches the very file that was rendered."""
    await house.printer.turn(callbacks="off")
    name = await house.submitted()
    await house.watch(8)
    found = await house.read()
    assert found.state is _S.CLOSED
    assert await house.events() == [*SENT, "in_production", "shipped", "closed"]
    (shipment,) = await house.shipments()
    assert (shipment.state, shipment.lines) == ("shipped", (house.lines[0].id,))
    assert shipment.trackings[0].startswith("SIM")
    (order,) = await house.printer.orders()
    (asset,) = order["items"][0]["assets"]
    assert (asset["found_md5"], asset["width"], asset["height"]) == (house.masters[0].md5, 120, 180)
    assert order["body"]["merchantReference"] == ids.encode("fulfilment", house.id)
    assert order["body"]["recipient"]["address"]["postalOrZipCode"] == "N1 1AA"
    assert (await house.printer.counts())["orders"] == 1
    assert f"ord_{order['number']}" == name
    assert await house.alerts() == set()


async def test_within_two_looks_of_the_vendors_end(house: Any) -> None:
    await house.printer.turn(callbacks="off")
    name = await house.submitted()
    await house.printer.advance(60)
    for _ in range(2):
        house.later(1)
        await house.work("fulfilment.poll")
    assert (await house.read()).state is _S.CLOSED, name


async def test_nothing_is_sent_before_its_time_and_cancelling_till_then_asks_nobody(house: Any) -> None:
    await house.plan(window_s=900)
    await house.render()
    assert await house.work() == []
    house.later(899)
    await house.work()
    assert await house.cancel() is _S.CANCELLED
    house.later(10)
    await house.work()
    counts = await house.printer.counts()
    assert (counts["orders"], counts.get("calls_create", 0)) == (0, 0)
    assert await house.events() == ["planned", "rendering", "submitting", "cancelled"]
    assert await house.cancel() is _S.CANCELLED


async def test_a_flagged_photo_waits_until_it_is_cleared(house: Any) -> None:
    await house.plan(2)
    await house.render()
    await house.services.care.flag(house.lines[1].asset_id, "needs-a-look")
    for _ in range(2):
        assert await house.work("fulfilment.submit") == []
        house.later(HELD_S)
    assert (await house.read()).state is _S.SUBMITTING
    assert (await house.printer.counts())["orders"] == 0
    assert await house.alerts() == {"photo-flagged"}
    await house.services.care.clear(house.lines[1].asset_id)
    assert await house.work("fulfilment.submit") == []
    assert (await house.read()).state is _S.SUBMITTED


MOST = pytest.mark.parametrize(
    "kind",
    [
        "error_before",
        "timeout_after",
        *(pytest.param(k, marks=pytest.mark.soak) for k in ("error_after", "rate_limit")),
    ],
)


@MOST
async def test_a_lost_or_failed_answer_makes_one_order(house: Any, kind: str) -> None:
    await house.printer.turn(faults=[{"on": "create", "kind": kind}])
    await house.plan()
    await house.render()
    assert await house.work("fulfilment.submit") == [
        "vendor-busy" if kind == "rate_limit" else "vendor-unavailable",
    ]
    house.later(5)
    assert await house.work("fulfilment.submit") == []
    assert (await house.read()).state is _S.SUBMITTED
    counts = await house.printer.counts()
    assert counts["orders"] == 1
    assert counts["calls_create"] == (1 if kind.endswith("_after") else 2)  # found by our reference, not asked again
    await house.watch(8)
    assert (await house.read()).state is _S.CLOSED


async def test_an_order_that_is_paused_and_lost_is_found_by_its_key(house: Any) -> None:
    """A paused order is not listed, so the same key is sent again and names the first order."""
    await house.printer.turn(pause_s=30, faults=[{"on": "create", "kind": "timeout_after"}])
    await house.plan()
    await house.render()
    assert await house.work("fulfilment.submit") == ["vendor-unavailable"]
    house.later(5)
    assert await house.work("fulfilment.submit") == []
    counts = await house.printer.counts()
    assert (counts["orders"], counts["already_exists"]) == (1, 1)
    await house.watch(60, step=5)
    assert (await house.read()).state is _S.CLOSED


async def test_two_attempts_at_once_make_one_order(house: Any) -> None:
    import asyncio

    await house.plan()
    await house.render()

    async def finish(tx: Any) -> None:
        return None

    await house.printer.turn(latency_ms=50)
    await asyncio.gather(*(house.services.sending.submit(house.id, finish) for _ in range(3)))
    assert (await house.printer.counts())["orders"] == 1
    assert (await house.events()).count("submitted") == 1


async def test_a_changed_print_file_is_never_sent(house: Any) -> None:
    await house.plan()
    await house.render()
    other = house.masters[0]
    async with house.db.transaction() as tx:
        await tx.execute(
            "UPDATE fulfilment_lines SET master = jsonb_set(master, '{sha256}', to_jsonb(repeat('0', 64)))"
        )
    assert await house.work("fulfilment.submit") == ["master-changed"]
    assert await house.jobs("fulfilment.submit") == ["parked"]
    assert (await house.read()).state is _S.SUBMITTING
    assert "master-changed" in await house.alerts()
    assert (await house.events())[-1] == "contradicted"
    assert (await house.printer.counts())["orders"] == 0
    assert other.bytes > 0


async def test_a_file_of_other_proportions_is_never_sent(house: Any) -> None:
    await house.plan()
    await house.render(size=(120, 160))
    assert await house.work("fulfilment.submit") == ["master-misfit"]
    assert (await house.printer.counts())["orders"] == 0


async def test_what_the_vendor_refuses_fails_and_tells_no_values(house: Any) -> None:
    await house.plan()
    await house.render()
    async with house.db.transaction() as tx:
        await tx.execute("UPDATE fulfilments SET shipping_option = 'by-balloon'")
    assert await house.work("fulfilment.submit") == []
    assert (await house.read()).state is _S.FAILED
    assert await house.alerts() == {"vendor-refused", "fulfilment-failed"}


async def test_an_erased_person_gets_no_parcel(house: Any) -> None:
    await house.plan()
    await house.render()
    async with house.db.transaction() as tx:
        await house.services.persons.destroy(tx, house.order.owner_id)
    await house.work("fulfilment.submit")
    assert (await house.read()).state is _S.FAILED
    assert (await house.printer.counts())["orders"] == 0


@pytest.mark.parametrize("how", ["normal", "fail", "race"])
async def test_the_vendors_answer_decides_a_cancellation(house: Any, how: str) -> None:
    await house.printer.turn(on_cancel=how, callbacks="off")
    await house.submitted()
    assert await house.cancel() is _S.CANCELLING
    assert await house.work("fulfilment.cancel") == []
    if how == "normal":
        assert (await house.read()).state is _S.CANCELLED
        assert await house.events() == [*SENT, "cancelling", "cancelled"]
    else:
        assert (await house.read()).state is _S.SUBMITTED
        assert (await house.events())[-1] == "cancel_refused"
    await house.watch(8)
    assert (await house.read()).state is (_S.CANCELLED if how == "normal" else _S.CLOSED)


@MOST
async def test_a_lost_answer_to_a_cancellation_is_read_not_guessed(house: Any, kind: str) -> None:
    await house.submitted()
    await house.cancel()
    await house.printer.turn(faults=[{"on": "cancel", "kind": kind}])
    assert len(await house.work("fulfilment.cancel")) == 1
    assert (await house.read()).state is _S.CANCELLING  # nothing is promised before the answer
    house.later(5)
    assert await house.work("fulfilment.cancel") == []
    assert (await house.read()).state is _S.CANCELLED
    assert (await house.printer.counts())["calls_cancel"] == (1 if kind.endswith("_after") else 2)


async def test_cancelling_in_the_pause_waits_until_the_order_is_to_be_seen(house: Any) -> None:
    await house.printer.turn(pause_s=20, download_s=30)
    await house.submitted()
    await house.cancel()
    assert await house.work("fulfilment.cancel") == ["vendor-pending"]
    await house.printer.advance(20)
    house.later(10)
    assert await house.work("fulfilment.cancel") == []
    assert (await house.read()).state is _S.CANCELLED


async def test_cancelling_while_it_is_being_sent_loses_no_order(house: Any) -> None:
    """The create call was cut off, then the person cancelled: what arrived is found, and cancelled at the printer."""
    await house.printer.turn(faults=[{"on": "create", "kind": "timeout_after"}])
    await house.plan()
    await house.render()
    await house.work("fulfilment.submit")
    assert await house.cancel() is _S.CANCELLING
    assert await house.work("fulfilment.cancel") == []
    assert (await house.read()).state is _S.CANCELLED
    (order,) = await house.printer.orders()
    assert order["stage"] == "Cancelled"


async def test_cancelling_what_never_arrived_waits_for_proof(house: Any) -> None:
    await house.printer.turn(faults=[{"on": "create", "kind": "error_before"}])
    await house.plan()
    await house.render()
    await house.work("fulfilment.submit")
    await house.cancel()
    assert await house.work("fulfilment.cancel") == ["vendor-pending"]
    house.later(600)
    assert await house.work("fulfilment.cancel", "fulfilment.submit") == []
    assert (await house.read()).state is _S.CANCELLED
    assert (await house.printer.counts())["orders"] == 0


async def test_an_order_that_arrives_after_all_is_a_case(house: Any) -> None:
    await house.printer.turn(faults=[{"on": "create", "kind": "error_before"}])
    await house.plan()
    await house.render()
    await house.work("fulfilment.submit")
    await house.cancel()
    house.later(600)
    assert await house.work("fulfilment.cancel") == []
    async with house.db.transaction() as tx:
        found = await store.lock(tx, house.id)
        await house.services.fulfilments.submitted(tx, found, "ord_1", None, "create")
    assert (await house.read()).state is _S.CANCELLED
    assert await house.alerts() == {"vendor-order-after-cancelled"}
    assert await house.jobs("fulfilment.poll") == ["queued"]


async def test_a_part_is_cancelled_and_a_part_is_shipped(house: Any) -> None:
    await house.printer.turn(on_cancel="partial", split=True, ship_s=10)
    await house.submitted(lines=2)
    await house.watch(5)
    await house.cancel()
    assert await house.work("fulfilment.cancel") == []
    assert (await house.read()).state is _S.SUBMITTED
    assert (await house.events())[-2:] == ["lines_cancelled", "cancel_refused"]
    await house.watch(40, step=5)
    assert (await house.read()).state is _S.CLOSED
    assert [s.state for s in await house.shipments()] == ["cancelled", "shipped"]


async def test_a_parcel_that_left_after_the_cancellation_is_kept_and_a_case(house: Any) -> None:
    await house.printer.turn(on_cancel="late_shipped", callbacks="off")
    await house.submitted()
    await house.cancel()
    await house.work("fulfilment.cancel")
    assert (await house.read()).state is _S.CANCELLED
    await house.watch(8)
    assert (await house.read()).state is _S.CLOSED
    (shipment,) = await house.shipments()
    assert (shipment.state, len(shipment.trackings)) == ("shipped", 1)
    assert "vendor-shipped-after-cancelled" in await house.alerts()
    assert {"cancelled", "shipped", "contradicted", "closed"} <= set(await house.events())


@pytest.mark.parametrize("fetched", ["corrupt_unnoticed", "corrupt"])
async def test_another_file_at_the_vendor_is_a_case_and_is_cancelled(house: Any, fetched: str) -> None:
    await house.printer.turn(fetched=fetched, produce_s=60)
    await house.submitted()
    await house.watch(4)
    rule = "vendor-file-differs" if fetched == "corrupt_unnoticed" else "vendor-file-refused"
    assert rule in await house.alerts()
    assert (await house.read()).state is _S.CANCELLED
    assert (await house.read()).cancel_reason in ("vendor-file-differs", "vendor-file-refused")


async def test_two_parcels_are_two_and_a_second_one_keeps_the_first(house: Any) -> None:
    await house.printer.turn(split=True, reshipment=True)
    await house.submitted(lines=2)
    await house.watch(12)
    shipments = await house.shipments()
    assert [len(s.trackings) for s in shipments] == [1, 1, 1]
    async with house.db.transaction() as tx:
        rows = await tx.fetch("SELECT data::text FROM events WHERE type = 'fulfilment.shipped' ORDER BY position")
    assert [r["data"].count(str(house.lines[0].id)) for r in rows] == [1, 0, 0]  # copies are counted once
    assert (await house.events()).count("shipped") == 3


async def test_tracking_numbers_only_grow(house: Any) -> None:
    name = await house.submitted()
    await house.watch(8)
    (first,) = await house.shipments()
    await house.printer.patch(name, {"shipments": [{"tracking": {"number": "OTHER1", "url": "https://t.example/1"}}]})
    await house.watch(2)
    await house.printer.patch(name, {"shipments": [{"tracking": None, "status": "Processing"}]})
    await house.watch(2)
    (shipment,) = await house.shipments()
    assert shipment.state == "shipped"
    assert set(shipment.trackings) == {*first.trackings, "OTHER1"}
    assert (await house.read()).state is _S.CLOSED


async def test_what_is_not_known_is_stored_and_alerted_and_changes_nothing(house: Any) -> None:
    name = await house.submitted()
    before = await house.events()
    await house.printer.patch(
        name,
        {"status": {"stage": "Teleported", "issues": [{"objectId": name, "errorCode": "order.Haunted"}]}, "mood": "x"},
    )
    await house.watch(1)
    assert (await house.read()).state is _S.SUBMITTED
    assert await house.events() == [*before, "held"]
    assert "vendor-unknown" in await house.alerts()
    async with house.db.transaction() as tx:
        unknown = (await store.facts(tx, house.id)).unknown
        sealed = await tx.value("SELECT count(*) FROM vendor_facts WHERE sealed IS NOT NULL")
    assert {"stage/teleported", "issue.haunted", "order.mood"} <= set(unknown)
    assert sealed == 2
    for nonsense in ({"shipments": "none"}, {"items": None, "status": [1]}, {"charges": [{"totalCost": 3}]}):
        await house.printer.patch(name, nonsense)
        await house.watch(1)
    assert (await house.read()).state is _S.SUBMITTED
    await house.printer.patch(name, {})
    await house.watch(8)
    assert (await house.read()).state is _S.CLOSED
    assert "released" in await house.events()


async def test_a_hint_only_makes_the_next_look_sooner(house: Any) -> None:
    """A forged callback changes nothing: the state comes from an authenticated read."""
    name = await house.submitted()
    services = house.services.fulfilments
    forged = b'{"id": "evt_1", "subject": "%s", "data": {"order": {"status": {"stage": "Complete"}}}}' % name.encode()
    hint = services.read_hint("prodigi", forged)
    assert hint is not None
    assert (hint.vendor_order_id, hint.dedupe) == (name, "evt_1")
    async with house.db.transaction() as tx:
        assert await services.hint(tx, "prodigi", name)
        assert not await services.hint(tx, "prodigi", "ord_404")
    await house.work("fulfilment.poll")
    assert (await house.read()).state is _S.SUBMITTED
    token = house.services.settings.fulfilment.callback_tokens[0].reveal()
    assert services.accepts("prodigi", token)
    assert not services.accepts("prodigi", token[:-1])
    assert not services.accepts("other", token)


async def test_a_callback_over_http_is_kept_and_makes_the_next_look_sooner(house: Any, env: dict[str, str]) -> None:
    """In both shapes, twice each; before our row knows the order it waits."""
    app = create_app(load_api(env), house.clock)
    token = house.services.settings.fulfilment.callback_tokens[0].reveal()
    name = await house.submitted()
    bodies = [
        {"id": "evt_1", "subject": name, "data": {"order": {"id": name}}},
        {"id": "evt_2", "data": {"id": name}},
        {"id": "evt_3", "data": {"id": "ord_404"}},
    ]
    await app.services.start()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as http:
        path = f"/webhooks/vendors/prodigi/{token}"
        told = [(await http.post(path, json=body)).json()["new"] for body in (*bodies, *bodies)]
        assert told == [True] * 3 + [False] * 3
        assert (await http.post("/webhooks/vendors/prodigi/other-token", json=bodies[0])).status_code == 404
        assert (await http.post(path, content=b"nonsense")).status_code == 400
    await app.services.stop()
    house.later(1)
    before = len(await house.jobs("fulfilment.poll"))
    assert await house.work("webhook.process") == ["webhook-subject-missing"]
    assert len(await house.jobs("fulfilment.poll")) == before + 2
    assert (await house.read()).state is _S.SUBMITTED


async def test_an_outage_delays_and_loses_nothing(house: Any) -> None:
    await house.submitted()
    await house.printer.turn(outage=True)
    await house.watch(5)
    assert (await house.read()).state is _S.SUBMITTED
    assert (await house.jobs("fulfilment.poll"))[-1] == "queued"
    await house.printer.turn(outage=False)
    await house.watch(8)
    assert (await house.read()).state is _S.CLOSED


async def test_what_nobody_looks_after_is_found(house: Any) -> None:
    await house.submitted()
    async with house.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET state = 'cancelled' WHERE kind = 'fulfilment.poll'")
        assert await house.services.fulfilments.tend(tx) == 1
        assert await house.services.fulfilments.tend(tx) == 0
    await house.watch(8)
    assert (await house.read()).state is _S.CLOSED


async def test_links_that_end_before_they_are_used_are_alerted(house: Any) -> None:
    await house.printer.turn(download_s=10**7)
    await house.submitted()
    house.later(6 * 86_400 + 60)
    await house.work("fulfilment.poll")
    assert "links-ending" in await house.alerts()


async def test_links_that_would_not_outlive_the_vendors_pause_are_alerted_when_they_are_signed(house: Any) -> None:
    house.services.vendors["prodigi"].hold_s = 5 * 86_400
    await house.submitted()
    assert await house.alerts() == {"links-too-short"}


class Undone(Exception):
    """Rolls back."""


def told(house: Any, minute: int, stage: Stage, *parcels: SeenParcel, making: bool = False) -> Read:
    items = tuple(
        SeenItem(id=f"ori_{n}", line=merged.reference(line.id), copies=2) for n, line in enumerate(house.lines)
    )
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    seen = Observation(
        vendor_order_id="ord_1", reference=None, updated_at=moment, stage=stage, in_production=making, items=items,
        parcels=parcels,
    )  # fmt: skip
    return Read(seen=seen, raw=b"{}")


@pytest.mark.parametrize("cancelled", [True, pytest.param(False, marks=pytest.mark.soak)])
async def test_every_order_of_five_facts_ends_in_one_state(house: Any, cancelled: bool) -> None:
    await house.plan(lines=2)
    await house.render()
    one = SeenParcel(id="shp_1", state=ParcelState.PROCESSING, items=("ori_0",))
    left = SeenParcel(id="shp_1", state=ParcelState.SHIPPED, items=("ori_0",), tracking=Tracking("T1"), carrier="a")
    two = SeenParcel(id="shp_2", state=ParcelState.SHIPPED, items=("ori_1",), tracking=Tracking("T2"), carrier="b")
    facts = [
        told(house, 1, Stage.OPEN),
        told(house, 2, Stage.OPEN, one, making=True),
        told(house, 3, Stage.OPEN, left, making=True),
        told(house, 4, Stage.CANCELLED if cancelled else Stage.OPEN, two),
        told(house, 5, Stage.CANCELLED if cancelled else Stage.COMPLETE),
    ]
    ends = set()
    for order in itertools.permutations(facts):
        try:
            async with house.db.transaction() as tx:
                found = await store.lock(tx, house.id)
                assert found is not None
                found = await house.services.fulfilments.submitted(tx, found, "ord_1", order[0], "poll")
                for read in (*order[1:], order[0]):  # the first one once more
                    found = await house.services.fulfilments.observe(tx, found, read, "poll")
                await tx.execute("SET CONSTRAINTS ALL IMMEDIATE")
                shipments = await store.shipments(tx, house.order.id)
                shown = tuple((s.vendor_shipment_id, s.state, s.lines, s.trackings, s.carrier) for s in shipments)
                await house.services.checkout.follow(tx, OfOrder(order_id=house.order.id, event_id=uuid4()))
                lines = (await orders.lines(tx, [house.order.id]))[house.order.id]
                counts = tuple(line.quantities for line in lines)
                paid = replace(house.order, state=OrderState.PAID)
                seen = fold(Facts(order=paid, lines=counts), house.clock.now())
                ends.add((found.state, await store.facts(tx, house.id), shown, seen, tuple(q.shipped for q in counts)))
                raise Undone
        except Undone:
            continue
    ((state, _, shown, seen, copies),) = ends
    assert (state, seen.state, copies) == (_S.CLOSED, Visible.SHIPPED, (2, 2))
    assert [s[1] for s in shown] == ["shipped", "shipped"]

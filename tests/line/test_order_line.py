"""The order line, whole: real photos become paid prints and parcels, once, however clumsily they are asked for."""

import asyncio
import json
import mailbox
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from base import ids
from tests.line.running import TIRAGE, Running
from tests.tirage.audit.test_rows import unseen_breaks

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("line")]


@pytest.fixture(scope="module")
def stack(other: Running) -> Running:
    return other


@pytest.fixture(scope="module")
def told(stack: Running, photos: Path) -> dict[str, Any]:
    """What the demo tells: two photos, two orders, the second one clumsy."""
    files = [
        "--photo",
        photos / "large-03-iphone-xs-p3-rotated.jpg",
        "--photo",
        photos / "heic-iphone11pro-p3-rotated.heic",
    ]
    demo = [TIRAGE, "demo", "--json", "--data", stack.folder / "data", *files]
    run = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def counted(stack: Running, part: str) -> dict[str, Any]:
    counts: dict[str, Any] = httpx.get(f"{stack.address(part)}/_sim/counts", timeout=10).json()
    return counts


def both_orders_leave_as_parcels(told: dict[str, Any]) -> None:
    assert [(order["clumsy"], order["state"]) for order in told["orders"]] == [(False, "shipped"), (True, "shipped")]


def one_intent_gave_one_order_one_charge_and_one_print_job(stack: Running, told: dict[str, Any]) -> None:
    stripe, printer = counted(stack, "stripe"), counted(stack, "prodigi")
    orders = {order["order"] for order in told["orders"]}
    assert set(stripe["by_order"]) == orders
    assert {(one["payment_intents"], one["captures"], one["refunded"]) for one in stripe["by_order"].values()} == {
        (1, 1, 0)
    }
    assert printer["orders"] == 2


async def what_was_charged_is_what_was_quoted(stack: Running, told: dict[str, Any]) -> None:
    charged = {order: one["captured"] for order, one in counted(stack, "stripe")["by_order"].items()}
    rows = await stack.query("SELECT id, total FROM orders")
    assert charged == {ids.encode("order", row["id"]): row["total"] for row in rows}


async def the_printer_got_the_bytes_that_were_rendered(stack: Running, told: dict[str, Any]) -> None:
    rows = await stack.query("SELECT manifest->'output'->>'sha256' AS proof, sha256 FROM order_manifests")
    assert len(rows) == 2
    assert all(row["proof"] == row["sha256"] for row in rows)
    sent = httpx.get(f"{stack.address('prodigi')}/_sim/orders", timeout=10).json()
    masters = await stack.query("SELECT master->>'md5' AS md5 FROM fulfilment_lines")
    assert {row["md5"] for row in masters} == {asset["md5Hash"] for order in sent for asset in _assets(order)}


def _assets(order: dict[str, Any]) -> list[dict[str, Any]]:
    return [asset for item in order["body"]["items"] for asset in item["assets"]]


def what_was_printed_can_be_opened(told: dict[str, Any]) -> None:
    for order in told["orders"]:
        for kind in ("masters", "proofs"):
            assert [Image.open(path).format for path in order[kind]] == ["JPEG"], (kind, order)
        (master,), (proof,) = order["masters"], order["proofs"]
        assert max(Image.open(master).size) > max(Image.open(proof).size) == 1600


async def each_person_gets_two_mails_an_order(stack: Running, told: dict[str, Any]) -> None:
    async with asyncio.timeout(30):
        while len(mails := list(mailbox.Maildir(stack.folder / "data" / "mail", create=False))) < 4:
            await asyncio.sleep(0.2)
    subjects = sorted(str(mail["Subject"]) for mail in mails)
    assert subjects == ["Your order is confirmed"] * 2 + ["Your order is on its way"] * 2


def the_story_names_cause_and_effect(stack: Running, told: dict[str, Any]) -> None:
    order = told["orders"][1]["order"]
    show = [TIRAGE, "order", "show", order, "--json", "--data", stack.folder / "data"]
    run = subprocess.run(show, capture_output=True, text=True, check=True)
    story = json.loads(run.stdout)
    names = [entry["name"] for entry in story["entries"] if entry["source"] == "event"]
    for name in ("order.placed", "payment.secured", "order.paid", "fulfilment.submitted", "fulfilment.shipped"):
        assert names.count(name) == 1, names
    assert all(entry["cause"] for entry in story["entries"] if entry["source"] == "job")


def the_audit_finds_nothing_wrong(stack: Running) -> None:
    audit = [TIRAGE, "audit", "--json", "--grace-s", "20", "--data", stack.folder / "data"]
    run = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads(run.stdout)
    assert (told["counted"]["orders"], told["counted"]["masters"]) == (2, 2)
    unchecked = {name for name, state in told["checks"].items() if state != "passed"}
    assert unchecked == {"promises-kept", "nothing-unasked"}


async def the_audit_sees_every_broken_rule(stack: Running) -> None:
    connection = await stack.connect()
    assert await unseen_breaks(connection) == []
    await connection.close()


async def test_two_intents_become_two_parcels_and_nothing_twice(stack: Running, told: dict[str, Any]) -> None:
    """One test, so that one worker starts one stack."""
    both_orders_leave_as_parcels(told)
    one_intent_gave_one_order_one_charge_and_one_print_job(stack, told)
    await what_was_charged_is_what_was_quoted(stack, told)
    await the_printer_got_the_bytes_that_were_rendered(stack, told)
    what_was_printed_can_be_opened(told)
    await each_person_gets_two_mails_an_order(stack, told)
    the_story_names_cause_and_effect(stack, told)
    the_audit_finds_nothing_wrong(stack)
    await the_audit_sees_every_broken_rule(stack)

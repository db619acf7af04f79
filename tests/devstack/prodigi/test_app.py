"""The simulated printer keeps to what the vendor's reference says, and to its knobs."""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[[bytes], Awaitable[str]]


def png(width: int, height: int) -> bytes:
    """A white PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\x00" + b"\xff" * width for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILE = png(1200, 1800)


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A tiny server: GET gives the file, POST is a callback whose body is kept. (base URL, bodies)."""
    bodies: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-len")), 0)
        body = await reader.readexactly(length)
        if head.startswith(b"POST"):
            bodies.append(body)
        content = b"{}" if head.startswith(b"POST") else FILE
        status = b"404 Not Found" if b"/absent" in head else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(content)))
        writer.write(content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", bodies
    server.close()


def order(base: str, *, key: str = "k1", items: int = 1, **more: Any) -> dict[str, Any]:
    asset = {"printArea": "default", "url": f"{base}/file.png", "md5Hash": hashlib.md5(FILE).hexdigest()}
    address = {"line1": "1 High St", "postalOrZipCode": "N1 1AA", "countryCode": "GB", "townOrCity": "London"}
    item = {"sku": "GLOBAL-PHO-4X6", "copies": 2, "sizing": "fillPrintArea", "assets": [asset]}
    return {
        "merchantReference": "ful_1",
        "shippingMethod": "Budget",
        "idempotencyKey": key,
        "callbackUrl": f"{base}/callback",
        "recipient": {"name": "A", "phoneNumber": "1", "address": address},
        "items": [{**item, "merchantReference": f"line-{n}"} for n in range(items)],
        **more,
    }


async def create(printer: Any, body: dict[str, Any]) -> Any:
    answer = await printer.http.post("/v4.0/Orders", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def get(printer: Any, name: str) -> Any:
    return (await printer.http.get(f"/v4.0/orders/{name}")).json()["order"]


async def test_an_order_ships_by_the_clock_alone(printer: Any, served: tuple[str, list[bytes]]) -> None:
    made = await create(printer, order(served[0]))
    assert made["outcome"].lower() == "created"
    name = made["order"]["id"]
    seen = []
    for _ in range(6):
        told = await get(printer, name)
        seen.append(
            (told["status"]["stage"].lower(), told["status"]["details"]["inProduction"], len(told["shipments"]))
        )
        await printer.advance(1)
    assert [s for s, _, _ in seen] == ["inprogress"] * 5 + ["complete"]
    assert [n for _, _, n in seen] == [0, 0, 0, 0, 1, 1]
    told = await get(printer, name)
    assert told["shipments"][0]["tracking"]["number"].startswith("SIM")
    (kept,) = await printer.orders()
    assert (kept["items"][0]["assets"][0]["width"], kept["items"][0]["assets"][0]["height"]) == (1200, 1800)
    counts = await printer.counts()
    assert (counts["orders"], counts["fetches"], counts["shipments"]) == (1, 1, 1)


async def test_a_key_makes_one_order_for_ever(
    start_printer: Any, served: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    printer = await start_printer(tmp_path / "book")
    first = await create(printer, order(served[0]))
    again = await create(printer, order(served[0], shippingMethod="Express"))
    assert again["outcome"].lower() == "alreadyexists"
    assert again["order"]["id"] == first["order"]["id"]
    other = await create(printer, order(served[0], key="k2"))  # dedupe is not by merchantReference
    assert other["order"]["id"] != first["order"]["id"]
    second = await start_printer(tmp_path / "book")  # another process on the same book
    assert (await create(second, order(served[0])))["outcome"].lower() == "alreadyexists"
    assert (await second.counts())["orders"] == 2


@pytest.mark.parametrize("kind", ["error_after", "timeout_after", "hang_after"])
async def test_an_answer_lost_after_the_commit(printer: Any, served: tuple[str, list[bytes]], kind: str) -> None:
    await printer.turn(faults=[{"on": "create", "kind": kind, "hang_ms": 10}])
    assert (await printer.http.post("/v4.0/orders", json=order(served[0]))).status_code == 500
    found = (await printer.http.get("/v4.0/orders", params={"merchantReferences": "ful_1"})).json()
    assert len(found["orders"]) == 1
    assert (await create(printer, order(served[0])))["outcome"].lower() == "alreadyexists"


async def test_an_error_before_and_a_limit_commit_nothing(printer: Any, served: tuple[str, list[bytes]]) -> None:
    await printer.turn(faults=[{"on": "create", "kind": "error_before"}, {"on": "create", "kind": "rate_limit"}])
    assert (await printer.http.post("/v4.0/orders", json=order(served[0]))).status_code == 500
    limited = await printer.http.post("/v4.0/orders", json=order(served[0]))
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
    assert (await printer.counts())["orders"] == 0


async def test_a_paused_order_is_hidden_until_its_window_ends(printer: Any, served: tuple[str, list[bytes]]) -> None:
    await printer.turn(pause_s=60)
    made = await create(printer, order(served[0]))
    assert made["outcome"].lower() == "onhold"
    assert list(made["order"]) == ["id"]
    name = made["order"]["id"]
    assert (await printer.http.get(f"/v4.0/orders/{name}")).status_code == 404
    assert (await printer.http.get("/v4.0/orders")).json()["orders"] == []
    await printer.advance(60)
    assert (await get(printer, name))["id"] == name


async def test_files_are_fetched_and_checked(printer: Any, served: tuple[str, list[bytes]]) -> None:
    await printer.turn(fetch_failures=3)
    name = (await create(printer, order(served[0])))["order"]["id"]
    await printer.advance(1)
    (issue,) = (await get(printer, name))["status"]["issues"]
    assert issue["errorCode"].endswith("items.assets.NotDownloaded")
    await printer.advance(3)
    told = await get(printer, name)
    assert (told["status"]["issues"], told["status"]["details"]["downloadAssets"]) == ([], "Complete")
    body = order(served[0], key="gone")
    body["items"][0]["assets"][0]["url"] = served[0] + "/absent"
    gone = (await create(printer, body))["order"]["id"]
    await printer.advance(30)
    told = await get(printer, gone)
    assert told["items"][0]["status"] == "Invalid"
    assert told["status"]["issues"][0]["errorCode"].endswith("items.assets.FailedToDownloaded")
    await printer.turn(fetch_failures=0, fetched="corrupt")
    wrong = (await create(printer, order(served[0], key="wrong")))["order"]["id"]
    await printer.advance(2)
    assert (await get(printer, wrong))["items"][0]["assets"][0]["status"] == "Error"


@pytest.mark.parametrize(
    ("how", "outcome", "stage", "shipped"),
    [
        ("normal", "cancelled", "cancelled", 0),
        ("fail", "failedtocancel", "complete", 1),
        ("race", "failedtocancel", "complete", 1),
        ("late_shipped", "cancelled", "cancelled", 1),
    ],
)
async def test_cancelling(
    printer: Any, served: tuple[str, list[bytes]], how: str, outcome: str, stage: str, shipped: int
) -> None:
    await printer.turn(on_cancel=how)
    name = (await create(printer, order(served[0])))["order"]["id"]
    actions = (await printer.http.get(f"/v4.0/orders/{name}/actions")).json()
    assert actions["cancel"] == {"isAvailable": "Yes"}
    answer = await printer.http.post(f"/v4.0/orders/{name}/actions/cancel", json={})
    assert (answer.status_code, answer.json()["outcome"].lower()) == (200, outcome)
    await printer.advance(30)
    told = await get(printer, name)
    assert told["status"]["stage"].lower() == stage
    assert sum(s["status"].lower() == "shipped" for s in told["shipments"]) == shipped


async def test_in_production_only_part_of_it_can_be_cancelled(printer: Any, served: tuple[str, list[bytes]]) -> None:
    await printer.turn(on_cancel="partial", split=True)
    name = (await create(printer, order(served[0], items=2)))["order"]["id"]
    await printer.advance(4)
    answer = (await printer.http.post(f"/v4.0/orders/{name}/actions/cancel", json={})).json()
    assert answer["outcome"].lower() == "failedtocancel"
    await printer.advance(10)
    told = await get(printer, name)
    assert [s["status"].lower() for s in told["shipments"]] == ["cancelled", "shipped"]
    late = (await printer.http.post(f"/v4.0/orders/{name}/actions/cancel", json={})).json()
    assert late["outcome"].lower() == "actionnotavailable"


async def test_callbacks_have_two_shapes_and_none_tells_of_production(
    printer: Any, served: tuple[str, list[bytes]]
) -> None:
    import json

    base, bodies = served
    for shape in ("order", "root"):
        bodies.clear()
        await printer.turn(callback_shape=shape, split=True)
        name = (await create(printer, order(base, key=shape, items=2)))["order"]["id"]
        for _ in range(7):
            await printer.advance(1)
        while len(bodies) < 4:
            await asyncio.sleep(0.01)
        events = [json.loads(body) for body in bodies]
        assert sorted(event["type"].rsplit(".", 1)[-1] for event in events) == [
            "changed#Complete", "changed#InProgress", "shipment#Complete", "shipment#Complete",
        ]  # fmt: skip
        for event in events:
            told = event["data"]["order"] if shape == "order" else event["data"]
            assert (event["specversion"], event["subject"], told["id"]) == ("1.0", name, name)
            assert "mobilePhoneNumber" in told["recipient"]
        assert len({event["id"] for event in events}) == 4


async def test_what_is_wrong_is_refused_as_the_reference_says(printer: Any) -> None:
    http = printer.http
    assert (await http.post("/v4.0/orders", content=b"x", headers={"content-type": "text/plain"})).status_code == 415
    refused = await http.post("/v4.0/orders", json={"items": [{"sku": "NO-SUCH", "copies": 0}]})
    assert refused.status_code == 400
    assert {"items[0].sku", "items[0].copies", "recipient.name"} <= set(refused.json()["data"])
    assert (await http.get("/v4.0/orders/ord_9")).status_code == 404
    assert (await http.get("/v4.0/nothing")).json()["statusText"].lower() == "endpointdoesnotexist"
    assert (await http.delete("/v4.0/orders")).status_code == 405
    assert (await http.get("/v4.0/orders", headers={"X-API-Key": "other"})).status_code == 401
    product = (await http.get("/v4.0/products/GLOBAL-PHO-4X6")).json()["product"]
    size = product["variants"][0]["printAreaSizes"]["default"]
    assert size == {"horizontalResolution": 1200, "verticalResolution": 1800}
    asked = {"destinationCountryCode": "GB", "items": [{"sku": "GLOBAL-PHO-4X6", "copies": 2, "assets": []}]}
    quotes = (await http.post("/v4.0/quotes", json=asked)).json()["quotes"]
    assert [q["shipmentMethod"] for q in quotes] == ["Budget", "Standard", "StandardPlus", "Express", "Overnight"]

"""What a person sends stays out of logs, traces and metrics: marked values through every operation, then a search."""

import base64
import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
from stripe import WebhookSignature

from app.web.openapi import example_of
from base import ids
from imagecore import exif
from tests.app.conftest import ApiProcess, register
from tests.app.rows import add_photo

MARK = "s3cretmark"
ADDRESS = "198.51.100.77"
PLACE = (2_957_133, 1_733_291)
"""Seconds of latitude and longitude, in hundred-thousandths."""
SECRET = "whsec_of_the_tests"
HOME = {
    "name": f"{MARK} Person",
    "line1": f"12 {MARK} Street",
    "town": f"{MARK}ford",
    "postcode": "LS1 4AP",
    "country": "GB",
    "email": f"{MARK}@example.org",
    "phone": "+44 113 4960771",
}
TUS = {"Tus-Resumable": "1.0.0"}


def placed_photo() -> bytes:
    """A JPEG's head whose EXIF tells a camera with our mark and a place (EXIF 2.32, 4.6.6)."""
    camera = MARK.encode() + b"\0"
    gps = 38 + len(camera)
    degrees = gps + 2 + 4 * 12 + 4
    main = struct.pack("<HHHLLHHLLL", 2, 0x0110, 2, len(camera), 38, 0x8825, 4, 1, gps, 0)
    entries = (
        struct.pack("<HHL4s", 1, 2, 2, b"N"),
        struct.pack("<HHLL", 2, 5, 3, degrees),
        struct.pack("<HHL4s", 3, 2, 2, b"E"),
        struct.pack("<HHLL", 4, 5, 3, degrees + 24),
    )
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<L", 0)
    places = b"".join(
        struct.pack("<6L", whole, 1, minutes, 1, seconds, 100_000)
        for whole, minutes, seconds in ((48, 51, PLACE[0]), (2, 17, PLACE[1]))
    )
    tiff = b"II*\0" + struct.pack("<L", 8) + main + camera + directory + places
    segment = b"Exif\0\0" + tiff
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + b"\xff\xd9"


def spellings() -> list[str]:
    """The place as a log could have it: the numbers of the file, seconds, and degrees."""
    whole = [str(part) for part in PLACE]
    seconds = [f"{part / 100_000:.3f}" for part in PLACE]
    degrees = [f"{d + m / 60 + s / 360_000_000:.4f}" for d, m, s in ((48, 51, PLACE[0]), (2, 17, PLACE[1]))]
    return [*whole, *seconds, *degrees]


def marked(value: Any) -> Any:
    """The example with a mark in every text, so that some are refused and some pass."""
    if isinstance(value, str):
        return value + MARK
    if isinstance(value, list):
        return [marked(item) for item in value]
    if isinstance(value, dict):
        return {name: marked(item) for name, item in value.items()}
    return value


async def _send_everywhere(client: httpx.AsyncClient, auth: dict[str, str]) -> int:
    described = (await client.get("/v1/openapi.json")).json()
    sent = 0
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            target = path.replace("{", f"{MARK}").replace("}", "")
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            bodies = [None]
            if content:
                good = example_of(described, content["schema"])
                bodies = [good, marked(good), MARK]
                if isinstance(good, dict):
                    bodies += [{**good, MARK: MARK}, {**good, "clientReference": MARK}]
            for body in bodies:
                for headers in (auth, {"Authorization": f"Bearer {MARK}"}, {"Authorization": MARK}, {}):
                    extra = {"Idempotency-Key": f"{MARK}-{sent:04}", "User-Agent": MARK, "Cookie": f"a={MARK}"}
                    query = {"x": MARK} if sent % 3 == 0 else {}
                    await client.request(
                        method.upper(), target, json=body, params=query, headers={**headers, **extra, "X-Other": MARK}
                    )
                    sent += 1
    return sent


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"{MARK}-{uuid4().hex}"}


async def _buy(client: httpx.AsyncClient, auth: dict[str, str], asset: str) -> None:
    """An order with everything that a person can say: a note, a name, an address, a phone."""
    item = {"assetId": asset, "sku": "photo-10x15-standard", "giftNote": f"For {MARK}, with love"}
    draft = await client.post("/v1/drafts", json={"items": [item]}, headers={**auth, **key()})
    ask = {"draftId": draft.json()["id"], "country": "GB", "postcode": HOME["postcode"]}
    quote = await client.post("/v1/quotes", json=ask, headers={**auth, **key()})
    body = {"quoteId": quote.json()["id"], "recipient": HOME}
    order = await client.post("/v1/orders", json=body, headers={**auth, **key()})
    assert order.status_code == 201, order.text


async def _upload(client: httpx.AsyncClient, auth: dict[str, str], photo: bytes) -> None:
    """A photo with a place, by tus and by the background PUT."""
    told = {"filetype": "image/jpeg", "reference": f"{MARK}/DCIM", "sourceId": f"{MARK}:7", "country": "GB"}
    words = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
    length = {"Upload-Length": str(len(photo)), "Upload-Metadata": words}
    made = await client.post("/v1/tus", headers={**auth, **TUS, **length})
    assert made.status_code == 201, made.text
    part = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    sent = await client.patch(made.headers["location"], content=photo, headers={**auth, **TUS, **part})
    assert sent.status_code == 204, sent.text
    body = {"bytes": len(photo) + 1, "contentType": "image/jpeg", "clientReference": f"{MARK}/2"}
    upload = (await client.post("/v1/uploads", json=body, headers={**auth, **key()})).json()["id"]
    background = (await client.post(f"/v1/uploads/{upload}/parts", headers=auth)).json()["background"]
    put = await client.put(background["path"], content=photo + b"x")
    assert put.status_code == 200, put.text


async def _call_back(client: httpx.AsyncClient, token: str) -> None:
    """Stripe and a printer tell of a person."""
    person = {"id": f"pi_{MARK}", "object": "payment_intent", "receipt_email": HOME["email"], "metadata": {}}
    told = {"id": f"evt_{MARK}", "object": "event", "created": 1_800_000_000, "type": "payment_intent.succeeded"}
    body = json.dumps({**told, "data": {"object": person}})
    signed = WebhookSignature.generate_signature_header(body, SECRET, int(time.time()))
    for header, status in ((signed, 200), (f"t={int(time.time())},v1={MARK}", 400)):
        answer = await client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header})
        assert answer.status_code == status, answer.text
    hint = {"specversion": "1.0", "id": MARK, "subject": MARK, "data": {"order": {"id": MARK, "recipient": HOME}}}
    for given, status in ((token, 200), (MARK, 404)):
        answer = await client.post(f"/webhooks/vendors/prodigi/{given}", json=hint)
        assert answer.status_code == status, answer.text


async def _listen(client: httpx.AsyncClient, auth: dict[str, str]) -> None:
    for headers, status in (({"Last-Event-ID": MARK}, 422), ({"Accept": "text/event-stream", "X-Mark": MARK}, 200)):
        async with client.stream("GET", "/v1/events", headers={**auth, **headers}) as answer:
            assert answer.status_code == status
            if status == 200:
                await anext(answer.aiter_lines())


def test_a_photos_place_is_no_fact_of_it() -> None:
    read = exif.read(placed_photo()[6:])
    told = str(msgspec.structs.asdict(read))
    assert (read.has_gps, read.camera) == (True, MARK)
    assert [one for one in spellings() if one in told] == []


async def test_marked_values_are_found_nowhere(env: dict[str, str], db: object, tmp_path: Path) -> None:
    """Behind a trusted proxy, which tells the person's address; whatever is sent is taken once and refused once."""
    settings = {"TIRAGE_API_TRUSTED_PROXIES": "127.0.0.0/8", "TIRAGE_STRIPE_WEBHOOK_SECRETS": SECRET}
    api = ApiProcess(env, tmp_path / "log", TIRAGE_TRACES=str(tmp_path / "traces"), **settings)
    token = api.env["TIRAGE_PRODIGI_CALLBACK_TOKENS"].split(",")[0]
    photo = placed_photo()
    proxied = {"X-Forwarded-For": ADDRESS, "X-Forwarded-Proto": "https"}
    async with httpx.AsyncClient(base_url=api.base, timeout=60, headers=proxied) as client:
        me = await register(client)
        connection = await asyncpg.connect(env["TIRAGE_DATABASE_URL"])
        await _buy(client, me["auth"], await add_photo(connection, ids.decode("owner", me["ownerId"])))
        await connection.close()
        await _upload(client, me["auth"], photo)
        await _call_back(client, token)
        await _listen(client, me["auth"])
        sent = await _send_everywhere(client, me["auth"])
        lost = await client.get(f"/{MARK}/{MARK}")
        assert lost.status_code == 404
        assert "strict-transport-security" in lost.headers  # the proxy is believed, so the address is too
    metrics = httpx.get(f"{api.base}/metrics").text
    assert api.stop() == 0
    traces = "".join(file.read_text() for file in (tmp_path / "traces").iterdir())
    log = api.log.read_text()
    assert sent > 80
    assert len(traces.splitlines()) >= sent
    assert "tirage_http_request_seconds_count" in metrics
    assert "/webhooks/vendors/{vendor}/{token}" in traces
    secrets = [MARK, ADDRESS, token, HOME["phone"], HOME["postcode"], *spellings()]
    secrets += [me["accessToken"], me["refreshToken"], me["ownerId"]]
    for name, text in (("log", log), ("traces", traces), ("metrics", metrics)):
        assert [secret for secret in secrets if secret in text] == [], name


async def test_a_request_is_one_span_named_by_its_template(env: dict[str, str], db: object, tmp_path: Path) -> None:
    api = ApiProcess(env, tmp_path / "log", TIRAGE_TRACES=str(tmp_path / "traces"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with httpx.AsyncClient(base_url=api.base, timeout=20) as client:
        me = await register(client)
        headers = {**me["auth"], "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        answer = await client.get("/v1/uploads/upl_01h455vb4pex5vsknk084sn02q", headers=headers)
    api.stop()
    lines = [json.loads(line) for file in (tmp_path / "traces").iterdir() for line in file.read_text().splitlines()]
    (span,) = [line for line in lines if line["traceId"] == trace]
    assert span["name"] == "GET /v1/uploads/{upload_id}"
    assert span["parentId"] == "b7ad6b7169203331"
    assert span["spanId"] == answer.headers["x-request-id"]
    assert span["attributes"] == {"http.route": "/v1/uploads/{upload_id}", "http.response.status_code": 404}


def test_operator_tokens_are_of_the_operators_scope(api_process: ApiProcess, env: dict[str, str], db: object) -> None:
    tirage = Path(sys.executable).with_name("tirage")
    run = subprocess.run(
        [tirage, "token", "operator", "--name", "kim"], env=env, capture_output=True, text=True, check=True
    )
    answer = httpx.get(f"{api_process.base}/v1/me", headers={"Authorization": f"Bearer {run.stdout.strip()}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    refused = subprocess.run([tirage, "token", "operator", "--name", "Kim X"], env=env, capture_output=True, text=True)
    assert refused.returncode == 2

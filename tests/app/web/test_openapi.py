"""The API description is complete, and its examples are sent as they stand."""

import json
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.kernel.access import AccessTokens
from app.kernel.db import Database
from app.kernel.idempotency import KEYED
from app.main import Api
from app.web.openapi import LINKS, Description, document
from base import ids
from base.clock import SystemClock
from base.settings import Reader
from tests.app.conftest import Guest
from tests.app.rows import add_photo
from tirage.docs import DOCS, PAGES

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture
async def described(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/v1/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    found: dict[str, Any] = answer.json()
    return found


def operations(described: dict[str, Any]) -> list[Operation]:
    return [(m.upper(), path, op) for path, methods in described["paths"].items() for m, op in methods.items()]


def test_it_is_served_as_made(described: dict[str, Any], app: Api) -> None:
    assert described == document(app)
    assert described["openapi"].startswith("3.1")


def test_it_is_made_once(app: Api) -> None:
    made = Description()
    assert made.of(app)[0] is made.of(app)[0]


async def test_it_is_not_sent_to_those_who_have_it(client: httpx.AsyncClient) -> None:
    first = await client.get("/v1/openapi.json")
    tag = first.headers["etag"]
    known = [await client.get("/v1/openapi.json", headers={"If-None-Match": t}) for t in (tag, f'"x", W/{tag}')]
    other = await client.get("/v1/openapi.json", headers={"If-None-Match": '"x"'})
    assert first.content == other.content
    assert [(k.status_code, k.content, k.headers["etag"]) for k in known] == [(304, b"", tag)] * 2
    assert first.headers["cache-control"] == known[0].headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/openapi", "/v1/openapi.yaml", "/schema"])
async def test_it_has_one_address(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_links_lead_to_operations_with_those_parameters(described: dict[str, Any]) -> None:
    known = {op["operationId"]: {p["name"] for p in op.get("parameters", ())} for *_, op in operations(described)}
    links = [
        link
        for *_, op in operations(described)
        for answer in op["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) == sum(len(following) for following in LINKS.values())
    assert [link for link in links if not set(link["parameters"]) <= known[link["operationId"]]] == []


def test_every_operation_says_what_it_does(described: dict[str, Any]) -> None:
    found = operations(described)
    assert len(found) > 12
    names = [op["operationId"] for *_, op in found]
    assert len(set(names)) == len(names)
    assert [op["operationId"] for *_, op in found if not (op.get("summary") and op.get("description"))] == []


def test_every_field_and_parameter_is_described(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    bare = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, part in schema.get("properties", {}).items()
        if not part.get("description")
    ]
    assert bare == []
    parameters = [p for *_, op in operations(described) for p in op.get("parameters", ())]
    assert parameters
    assert [p["name"] for p in parameters if not (p.get("description") or p["in"] == "path")] == []


def test_every_operation_names_every_error(described: dict[str, Any]) -> None:
    for method, path, operation in operations(described):
        wanted = {"400", "413", "415", "422", "500", "503"}
        wanted |= {"401", "403"} if operation.get("security") else set()
        wanted |= {"429"} if path.startswith("/v1") else set()
        assert wanted <= set(operation["responses"]), (method, path)
        for status, response in operation["responses"].items():
            assert status.startswith("2") or "application/problem+json" in response["content"], (method, path, status)


def test_keyed_operations_ask_for_the_key(described: dict[str, Any]) -> None:
    asking = {
        f"{method} {path}"
        for method, path, operation in operations(described)
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "Idempotency-Key" and parameter["required"]
    }
    assert asking == KEYED


MAKERS = {"CreateUpload": "upl", "CreateDraft": "drf", "AskQuote": "quo", "PlaceOrder": "ord", "CreateShare": "shr"}
"""What makes the things that other examples name, and how their ids begin."""
FIRST = ("CreateUpload", "CreateDraft", "ChangeDraft", "AskQuote", "PlaceOrder")
"""What goes before everything else, in that order: an order closes its draft."""
EXAMPLES_ID = "_01h455vb4pex5vsknk084sn02q"
REFUSED = {"MintImages": (409, "asset-not-viewable"), "PublishPicture": (409, "picture-not-stored")}
"""Examples that need more than calls: a photo's stored files."""


async def test_examples_do_what_they_are_for(
    described: dict[str, Any], client: httpx.AsyncClient, guest: Guest, db: Database, env: dict[str, str]
) -> None:
    """As they stand, but for the ids of things, which are those that the examples before them have made."""
    me = await guest()
    async with db.pool.acquire() as connection:
        made = {"ast": await add_photo(connection, ids.decode("owner", me["ownerId"]))}
    tokens = AccessTokens(Reader(env).keys("TIRAGE_TOKEN_KEYS"), SystemClock())
    operator = {"Authorization": "Bearer " + tokens.operator("op:kim", timedelta(hours=1))[0]}
    told = {}
    order = {name: number for number, name in enumerate(FIRST)}
    for method, path, operation in sorted(operations(described), key=lambda one: order.get(one[2]["operationId"], 99)):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            name, body = operation["operationId"], json.dumps(content["example"])
            for kind, known in made.items():
                body = body.replace(kind + EXAMPLES_ID, known)
            if name == "RefreshTokens":
                body = json.dumps({"refreshToken": me["refreshToken"]})
            headers = operator if path.startswith("/ops") else {**me["auth"], "Idempotency-Key": uuid.uuid4().hex}
            headers = {**headers, "Content-Type": "application/json", "If-Match": '"1"'}
            target = path.format(upload_id=made.get("upl"), draft_id=made.get("drf"))
            answer = await client.request(method, target, content=body, headers=headers)
            if name in MAKERS:
                assert answer.status_code == 201, (name, answer.text)
                made[MAKERS[name]] = answer.json()["id"]
            told[name] = (answer.status_code, answer.json().get("code"))
    assert {name: one for name, one in told.items() if one[1]} == REFUSED
    assert set(MAKERS) < set(told)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_true(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs`"

"""Handlers are called without Litestar's layers, so none may count on one."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.routes import HTTPRoute

from app.main import Api, create_app
from app.web.wire import MoneyOut, WireOut
from tests.app.conftest import api_settings, running


async def hook(*_: Any, **__: Any) -> Any:
    return None


def layers_of(handler: HTTPRouteHandler) -> set[str]:
    """What a handler has of what `Dispatch` does not look at."""
    layers = handler.ownership_layers
    found = {
        "guards": handler.resolve_guards(),
        "middleware": handler.resolve_middleware(),
        "dependencies": handler.resolve_dependencies(),
        "before_request": handler.resolve_before_request(),
        "after_response": handler.resolve_after_response(),
        "after_request": any(layer.after_request for layer in layers),
        "return_dto": handler.resolve_return_dto(),
        "cache": handler.cache,
    }
    if handler.parsed_fn_signature.return_type.is_subclass_of(WireOut):
        found |= {
            "response_headers": handler.resolve_response_headers(),
            "response_cookies": handler.resolve_response_cookies(),
            "background": handler.background,
        }
    return {name for name, layer in found.items() if layer}


def handlers_of(app: Api) -> Iterator[HTTPRouteHandler]:
    for route in app.routes:
        assert isinstance(route, HTTPRoute)  # nothing is mounted, and there is no socket
        yield from route.route_handlers


def test_no_handler_counts_on_a_layer_of_litestar(app: Api) -> None:
    found = [(str(handler), layers_of(handler)) for handler in handlers_of(app)]
    assert len(found) > 40
    assert [one for one in found if one[1]] == []


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("guards", [hook]),
        ("middleware", [hook]),
        ("dependencies", {"x": hook}),
        ("before_request", hook),
        ("after_response", hook),
        ("after_request", hook),
        ("cache", True),
        ("response_headers", {"X": "x"}),
    ],
)
def test_a_layer_would_be_seen(env: dict[str, str], name: str, layer: Any) -> None:
    @get("/layered", **{name: layer})
    async def layered() -> MoneyOut:
        return MoneyOut(amount=1, currency="EUR")

    app = create_app(api_settings(env))
    app.register(layered)
    assert [layers_of(handler) for handler in handlers_of(app) if handler.handler_name == "layered"] == [{name}]


async def test_text_in_the_path_arrives_as_it_is(env: dict[str, str], db: object) -> None:
    @get("/plain/{one:str}/{two:str}", sync_to_thread=False)
    def plain(two: FromPath[str], one: FromPath[str]) -> MoneyOut:
        return MoneyOut(amount=1, currency=f"{one} {two}")

    @post("/numbers/{one:int}/{two:str}", status_code=201, sync_to_thread=False)
    def numbers(one: FromPath[int]) -> MoneyOut:
        return MoneyOut(amount=one, currency="EUR")

    app = create_app(api_settings(env))
    app.register(plain)
    app.register(numbers)
    async with running(app) as client:
        plainly = await client.get("/plain/caf%C3%A9/7")
        number = await client.post("/numbers/12/x")
        none = await client.post("/numbers/twelve/x")
    assert plainly.json() == {"amount": 1, "currency": "café 7"}
    assert (number.status_code, number.json()["amount"]) == (201, 12)
    assert none.status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/nowhere"])
async def test_a_malformed_host_is_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"host": "api/example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")


async def test_two_tokens_are_none(client: httpx.AsyncClient) -> None:
    twice = [("Authorization", "Bearer a.b.c"), ("Authorization", "Bearer a.b.c")]
    answer = await client.get("/v1/me", headers=twice)
    assert (answer.status_code, answer.json()["detail"]) == (401, "Authorization must be one bearer token")

"""Whatever goes wrong is told as one shape."""

import io
import json

import httpx
import pytest
from litestar import get

from app.main import create_app
from app.web.problems import STATUS
from base.errors import Kind
from tests.app.conftest import api_settings, running


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "code"),
    [
        ("GET", "/nowhere", None, None, 404, "not-found"),
        ("PUT", "/v1/me", None, None, 405, "method-not-allowed"),
        ("GET", "/v1/me", None, None, 401, "unauthenticated"),
        ("POST", "/v1/devices", b'{"platform":', "application/json", 400, "malformed-request"),
        ("POST", "/v1/devices", b"\xff\xfe", "application/json", 400, "malformed-request"),
        ("POST", "/v1/devices", b'{"platform":"ios"}', "text/plain", 415, "unsupported-media-type"),
        ("POST", "/v1/devices", b'{"platform":"ios"}', None, 415, "unsupported-media-type"),
        ("POST", "/v1/devices", b"", "application/json", 422, "invalid-request"),
        ("POST", "/v1/devices", b'{"platform":7}', "application/json", 422, "invalid-request"),
        ("POST", "/v1/devices", b'{"platform":"ios","more":1}', "application/json", 422, "invalid-request"),
        ("POST", "/v1/devices", b'{"platform":"\\u0000"}', "application/json", 422, "invalid-request"),
        ("POST", "/v1/devices", b'{"platform":' + b"[" * 100_000, "application/json", 422, "invalid-request"),
        ("POST", "/v1/devices", b" " * 1_100_000, "application/json", 413, "body-too-large"),
    ],
)
async def test_refusal(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: bytes | None,
    kind: str | None,
    status: int,
    code: str,
) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = await client.request(method, path, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["instance"] == f"urn:tirage:request:{answer.headers['x-request-id']}"
    assert problem["traceId"] == answer.headers["x-trace-id"]
    assert problem["nextStep"]
    assert problem["detail"]


async def test_a_wrong_field_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/devices", json={"platform": 7})
    assert answer.json()["errors"] == [{"message": "Expected `str`, got `int`", "field": "platform", "source": "body"}]


async def test_a_crash_tells_nothing(env: dict[str, str], db: object, logs: io.StringIO) -> None:
    @get("/crash")
    async def crash() -> None:
        raise RuntimeError("the secret is 1234")

    app = create_app(api_settings(env))
    app.register(crash)
    async with running(app) as client:
        answer = await client.get("/crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    said = logs.getvalue()
    assert "request_crashed" in said
    assert "1234" not in said + json.dumps(answer.json())


async def test_database_down_is_503_with_retry_after(env: dict[str, str], db: object) -> None:
    app = create_app(api_settings(env))
    async with running(app) as client:
        registered = (await client.post("/v1/devices", json={"platform": "ios"})).json()
        auth = {"Authorization": f"Bearer {registered['accessToken']}"}
        await app.services.db.pool.close()
        answer = await client.get("/v1/me", headers=auth)
        ready = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
    assert answer.headers["retry-after"] == "2"
    assert (ready.status_code, ready.json()["database"], ready.json()["store"]) == (503, False, True)

"""What a person sends stays out of logs, traces and metrics: marked values through every operation, then a search."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from app.web.openapi import example_of
from tests.app.conftest import ApiProcess, register

MARK = "s3cretmark"


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


async def test_marked_values_are_found_nowhere(env: dict[str, str], db: object, tmp_path: Path) -> None:
    api = ApiProcess(env, tmp_path / "log", TIRAGE_TRACES=str(tmp_path / "traces"))
    async with httpx.AsyncClient(base_url=api.base, timeout=20) as client:
        me = await register(client)
        sent = await _send_everywhere(client, me["auth"])
        assert (await client.get(f"/{MARK}/{MARK}")).status_code == 404
        metrics = (await client.get("/metrics")).text
    assert api.stop() == 0
    traces = "".join(file.read_text() for file in (tmp_path / "traces").iterdir())
    log = api.log.read_text()
    assert sent > 80
    assert len(traces.splitlines()) >= sent
    assert "tirage_http_request_seconds_count" in metrics
    secrets = (MARK, me["accessToken"], me["refreshToken"], me["ownerId"], "192.0.2.7")
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

"""Bad input: whatever is sent, the answer is a described one and a refused call changes nothing."""

import asyncio
import base64
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import GenerationMode

from app.kernel.access import AccessTokens
from base import ids
from base.clock import SystemClock
from base.settings import Reader
from tests.app.conftest import ApiProcess
from tests.app.rows import Sums, add_photo, added, adding

KEY = {"Idempotency-Key": "a-key-of-mine"}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "10", "Upload-Metadata": "filetype aW1hZ2UvanBlZw=="}


class Rows:
    """What every table holds, from a synchronous test."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url))
        self._adding = self._runner.run(adding(self._connection))

    def sums(self) -> Sums:
        """What every table holds now."""
        return self._runner.run(added(self._connection, self._adding))

    def add_photo(self, owner: str) -> str:
        """A photo that can be ordered; its id."""
        return self._runner.run(add_photo(self._connection, ids.decode("owner", owner)))

    def close(self) -> None:
        """Let go."""
        self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    counting = Rows(database_url)
    yield counting
    counting.close()


WAIT_S = 60
"""How long to wait for an answer: on a busy machine that is no fault of the API's."""
ONCE = httpx.Limits(max_keepalive_connections=0)
"""A connection for each call: one whose body was refused unread is ended by the server."""


def register(api: ApiProcess) -> tuple[str, dict[str, str]]:
    """A new guest's id and authorization."""
    grant = httpx.post(f"{api.base}/v1/devices", json={"platform": "ios"}, timeout=WAIT_S).json()
    return grant["ownerId"], {"Authorization": f"Bearer {grant['accessToken']}"}


def operators_token(env: dict[str, str]) -> str:
    """An access token of an operator."""
    tokens = AccessTokens(Reader(env).keys("TIRAGE_TOKEN_KEYS"), SystemClock())
    return tokens.operator("op:kim", timedelta(hours=1))[0]


def fresh(api: ApiProcess) -> dict[str, str]:
    """A new guest's authorization."""
    return register(api)[1]


DEEP = b"[" * 50_000 + b"]" * 50_000
UPLOAD = {"bytes": 10, "contentType": "image/jpeg"}
JSON = "application/json"
MALFORMED: list[tuple[str, bytes | list[bytes], str, int]] = [
    ("not JSON", b"{bytes: 10}", JSON, 400),
    ("half", b'{"bytes":10', JSON, 400),
    ("two values", 2 * json.dumps(UPLOAD).encode(), JSON, 400),
    ("latin-1", '{"bytes":10,"contentType":"café"}'.encode("latin-1"), JSON, 400),
    ("utf-16", json.dumps(UPLOAD).encode("utf-16"), JSON, 422),
    ("nothing", b"", JSON, 422),
    ("null", b"null", JSON, 422),
    ("list", b"[]", JSON, 422),
    ("text", b'"bytes"', JSON, 422),
    ("deep", DEEP, JSON, 422),
    ("deep field", b'{"bytes":' + DEEP + b"}", JSON, 422),
    ("deep unknown", b'{"x":' + DEEP + b"}", JSON, 422),
    ("unknown field", json.dumps({**UPLOAD, "isAdmin": True}).encode(), JSON, 422),
    ("missing field", b'{"bytes":10}', JSON, 422),
    ("wrong type", json.dumps({**UPLOAD, "bytes": "10"}).encode(), JSON, 422),
    ("fraction", json.dumps({**UPLOAD, "bytes": 10.5}).encode(), JSON, 422),
    ("huge number", b'{"bytes":' + b"9" * 400 + b',"contentType":"image/jpeg"}', JSON, 422),
    ("negative", json.dumps({**UPLOAD, "bytes": -1}).encode(), JSON, 422),
    ("no end of a number", b'{"bytes":1e999,"contentType":"image/jpeg"}', JSON, 422),
    ("digits", b"9" * 5000, JSON, 422),
    ("only a surrogate", b'"\\ud800"', JSON, 400),
    ("not a number", b'{"bytes":NaN,"contentType":"image/jpeg"}', JSON, 400),
    ("long field", json.dumps({**UPLOAD, "clientReference": "x" * 10_000}).encode(), JSON, 422),
    ("null byte", b'{"bytes":10,"contentType":"image/jpeg","clientReference":"a\\u0000b"}', JSON, 422),
    ("lone surrogate", b'{"bytes":10,"contentType":"image/jpeg","clientReference":"\\ud800"}', JSON, 400),
    ("too large", b" " * 1_200_000, JSON, 413),
    ("too large by and by", [b" " * 100_000] * 11, JSON, 413),
    ("form", b"bytes=10", "application/x-www-form-urlencoded", 415),
    ("multipart", b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
    ("msgpack", b"\x81\xa5bytes\x0a", "application/x-msgpack", 415),
    ("no type", json.dumps(UPLOAD).encode(), "", 415),
]


def test_malformed_bodies_are_told_apart_and_change_nothing(api_process: ApiProcess, db: object, rows: Rows) -> None:
    auth = fresh(api_process)
    before = rows.sums()
    told = []
    for name, body, kind, _ in MALFORMED:
        headers = {**auth, **KEY, **({"Content-Type": kind} if kind else {})}
        answer = httpx.post(f"{api_process.base}/v1/uploads", content=body, headers=headers, timeout=WAIT_S)
        assert answer.headers["content-type"] == "application/problem+json", (name, answer.text)
        assert answer.json()["nextStep"]
        told.append((name, answer.status_code))
    assert told == [(name, status) for name, _, _, status in MALFORMED]
    assert rows.sums() == before


def possessions(api: ApiProcess, rows: Rows, owner: str, auth: dict[str, str]) -> dict[str, str]:
    """One of everything that a path can name, by the path's own words, in a state that calls could change."""

    def make(path: str, body: dict[str, Any]) -> str:
        headers = {**auth, "Idempotency-Key": f"make-{path}".replace("/", ".")}
        answer = httpx.post(f"{api.base}/v1/{path}", json=body, headers=headers, timeout=WAIT_S)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    asset = rows.add_photo(owner)
    draft = make("drafts", {"items": [{"assetId": asset, "sku": "photo-10x15-standard"}]})
    quote_id = make("quotes", {"draftId": draft, "country": "GB", "postcode": "LS1 4AP"})
    return {
        "asset_id": asset,
        "capability": "none",
        "draft_id": draft,
        "order_id": make("orders", {"quoteId": quote_id, "recipient": HOME}),
        "share_id": make("shares", {"assetIds": [asset]}),
        "token": "none",
        "upload_id": make("uploads", UPLOAD),
        "vendor": "prodigi",
    }


UNDESCRIBED = (
    ("POST", "/v1/tus"),
    ("DELETE", "/v1/tus/{upload_id}"),
    ("POST", "/webhooks/stripe"),
    ("POST", "/webhooks/vendors/{vendor}/{token}"),
)
"""What is not in the description because no app calls it by that, and would change something."""
RAW = {
    "PUT /v1/uploads/{upload_id}/content/{capability}": {404},
    "POST /webhooks/stripe": {400, 413},
    "POST /webhooks/vendors/{vendor}/{token}": {404, 413},
}
"""What takes any bytes, and refuses ours for what stands beside them."""


def changing(client: httpx.Client) -> list[tuple[str, str]]:
    """Every call that could change something: method and path."""
    described = client.get("/v1/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in described.items() for method in methods if method != "get"]
    return [*found, *UNDESCRIBED]


def test_no_call_takes_a_malformed_body(api_process: ApiProcess, env: dict[str, str], db: object, rows: Rows) -> None:
    """Calls that take no body too: every one of them is about something that it would change."""
    owner, auth = register(api_process)
    mine = possessions(api_process, rows, owner, auth)
    operator = {"Authorization": "Bearer " + operators_token(env)}
    before, odd, sent = rows.sums(), [], 0
    with httpx.Client(base_url=api_process.base, timeout=WAIT_S, limits=ONCE) as client:
        for method, path in changing(client):
            wanted = RAW.get(f"{method} {path}", {400, 413, 415, 422})
            headers = {**(operator if path.startswith("/ops") else auth), **KEY, **TUS}
            for name, body, kind, _ in MALFORMED:
                if name in ("nothing", "null"):  # these are good where a body is none or may be left out
                    continue
                told = {**headers, **({"Content-Type": kind} if kind else {})}
                answer = client.request(method, path.format(**mine), content=body, headers=told)
                sent += 1
                if answer.status_code not in wanted or not answer.json()["nextStep"]:
                    odd.append((method, path, name, answer.status_code, answer.text[:80]))
    assert odd == []
    assert rows.sums() == before
    assert sent > 500


IMAGE = {"Upload-Metadata": "filetype aW1hZ2UvanBlZw=="}
APPEND = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
ODD_TUS: list[tuple[str, str, dict[str, str], bytes, int]] = [
    *(
        ("POST", "/v1/tus", {**IMAGE, "Upload-Length": length}, b"", status)
        for length, status in (
            ("", 422),
            ("-1", 422),
            ("0", 422),
            ("1e3", 422),
            (str(2**33), 413),
            ("9" * 15, 422),
            ("9" * 400, 422),
        )
    ),
    *(
        ("POST", "/v1/tus", {"Upload-Length": "5", "Upload-Metadata": words}, b"", 422)
        for words in (
            "",
            "filetype",
            "filetype =",
            "filetype /w==",  # not UTF-8
            f"{IMAGE['Upload-Metadata']},reference {base64.b64encode(b'a' * 10_000).decode()}",
            f"{IMAGE['Upload-Metadata']},reference {base64.b64encode(bytes(3)).decode()}",
            f"{IMAGE['Upload-Metadata']},sha256 eno=",
        )
    ),
    ("POST", "/v1/tus", {**IMAGE, "Upload-Length": "5", "Tus-Resumable": "0.2.2"}, b"", 412),
    ("PATCH", "/v1/tus/{}", {"Upload-Offset": "0"}, b"12345", 415),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Offset": "-1"}, b"12345", 422),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Offset": "9" * 400}, b"12345", 422),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Offset": "7"}, b"12345", 409),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Checksum": "sha1 !"}, b"12345", 400),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Checksum": "crc1 AAAA"}, b"12345", 400),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Upload-Checksum": "sha1 " + "A" * 27 + "="}, b"12345", 460),
    ("PATCH", "/v1/tus/{}", APPEND, b"12345" * 10, 413),
    ("PATCH", "/v1/tus/upl_%00", APPEND, b"12345", 404),
    ("PATCH", "/v1/tus/{}", {**APPEND, "Tus-Resumable": ""}, b"12345", 412),
    ("DELETE", "/v1/tus/{}", {"Tus-Resumable": "2"}, b"", 412),
]


def test_odd_calls_of_tus_are_refused_and_change_nothing(api_process: ApiProcess, db: object, rows: Rows) -> None:
    auth = {**fresh(api_process), "Tus-Resumable": "1.0.0"}
    with httpx.Client(base_url=api_process.base, timeout=WAIT_S, limits=ONCE) as client:
        made = client.post("/v1/tus", headers={**auth, **TUS})
        session = made.headers["location"].rsplit("/", 1)[1]
        begun = client.patch(made.headers["location"], headers={**auth, **APPEND})  # marked before its first byte
        assert (begun.status_code, begun.headers["upload-offset"]) == (204, "0")
        before, told = rows.sums(), []
        for method, path, headers, body, _ in ODD_TUS:
            answer = client.request(method, path.format(session), headers={**auth, **headers}, content=body)
            assert answer.json()["nextStep"]
            told.append((method, path, headers, answer.status_code))
        wanted = [(method, path, headers, status) for method, path, headers, _, status in ODD_TUS]
        assert [one for one in zip(told, wanted, strict=True) if one[0] != one[1]] == []
        assert rows.sums() == before
        assert client.head(f"/v1/tus/{session}", headers=auth).headers["upload-offset"] == "0"


PATHS: list[tuple[str, int]] = [
    ("/v1/assets/%00", 404),
    ("/v1/assets/ast_%00", 404),
    ("/v1/assets/" + "a" * 6000, 404),
    ("/v1/assets/ast_01h455vb4pex5vsknk084sn02q/", 404),
    ("/v1/assets/upl_01h455vb4pex5vsknk084sn02q", 404),
    ("/v1/assets/ast_81h455vb4pex5vsknk084sn02q", 404),
    ("/v1/assets/..%2f..%2fetc%2fpasswd", 404),
    ("/v1/assets/%ff%fe", 404),
    ("/v1/assets?limit=0", 422),
    ("/v1/assets?limit=x", 422),
    ("/v1/assets?limt=5", 422),
    ("/v1/me?x", 422),
    ("/v1/assets?before=%00", 404),
    ("/v1/events?after=%00", 422),
    ("/v1/events?limit=99999999999999999999999999", 422),
]


def test_malformed_paths_and_queries(api_process: ApiProcess, db: object, rows: Rows) -> None:
    auth = fresh(api_process)
    before = rows.sums()
    told = [(path, httpx.get(api_process.base + path, headers=auth).status_code) for path, _ in PATHS]
    assert told == PATHS
    assert rows.sums() == before


def described(api: ApiProcess) -> Any:
    """The description that the API serves."""
    schema = schemathesis.openapi.from_url(f"{api.base}/v1/openapi.json", timeout=WAIT_S)
    schema.config.generation.update(with_security_parameters=False)
    return schema


@pytest.mark.parametrize("with_token", [True, False], ids=["token", "no-token"])
def test_the_description_holds(api_process: ApiProcess, db: object, rows: Rows, with_token: bool) -> None:
    """Schemathesis over every operation: good and bad requests, described answers, no effect of what is refused."""
    seen = hold(api_process, rows, 5 if with_token else 1, with_token=with_token, fixed=True)
    assert seen["refused"] > 20
    assert seen["ok"] > (20 if with_token else 2)


@pytest.mark.soak
@pytest.mark.parametrize("with_token", [True, False], ids=["token", "no-token"])
def test_the_description_holds_for_long(api_process: ApiProcess, db: object, rows: Rows, with_token: bool) -> None:
    print(dict(hold(api_process, rows, 40, with_token=with_token, fixed=False)))


def hold(api: ApiProcess, rows: Rows, examples: int, *, with_token: bool, fixed: bool) -> Counter[str]:
    """Ask every operation `examples` times with what it describes, and as often with what it does not.

    `fixed`: the same requests in every run.
    """
    seen: Counter[str] = Counter()
    quiet = list(HealthCheck)
    checks = settings(
        max_examples=examples, deadline=None, database=None, derandomize=fixed, suppress_health_check=quiet
    )
    for result in described(api).get_all_operations():
        operation = result.ok()
        # An event stream would not end; tests/app/stream has it.
        headers = {"Accept": "application/json", **(_token(api, operation.path) if with_token else {})}
        _examine(operation, GenerationMode.POSITIVE, headers, rows, seen, checks)
        if operation.body or operation.query or operation.headers:  # any text is a path; PATHS has the odd ones
            _examine(operation, GenerationMode.NEGATIVE, headers, rows, seen, checks)
    return seen


def _token(api: ApiProcess, path: str) -> dict[str, str]:
    """An operator's for what operators do, a new guest's for everything else."""
    return {"Authorization": f"Bearer {operators_token(api.env)}"} if path.startswith("/ops") else fresh(api)


def _excused(response: Any) -> list[Any]:
    """Unknown methods are 405 for all; and a valid request may be refused where a schema cannot say why.

    JSON Schema calls 7.0 an integer, we do not; a size may be over the limit, a thing gone, a key used.
    """
    checks = schemathesis.checks.CHECKS
    excused = [checks.get_one("unsupported_method")]
    reasons = ("got `float`", "idempotency-key-reused")
    if response.status_code in {410, 413} or any(reason in response.text for reason in reasons):
        excused += [checks.get_one("positive_data_acceptance"), checks.get_one("negative_data_rejection")]
    return excused


def _examine(
    operation: Any, mode: GenerationMode, headers: dict[str, str], rows: Rows, seen: Counter[str], checks: settings
) -> None:
    before = rows.sums()

    @checks
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        nonlocal before
        response = case.call(headers=headers, timeout=WAIT_S)
        case.validate_response(response, excluded_checks=_excused(response))
        refused, after = response.status_code >= 400, rows.sums()
        seen["refused" if refused else "ok"] += 1
        if refused:
            assert after == before
        before = after

    try:
        run()
    except (schemathesis.errors.InvalidSchema, Unsatisfiable):
        assert mode is GenerationMode.NEGATIVE  # nothing of the operation can be made wrong


BYTES = b"not a photo"
HOME = {"name": "A. Person", "line1": "12 High Street", "town": "Leeds", "postcode": "LS1 4AP", "country": "GB"}
BODIES: dict[str, Callable[[dict[str, str]], Any]] = {
    "CreateUpload": lambda _: {"bytes": len(BYTES), "contentType": "image/jpeg"},
    "CreateDraft": lambda known: {"items": [{"assetId": known["asset"], "sku": "photo-10x15-standard", "copies": 2}]},
    "AskQuote": lambda known: {"draftId": known["CreateDraft"], "country": "GB", "postcode": "LS1 4AP"},
    "PlaceOrder": lambda known: {"quoteId": known["AskQuote"], "recipient": HOME},
}
"""Bodies of calls that lead on, from what earlier calls gave; a generated one hardly ever names what there is."""


def sequences(
    api: ApiProcess, rows: Rows, examples: int, steps: int, *, fixed: bool, only: Sequence[str] = ()
) -> Counter[str]:
    """Chains of calls, each fed by the answers before it; which operations gave what. Refused calls change nothing."""
    schema = described(api)
    if only:
        # Inferred links would make `complete` the only way to begin; ours begin where a person does.
        schema.config.phases.stateful.inference.algorithms = []
        schema = schema.include(operation_id=list(only))
    seen: Counter[str] = Counter()

    class Sequences(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            owner, auth = register(api)
            self.headers = {"Accept": "application/json", **auth}
            self.known = {"asset": rows.add_photo(owner)}

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": self.headers, "timeout": WAIT_S}

        def before_call(self, case: Any) -> None:
            operation = case.operation.definition.raw["operationId"]
            if operation in BODIES and case.meta.generation.mode is GenerationMode.POSITIVE:
                with contextlib.suppress(KeyError):  # the call before it did not come yet
                    case.body = BODIES[operation](self.known)
            if operation == "CompleteUpload":
                self._send(case.path_parameters["upload_id"])
            self.before = rows.sums()

        def _send(self, upload: str) -> None:
            """What the session still wants, straight to storage."""
            wanted = httpx.post(f"{api.base}/v1/uploads/{quote(upload)}/parts", headers=self.headers, timeout=WAIT_S)
            for part in wanted.json().get("parts", ()):
                httpx.put(part["url"], content=BYTES, headers=part["headers"], timeout=WAIT_S)

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            case.validate_response(response, excluded_checks=_excused(response))
            seen[f"{response.status_code // 100} {case.operation.label}"] += 1
            if response.status_code >= 400:
                assert rows.sums() == self.before
            elif response.status_code == 201:
                self.known[case.operation.definition.raw["operationId"]] = response.json().get("id", "")

    checks = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=fixed,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Sequences, settings=checks)
    return seen


UPLOADING = ("CheckUploads", "CreateUpload", "ReadUpload", "AddressParts", "CompleteUpload", "AbortUpload")
BUYING = ("CreateDraft", "ReadDraft", "AskQuote", "ReadQuote", "PlaceOrder", "ReadOrder", "CancelOrder")


def test_some_sequences_of_uploading(api_process: ApiProcess, db: object, rows: Rows) -> None:
    seen = sequences(api_process, rows, 4, 10, fixed=True, only=UPLOADING)
    assert {"2 POST /v1/uploads", "2 POST /v1/uploads/{upload_id}/complete"} <= set(seen), seen


def test_some_sequences_of_buying(api_process: ApiProcess, db: object, rows: Rows) -> None:
    seen = sequences(api_process, rows, 4, 10, fixed=True, only=BUYING)
    assert {"2 POST /v1/drafts", "2 POST /v1/quotes", "2 POST /v1/orders"} <= set(seen), seen


@pytest.mark.soak
def test_many_sequences_of_calls(api_process: ApiProcess, db: object, rows: Rows) -> None:
    seen = sequences(api_process, rows, 60, 15, fixed=False)
    for part in (UPLOADING, BUYING):
        seen += sequences(api_process, rows, 30, 20, fixed=False, only=part)
    print(dict(seen))
    reached = ("uploads", "uploads/{upload_id}/complete", "drafts", "quotes", "orders", "orders/{order_id}/cancel")
    assert {f"2 POST /v1/{path}" for path in reached} <= set(seen)

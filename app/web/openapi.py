"""The API description (OpenAPI 3.1): what Litestar derives from the handlers, completed with what holds for every call.

Served at `/v1/openapi.json`. Examples of bodies are put together from the examples of their fields; a test sends them.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme

from app.kernel.access import TokenExpired, Unauthenticated
from app.kernel.idempotency import KEYED, LIFETIME_DAYS
from app.web.call import Forbidden
from app.web.endings import Ending
from app.web.guards import PublicController
from app.web.problems import MEDIA_TYPE, ROUTER, STATUS, Catalogued, Problem
from app.web.rates import RateLimited
from app.web.slow import TimeLimit
from app.web.wire import WireIn, WireOut
from base.errors import DomainError, InvalidInput, ServiceUnavailable
from base.ids import MalformedId

TITLE: Final = "Tirage"
VERSION: Final = "1"
DESCRIPTION: Final = """Photos in, prints out. Every answer that is not a success is a problem (RFC 9457) with a stable
`code`; docs/errors.md lists them. Unknown fields in bodies are refused; in answers, ignore fields you do not know:
within `/v1` fields, values of codes and event types are only added."""

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_SHARED: Final[tuple[type[DomainError], ...]] = (RateLimited, ServiceUnavailable, TimeLimit)
_SECURED: Final[tuple[type[DomainError], ...]] = (Unauthenticated, TokenExpired, Forbidden)
_HEADERS: Final = {
    "X-Request-Id": "This request's id; quote it when asking for help.",
    "X-Trace-Id": "The trace it belongs to (W3C Trace Context); send `traceparent` to choose it.",
    "RateLimit": "What is left of the limit that counted this request.",
    "RateLimit-Policy": "That limit: `q` requests in `w` seconds.",
}
_ENDING: Final = {
    "Deprecation": "Since when the call is deprecated: `@` and seconds since 1970 (RFC 9745).",
    "Sunset": "When the call stops to answer (RFC 8594).",
}
_UPLOAD: Final = {"upload_id": "$response.body#/id"}
_PHOTO: Final = {"asset_id": "$response.body#/assets/0/id"}
_SHARE: Final = {"share_id": "$response.body#/id"}
_DRAFT: Final = {"draft_id": "$response.body#/id"}
_ORDER: Final = {"order_id": "$response.body#/id"}
LINKS: Final[dict[str, dict[str, dict[str, str]]]] = {
    "CheckUploads": {"CreateUpload": {}},
    "CreateUpload": {
        "ReadUpload": _UPLOAD,
        "AddressParts": _UPLOAD,
        "CompleteUpload": _UPLOAD,
        "AbortUpload": _UPLOAD,
    },
    "ListAssets": {"ReadAsset": _PHOTO, "ReadReadiness": _PHOTO, "TrashOrEraseAsset": _PHOTO},
    "CreateShare": {"ReadShare": _SHARE, "RevokeShare": _SHARE},
    "CreateDraft": {"ReadDraft": _DRAFT, "CheckDraft": _DRAFT, "AbandonDraft": _DRAFT, "AskQuote": {}},
    "AskQuote": {"ReadQuote": {"quote_id": "$response.body#/id"}, "PlaceOrder": {}},
    "PlaceOrder": {"ReadOrder": _ORDER, "ReadTimeline": _ORDER, "CancelOrder": _ORDER},
}
"""What can follow a successful call, with which of its values: operation → next operation → parameters."""
_RETRY: Final = {"Retry-After": "Whole seconds to wait."}


def fails(*errors: type[DomainError]) -> dict[int, ResponseSpec]:
    """The errors of its own that a handler can answer with; those that every call shares are added for all."""
    by_status: dict[int, list[type[DomainError]]] = {}
    for error in errors:
        by_status.setdefault(STATUS[error.kind], []).append(error)
    return {
        status: ResponseSpec(
            data_container=Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description="; ".join(_line(error) for error in found),
        )
        for status, found in by_status.items()
    }


def _line(entry: type[DomainError] | Catalogued) -> str:
    return f"`{entry.code}`: {entry.title}"


class _Unserved(Router):
    """Litestar would make the document anew for every call, at a second address too; ours is served below."""

    def register(self, value: Any) -> Any:
        return []


class DescriptionController(PublicController):
    """The description, completed once."""

    include_in_schema = False
    description: "Description"

    @get("/v1/openapi.json", sync_to_thread=False)
    def read(self, request: Request[Any, Any, Any]) -> Response[bytes | None]:
        """The document; 304 for a caller who has it."""
        body, tag = self.description.of(request.app)
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in _tags(request.headers.get("if-none-match", "")):
            return Response(None, status_code=304, headers=headers)
        return Response(body, media_type=MediaType.JSON, headers=headers)


class Description:
    """The completed document's bytes and their entity tag, made when somebody first asks."""

    def __init__(self) -> None:
        self._made: tuple[bytes, str] | None = None

    def of(self, app: Any) -> tuple[bytes, str]:
        """Those of the application; it has all its routes by then."""
        if self._made is None:
            body = msgspec.json.encode(document(app))
            self._made = body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return self._made


def _tags(given: str) -> list[str]:
    """The entity tags of an `If-None-Match`, compared weakly (RFC 9110 section 13.1.2)."""
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]


def config() -> OpenAPIConfig:
    """Litestar's part of the description."""
    return OpenAPIConfig(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        use_handler_docstrings=True,
        openapi_router=_Unserved("/v1", route_handlers=[]),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="Access token.")
            }
        ),
    )


def document(app: Any) -> dict[str, Any]:
    """The whole document as plain data."""
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    _replace_components(schema["components"]["schemas"])
    free = {route.path_format for route in app.routes if any(h.opt.get("free") for h in _handlers(route))}
    also = {route.path_format: h.opt["also"] for route in app.routes for h in _handlers(route) if "also" in h.opt}
    endings = {h.operation_id: h.opt["ending"] for route in app.routes for h in _handlers(route) if "ending" in h.opt}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete(schema, operation, counted=path not in free)
            if f"{method.upper()} {path}" in KEYED:
                _keyed(operation)
            _link(operation)
            if operation["operationId"] in endings:
                _end(operation, endings[operation["operationId"]])
            if path in also and method == "get":
                operation["responses"]["200"]["content"][also[path]] = {"schema": {"type": "string"}}
    return schema


def _handlers(route: Any) -> list[Any]:
    return [handler for handler in getattr(route, "route_handlers", ()) if handler.resolve_include_in_schema()]


def _replace_components(components: dict[str, Any]) -> None:
    """msgspec's own schemas decode by the same rules; Litestar's lose the bounds of types in unions."""
    wire = [struct for struct in _descendants((WireIn, WireOut)) if struct.__name__ in components]
    _, found = msgspec.json.schema_components(wire, ref_template="#/components/schemas/{name}")
    components.update(found)
    for struct in wire:
        if issubclass(struct, WireIn):
            for part in components[struct.__name__].get("properties", {}).values():
                _forbid_null_characters(part)


def _descendants(bases: Iterable[type[Any]]) -> list[type[Any]]:
    found: dict[str, type[Any]] = {}
    for base in bases:
        for one in base.__subclasses__():
            found |= {one.__name__: one, **{deeper.__name__: deeper for deeper in _descendants((one,))}}
    return list(found.values())


def _forbid_null_characters(part: dict[str, Any]) -> None:
    if part.get("type") == "string" and not {"pattern", "enum", "format"} & set(part):
        part["pattern"] = "^[^\\x00]*$"
    for inner in (*part.get("anyOf", ()), *([part["items"]] if isinstance(part.get("items"), dict) else ())):
        _forbid_null_characters(inner)


def _complete(schema: dict[str, Any], operation: dict[str, Any], *, counted: bool) -> None:
    """Add what every call shares: errors, headers, an example of the body."""
    responses: dict[str, Any] = operation["responses"]
    litestars = responses.get("400", {}).get("content", {})
    if "application/json" in litestars:  # Litestar's guess at its own validation errors; ours are 400 and 422
        del responses["400"]
    errors: list[tuple[int, type[DomainError] | Catalogued]] = [(status, ROUTER[status]) for status in (400, 413, 415)]
    errors += [(422, ROUTER[422]), (422, InvalidInput), (500, ROUTER[500])]
    errors += [(STATUS[error.kind], error) for error in _SHARED if counted or error is not RateLimited]
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        errors.append((STATUS[MalformedId.kind], MalformedId))
    if operation.get("security"):
        errors += [(STATUS[error.kind], error) for error in _SECURED]
    for status, entry in errors:
        _add(responses, str(status), _line(entry))
    for status_text, response in responses.items():
        _tell_headers(response, status_text, counted=counted)
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["example"] = example_of(schema, content["schema"])


def _add(responses: dict[str, Any], status: str, line: str) -> None:
    found = responses.setdefault(status, {"description": "", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}})
    found["description"] = "; ".join(part for part in (found["description"], line) if part)
    found.setdefault("content", {})[MEDIA_TYPE] = {"schema": _PROBLEM}


def _tell_headers(response: dict[str, Any], status: str, *, counted: bool) -> None:
    headers = {**_HEADERS, **(_RETRY if status in {"429", "503"} else {})}
    told = response.setdefault("headers", {})
    for name, meaning in headers.items():
        if counted or not name.startswith("RateLimit"):
            told[name] = {"description": meaning, "required": False, "schema": {"type": "string"}}


def _link(operation: dict[str, Any]) -> None:
    for following, parameters in LINKS.get(operation["operationId"], {}).items():
        done = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        done.setdefault("links", {})[following] = {"operationId": following, "parameters": parameters}


def _end(operation: dict[str, Any], ending: Ending) -> None:
    operation["deprecated"] = True
    operation["description"] = f"{ending.line()}\n\n{operation['description']}"
    for response in operation["responses"].values():
        for name, meaning in _ENDING.items():
            response["headers"][name] = {"description": meaning, "required": False, "schema": {"type": "string"}}


def _keyed(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "A new random value for a new intention, the same value when trying again: the same answer "
            f"comes back, byte for byte, for {LIFETIME_DAYS} days.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{8,128}$"},
            "example": "5f0c6f3e-8f0e-4b56-9d3a-6f5b0f5f9a11",
        }
    )
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            replayed = {"description": "`true` when this answer is a repetition.", "schema": {"type": "string"}}
            response["headers"]["Idempotency-Replayed"] = {**replayed, "required": False}


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """A parameter may be left out, but there is no way to write null in a URL or a header."""
    choices = [choice for choice in part.get("oneOf", ()) if choice.get("type") != "null"]
    if len(choices) != 1:
        return part
    return {**choices[0], **{name: value for name, value in part.items() if name != "oneOf"}}


def _of(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or the one it refers to."""
    if "$ref" not in part:
        return part
    found: dict[str, Any] = schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]
    return found


def example_of(schema: dict[str, Any], part: dict[str, Any]) -> Any:
    """An example of a schema: its own, its constant, or one of its properties that are required or have one."""
    part = _of(schema, part)
    for name in ("examples", "enum"):
        if part.get(name):
            return part[name][0]
    if part.get("type") == "object":
        needed = part.get("required", ())
        told = {name: one for name, one in part["properties"].items() if name in needed or "examples" in one}
        return {name: example_of(schema, one) for name, one in told.items()}
    if part.get("type") == "array":
        return [example_of(schema, part["items"])]
    for choice in part.get("anyOf", ()):
        return example_of(schema, choice)
    return None

"""Errors as HTTP tells them: RFC 9457 problem details, one mapping from `Kind` to a status, one table for the router's.

Every answer that is not a success has this shape, whoever made it: a slice's `DomainError`, the router (404, 405), the
decoder (400, 422), the body limit (413), a crash (500). `code` is stable and listed in docs/errors.md.
"""

import http
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Meta

from app.web.wire import WireOut
from base import telemetry
from base.errors import DomainError, Kind

log = telemetry.logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[dict[Kind, int]] = {
    Kind.MALFORMED: 400,
    Kind.INVALID: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.PRECONDITION: 412,
    Kind.GONE: 410,
    Kind.TOO_LARGE: 413,
    Kind.LIMITED: 429,
    Kind.UNAVAILABLE: 503,
}


class Catalogued(msgspec.Struct, frozen=True):
    """A problem that is not a `DomainError`: the router's, the server's."""

    code: str
    title: str
    next_step: str


ROUTER: Final[dict[int, Catalogued]] = {
    400: Catalogued("malformed-request", "The request is not well-formed", "Correct the request; see the detail."),
    404: Catalogued("not-found", "There is nothing here", "Check the path against the API description."),
    405: Catalogued("method-not-allowed", "The method is not offered here", "Use a method of the `Allow` header."),
    406: Catalogued("not-acceptable", "No such representation", "Ask for a media type that the API description names."),
    413: Catalogued("body-too-large", "The request body is too large", "Send less than the documented limit."),
    415: Catalogued("unsupported-media-type", "The body's media type is not read here", "Send `application/json`."),
    422: Catalogued("invalid-request", "A field is missing or not allowed", "Correct the fields listed in `errors`."),
    500: Catalogued(
        "internal-error",
        "Something went wrong on our side",
        "Send the same request again later (with the same Idempotency-Key, if it had one); quote the trace id.",
    ),
}


class FieldError(WireOut, frozen=True, kw_only=True):
    """One thing that is wrong: which field, where, and why."""

    message: Annotated[str, Meta(description="What is wrong.")]
    field: Annotated[str | None, Meta(description="The field, as a path into the body or a parameter's name.")]
    source: Annotated[str | None, Meta(description="`body`, `query`, `path` or `header`.")]


class Problem(WireOut, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details with our stable code and what to do next."""

    type: Annotated[str, Meta(description="`urn:tirage:error:` and the code.")]
    title: Annotated[str, Meta(description="What kind of problem it is; the same for every one of its code.")]
    status: Annotated[int, Meta(description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What happened this time; fit to be shown to a developer.")]
    instance: Annotated[str | None, Meta(description="This request: `urn:tirage:request:` and its id.")]
    code: Annotated[str, Meta(description="Stable; decide by it. docs/errors.md lists all.")]
    next_step: Annotated[str, Meta(description="What to do now.")]
    trace_id: Annotated[str | None, Meta(description="The trace to quote when asking for help.")]
    errors: Annotated[list[FieldError], Meta(description="Which fields are wrong, where that is the problem.")]
    retry_after_s: Annotated[int | None, Meta(description="As `Retry-After`: whole seconds to wait.")] = None


def of_domain(error: DomainError, instance: str | None = None) -> Problem:
    """The problem a slice's error makes."""
    errors = [FieldError(message=str(error), field=error.field, source=None)] if error.field else []
    return _problem(
        STATUS[error.kind],
        Catalogued(error.code, error.title, error.next_step),
        str(error),
        instance,
        errors,
        error.retry_after_s,
    )


def of_router(status: int, detail: str, instance: str | None = None, errors: list[FieldError] | None = None) -> Problem:
    """The problem for a status that Litestar or the server decided; unknown ones keep their status."""
    entry = ROUTER.get(status)
    if entry is None:
        phrase = http.HTTPStatus(status).phrase
        entry = Catalogued(phrase.lower().replace(" ", "-"), phrase, "See the detail.")
    return _problem(status, entry, detail or entry.title, instance, errors or [], None)


def _problem(
    status: int,
    entry: Catalogued,
    detail: str,
    instance: str | None,
    errors: list[FieldError],
    retry_after_s: int | None,
) -> Problem:
    return Problem(
        type=f"urn:tirage:error:{entry.code}",
        title=entry.title,
        status=status,
        detail=detail,
        instance=instance,
        code=entry.code,
        next_step=entry.next_step,
        trace_id=telemetry.trace_id(),
        errors=errors,
        retry_after_s=retry_after_s,
    )


_NO_BODY: Final = {"message": "'data'", "key": "data", "source": "body"}


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers that belong to a problem: when to come back, and how to authenticate (RFC 6750)."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = f'Bearer error="{"invalid_token" if problem.code != "unauthenticated" else ""}"'
        if problem.code == "unauthenticated":
            headers["WWW-Authenticate"] = "Bearer"
    return headers


def _answer(problem: Problem, extra: dict[str, str] | None = None) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**headers_of(problem), **(extra or {})},
    )


def _instance(request: Request[Any, Any, Any]) -> str | None:
    call = request.scope.get("state", {}).get("call")
    return None if call is None else f"urn:tirage:request:{call.request_id}"


def _domain(request: Request[Any, Any, Any], error: DomainError) -> Response[bytes]:
    return _answer(of_domain(error, _instance(request)))


def _validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    found = error.extra if isinstance(error.extra, list) else []
    errors = [
        FieldError(
            message="a JSON body is needed" if entry == _NO_BODY else str(entry.get("message", "")),
            field=entry.get("key"),
            source=str(entry["source"]) if "source" in entry else None,
        )
        for entry in found
        if isinstance(entry, dict)
    ]
    detail = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in errors)
    return _answer(of_router(422, detail, _instance(request), errors))


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    if status >= 500:
        return _crash(request, error)
    detail = error.detail if status in (400, 415) else ""
    return _answer(of_router(status, detail, _instance(request)), dict(error.headers or {}))


def _crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A defect of ours: the customer gets no internals, the log gets the frames."""
    log.error("request_crashed", route=request.scope.get("path_template"), exc_info=error)
    return _answer(of_router(500, "", _instance(request)))


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    DomainError: _domain,
    ValidationException: _validation,
    HTTPException: _http,
    Exception: _crash,
}

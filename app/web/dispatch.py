"""From a request to its handler, and from what that returns to an answer.

Litestar declares the handlers, finds them, reads their parameters and describes them. The layers that it puts around
every call cost more than a handler does with a row, so ours run without: no dependency, guard, middleware or hook of it
is looked at. `tests/app/web/test_dispatch.py` refuses a handler that has one.
"""

import re
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Litestar
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.routes import HTTPRoute
from litestar.types import Empty
from litestar.utils import normalize_path

from app.web import problems
from app.web.call import call_of
from app.web.guards import READS, Gate
from app.web.requests import ApiRequest
from app.web.wire import WireOut
from base.errors import InvalidInput

_HOST: Final = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")  # RFC 3986 section 3.2


class _Way(NamedTuple):
    """A handler and Litestar's reader of its parameters; `plain`: all of them are text in the path; `bare`: it could
    change something and reads no body."""

    handler: HTTPRouteHandler
    reads: Any
    plain: bool
    bare: bool


class Dispatch:
    """Answers the requests of one Litestar application."""

    def __init__(self, app: Litestar, gate: Gate) -> None:
        self._app, self._gate = app, gate
        self._ways: dict[tuple[HTTPRoute, str], _Way] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request; what goes wrong before the answer begins becomes a problem."""
        try:
            answer = await self._run(ApiRequest(scope, receive, send), self._find(scope))
        except Exception as error:  # noqa: BLE001 the last handler of the table logs what is a defect
            answer = _refused(ApiRequest(scope, receive, send), error)
        await answer(scope, receive, send)

    def _find(self, scope: Any) -> _Way:
        """Raises 400, 404 and 405."""
        if not _HOST.fullmatch(call_of(scope).headers.get(b"host", b"")):
            raise ClientException("Invalid host header")
        found: Any = self._app.asgi_router.handle_routing(path=normalize_path(scope["path"]), method=scope["method"])
        serve, scope["route_handler"], scope["path"], scope["path_params"], scope["path_template"] = found
        key = serve.__self__, scope["method"]
        return self._ways.get(key) or self._ways.setdefault(key, _way(*key))

    async def _run(self, request: ApiRequest, way: _Way) -> Any:
        handler, scope = way.handler, request.scope
        self._gate.admit(scope, handler)
        if way.bare:
            await _refuse_any_body(request)
        given = scope["path_params"] if way.plain else await _read(request, way)
        told = handler.fn(**given) if handler.has_sync_callable else await handler.fn(**given)
        if isinstance(told, WireOut):
            return Encoded(handler.status_code, msgspec.json.encode(told))
        return await handler.to_response(app=self._app, data=told, request=request)


def _way(route: HTTPRoute, method: Any) -> _Way:
    handler, reads = route.route_handler_map[method]
    parameters = handler.parsed_fn_signature.parameters
    texts = {name for name, field in parameters.items() if field.raw == FromPath[str]}
    plain = texts == set(parameters) == set(route.path_parameters)
    bare = method not in READS and "data" not in parameters and not handler.opt.get("raw")
    return _Way(handler, reads, plain, bare)


async def _refuse_any_body(request: ApiRequest) -> None:
    """A body that comes with a call that takes none is of a caller who means another call."""
    if await request.body():
        raise InvalidInput("this call takes no body", field="body")


async def _read(request: ApiRequest, way: _Way) -> dict[str, Any]:
    """The handler's parameters; raises 400, 413 and 422."""
    found = await way.reads.to_kwargs(request)
    if found.get("data") is Empty:
        del found["data"]
    return way.handler.signature_model.parse_values_from_connection_kwargs(request, found)


def _refused(request: ApiRequest, error: Exception) -> Any:
    handler = request.scope.get("route_handler")
    table = problems.HANDLERS if handler is None else handler.resolve_exception_handlers()
    told = next(table[kind] for kind in type(error).__mro__ if kind in table)
    return told(request, error).to_asgi_response(app=None, request=request)


class Encoded:
    """An answer in JSON: sent with two headers, nothing looked up."""

    __slots__ = ("_body", "_status")

    def __init__(self, status: int, body: bytes) -> None:
        self._status, self._body = status, body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})

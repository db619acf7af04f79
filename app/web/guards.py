"""Who may call: the gate every routed request passes, and the controllers slices derive theirs from.

A slice's `routes.py` writes `class UploadController(CustomerController)` and `who = customer()` where it needs the
caller; public routes derive from `PublicController`, operators' from `OperatorController`. Nothing is injected: to
resolve one dependency costs more than all that the gate does.
"""

from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Controller, Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from app.kernel.access import AccessTokens, Scope, Unauthenticated
from app.web.call import Call, call_of, require
from app.web.rates import Bucket, RateLimited
from app.web.requests import JSON
from app.web.settings import Limits
from base.errors import InvalidInput
from base.ids import DeviceId, OwnerId

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """The calling customer: the owner of everything the call touches, and the device it comes from."""

    owner_id: OwnerId
    device_id: DeviceId


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """The calling operator."""

    name: str


class Gate:
    """Before every routed request: reads the token, counts the request, refuses bodies that nobody will read.

    Litestar's `before_request`, not a guard of it: for every guard the handler is copied.
    """

    def __init__(self, tokens: AccessTokens, limits: Limits) -> None:
        self._tokens = tokens
        self._reads, self._writes = Bucket("reads", limits.reads), Bucket("writes", limits.writes)
        self._named = {"devices": Bucket("devices", limits.devices)}

    async def admit(self, connection: Request[Any, Any, Any]) -> None:
        """Raises `Unauthenticated`, `Forbidden`, `RateLimited`, `InvalidInput`, 413 or 415.

        A handler's opt: `scope` is what its caller must have, `limit` names a bucket of its own, `raw` that it reads
        the body's bytes itself, `ending` that and when it goes away, `open` that no token is needed: one that has ended
        is no reason to refuse it, since many apps send theirs with every call. What is `free` is open and not counted.
        """
        handler: BaseRouteHandler = connection.scope["route_handler"]
        call, opt = call_of(connection.scope), handler.opt
        call.ending = opt.get("ending")
        if not opt.get("free"):
            if not opt.get("open"):
                try:
                    self._authenticate(connection, call)
                except Unauthenticated:
                    self._count(connection, call, None)  # whoever guesses tokens has the limit of an address
                    raise
            self._count(connection, call, opt.get("limit"))
        if connection.scope["query_string"]:
            _refuse_unknown_queries(connection.scope["query_string"], handler)
        if not opt.get("raw"):
            _refuse_other_bodies(connection)
        if "scope" in opt:
            require(opt["scope"])
        if connection.scope["method"] not in READS and handler.parsed_data_field is None and not opt.get("raw"):
            await _refuse_any_body(connection)

    def _authenticate(self, connection: ASGIConnection[Any, Any, Any, Any], call: Call) -> None:
        found = [value for name, value in connection.scope["headers"] if name == b"authorization"]
        if not found:
            return
        scheme, _, token = found[0].partition(b" ")
        if len(found) > 1 or scheme.lower() != b"bearer":
            raise Unauthenticated("Authorization must be one bearer token")
        call.principal = self._tokens.verify(token.strip())

    def _count(self, connection: ASGIConnection[Any, Any, Any, Any], call: Call, named: str | None) -> None:
        bucket = self._reads if connection.scope.get("method", "GET") in READS else self._writes
        key = call.principal.name if call.principal is not None else call.address
        if named is not None:
            bucket, key = self._named[named], call.address
        call.rate = bucket.take(key)
        if call.rate.wait_s:
            raise RateLimited(call.rate.wait_s)


def _refuse_unknown_queries(query: bytes, handler: BaseRouteHandler) -> None:
    """A misspelt parameter must not pass for one that was left out."""
    known = {
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise InvalidInput("there is no such query parameter", field=name[:40])


def _refuse_other_bodies(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    length, kind = b"0", b""
    for name, value in connection.scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            length = b"1"
        elif name == b"content-type":
            kind = value
    if length != b"0" and kind.partition(b";")[0].strip().lower().decode("latin-1") not in JSON:
        raise HTTPException(status_code=415, detail="the body must be application/json")


async def _refuse_any_body(request: Request[Any, Any, Any]) -> None:
    """What has no `data` reads no body; one that came all the same is of a caller who means another call."""
    if await request.body():
        raise InvalidInput("this call takes no body", field="body")


def customer() -> Customer:
    """The customer who makes the current call; raises `Unauthenticated` or `Forbidden`."""
    principal = require(Scope.CUSTOMER)
    assert principal.owner_id is not None
    assert principal.device_id is not None
    return Customer(owner_id=principal.owner_id, device_id=principal.device_id)


def operator() -> Operator:
    """The operator who makes the current call; raises `Unauthenticated` or `Forbidden`."""
    return Operator(name=require(Scope.OPERATOR).name)


class PublicController(Controller):
    """Base of controllers that anybody may call."""


class CustomerController(Controller):
    """Base of controllers for customers."""

    opt = {"scope": Scope.CUSTOMER}  # noqa: RUF012 Litestar's own field
    security = ({"bearer": []},)


class OperatorController(Controller):
    """Base of controllers for operators."""

    opt = {"scope": Scope.OPERATOR}  # noqa: RUF012 Litestar's own field
    security = ({"bearer": []},)


C = TypeVar("C", bound=Controller)


def mounted(controller: type[C], **parts: Any) -> type[C]:
    """The controller with its services set as attributes: `mounted(UploadController, uploads=services.uploads)`.

    Raises `TypeError` for a part that the controller does not declare.
    """
    for name in parts:
        if name not in controller.__annotations__:
            raise TypeError(f"{controller.__name__} declares no {name!r}")
    return type(controller.__name__, (controller,), {"__doc__": controller.__doc__, **parts})

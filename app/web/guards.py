"""Who may call: the gate every routed request passes, and the controllers slices derive theirs from.

A slice's `routes.py` writes `class UploadController(CustomerController)` and `who = customer()` where it needs the
caller; public routes derive from `PublicController`, operators' from `OperatorController`. Nothing is injected: to
resolve one dependency costs more than all that the gate does.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Controller
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
    """Before every routed request: reads the token, counts the request, refuses bodies that are not JSON."""

    def __init__(self, tokens: AccessTokens, limits: Limits) -> None:
        self._tokens = tokens
        self._reads, self._writes = Bucket("reads", limits.reads), Bucket("writes", limits.writes)
        self._named = {"devices": Bucket("devices", limits.devices)}

    def admit(self, scope: Any, handler: BaseRouteHandler) -> None:
        """Raises `Unauthenticated`, `Forbidden`, `RateLimited`, `InvalidInput` or 415.

        A handler's opt: `scope` is what its caller must have, `limit` names a bucket of its own, `raw` that it reads
        the body's bytes itself, `ending` that and when it goes away, `open` that no token is needed: one that has ended
        is no reason to refuse it, since many apps send theirs with every call. What is `free` is open and not counted.
        """
        call, opt = call_of(scope), handler.opt
        call.ending = opt.get("ending")
        if not opt.get("free"):
            given = call.headers.get(b"authorization")
            if given is not None and not opt.get("open"):
                try:
                    call.principal = self._tokens.verify(_bearer(given, scope["headers"]))
                except Unauthenticated:
                    self._count(scope["method"], call, None)  # whoever guesses tokens has the limit of an address
                    raise
            self._count(scope["method"], call, opt.get("limit"))
        if scope["query_string"]:
            _refuse_unknown_queries(scope["query_string"], handler)
        if not opt.get("raw"):
            _refuse_other_bodies(call.headers)
        if "scope" in opt:
            require(opt["scope"])

    def _count(self, method: str, call: Call, named: str | None) -> None:
        bucket = self._reads if method in READS else self._writes
        key = call.principal.name if call.principal is not None else call.address
        if named is not None:
            bucket, key = self._named[named], call.address
        call.rate = bucket.take(key)
        if call.rate.wait_s:
            raise RateLimited(call.rate.wait_s)


def _bearer(given: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    scheme, _, token = given.partition(b" ")
    if scheme.lower() != b"bearer" or sum(name == b"authorization" for name, _ in headers) > 1:
        raise Unauthenticated("Authorization must be one bearer token")
    return token.strip()


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


def _refuse_other_bodies(headers: Mapping[bytes, bytes]) -> None:
    if b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0":
        return
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind.decode("latin-1") not in JSON:
        raise HTTPException(status_code=415, detail="the body must be application/json")


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

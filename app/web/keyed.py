"""Keyed calls over HTTP: the `Idempotency-Key` header in, stored answers out.

In a route that stands in `KEYED`:

    @post("/", operation_id="CreateUpload", status_code=201, responses=fails(*KEY_ERRORS, UploadTooLarge))
    async def create(self, data: JSONBody[CreateUpload], request: Request[Any, Any, Any]) -> Response[UploadOut]:
        '''Open a session.'''
        call = await keyed(request)
        given = await self.idempotency.once(
            call, lambda tx: self.uploads.open(tx, call.owner_id, data.declared()), as_json(201, UploadOut.of)
        )
        return answered(given)
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Response

from app.kernel.access import Scope
from app.kernel.idempotency import (
    KEYED,
    Answer,
    Given,
    IdempotencyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    KeyedCall,
    fingerprint,
)
from app.kernel.persons import PersonErased
from app.web.call import require
from app.web.wire import WireOut

HEADER: Final = "idempotency-key"
KEY_ERRORS: Final = (
    IdempotencyKeyMissing,
    IdempotencyKeyMalformed,
    IdempotencyKeyReused,
    IdempotencyInFlight,
    PersonErased,
)
_TYPED: Final = re.compile(r":\w+(?=})")
_KEY: Final = re.compile(r'("?)([A-Za-z0-9_.:-]{8,128})\1')

T = TypeVar("T")


async def keyed(request: Request[Any, Any, Any]) -> KeyedCall:
    """The customer's call with its key; raises 400 problems for a missing or malformed key.

    The quoted spelling of draft-ietf-httpapi-idempotency-key-header is read as well.
    """
    principal = require(Scope.CUSTOMER)
    assert principal.owner_id is not None
    operation = operation_of(request.method, request.scope["path_template"])
    assert operation in KEYED, operation
    given = request.headers.getall(HEADER, [])
    if not given:
        raise IdempotencyKeyMissing()
    match = _KEY.fullmatch(given[0])
    if len(given) > 1 or match is None:
        raise IdempotencyKeyMalformed()
    query = request.scope["query_string"].decode("latin-1")
    return KeyedCall(
        owner_id=principal.owner_id,
        operation=operation,
        key=match[2],
        fingerprint=fingerprint(operation, request.path_params, query, await request.body()),
    )


def operation_of(method: str, template: str) -> str:
    """`POST /v1/uploads/{upload_id}/complete` from a method and Litestar's template, types of parameters left out."""
    return f"{method} {_TYPED.sub('', template)}"


def as_json(status: int, of: Callable[[T], WireOut]) -> Callable[[T], Answer]:
    """A `reply` for `Idempotency.once`: the wire form of the effect's value, as JSON."""
    return lambda value: Answer(status, msgspec.json.encode(of(value)))


def answered(given: Given) -> Response[Any]:
    """The HTTP response: the stored bytes, marked when they are a repetition."""
    headers = {"Idempotency-Replayed": "true"} if given.replayed else {}
    body: Any = given.answer.body
    return Response(body, status_code=given.answer.status, media_type="application/json", headers=headers)
